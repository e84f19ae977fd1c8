"""Pixels that are few and small enough to be tokens themselves (the 8x8 digits)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from setar.numbers import whole
from setar.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class PixelLevelsConfig:
    """A token is one pixel, a code its grey level."""

    levels: int = 17
    """Number of grey levels, 0 = black; the digits have 17."""

    def __post_init__(self) -> None:
        whole("levels", self.levels, 2, 2**16, "pixels have at most 16 bits")


class PixelLevels(Tokenizer[PixelLevelsConfig]):
    """Grey pixels as codes: a tokenizer without a single weight."""

    Config, presets = PixelLevelsConfig, {"tiny": PixelLevelsConfig()}

    @property
    def vocabulary(self) -> int:
        """Number of grey levels."""
        return self.config.levels

    @property
    def colours(self) -> bool:
        """No: grey alone."""
        return False

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """One token per pixel."""
        return height, width

    def encode(self, images: Tensor) -> Tensor:
        """The nearest level of each pixel's mean over channels, ``[B, 3, H, W]`` to ``[B, N]``."""
        unit = images.mean(1).add(1).div(2).clamp(0, 1)
        return unit.mul(self.vocabulary - 1).round().to(torch.int64).flatten(1)

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes ``[B, N]`` to grey images ``[B, 3, rows, columns]`` in [-1, 1]."""
        grey = codes.float().div(self.vocabulary - 1).mul(2).sub(1)
        return grey.unflatten(1, grid)[:, None].expand(-1, 3, -1, -1)
