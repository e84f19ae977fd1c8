"""What a data set is, and where the pictures that a text names come from.

A new data set is one file with a function that takes a split (``train``, ``heldout`` or ``all``)
and returns a `Dataset`, and a line in `DATASETS` (or ``@DATASETS.register("name")`` in a plugin).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from setar.data.crops import Resize
from setar.data.decoding import ENDINGS
from setar.data.images import ChosenImages, Images, Size
from setar.registry import Table, printable

if TYPE_CHECKING:
    from setar.data.codes import CodeFolder

CODES = "encoding.json"
"""A folder with such a file holds codes of pictures (`setar.data.codes`)."""

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
    """Texts about each picture, one or several; empty if there are none. Those of a picture in
    `uncaptioned` are an empty sequence."""
    meta: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What else is known of each picture, by what it is, such as ``style``: a text each, empty
    where it is not known."""
    heldout: Images | None = None
    """Pictures that are never trained on; None if there are none."""
    features: str = "efflite0"
    """The extractor (`setar.features.base.EXTRACTORS`) in whose features it is compared."""
    report: tuple[str, ...] = ()
    """Metrics (`setar.evaluation.metrics.METRICS`) of its models beside the general ones."""
    tokenizer: Mapping[str, Any] | None = None
    """The config entry of a tokenizer without weights that suits it; None: one must be trained."""
    heldout_labels: Tensor | None = None
    """int64 ``[m]``, the class of each held-out picture; None if that is not known."""
    heldout_captions: Sequence[Sequence[str]] = ()
    """Texts about each held-out picture, as `captions`; empty if there are none."""
    heldout_meta: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What else is known of each held-out picture, as `meta`."""
    heldout_paths: Sequence[str] = ()
    """The file of each held-out picture, as `paths`."""
    paths: Sequence[str] = ()
    """The file of each picture, below the folder that the source names; empty: they are in
    memory."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many files there are no pictures, by what their names end in."""
    empty: Sequence[str] = ()
    """Folders at the place of a class that hold no picture."""
    uncaptioned: Sequence[str] = ()
    """Paths of pictures, held out or not, without a caption, if others have one."""
    absent: Sequence[str] = ()
    """Paths of pictures that have captions and do not exist."""
    stored: "CodeFolder | None" = None
    """Where the pictures' codes lie, if there are only these: the pictures cannot be asked for."""

    def __post_init__(self) -> None:
        held = 0 if self.heldout is None else len(self.heldout)
        for prefix, whose, count in (("", "", len(self)), ("heldout_", "held-out ", held)):
            columns = {n: getattr(self, prefix + n, ()) for n in ("names", "paths", "captions")}
            columns |= {f"meta.{name}": v for name, v in getattr(self, f"{prefix}meta").items()}
            for name, values in columns.items():
                if values and len(values) != count:
                    message = f"{count} {whose}pictures have {len(values)} `{prefix}{name}`"
                    raise ValueError(message)
        object.__setattr__(self, "classes", tuple(self.classes))
        self._check_labels("labels", self.labels, len(self))
        if self.heldout is not None and self.heldout_labels is not None:
            self._check_labels("heldout_labels", self.heldout_labels, len(self.heldout))

    def _check_labels(self, name: str, labels: Tensor, count: int) -> None:
        if not count or labels.dtype != torch.int64 or labels.shape != (count,):
            found = f"{labels.dtype} {list(labels.shape)}"
            raise ValueError(f"`{name}` must be int64 [{count}], at least one, not {found}")
        if not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise ValueError(f"`{name}` must be indices into the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.images)

    def held_out(self) -> "Dataset | None":
        """The held-out pictures as a data set; None if there are none.

        Their labels mean nothing, and are all 0, unless there are `heldout_labels`.
        """
        if self.heldout is None:
            return None
        labels = self.heldout_labels
        if labels is None:
            labels = torch.zeros(len(self.heldout), dtype=torch.int64)
        return Dataset(
            self.heldout,
            labels,
            self.classes,
            captions=self.heldout_captions,
            meta=self.heldout_meta,
            paths=self.heldout_paths,
        )

    def shown(self, count: int) -> Tensor:
        """Up to ``count`` pictures to show, uint8 ``[n, 3, H, W]``: held-out ones if there are.

        They are of as many classes as possible, each as often as the others if it has so many.
        """
        data = self.held_out() or self
        return data.images[spread(data.labels, count)]


def holding(data: Dataset, out: Dataset | None) -> Dataset:
    """The data set with these held-out pictures; None: without any."""
    names = ("labels", "captions", "meta", "paths")
    if out is None:
        empty = dict(zip(names, (None, (), {}, ()), strict=True))
        return replace(data, heldout=None, **{f"heldout_{name}": empty[name] for name in names})
    columns = {f"heldout_{name}": getattr(out, name) for name in names}
    return replace(data, heldout=out.images, **columns)


def chosen(data: Dataset, items: Tensor) -> Dataset:
    """Some of a data set: what has the indices ``items`` ``[n]``, in this order."""

    def some(values: Sequence) -> Sequence:
        return [values[item] for item in items.tolist()] if values else values

    changed = {
        "images": ChosenImages(data.images, items),
        "labels": data.labels[items],
        **{name: some(getattr(data, name)) for name in ("names", "captions", "paths")},
        "meta": {name: some(values) for name, values in data.meta.items()},
    }
    kept = {field.name: getattr(data, field.name) for field in fields(Dataset)}
    return Dataset(**{**kept, **changed})


def spread(labels: Tensor, count: int) -> Tensor:
    """Indices, ascending, of up to ``count`` of the labels ``[n]`` that are spread over them.

    Every class has its turn before one is chosen again; of more classes than ``count``, and of the
    pictures of a class, those chosen lie evenly apart.
    """
    classes = labels.unique()
    if len(classes) > count:
        classes = _evenly(classes, count)
    members = [(labels == label).nonzero().flatten() for label in classes]
    taken = [0] * len(members)
    while sum(taken) < min(count, sum(map(len, members))):
        for index, own in enumerate(members):
            taken[index] += len(own) > taken[index] and sum(taken) < count
    return torch.cat([_evenly(own, n) for own, n in zip(members, taken, strict=True)]).sort()[0]


def _evenly(items: Tensor, count: int) -> Tensor:
    """``count`` of the items ``[n]``, evenly apart."""
    return items[torch.arange(count) * len(items) // max(1, count)]


DATASETS: Table[Callable[[Any], Dataset]] = Table(
    "data set",
    {
        "emoji": "setar.data.emoji:load",
        "digits": "setar.data.digits:load",
        "styles-tiny": "setar.data.styles_tiny:load",
    },
)
"""Data sets by name: functions of a split."""


SOURCES: Table[Callable[[Path, Any, Any], Dataset]] = Table(
    "source of pictures",
    {
        "folder": "setar.data.captions:load",
        "parquet": "setar.data.parquet:load",
        "tar": "setar.data.tars:load",
        "codes": "setar.data.codes:load",
    },
)
"""Where pictures of the user's own lie: functions of a path, a size and a resize. ``codes`` is a
folder that ``setar encode`` wrote; other names than that and ``folder`` are what the names of files
end in."""

FOLDERS = {"folder", "codes"}
"""Those that are no files."""


def kind_of_source(path: Path) -> str:
    """The name in `SOURCES` of a file or a folder; a folder of such files alone is of their kind.

    What is none of these is said to be a folder, whose reader tells what is wrong.
    """
    if not os.path.isdir(path):
        ending = path.suffix.lower().removeprefix(".")
        return ending if {ending} & {*SOURCES} - FOLDERS else "folder"
    if os.path.isfile(path / CODES):
        return "codes"
    kinds = set()
    for entry in os.scandir(path):
        ending = Path(entry.name).suffix.lower()
        if entry.name.startswith("."):
            continue
        if entry.is_dir() or ending in ENDINGS:
            return "folder"
        kinds |= {ending.removeprefix(".")} & {*SOURCES} - FOLDERS
    if len(kinds) > 1:
        raise ValueError(
            f"{printable(path)} holds several kinds of files: {', '.join(sorted(kinds))}"
        )
    return kinds.pop() if kinds else "folder"


def open_data(source: str, size: Size | None = None, resize: Resize = "lanczos") -> Dataset:
    """The data set that a text names.

    Args:
        source: a name of `DATASETS`, with ``:train`` (the default), ``:heldout`` or ``:all``; a
            folder of images, with a subfolder per class, which may have captions
            (`setar.data.captions`); a parquet file (`setar.data.parquet`), a WebDataset tar
            (`setar.data.tars`), or a folder of these; or a folder of codes (`setar.data.codes`).
        size: of the centre crops from files in pixels, the side or (height, width); None takes
            the pictures as they are.
        resize: how these crops are made: ``lanczos``, or ``adm`` as ADM and its followers do.

    Raises:
        ValueError: there is no such data set, split, folder or file, or its metadata are malformed.
        ImportError: a reader of such files is not installed.
    """
    name, _, split = source.partition(":")
    if name in DATASETS:
        return DATASETS.find(name)(split or "train")
    path = Path(source)
    return SOURCES.find(kind_of_source(path))(path, size, resize)


def check_split(split: str) -> None:
    """Raise ValueError unless this is a split."""
    if split not in get_args(Split):
        raise ValueError(f"`split` (={split!r}) must be one of {', '.join(get_args(Split))}")
