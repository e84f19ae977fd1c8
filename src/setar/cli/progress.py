"""What is shown of images while they are made and after: a bar, labelled rows, an animation."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from setar.numbers import counted

if TYPE_CHECKING:
    from PIL import Image

    from setar.generation import PartialImages
    from setar.pipeline import Pipeline

SEPARATOR = " · "
"""Between the parts of a heading; spaces alone are drawn as one."""
ANIMATED_PIXELS = 2**28
"""Of all frames of an animation together: they are in memory at once."""
LONGEST = {".gif": 65_535, ".webp": 16_383}
"""Pixels along a side of an animation, by the ending of its file."""


MOST_COLUMNS, MOST_SCALE = 1000, 64
"""More than a screen shows of any image; how large a sheet may be is another question."""


class Layout(NamedTuple):
    """How a sheet is laid out, where that is said."""

    scale: int = 0
    """Pixels of the sheet across each of an image's; 0: as many as suit a screen."""
    columns: int = 0
    """Images side by side at most; 0: as many as suit a screen."""

    def side(self, size: tuple[int, int]) -> int:
        """Pixels across an image of (width, height)."""
        return self.scale * size[0] or side_of(size)

    @property
    def across(self) -> int:
        """Images side by side at most."""
        from setar.pictures.sheets import ACROSS

        return self.columns or ACROSS


AS_SUITS = Layout()
"""Nothing is said."""


@contextmanager
def set_bar(
    images: int, also: "Callable[[PartialImages], None] | None" = None
) -> "Iterator[Callable[[PartialImages], None]]":
    """A progress bar that counts sets: gives the ``on_set`` of a pipeline's call.

    Args:
        images: how many the call makes, in batches of the pipeline's 64.
        also: called with the same partial images.
    """
    from tqdm.auto import tqdm

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
    asked: Sequence[Any],
    images: "Sequence[Image.Image]",
    count: int,
    title: str,
    seed: int | None = None,
    layout: Layout = AS_SUITS,
) -> "Image.Image":
    """One picture with a labelled row of ``count`` images per class or text, with its seeds."""
    from setar.pictures.sheets import labelled_rows

    rows = []
    for row, (name, seeds) in enumerate(_labels(pipe, asked, count, seed)):
        rows.append((name, seeds, images[row * count : (row + 1) * count]))
    return labelled_rows(rows, title, side=layout.side(images[0].size), across=layout.across)


def rows_size(
    pipe: "Pipeline",
    asked: Sequence[Any],
    count: int,
    title: str = "",
    seed: int | None = None,
    size: tuple[int, int] | None = None,
    layout: Layout = AS_SUITS,
) -> tuple[int, int]:
    """(width, height) in pixels of the picture of `class_rows`, before there are images.

    ``size`` is the (height, width) of its images, by default the model's own.
    """
    from setar.pictures.sheets import sheet_size

    shape = pipe.size if size is None else (size[1], size[0])
    rows = [(name, seeds, count) for name, seeds in _labels(pipe, asked, count, seed)]
    return sheet_size(rows, shape, title, side=layout.side(shape), across=layout.across)


def _labels(
    pipe: "Pipeline", asked: Sequence[Any], count: int, seed: int | None
) -> Iterator[tuple[str, str]]:
    """The name of each class, or the text, and the seeds of its images."""
    for row, what in enumerate(asked):
        first, several = (seed or 0) + row * count, not isinstance(what, tuple)
        yield named(pipe, what), "" if seed is None else seeds_of(first, count if several else 1)


def named(pipe: "Pipeline", asked: Any) -> str:
    """What a row of images is called; as `setar.pictures.memory.called`."""
    from setar.pictures.memory import called

    return called(asked, pipe.classes)


def seeds_of(first: int, count: int) -> str:
    """The seeds of so many images, beside their row."""
    return f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}"


def side_of(size: tuple[int, int]) -> int:
    """Pixels across an image of (width, height) on a sheet; a wide one has up to twice as many."""
    width, height = size
    return max(96, min(192, 96 * width // height), width)


class Animation:
    """Sets that appear one after the other; called with the partial images of each set.

    All images are in it if they fit; else as many of each class (or text) as do, or of some one.

    Args:
        pipe: what makes the images.
        asked: the ids of their classes, or their texts.
        count: images of each of these.
        size: (height, width) of the images, by default the model's own.
        layout: as of the sheet.
        ending: of its file, ``.gif`` or ``.webp``.

    Raises:
        ValueError: not even one image of one class fits.
    """

    def __init__(
        self,
        pipe: "Pipeline",
        asked: Sequence[Any],
        count: int,
        size: tuple[int, int] | None = None,
        layout: Layout = AS_SUITS,
        ending: str = ".gif",
    ) -> None:
        self.pipe, self.asked, self.count, self.size = pipe, asked, count, size
        self.layout, self.longest = layout, LONGEST[ending]
        grid = pipe.grid_of(size)
        self.steps = pipe.recipe_on(grid).set_count(grid)
        self.rows, self.columns = len(asked), _most(count, lambda n: self._fits(len(asked), n))
        if not self.columns:  # not even one image of each class
            self.rows, self.columns = _most(len(asked), lambda n: self._fits(n, 1)), 1
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
        if (self.rows, self.columns) == (len(self.asked), self.count):
            return steps
        shown, made = self.rows * self.columns, len(self.asked) * self.count
        one, several = ("text", "texts") if self.pipe.reads == "text" else ("class", "classes")
        classes = f"each {one}"
        if self.rows < len(self.asked):
            classes = f"the first {one}" if self.rows == 1 else f"the first {self.rows} {several}"
        return f"{steps} of {shown} of the {made} images, {self.columns} of {classes},"

    def save(self, file: Path) -> None:
        """Write it as a GIF, or as WebP."""
        from setar.pictures.animations import save_animation

        asked, last = self.asked[: self.rows], len(self.sets)
        frames = [
            class_rows(
                self.pipe, asked, images, self.columns, f"set {step} of {last}", layout=self.layout
            )
            for step, images in sorted(self.sets.items())
        ]
        save_animation(frames, file)

    def _fits(self, rows: int, columns: int) -> bool:
        shown, title = self.asked[:rows], "set 999 of 999"
        how = {"size": self.size, "layout": self.layout}
        width, height = rows_size(self.pipe, shown, columns, title, **how)
        return self.steps * width * height <= ANIMATED_PIXELS and max(width, height) <= self.longest


def _most(limit: int, fits: "Callable[[int], bool]") -> int:
    """The largest number up to ``limit`` that fits, where all smaller ones do; 0 if none does."""
    return bisect_left(range(1, limit + 1), True, key=lambda number: not fits(number))
