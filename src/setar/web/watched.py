"""Sampling that is watched while it runs, and stops when nobody watches any more.

A pipeline tells of each set by calling a function; a page wants to be given one frame after the
other. So the pipeline works in a thread that waits until each frame is taken, and ends where the
frames are no longer wanted: in the middle of a picture, after the set at hand.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, NamedTuple

from PIL import Image

from setar.pipeline import PartialImages

FRAMES = 16
"""Frames of a drawing at most, besides its end; of more sets, evenly spread ones are shown."""
PATIENCE = 60.0
"""Seconds after which a frame that nobody takes ends the sampling."""
BLINK = 0.1
"""Seconds after which both sides look whether the other is still there."""

Pictures = list[Image.Image]
OnSet = Callable[[PartialImages], None]


class Frame(NamedTuple):
    """The pictures after a set."""

    step: int
    steps: int
    pictures: Pictures
    done: bool
    """Whether these are the finished pictures."""


class Stopped(Exception):
    """Nobody wants the pictures any more."""


def watched(make: Callable[[OnSet], Pictures], stop: Event) -> Iterator[Frame]:
    """Frames of what ``make(on_set)`` makes, the finished pictures last.

    Args:
        make: a call of a pipeline.
        stop: ends it, whoever sets it; closing the iterator sets it too.

    Raises:
        Stopped: it was set, or the machine was too busy to take a frame in `PATIENCE` seconds.
        Exception: whatever ``make`` raises.
    """
    told: Queue[Frame | BaseException] = Queue(maxsize=1)
    last = [0, 0]

    def tell(what: Frame | BaseException) -> None:
        end = time.monotonic() + PATIENCE
        while not stop.is_set() and time.monotonic() < end:
            with suppress(Full):
                return told.put(what, timeout=BLINK)
        raise Stopped

    def on_set(partial: PartialImages) -> None:
        if stop.is_set():
            raise Stopped
        last[:] = partial.step, partial.steps
        if is_shown(partial.step, partial.steps):
            tell(Frame(partial.step, partial.steps, partial.images(), False))

    def work() -> None:
        with suppress(Stopped):
            try:
                pictures = make(on_set)
                tell(Frame(last[0], last[1], pictures, True))
            except Exception as error:
                tell(error)

    worker = Thread(target=work, daemon=True)
    worker.start()
    try:
        while True:
            found = _taken(told, worker)
            if isinstance(found, BaseException):
                raise found
            yield found
            if found.done:
                return
    finally:
        stop.set()


def _taken(told: "Queue[Any]", worker: Thread) -> Any:
    """What the worker tells next; `Stopped` if it has ended and tells nothing."""
    while True:
        alive = worker.is_alive()  # asked first: what it told before it ended is in the queue
        try:
            return told.get(timeout=BLINK)
        except Empty:
            if not alive:
                return Stopped()


def is_shown(step: int, steps: int) -> bool:
    """Whether the frame after a set is shown; that after the last is the finished picture."""
    return step < steps and step * FRAMES // steps > (step - 1) * FRAMES // steps


class Running:
    """What runs for whom, so that it can be stopped when they leave."""

    def __init__(self) -> None:
        self._stops: dict[str, set[Event]] = {}

    @contextmanager
    def of(self, session: str) -> Iterator[Event]:
        """What stops a new sampling of a session; at the end of the block it is stopped."""
        stop = Event()
        self._stops.setdefault(session, set()).add(stop)
        try:
            yield stop
        finally:
            stop.set()
            stops = self._stops.get(session, set())
            stops.discard(stop)
            if not stops:
                self._stops.pop(session, None)

    def leave(self, session: str) -> None:
        """Stop all that a session has begun: its tab was closed."""
        for stop in self._stops.pop(session, set()).copy():
            stop.set()

    def __len__(self) -> int:
        return sum(map(len, list(self._stops.values())))
