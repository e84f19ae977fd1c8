"""The convolutional autoencoder shared by the tokenizers (VQGAN, Esser et al. 2021).

    image [B, 3, H, W] --encoder--> --convolution--> features [B, D, h, w] --quantizer--> codes
    codes --quantizer--> vectors [B, D, h, w] --convolution--> --decoder--> image

Each level halves (or doubles) the resolution: residual blocks, then a strided convolution; only
the coarsest level and the middle attend over space. LlamaGen and VAR use the same network with
other widths.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.numbers import whole
from setar.registry import quoted
from setar.tokenizers.base import MAX_CODES, Quantizer, Tokenizer

# Beyond these a size is a mistake or an attack; each is several times what is published.
MAX_CHANNELS = 2**14
"""Of any layer, and numbers in a code's vector; published tokenizers have at most 1024."""
MAX_LEVELS = 12
"""The coarsest one is then 2048 times smaller than the image."""
MAX_BLOCKS = 16
"""Of a level; published tokenizers have at most four."""


class GroupNorm(nn.GroupNorm):
    """That of torch, which refuses a single value per group: a picture of one token has that."""

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape; a single value is its own mean, and becomes 0."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(channels: int) -> GroupNorm:
    """Normalise over groups of channels: 32 groups as published, fewer for small models."""
    groups = 32 if channels % 32 == 0 else 8
    return GroupNorm(groups, channels, eps=1e-6)


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """Convolve and keep the resolution."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = convolution(inputs, outputs)
        self.norm2 = group_norm(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` to ``[B, outputs, H, W]``."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(hidden)))


class SpatialAttention(nn.Module):
    """One attention head over all positions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.query = convolution(channels, channels, 1)
        self.key = convolution(channels, channels, 1)
        self.value = convolution(channels, channels, 1)
        self.output = convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        h = self.norm(x)
        query, key, value = (f(h).flatten(2).mT for f in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])
        return x + self.output(mixed[:, 0].mT.reshape(x.shape))


class Downsample(nn.Module):
    """Halve height and width; the odd padding (right and bottom only) is the published one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C, H/2, W/2]``."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C, 2H, 2W]``."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution, then the change to the next one."""

    def __init__(self, widths: list[int], attend: bool, resample: nn.Module) -> None:
        super().__init__()
        self.residual = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.attention = nn.ModuleList(
            SpatialAttention(b) if attend else nn.Identity() for b in widths[1:]
        )
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the next level's shape."""
        for residual, attention in zip(self.residual, self.attention, strict=True):
            x = attention(residual(x))
        return self.resample(x)


def middle(channels: int) -> nn.Sequential:
    """The bottleneck at the coarsest resolution."""
    return nn.Sequential(
        ResidualBlock(channels, channels),
        SpatialAttention(channels),
        ResidualBlock(channels, channels),
    )


class Encoder(nn.Module):
    """Images ``[B, 3, H, W]`` to latents ``[B, latent, H / f, W / f]``, f = 2 ** (levels - 1)."""

    def __init__(
        self, channels: int, multipliers: tuple[int, ...], blocks: int, latent: int
    ) -> None:
        super().__init__()
        widths = [channels * m for m in multipliers]
        self.input = convolution(3, channels)
        self.levels = nn.ModuleList()
        for index, (before, width) in enumerate(zip([channels, *widths[:-1]], widths, strict=True)):
            last = index == len(widths) - 1
            resample = nn.Identity() if last else Downsample(width)
            self.levels.append(Level([before] + [width] * blocks, last, resample))
        self.middle = middle(widths[-1])
        self.norm = group_norm(widths[-1])
        self.output = convolution(widths[-1], latent)

    def forward(self, images: Tensor) -> Tensor:
        """Encode a batch."""
        x = self.input(images)
        for level in self.levels:
            x = level(x)
        return self.output(F.silu(self.norm(self.middle(x))))


class Decoder(nn.Module):
    """Latents ``[B, latent, h, w]`` to images ``[B, 3, h f, w f]``; one block more per level."""

    def __init__(
        self, channels: int, multipliers: tuple[int, ...], blocks: int, latent: int
    ) -> None:
        super().__init__()
        widths = [channels * m for m in reversed(multipliers)]
        self.input = convolution(latent, widths[0])
        self.middle = middle(widths[0])
        self.levels = nn.ModuleList()
        for index, (before, width) in enumerate(
            zip([widths[0], *widths[:-1]], widths, strict=True)
        ):
            last = index == len(widths) - 1
            resample = nn.Identity() if last else Upsample(width)
            self.levels.append(Level([before] + [width] * (blocks + 1), index == 0, resample))
        self.norm = group_norm(widths[-1])
        self.output = convolution(widths[-1], 3)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode a batch; the output is not clamped."""
        return self.output(self.hidden(latents))

    def hidden(self, latents: Tensor) -> Tensor:
        """What the last layer sees: ``[B, channels, h f, w f]``."""
        x = self.middle(self.input(latents))
        for level in self.levels:
            x = level(x)
        return F.silu(self.norm(x))


def latent_size(height: int, width: int, factor: int) -> tuple[int, int]:
    """Latent rows and columns of an image; ValueError unless ``factor`` divides both sides."""
    if height < 1 or width < 1 or height % factor or width % factor:
        raise ValueError(f"image sides must be multiples of {factor} pixels, got {height}x{width}")
    return height // factor, width // factor


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image; both ``[B, C, H, W]`` in [-1, 1]."""
    error = (images - originals).float().square().flatten(1).mean(1)
    return 10.0 * torch.log10(4.0 / error.clamp_min(1e-12))


@dataclass(frozen=True)
class AutoencoderConfig:
    """What the shapes of all these tokenizers have in common."""

    channels: int = 128
    """Width of the finest level of encoder and decoder."""
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Width of each level over ``channels``; f4 has three levels, f8 four, f16 five."""
    blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    codebook_size: int = 16384
    """Number of different codes."""
    codebook_dim: int = 8
    """Numbers in the vector of a code."""

    def __post_init__(self) -> None:
        if not isinstance(self.multipliers, tuple) or not 1 <= len(self.multipliers) <= MAX_LEVELS:
            raise ValueError(
                f"`multipliers` (={quoted(self.multipliers)}) must be at least 1 number and at "
                f"most {MAX_LEVELS}: each level but the first halves the image"
            )
        beyond = "no published tokenizer comes near"
        for multiplier in self.multipliers:
            whole("multipliers", multiplier, 1, MAX_CHANNELS, beyond)
        widest = whole("channels", self.channels, 1, MAX_CHANNELS, beyond) * max(self.multipliers)
        whole("channels * multipliers", widest, 1, MAX_CHANNELS, beyond)
        whole("blocks", self.blocks, 1, MAX_BLOCKS, beyond)
        whole("codebook_size", self.codebook_size, 1, MAX_CODES, beyond)
        whole("codebook_dim", self.codebook_dim, 1, MAX_CHANNELS, beyond)
        if self.channels % 8:
            raise ValueError(f"`channels` (={self.channels}) must be a multiple of 8")


AutoencoderKind = TypeVar("AutoencoderKind", bound=AutoencoderConfig)


class AutoencoderTokenizer(Tokenizer[AutoencoderKind]):
    """Encoder, quantizer and decoder.

    Args:
        config: the shape.
        latent: channels between encoder and quantizer, and between quantizer and decoder.
        kernel: side of the convolutions there.
    """

    def __init__(self, config: AutoencoderKind, latent: int, kernel: int) -> None:
        super().__init__(config)
        shape = (config.channels, config.multipliers, config.blocks, latent)
        self.encoder = Encoder(*shape)
        self.to_code = convolution(latent, config.codebook_dim, kernel)
        self.codebook = self.make_quantizer()
        self.from_code = convolution(config.codebook_dim, latent, kernel)
        self.decoder = Decoder(*shape)

    def compile(self, *args: Any, **options: Any) -> None:
        """Fuse encoder and decoder; options as those of `torch.compile`.

        Not the quantizer, which looks at values, nor the decoder's output, at which the adaptive
        weight of a critic asks for gradients: a compiled decoder would compute all of its own.
        """
        self.encoder.compile(*args, **options)
        self.decoder.hidden = torch.compile(self.decoder.hidden, *args, **options)

    def make_quantizer(self) -> Quantizer:
        """The quantizer of ``self.config``."""
        raise NotImplementedError

    @property
    def quantizer(self) -> Quantizer:
        """The codebook."""
        return self.codebook

    @property
    def vocabulary(self) -> int:
        """Number of codes."""
        return self.codebook.size

    @property
    def code_dim(self) -> int:
        """Numbers in the vector of a code."""
        return self.config.codebook_dim

    @property
    def downsampling(self) -> int:
        """Pixels along each side of a cell of the features."""
        return 2 ** (len(self.config.multipliers) - 1)

    @property
    def last_layer(self) -> Tensor:
        """The weight of the decoder's last layer."""
        return self.decoder.output.weight

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Token rows and columns of an image; ValueError unless both sides divide evenly."""
        return latent_size(height, width, self.downsampling)

    def features(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in [-1, 1] to features ``[B, D, h, w]``."""
        self.grid(*images.shape[-2:])
        return self.to_code(self.encoder(images.to(self.last_layer.dtype)))

    def picture(self, vectors: Tensor) -> Tensor:
        """Vectors ``[B, D, h, w]`` to images ``[B, 3, H, W]`` in about [-1, 1]."""
        return self.decoder(self.from_code(vectors.to(self.last_layer.dtype)))

    def encode(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in [-1, 1] to codes ``[B, N]``."""
        return self.codebook.encode(self.features(images))

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes ``[B, N]`` on a ``(rows, columns)`` grid to images in about [-1, 1]."""
        return self.picture(self.codebook.decode(codes, grid))
