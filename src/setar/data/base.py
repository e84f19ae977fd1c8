"""What a data set is, and where the pictures that a text names come from.

A new data set is one file with a function that takes a split (``train``, ``heldout`` or ``all``)
and returns a `Dataset`, and a line in `DATASETS` (or ``@DATASETS.register("name")`` in a plugin).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from setar.data.crops import Resize
from setar.data.images import FolderImages, Images, Size
from setar.registry import Table

Split = Literal["train", "heldout", "all"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures with what is known of them.

    Raises:
        ValueError: labels, names or captions are not one for each picture.
    """

    images: Images
    """``images[indices]`` is uint8 ``[B, 3, H, W]``."""
    labels: Tensor
    """int64 ``[n]``, an index into ``classes``."""
    classes: tuple[str, ...]
    """Names of the classes."""
    names: Sequence[str] = ()
    """What each picture is called, such as its file; empty: they have numbers only."""
    captions: Sequence[Sequence[str]] = ()
    """Texts about each picture, one or several; empty if there are none."""
    heldout: Images | None = None
    """Pictures that are never trained on; None if there are none."""
    features: str = "efflite0"
    """The extractor (`setar.features.base.EXTRACTORS`) in whose features it is compared."""
    report: tuple[str, ...] = ()
    """Metrics (`setar.evaluation.metrics.METRICS`) of its models beside the general ones."""
    tokenizer: Mapping[str, Any] | None = None
    """The config entry of a tokenizer without weights that suits it; None: one must be trained."""

    def __post_init__(self) -> None:
        for name, values in {"names": self.names, "captions": self.captions}.items():
            if values and len(values) != len(self):
                raise ValueError(f"{len(self)} pictures have {len(values)} `{name}`")
        object.__setattr__(self, "classes", tuple(self.classes))
        labels = self.labels
        if not len(self) or labels.dtype != torch.int64 or labels.shape != (len(self),):
            found = f"{labels.dtype} {list(labels.shape)}"
            raise ValueError(f"`labels` must be int64 [{len(self)}], at least one, not {found}")
        if not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise ValueError(f"`labels` must be indices into the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.images)

    def shown(self, count: int) -> Tensor:
        """Up to ``count`` pictures to show, uint8 ``[n, 3, H, W]``: held-out ones if there are."""
        images = self.images if self.heldout is None else self.heldout
        return images[torch.arange(min(count, len(images)))]


DATASETS: Table[Callable[[Any], Dataset]] = Table(
    "data set", {"emoji": "setar.data.emoji:load", "digits": "setar.data.digits:load"}
)
"""Data sets by name: functions of a split."""


def open_data(source: str, size: Size | None = None, resize: Resize = "lanczos") -> Dataset:
    """The data set that a text names.

    Args:
        source: a name of `DATASETS`, with ``:train`` (the default), ``:heldout`` or ``:all``; or a
            folder with one subfolder of images per class.
        size: of the centre crops from a folder in pixels, the side or (height, width); None takes
            its pictures as they are.
        resize: how these crops are made: ``lanczos``, or ``adm`` as ADM and its followers do.

    Raises:
        ValueError: there is no such data set, split or folder.
    """
    name, _, split = source.partition(":")
    if name in DATASETS:
        return DATASETS.find(name)(split or "train")
    images = FolderImages(Path(source), size, resize)
    return Dataset(images, images.labels, images.classes, [file.stem for file in images.files])


def check_split(split: str) -> None:
    """Raise ValueError unless this is a split."""
    if split not in get_args(Split):
        raise ValueError(f"`split` (={split!r}) must be one of {', '.join(get_args(Split))}")
