"""Sampling that is watched while it runs, and stops when nobody watches any more.

A pipeline tells of each set by calling a function; a page wants to be given one frame after the
other. So the pipeline works in a thread, which offers its frames: one that is not taken at once is
left out, as in a slow film. It ends where they are no longer wanted, in the middle of a picture,
after the set at hand.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, NamedTuple, Protocol

from PIL import Image

FRAMES = 16
"""Frames of a drawing at most, besides its end; of more sets, evenly spread ones."""
LIVE = 8
"""Those of them that are shown while it is made: a page needs some time for each."""
OFFERED = 0.15
"""Seconds for which a frame is offered; so frames cost a drawing 1.2 seconds at the very most, and
far less where the page is quick."""
PATIENCE = 60.0
"""Seconds for which the finished pictures are."""
BLINK = 0.1
"""Seconds after which both sides look whether the other is still there."""

Pictures = Sequence[Image.Image]


class Partial(Protocol):
    """What is told of a set: of `setar.generation.PartialImages`, this much."""

    step: int
    steps: int

    def images(self) -> list[Image.Image]:
        """The pictures as far as they are known."""
        ...


OnSet = Callable[[Partial], None]


class Frame(NamedTuple):
    """The pictures after a set."""

    step: int
    steps: int
    pictures: Pictures
    seen: list[Pictures]
    """Of the finished pictures, all frames, taken or not; else empty."""

    @property
    def done(self) -> bool:
        """Whether these are the finished pictures."""
        return bool(self.seen)


class Stopped(Exception):
    """Nobody wants the pictures any more."""


def watched(make: Callable[[OnSet], Pictures], stop: Event) -> Iterator[Frame]:
    """Frames of what ``make(on_set)`` makes, the finished pictures last.

    Args:
        make: a call of a pipeline.
        stop: ends it, whoever sets it; so does closing the iterator.

    Raises:
        Stopped: it was set.
        Exception: whatever ``make`` raises.
    """
    told: Queue[Frame | BaseException] = Queue(maxsize=1)
    last, frames, closed = [0, 0], list[Pictures](), Event()

    def unwanted() -> bool:
        return stop.is_set() or closed.is_set()

    def tell(what: Frame | BaseException, patience: float) -> None:
        end = time.monotonic() + patience
        while not unwanted() and time.monotonic() < end:
            with suppress(Full):
                return told.put(what, timeout=min(BLINK, patience))
        if unwanted():
            raise Stopped

    def on_set(partial: Partial) -> None:
        if unwanted():
            raise Stopped
        last[:] = partial.step, partial.steps
        if is_shown(partial.step, partial.steps, FRAMES):
            frames.append(partial.images())
        if is_shown(partial.step, partial.steps, LIVE):
            tell(Frame(partial.step, partial.steps, frames[-1], []), OFFERED)

    def work() -> None:
        with suppress(Stopped):
            try:
                pictures = make(on_set)
                tell(Frame(last[0], last[1], pictures, [*frames, pictures]), PATIENCE)
            except Exception as error:
                if not isinstance(error, Stopped):
                    tell(error, PATIENCE)

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
        closed.set()


def _taken(told: "Queue[Any]", worker: Thread) -> Any:
    """What the worker tells next; `Stopped` if it has ended and tells nothing."""
    while True:
        alive = worker.is_alive()  # asked first: what it told before it ended is in the queue
        try:
            return told.get(timeout=BLINK)
        except Empty:
            if not alive:
                return Stopped()


def is_shown(step: int, steps: int, most: int) -> bool:
    """Whether the frame after a set is among ``most`` evenly spread ones, of which one is the end.

    That after the last set is not: it is the finished picture.
    """
    return step < steps and step * most // steps > (step - 1) * most // steps


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
