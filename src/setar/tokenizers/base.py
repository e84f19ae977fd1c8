"""What every tokenizer does, and the one conversion between bytes and floats."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

BATCH = 64
"""Images that go through a tokenizer at once."""


class Tokenizer(Protocol):
    """Images to codes and back; models and sampling know a tokenizer only through this.

    Images are float ``[B, 3, H, W]`` in [-1, 1]; codes are int64 ``[B, N]`` in raster order.
    """

    @property
    def vocabulary(self) -> int:
        """Number of different codes; every code lies in ``0 .. vocabulary - 1``."""
        ...

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


@torch.inference_mode()
def encode_images(tokenizer: Tokenizer, images: Any, progress: bool = False) -> Tensor:
    """Codes int64 ``[n, N]``, on the CPU, of many pictures.

    ``images`` has a length and gives uint8 ``[B, 3, H, W]`` for a tensor of B indices.
    """
    return through(tokenizer.encode, images, _device(tokenizer), progress)


@torch.inference_mode()
def through(
    encode: Callable[[Tensor], Tensor], images: Any, device: torch.device, progress: bool = False
) -> Tensor:
    """What ``encode`` makes of many pictures, ``[n, ...]``, on the CPU.

    It gets float ``[B, 3, H, W]`` in [-1, 1] on ``device``; ``images`` are as of `encode_images`.
    """
    batches = tqdm(
        torch.arange(len(images)).split(BATCH), "encoding", disable=not progress, unit="batch"
    )
    return torch.cat([encode(to_float(images[items]).to(device)).cpu() for items in batches])


@torch.inference_mode()
def decode_codes(tokenizer: Tokenizer, codes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Pictures uint8 ``[n, 3, H, W]``, on the CPU, of many codes ``[n, N]``."""
    device = _device(tokenizer)
    parts = [tokenizer.decode(part.to(device), grid) for part in codes.split(BATCH)]
    return torch.cat([to_uint8(part).cpu() for part in parts])


def reconstruct(tokenizer: Tokenizer, images: Tensor) -> Tensor:
    """Pictures uint8 ``[n, 3, H, W]`` through the tokenizer and back."""
    grid = tokenizer.grid(*images.shape[-2:])
    return decode_codes(tokenizer, encode_images(tokenizer, images), grid)


def _device(tokenizer: Tokenizer) -> torch.device:
    parameters = tokenizer.parameters() if isinstance(tokenizer, nn.Module) else iter(())
    return next(parameters, torch.empty(0)).device
