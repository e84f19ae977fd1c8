"""What is shown of images while they are made and after: a bar, labelled rows, an animation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from setar.cli.files import check_size

if TYPE_CHECKING:
    from PIL import Image

    from setar.pipeline import PartialImages, Pipeline

ANIMATED_PIXELS = 2**28
"""Of all frames of an animation together: they are in memory at once."""


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
    return "   ".join(
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
    for row, class_id in enumerate(ids):
        first = row * count
        seeds = "" if seed is None else f"seeds {seed + first} to {seed + first + count - 1}"
        rows.append((pipe.classes[class_id], seeds, images[first : first + count]))
    return labelled_rows(rows, title, side=_side(pipe))


def check_sheet(file: Path, pipe: "Pipeline", ids: Sequence[int], count: int) -> None:
    """ValueError if the rows of `class_rows` would not fit into a file."""
    check_size(file, _sheet_size(pipe, len(ids), count))


def _sheet_size(pipe: "Pipeline", rows: int, count: int) -> tuple[int, int]:
    """About (width, height) in pixels of the pictures of `class_rows`."""
    side = _side(pipe)
    height = max(side * pipe.size[1] // pipe.size[0], side // 2)
    return count * (side + side // 16), rows * (height + side // 16)


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
        self.rows, self.columns = len(ids), count
        while self._too_large() and self.columns > 1:
            self.columns -= 1
        while self._too_large() and self.rows > 1:
            self.rows -= 1
        if self._too_large():
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
        steps = f"{len(self.sets)} steps"
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

    def _too_large(self) -> bool:
        width, height = _sheet_size(self.pipe, self.rows, self.columns)
        return self.steps * width * height > ANIMATED_PIXELS or max(width, height) > 60_000
