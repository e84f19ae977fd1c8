"""What is shown of images while they are made and after: a bar, labelled rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from setar.pipeline import PartialImages, Pipeline


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


def class_rows(
    pipe: "Pipeline",
    ids: list[int],
    images: "list[Image.Image]",
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
    return labelled_rows(rows, title, side=max(96, images[0].width))
