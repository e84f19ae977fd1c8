"""Handwritten digits of 8x8 grey levels, whose pixels serve as tokens without any tokenizer.

The 1,797 pictures come with scikit-learn (extra `train`). A grey level 0..16 is a code of a
vocabulary of 17, so a picture is a sequence of 64 codes in raster order.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

VOCABULARY = 17  # grey levels 0..16
GRID = (8, 8)  # height and width in tokens

Split = Literal["train", "heldout", "all"]


@dataclass(frozen=True, eq=False)
class DigitSet:
    """Digit pictures as codes.

    Attributes:
        codes: int64 [n, 64], grey levels 0 (paper) .. 16 (ink) in raster order.
        labels: int64 [n], the digit 0..9.
    """

    codes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load(split: Split = "train") -> DigitSet:
    """Return one split of the digits; every tenth picture, from the first on, is held out.

    Raises:
        ValueError: for a split other than `train`, `heldout` and `all`.
        ImportError: when scikit-learn is not installed.
    """
    if split not in get_args(Split):
        raise ValueError(f"`split` (={split!r}) must be one of train, heldout, all")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits need scikit-learn: install setar[train]") from error
    pixels, digits = load_digits(return_X_y=True)
    codes, labels = torch.tensor(pixels, dtype=torch.int64), torch.tensor(digits)
    heldout = torch.arange(len(labels)) % 10 == 0
    chosen = {"train": ~heldout, "heldout": heldout, "all": heldout | True}[split]
    return DigitSet(codes=codes[chosen], labels=labels[chosen])
