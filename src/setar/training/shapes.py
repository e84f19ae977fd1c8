"""Buckets of aspect ratios: sizes of nearly equal areas to which images are cropped."""

from collections.abc import Sequence

import torch
from torch import Tensor

from setar.tokenizers.base import Tokenizer

WIDEST = 8.0
"""The largest `max_aspect`: a strip of tokens shows hardly anything."""


def aspect_buckets(side: int, stride: int, most: float) -> list[tuple[int, int]]:
    """Sizes (height, width) of nearly equal areas, of all shapes up to a ratio of the sides.

    Args:
        side: of the square among them in pixels, a multiple of ``stride``.
        stride: pixels of a token along each side.
        most: the longer side over the shorter one, at least 1.

    Returns:
        The square first, then wider and wider ones, each followed by its upright twin.

    >>> aspect_buckets(256, 16, 1.5)
    [(256, 256), (240, 272), (272, 240), (224, 288), (288, 224), (208, 304), (304, 208)]
    """
    rows = side // stride
    sizes = [(side, side)]
    for short in range(rows - 1, 0, -1):
        long = rows * rows // short
        if long > most * short:
            break
        wide = (short * stride, long * stride)
        sizes += [wide, wide[::-1]]
    return sizes


def nearest_bucket(shapes: Tensor, buckets: Sequence[tuple[int, int]]) -> Tensor:
    """The bucket whose ratio of sides is nearest to that of each image, int64 ``[n]``."""
    ratios = (shapes[:, 0] / shapes[:, 1]).log()
    own = torch.tensor([height / width for height, width in buckets]).log()
    return (ratios[:, None] - own).abs().argmin(1)


def stride_of(tokenizer: Tokenizer, size: tuple[int, int]) -> tuple[int, int]:
    """Pixels of a token, down and across, of images of ``size`` (height, width)."""
    rows, columns = tokenizer.grid(*size)
    return size[0] // rows, size[1] // columns
