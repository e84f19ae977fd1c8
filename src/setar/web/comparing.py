"""One wish under several recipes, side by side."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from PIL import Image

from setar.numbers import counted
from setar.pictures.sheets import labelled_rows
from setar.sampling.generate import noise_and_plan
from setar.web.limits import check_work, recipes_of, size_of
from setar.web.results import Desk
from setar.web.shelf import Shelf
from setar.web.watched import watched
from setar.web.wishes import Wish

SIDE = 128
"""Pixels across a picture of the sheet, at least."""


def compare(
    shelf: Shelf, desk: Desk, wish: Wish, recipes: Any, size: Any, stop: Event
) -> Iterator[tuple[Image.Image | Path, str]]:
    """A sheet with a row for each recipe, and words; row after row, the last as a file.

    Args:
        shelf: of models.
        desk: where files are written.
        wish: what is asked; its own recipe does not matter.
        recipes: one a line.
        size: (height, width) as text, empty: the model's own.
        stop: ends it.

    Raises:
        ValueError: something cannot be done.
        Stopped: of `setar.web.watched`.
    """
    pipe = shelf.pipe(wish.model)
    listed, shape = recipes_of(recipes), size_of(pipe, size)
    wishes = [replace(wish, recipe=recipe) for recipe in listed]
    asked, every = wish.asked(pipe), [one.options(pipe) for one in wishes]
    check_work(pipe, shape, every[0]["count"] * len(every))
    for options in every:  # before the first picture: whether each recipe fits the grid
        seed = options["seed"]
        pipe.model.check(noise_and_plan(options["recipe"], pipe.grid_of(shape), [seed], seed)[1])
    rows: list[tuple[str, str, list[Image.Image]]] = []
    title = f"{wish.model} · {wish.named(pipe)} · seed {every[0]['seed']}"
    for options in every:
        began = time.perf_counter()
        how = {"size": shape, **options}
        *_, frame = watched(lambda on_set, how=how: pipe(asked, on_set=on_set, **how), stop)
        sets = counted(frame.steps, "set")
        taken = f"{sets}, {time.perf_counter() - began:.2f} s"
        rows.append((str(options["recipe"]), taken, list(frame.pictures)))
        sheet = labelled_rows(rows, title, max(SIDE, shape[1]))
        words = f"{len(rows)} of {counted(len(every), 'recipe')}"
        if len(rows) < len(every):
            yield sheet, words
        else:
            yield desk.save([sheet], ["recipes"])[0], words
