"""The VQGAN tokenizer of LlamaGen (arXiv 2406.06525, section 3.1): low-dimensional unit codes.

Features and codebook rows are normalised to unit length both when they are compared and when the
codes are looked up again, so a code is a direction. Dimension 8 keeps large codebooks in use.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.numbers import whole
from setar.tokenizers.autoencoder import MAX_CHANNELS, AutoencoderConfig, AutoencoderTokenizer
from setar.tokenizers.base import Quantized, Quantizer


@dataclass(frozen=True)
class VQGANConfig(AutoencoderConfig):
    """Shape of a VQGAN; the defaults are LlamaGen's VQ-16."""

    latent_channels: int = 256
    """Channels on both sides of the codebook."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("latent_channels", self.latent_channels, 1, MAX_CHANNELS, "more than any published")


PRESETS = {
    # 72 M parameters, 256x256 -> 16x16 (LlamaGen, table 1)
    "VQ-16": VQGANConfig(),
    # 70 M parameters, 256x256 -> 32x32
    "VQ-8": VQGANConfig(multipliers=(1, 2, 2, 4)),
    # a few thousand parameters, f4: for tests
    "tiny": VQGANConfig(
        channels=8, multipliers=(1, 1, 2), blocks=1, latent_channels=8, codebook_size=32
    ),
}


class Codebook(nn.Embedding, Quantizer):
    """Nearest unit vector in a learned table ``[codebook_size, codebook_dim]``."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(size, dim)
        self.size = size

    def reset_parameters(self) -> None:
        """Start from random directions."""
        super().reset_parameters()
        if not self.weight.is_meta:  # which has no directions
            self.weight.data = F.normalize(self.weight.data, dim=-1)

    def nearest(self, features: Tensor) -> Tensor:
        """Unit features ``[..., D]`` to the codes ``[...]`` of largest cosine, in float32."""
        table = F.normalize(self.weight.float(), dim=-1)
        return (features.float() @ table.mT).argmax(-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes ``[...]`` to unit vectors ``[..., D]``."""
        return F.normalize(F.embedding(codes, self.weight), dim=-1)

    def encode(self, features: Tensor) -> Tensor:
        """Raw features ``[B, D, h, w]`` to codes ``[B, h w]``."""
        unit = F.normalize(features.float(), dim=1)
        return self.nearest(unit.permute(0, 2, 3, 1)).flatten(1)

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes ``[B, h w]`` on a grid of (h, w) to unit vectors ``[B, D, h, w]``."""
        return self.lookup(codes).unflatten(1, grid).permute(0, 3, 1, 2)

    def restart(self, dead: Tensor, features: Tensor) -> None:
        """Put codes ``[n]`` at random ones of the raw features ``[B, D, h, w]``."""
        unit = F.normalize(features.float().permute(0, 2, 3, 1).flatten(0, 2), dim=-1)
        chosen = torch.randint(len(unit), (len(dead),), device=unit.device)
        self.weight.data[dead.to(unit.device)] = unit[chosen]

    def forward(self, features: Tensor) -> Quantized:  # type: ignore[override]
        """Quantise raw features ``[B, D, h, w]``; always in float32, also under autocast."""
        with torch.autocast(features.device.type, enabled=False):
            unit = F.normalize(features.float().permute(0, 2, 3, 1), dim=-1)
            codes = self.nearest(unit)
            chosen = self.lookup(codes)
            codebook_loss = (chosen - unit.detach()).square().mean()
            commitment_loss = (chosen.detach() - unit).square().mean()
            straight_through = unit + (chosen - unit).detach()
        return Quantized(
            straight_through.permute(0, 3, 1, 2), codes.flatten(1), codebook_loss, commitment_loss
        )


class VQGAN(AutoencoderTokenizer[VQGANConfig]):
    """LlamaGen's tokenizer; a subclass with another `make_quantizer` quantises in another way."""

    Config, presets = VQGANConfig, PRESETS

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__(config, config.latent_channels, kernel=1)

    def make_quantizer(self) -> Quantizer:
        """A `Codebook`."""
        return Codebook(self.config.codebook_size, self.config.codebook_dim)
