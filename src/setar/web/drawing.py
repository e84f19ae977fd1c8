"""Pictures of a class or a text, set by set."""

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any

from PIL import Image

from setar.numbers import counted
from setar.web.limits import check_work, seed_of, size_of
from setar.web.remembered import Remembered
from setar.web.results import Desk, Result, animated
from setar.web.shelf import Shelf
from setar.web.watched import OnSet, watched
from setar.web.wishes import Wish


def draw(
    shelf: Shelf,
    desk: Desk,
    wish: Wish,
    size: Any,
    stop: Event,
    known: Remembered | None = None,
) -> Iterator[Result]:
    """The pictures that are wished for, as they appear; the last are files.

    Args:
        shelf: of models.
        desk: where files are written.
        wish: what is asked.
        size: text such as ``64x128``, height x width in pixels; empty: the model's own.
        stop: ends it.
        known: a picture that was uploaded; if that is what is asked, it is made again exactly.

    Raises:
        ValueError: something cannot be done.
        Stopped: of `watched`.
    """
    pipe = shelf.pipe(wish.model)
    if known is not None and known.is_asked(wish, size):
        seed = seed_of(wish.seed)
        yield from shown(known.make(pipe), desk, seed, f"recipe {wish.recipe}, made again", stop)
        return
    asked, options, shape = wish.asked(pipe), wish.options(pipe), size_of(pipe, size)
    check_work(pipe, shape, options["count"])
    recipe = options["recipe"] or pipe.recipe_on(pipe.grid_of(shape))

    def make(on_set: OnSet) -> Sequence[Image.Image]:
        return pipe(asked, size=shape, on_set=on_set, **options)

    yield from shown(make, desk, options["seed"], f"recipe {recipe}", stop)


def shown(
    make: Callable[[OnSet], Sequence[Image.Image]], desk: Desk, seed: int, words: str, stop: Event
) -> Iterator[Result]:
    """What a call of a pipeline makes, frame by frame; picture i has the seed ``seed`` + i."""
    began = time.perf_counter()
    for frame in watched(make, stop):
        captions = [f"seed {seed + index}" for index in range(len(frame.pictures))]
        passed = f"{time.perf_counter() - began:.1f} s"
        if not frame.done:
            yield Result(frame.pictures, captions, f"set {frame.step} of {frame.steps}, {passed}")
            continue
        files = desk.save(frame.pictures, [caption.replace(" ", "-") for caption in captions])
        animation = animated(frame.seen, files[0].with_name("sets.gif"))
        made, sets = counted(len(files), "picture"), counted(frame.steps, "set")
        yield Result(files, captions, f"{made} in {passed}: {sets}, {words}", animation)
