"""What every tokenizer does, and the one conversion between bytes and floats."""

from typing import Protocol

import torch
from torch import Tensor


class Tokenizer(Protocol):
    """Images to codes and back; models and sampling know a tokenizer only through this.

    Images are float ``[B, 3, H, W]`` in [-1, 1]; codes are int64 ``[B, N]`` in raster order.
    """

    vocabulary: int
    """Number of different codes; every code lies in ``0 .. vocabulary - 1``."""

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens for an image of ``height`` x ``width`` pixels."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in [-1, 1] to codes ``[B, N]``."""
        ...

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes ``[B, N]`` on a ``(rows, columns)`` grid to images ``[B, 3, H, W]`` in [-1, 1]."""
        ...


def to_float(images: Tensor) -> Tensor:
    """Bytes 0..255 to float32 in [-1, 1]; any shape."""
    return images.to(torch.float32).div(127.5).sub(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to bytes: clamp, scale, round half to even.

    Rounding and flooring differ by half a grey level, which moves a Frechet distance, so this one
    function makes every picture that is saved, shown or measured.
    """
    return images.float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)
