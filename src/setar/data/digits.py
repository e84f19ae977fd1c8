"""Handwritten digits of 8x8 grey levels, whose pixels serve as tokens without any tokenizer.

The 1,797 pictures come with scikit-learn (extra `train`). A grey level 0..16 is a code of a
vocabulary of 17, so a picture is a sequence of 64 codes in raster order.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from setar.data.base import Dataset, Split, check_split

VOCABULARY = 17  # grey levels 0..16
GRID = (8, 8)  # height and width in tokens


@dataclass(frozen=True, eq=False)
class DigitSet(Dataset):
    """Digit pictures, uint8 [n, 3, 8, 8] in grey, and the same as codes."""

    images: Tensor
    codes: Tensor = field(default_factory=lambda: torch.empty(0, 64, dtype=torch.int64))
    """int64 [n, 64], grey levels 0 (paper, black) .. 16 (ink, white) in raster order."""


def load(split: Split = "train") -> DigitSet:
    """Return one split of the digits; every tenth picture, from the first on, is held out.

    Raises:
        ValueError: for a split other than `train`, `heldout` and `all`.
        ImportError: when scikit-learn is not installed.
    """
    check_split(split)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits need scikit-learn: install setar[train]") from error
    pixels, digits = load_digits(return_X_y=True)
    codes, labels = torch.tensor(pixels, dtype=torch.int64), torch.tensor(digits)
    heldout = torch.arange(len(labels)) % 10 == 0
    chosen = {"train": ~heldout, "heldout": heldout, "all": heldout | True}[split]
    codes = codes[chosen]
    grey = (codes * 255 / (VOCABULARY - 1)).round().to(torch.uint8)
    other = load("heldout") if split == "train" else None
    return DigitSet(
        images=grey.view(-1, 1, *GRID).expand(-1, 3, -1, -1).contiguous(),
        labels=labels[chosen],
        classes=tuple("0123456789"),
        heldout=other.images if other else None,
        heldout_labels=other.labels if other else None,
        features="digits",
        report=("digits-read",),
        tokenizer={"family": "pixels", "levels": VOCABULARY},
        codes=codes,
    )
