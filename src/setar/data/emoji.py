"""The embedded emoji: 32x32 RGB pictures in 99 classes, ready without any download.

`experiments/build_emoji.py` rendered the fully-qualified emoji of Unicode 15.0 from Noto Color
Emoji 2.042 on white, without grey family pictograms and exact duplicates. The class of a picture is
its Unicode subgroup. `heldout` are those skin-tone emoji whose SHA-256 of the name is 0 modulo 10:
combinations never seen in training, whose siblings in other skin tones were.

The pictures are under the SIL Open Font License 1.1, the names and classes under the Unicode
licence; both texts lie in `assets/` beside the data.
"""

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from setar.data.base import Dataset, Split, check_split


@dataclass(frozen=True, eq=False)
class EmojiSet(Dataset):
    """Emoji pictures with their annotations, in Unicode order.

    The images are one tensor, uint8 [n, 3, 32, 32]; labels are indices into `subgroups()`, 0..98
    whatever the split; names are CLDR's, all different, and also the captions.
    """

    images: Tensor
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """The n names of the Unicode groups, 9 different ones."""
    skin_tone: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    """bool [n], whether the emoji carries a skin tone modifier."""


def load(split: Split = "train") -> EmojiSet:
    """Return one split of the emoji as fresh tensors, which the caller may change.

    Raises:
        ValueError: for a split other than `train`, `heldout` and `all`.
    """
    check_split(split)
    columns = _columns()
    rows = np.flatnonzero((columns["split"] == split) | (split == "all"))
    class_of = {name: index for index, name in enumerate(subgroups())}
    names = tuple(columns["name"][rows].tolist())
    other = load("heldout") if split == "train" else None
    return EmojiSet(
        images=torch.from_numpy(columns["image"][rows]).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor([class_of[name] for name in columns["subgroup"][rows].tolist()]),
        classes=subgroups(),
        names=names,
        captions=tuple((name,) for name in names),
        heldout=other.images if other else None,
        heldout_labels=other.labels if other else None,
        heldout_captions=other.captions if other else (),
        report=("emoji-tokenizer", "emoji-samples"),
        groups=tuple(columns["group"][rows].tolist()),
        skin_tone=torch.from_numpy(columns["skin_tone"][rows]),
    )


@cache
def subgroups() -> tuple[str, ...]:
    """Return the 99 Unicode subgroups in file order: the names of the classes."""
    return tuple(dict.fromkeys(_columns()["subgroup"].tolist()))


@cache
def _columns() -> dict[str, np.ndarray]:
    """Read the archive once per process; see `experiments/build_emoji.py` for its columns."""
    path = files("setar.data") / "assets" / "emoji.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)
