"""What is shown of images while they are made and after: a bar, labelled rows, an animation."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from setar.numbers import counted

if TYPE_CHECKING:
    from PIL import Image

    from setar.pipeline import PartialImages, Pipeline

SEPARATOR = " · "
"""Between the parts of a heading; spaces alone are drawn as one."""
ANIMATED_PIXELS = 2**28
"""Of all frames of an animation together: they are in memory at once."""
LONGEST = 65_535
"""Pixels along a side of a GIF."""


@contextmanager
def set_bar(
    images: int, also: "Callable[[PartialImages], None] | None" = None
) -> "Iterator[Callable[[PartialImages], None]]":
    """A progress bar that counts sets: gives the ``on_set`` of a pipeline's call.

    Args:
        images: how many the call makes, in batches of the pipeline's 64.
        also: called with the same partial images.
    """
    from tqdm import tqdm

    with tqdm(desc="sets", unit="set", leave=False, disable=None) as bar:

        def on_set(partial: "PartialImages") -> None:
            bar.total = partial.steps * -(-images // 64)
            bar.update()
            if also is not None:
                also(partial)

        yield on_set


def described(model: str, pipe: "Pipeline") -> str:
    """What made some images: model, recipe, guidance and temperature, for a heading."""
    guidance, settings = pipe.defaults.guidance, pipe.defaults.settings
    strength = "off" if guidance.off else f"{guidance.schedule} {guidance.scale:g}"
    return SEPARATOR.join(
        [
            Path(model).name or model,
            str(pipe.defaults.recipe),
            f"guidance {strength}",
            f"temperature {settings.temperature:g}",
        ]
    )


def class_rows(
    pipe: "Pipeline",
    ids: Sequence[int],
    images: "Sequence[Image.Image]",
    count: int,
    title: str,
    seed: int | None = None,
) -> "Image.Image":
    """One picture with a labelled row of ``count`` images per class, with its seeds."""
    from setar.pictures.sheets import labelled_rows

    rows = []
    for row, (name, seeds) in enumerate(_labels(pipe, ids, count, seed)):
        rows.append((name, seeds, images[row * count : (row + 1) * count]))
    return labelled_rows(rows, title, side=_side(pipe))


def rows_size(
    pipe: "Pipeline", ids: Sequence[int], count: int, title: str = "", seed: int | None = None
) -> tuple[int, int]:
    """(width, height) in pixels of the picture of `class_rows`, before there are images."""
    from setar.pictures.sheets import sheet_size

    rows = [(name, seeds, count) for name, seeds in _labels(pipe, ids, count, seed)]
    return sheet_size(rows, pipe.size, title, side=_side(pipe))


def _labels(
    pipe: "Pipeline", ids: Sequence[int], count: int, seed: int | None
) -> Iterator[tuple[str, str]]:
    """The name of each class, and the seeds of its images."""
    for row, class_id in enumerate(ids):
        first = (seed or 0) + row * count
        yield pipe.classes[class_id], "" if seed is None else seeds_of(first, count)


def seeds_of(first: int, count: int) -> str:
    """The seeds of so many images, beside their row."""
    return f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}"


def _side(pipe: "Pipeline") -> int:
    """Pixels across an image on a sheet."""
    return max(96, pipe.size[0])


class Animation:
    """Sets that appear one after the other; called with the partial images of each set.

    All images are in it if they fit; else as many of each class as do, or of some classes one.

    Args:
        pipe: what makes the images.
        ids: their classes.
        count: images of each class.

    Raises:
        ValueError: not even one image of one class fits.
    """

    def __init__(self, pipe: "Pipeline", ids: Sequence[int], count: int) -> None:
        self.pipe, self.ids, self.count = pipe, ids, count
        self.steps = pipe.defaults.recipe.set_count(pipe.grid)
        self.rows, self.columns = len(ids), _most(count, lambda n: self._fits(len(ids), n))
        if not self.columns:  # not even one image of each class
            self.rows, self.columns = _most(len(ids), lambda n: self._fits(n, 1)), 1
        if not self.rows:
            raise ValueError(f"an animation of {self.steps} sets of such images is too large")
        self.sets: dict[int, list[Image.Image]] = {}

    def __call__(self, partial: "PartialImages") -> None:
        """Keep what is shown of a batch."""
        images = partial.images()
        for index, image in enumerate(images, partial.first):
            row, column = divmod(index, self.count)
            if row < self.rows and column < self.columns:
                self.sets.setdefault(partial.step, []).append(image)

    @property
    def facts(self) -> str:
        """How many steps it shows, and of how many images if these are not all."""
        steps = counted(len(self.sets), "step")
        if (self.rows, self.columns) == (len(self.ids), self.count):
            return steps
        shown, made = self.rows * self.columns, len(self.ids) * self.count
        classes = "each class"
        if self.rows < len(self.ids):
            classes = "the first class" if self.rows == 1 else f"the first {self.rows} classes"
        return f"{steps} of {shown} of the {made} images, {self.columns} of {classes},"

    def save(self, file: Path) -> None:
        """Write it as a GIF."""
        from setar.pictures.animations import save_animation

        ids, last = self.ids[: self.rows], len(self.sets)
        frames = [
            class_rows(self.pipe, ids, images, self.columns, f"set {step} of {last}")
            for step, images in sorted(self.sets.items())
        ]
        save_animation(frames, file)

    def _fits(self, rows: int, columns: int) -> bool:
        width, height = rows_size(self.pipe, self.ids[:rows], columns, "set 999 of 999")
        return self.steps * width * height <= ANIMATED_PIXELS and max(width, height) <= LONGEST


def _most(limit: int, fits: "Callable[[int], bool]") -> int:
    """The largest number up to ``limit`` that fits, where all smaller ones do; 0 if none does."""
    return bisect_left(range(1, limit + 1), True, key=lambda number: not fits(number))
