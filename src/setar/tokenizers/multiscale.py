"""The multi-scale tokenizer of VAR (arXiv 2404.02905, section 3.2, algorithms 1 and 2).

    features f [B, D, h, w], residual r = f, sum f-hat = 0; for each scale k of h_k x w_k cells:
        codes_k = nearest code of each cell of r, area-downsampled to h_k x w_k
        z_k     = phi_k(code vectors of codes_k, bicubically upsampled to h x w)
        f-hat  += z_k,  r -= z_k
    codes [B, L]: scale after scale, coarse to fine, in raster order inside a scale
    f-hat --3x3--> --decoder--> image

All scales share one codebook, and the last one is the full grid. What a next-scale transformer
reads before it predicts scale k + 1 is f-hat after scale k, area-downsampled to that scale.

Soft codes may stand wherever codes are read: floats with one axis more, ``[B, L, V]``, that say how
much of each code there is. A one-hot row is that code, a row of zeros the vector 0.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.numbers import as_whole, whole
from setar.recipes.orders import MAX_TOKENS
from setar.registry import quoted
from setar.tokenizers.autoencoder import AutoencoderConfig, AutoencoderTokenizer, latent_size
from setar.tokenizers.base import Quantized, Quantizer

Scale = int | tuple[int, int]
"""Rows and columns of one scale; one number means a square."""

MAX_SCALES = 256
"""Far more than any published tokenizer's fourteen."""


def scale_sizes(scales: Sequence[Scale]) -> tuple[tuple[int, int], ...]:
    """Rows and columns of every scale; ValueError unless each one is larger than the one before."""
    if not isinstance(scales, Sequence) or isinstance(scales, str) or len(scales) > MAX_SCALES:
        raise ValueError(f"`scales` (={quoted(scales)}) must list at most {MAX_SCALES} sizes")
    sizes: list[tuple[int, int]] = []
    for scale in scales:
        pair = scale if isinstance(scale, tuple | list) else (scale, scale)
        sides = [as_whole(side) or 0 for side in pair]
        if len(sides) == 2 and min(sides) > 0:
            sizes.append((sides[0], sides[1]))
    if not sizes or len(sizes) < len(scales):
        raise ValueError(
            f"`scales` (={quoted(scales)}) must list sides, or (rows, columns), of at least 1"
        )
    if sum(map(math.prod, sizes)) > MAX_TOKENS:
        raise ValueError(
            f"`scales` (={quoted(scales)}) must not hold more than {MAX_TOKENS} tokens"
        )
    for before, after in pairwise(sizes):
        if after == before or after[0] < before[0] or after[1] < before[1]:
            raise ValueError(
                "every scale must be larger than the one before, "
                f"but {_shown(after)} follows {_shown(before)}"
            )
    return tuple(sizes)


PUBLISHED_16 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
"""VAR's sides for 256 pixels."""


def scales_up_to(rows: int, columns: int) -> tuple[Scale, ...]:
    """Scales for features of this size: VAR's where it has some, else such as these.

    The longer side of each is three quarters of that of the next. So it is in VAR for 512 pixels;
    up to 16 its steps are finer.

    >>> scales_up_to(8, 8)
    (1, 2, 3, 4, 6, 8)
    >>> scales_up_to(2, 4)
    ((1, 1), (1, 2), (2, 3), (2, 4))
    """
    longest = max(rows, columns)
    sides = [longest]
    while sides[0] > 1:
        sides.insert(0, max(1, sides[0] * 3 // 4))
    sides = PUBLISHED_16 if longest == 16 else tuple(sides)
    if rows == columns:
        return sides

    def shrunk(size: int, side: int) -> int:
        return max(1, (2 * size * side + longest) // (2 * longest))  # rounded half up

    return tuple((shrunk(rows, side), shrunk(columns, side)) for side in sides)


def parse_scales(text: str) -> tuple[Scale, ...]:
    """``"1,2,4"`` or ``"1x2,2x4,4x8"`` (rows x columns); ValueError if it reads otherwise."""
    scales = []
    for part in text.lower().split(","):
        sides = [side.strip() for side in part.split("x")]
        if len(sides) > 2 or not all(s.isascii() and s.isdigit() and len(s) < 6 for s in sides):
            raise ValueError(f"scales read like 1,2,4 or like 1x2,2x4,4x8; got {text[:60]!r}")
        scales.append(int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1])))
    scale_sizes(scales)
    return tuple(scales)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def phi_map(scales: int, phis: int) -> list[int]:
    """The phi of each scale: scales and phis are spread over 0..1, the nearest phi is taken.

    Four phis stand at 3, 13, 23 and 33 of 36, as published; others in the middle of equal parts. A
    tie goes to the later phi; VAR leaves ties to float rounding, so the importer writes down what
    is not the same there. Of more phis than scales some have no scale.

    >>> phi_map(10, 4)
    [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    """
    last = max(1, scales - 1)
    if phis == 4:
        return [(18 * scale + last) // (5 * last) for scale in range(scales)]
    return [min(phis * scale // last, phis - 1) for scale in range(scales)]


@dataclass(frozen=True)
class MultiScaleConfig(AutoencoderConfig):
    """Shape of a multi-scale tokenizer; the defaults are VAR's."""

    channels: int = 160
    codebook_size: int = 4096
    codebook_dim: int = 32
    scales: tuple[int | tuple[int, int], ...] = PUBLISHED_16
    """Sizes of the token maps, coarse to fine: sides of squares, or (rows, columns). The last one
    is the size of the features, so it fixes the size of the images. Left out of a training, they
    follow from that size: `scales_up_to`."""
    phis: int = 4
    """Convolutions after upsampling; neighbouring scales share one, see `phi_map`."""
    cosine: bool = False
    """Compare directions only; VAR's ``using_znorm``."""
    phi_of_scale: tuple[int, ...] | None = None
    """The phi of each scale, from 0; None spreads them evenly, see `phi_map`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        scales = len(scale_sizes(self.scales))
        whole("phis", self.phis, 1, MAX_SCALES, "more would be of no use")
        chosen = self.phi_of_scale
        if chosen is not None and (len(chosen) != scales or not {*chosen} <= {*range(self.phis)}):
            raise ValueError(
                f"`phi_of_scale` (={quoted(chosen)}) must be a number from 0 to {self.phis - 1} "
                f"for each of the {scales} scales"
            )


PRESETS = {
    # 109 M parameters, 256x256 -> 680 tokens, the finest scale 16x16 (VAR, section 5.1)
    "VAR": MultiScaleConfig(),
    # a few thousand parameters, 16x16 -> 30 tokens: for tests
    "tiny": MultiScaleConfig(
        channels=8,
        multipliers=(1, 1, 2),
        blocks=1,
        codebook_size=32,
        codebook_dim=8,
        scales=(1, 2, 3, 4),
        phis=2,
    ),
}


class Phi(nn.Conv2d):
    """phi(h) = h / 2 + conv(h) / 2: repairs what upsampling loses."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """Float32 ``[B, D, h, w]`` to the same shape, whatever the dtype of the weights."""
        bias = None if self.bias is None else self.bias.float()
        return 0.5 * input + 0.5 * self._conv_forward(input, self.weight.float(), bias)


class MultiScaleCodebook(Quantizer):
    """One table of codes ``[codebook_size, D]`` for all scales, with the phis."""

    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__()
        self.scales, self.cosine = scale_sizes(config.scales), config.cosine
        self.table = nn.Embedding(config.codebook_size, config.codebook_dim)
        # Near zero, so that an untrained code adds nothing to what the other scales still lack.
        nn.init.uniform_(self.table.weight, -1 / config.codebook_size, 1 / config.codebook_size)
        self.phis = nn.ModuleList(Phi(config.codebook_dim) for _ in range(config.phis))
        chosen = config.phi_of_scale
        self.phi_of_scale = phi_map(len(self.scales), config.phis) if chosen is None else [*chosen]
        self.size, self.scale_count = config.codebook_size, len(self.scales)

    @property
    def weight(self) -> Tensor:
        """The code vectors ``[codebook_size, D]``."""
        return self.table.weight

    def split(self, codes: Tensor) -> tuple[Tensor, ...]:
        """Codes ``[B, L]`` to those of each scale ``[B, h_k w_k]``; ValueError if L is another."""
        lengths = [math.prod(size) for size in self.scales]
        if codes.ndim != 2 + codes.is_floating_point() or codes.shape[1] != sum(lengths):
            raise ValueError(
                f"codes must have the shape (images, {sum(lengths)}) for {len(lengths)} scales up "
                f"to {_shown(self.scales[-1])}, not {tuple(codes.shape)}"
            )
        return codes.split(lengths, dim=1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes ``[...]``, or soft codes ``[..., V]``, to float32 vectors ``[..., D]``."""
        table = self.weight.float()
        return codes @ table if codes.is_floating_point() else F.embedding(codes, table)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Vectors ``[..., D]`` to the codes ``[...]`` of least distance, or of largest cosine."""
        table = self.weight.detach().float()
        if self.cosine:  # the length of a vector does not change which code is best
            return (vectors @ F.normalize(table, dim=-1).mT).argmax(-1)
        # |v - e|^2 = |v|^2 - 2 (v e - |e|^2 / 2), and |v| is the same for all codes.
        return (vectors @ table.mT - table.square().sum(-1) / 2).argmax(-1)

    def pool(self, latents: Tensor, scale: int) -> Tensor:
        """``[B, D, h, w]`` to the mean of each cell of a scale, ``[B, h_k w_k, D]``."""
        cells = F.interpolate(latents, size=self.scales[scale], mode="area")
        return cells.flatten(2).mT

    def spread(self, codes: Tensor, scale: int) -> Tensor:
        """Codes of a scale ``[B, h_k w_k]`` to what they add to f-hat, float32 ``[B, D, h, w]``."""
        vectors = self.vectors(codes).mT.unflatten(2, self.scales[scale])
        vectors = F.interpolate(vectors, size=self.scales[-1], mode="bicubic")
        # One image alone is convolved by another kernel than several, so that its last digits, and
        # in rare cases its next token, would not be those that it has in a batch.
        pair = vectors.expand(2, -1, -1, -1) if len(vectors) == 1 else vectors
        return self.phis[self.phi_of_scale[scale]](pair)[: len(vectors)]

    def sums(self, codes: Tensor) -> Iterator[Tensor]:
        """Algorithm 2: f-hat ``[B, D, h, w]`` after each scale of ``codes`` ``[B, L]``."""
        latents = None
        for scale, part in enumerate(self.split(codes)):
            latents = self.add(latents, part, scale)
            yield latents

    def add(self, latents: Tensor | None, codes: Tensor, scale: int) -> Tensor:
        """F-hat with one more scale; ``latents`` is that of the scales before, None at the first.

        ``codes`` ``[B, h_k w_k]`` are those of the scale with index ``scale``.
        """
        addition = self.spread(codes, scale)
        return addition if latents is None else latents + addition

    def steps(
        self, features: Tensor, mistakes: tuple[Tensor, Tensor] | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Algorithm 1 on float32 features ``[B, D, h, w]``, scale by scale.

        ``mistakes`` are wrong codes and where they take the place of the nearest ones, int64 and
        bool ``[B, L]``: f-hat is then theirs, and later scales make up for them.

        Yields:
            what is compared with the codes ``[B, h_k w_k, D]``, the codes ``[B, h_k w_k]``, and
            f-hat so far ``[B, D, h, w]``, through which gradients reach codes and phis.
        """
        residual, latents = features.detach(), torch.zeros_like(features)
        wrong = [self.split(part) for part in mistakes] if mistakes else None
        for scale in range(len(self.scales)):
            cells = self.pool(residual, scale)
            codes = used = self.nearest(cells)
            if wrong:
                used = torch.where(wrong[1][scale], wrong[0][scale], codes)
            addition = self.spread(used, scale)
            residual = residual - addition.detach()
            latents = latents + addition
            yield cells, codes, latents

    def encode(self, features: Tensor) -> Tensor:
        """Features ``[B, D, h, w]`` to codes ``[B, L]``, coarse to fine."""
        return torch.cat([codes for _, codes, _ in self.steps(features.float())], dim=1)

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes ``[B, L]``, all in one row, to f-hat ``[B, D, h, w]`` of all scales."""
        *_, latents = self.sums(codes)
        return latents

    @torch.no_grad()
    def restart(self, dead: Tensor, features: Tensor) -> None:
        """Put codes ``[n]`` at random ones of the vectors that any scale compares with codes."""
        cells = torch.cat([cells for cells, _, _ in self.steps(features.float())], dim=1)
        vectors = cells.flatten(0, 1)
        chosen = torch.randint(len(vectors), (len(dead),), device=vectors.device)
        self.weight[dead.to(vectors.device)] = vectors[chosen]

    @torch.no_grad()
    def counts(self, codes: Tensor) -> Tensor:
        """How often each scale of ``codes`` ``[B, L]`` uses each code: ``[scales, codes]``."""
        parts = self.split(codes)
        return torch.stack([part.flatten().bincount(minlength=self.size) for part in parts])

    def forward(self, features: Tensor) -> Quantized:
        """Quantise features ``[B, D, h, w]``; always in float32, also under autocast.

        Both losses are means over the scales of the distance of f-hat so far to the features.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            _, codes, sums = zip(*self.steps(features), strict=True)
            codebook_losses = [F.mse_loss(latents, features.detach()) for latents in sums]
            commitment_losses = [F.mse_loss(latents.detach(), features) for latents in sums]
            straight_through = features + (sums[-1] - features).detach()
        return Quantized(
            straight_through,
            torch.cat(codes, dim=1),
            torch.stack(codebook_losses).mean(),
            torch.stack(commitment_losses).mean(),
        )


class MultiScaleVQ(AutoencoderTokenizer[MultiScaleConfig]):
    """VAR's tokenizer; an image has the `tokens` L of all scales."""

    Config, presets, FOLLOWS = MultiScaleConfig, PRESETS, ("scales",)
    codebook: MultiScaleCodebook

    @classmethod
    def fitted(cls, config: MultiScaleConfig, height: int, width: int) -> MultiScaleConfig:
        """The config with scales for images of this size, and at most a phi for each."""
        factor = 2 ** (len(config.multipliers) - 1)
        scales = scales_up_to(*latent_size(height, width, factor))
        return replace(config, scales=scales, phis=min(config.phis, len(scales)))

    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__(config, config.codebook_dim, kernel=3)

    def make_quantizer(self) -> MultiScaleCodebook:
        """The codebook of all scales."""
        return MultiScaleCodebook(self.config)

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of every scale, coarse to fine."""
        return self.codebook.scales

    @property
    def pyramid(self) -> "MultiScaleVQ":
        """Itself: it has `next_inputs`, `accumulate` and `correct`, for soft codes too."""
        return self

    @property
    def tokens(self) -> int:
        """Tokens of an image over all scales (L)."""
        return sum(math.prod(size) for size in self.scales)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels of its images: those that fill the last scale."""
        rows, columns = self.scales[-1]
        return rows * self.downsampling, columns * self.downsampling

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """All L tokens in one row; ValueError unless it has images of this size."""
        size = latent_size(height, width, self.downsampling)
        if size != self.scales[-1]:
            raise ValueError(
                f"an image of {height}x{width} pixels has {_shown(size)} tokens at its last scale, "
                f"but that of this tokenizer is {_shown(self.scales[-1])}"
            )
        return 1, self.tokens

    def decode(self, codes: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Codes ``[B, L]`` to images in about [-1, 1]; a ``grid`` must be that of all tokens.

        Raises:
            ValueError: there are not L codes, or the grid is another.
        """
        *_, latents = self.codebook.sums(self._checked(codes, grid))
        return self.picture(latents)

    def stages(
        self, codes: Tensor, grid: tuple[int, int] | None = None, first: int = 1
    ) -> Iterator[Tensor]:
        """Yield the images of the first ``first``, ... scales; the last is that of `decode`."""
        sums = self.codebook.sums(self._checked(codes, grid))
        return map(self.picture, islice(sums, first - 1, None))

    def _checked(self, codes: Tensor, grid: tuple[int, int] | None) -> Tensor:
        if grid is not None and tuple(grid) != (1, self.tokens):
            raise ValueError(f"the grid is {_shown((1, self.tokens))}, not {_shown(grid)}")
        return codes

    def next_inputs(self, codes: Tensor) -> Tensor:
        """What a transformer reads to predict every scale but the first: ``[B, L - h_1 w_1, D]``.

        Before scale k + 1 that is f-hat after scale k of ``codes`` ``[B, L]``, downsampled to it.
        """
        return self._shrunk(self.codebook.sums(codes), len(codes))

    def _shrunk(self, sums: Iterable[Tensor], images: int) -> Tensor:
        """F-hat after each scale but the last, at the size of the next scale: a VAR's inputs."""
        scales = range(1, len(self.scales))
        parts = [self.codebook.pool(part, k) for k, part in zip(scales, sums, strict=False)]
        empty = self.codebook.weight.new_zeros(images, 0, self.config.codebook_dim)
        return torch.cat([empty, *parts], dim=1)

    def accumulate(
        self, latents: Tensor | None, codes: Tensor, scale: int
    ) -> tuple[Tensor, Tensor]:
        """One step of `next_inputs`, for sampling.

        Args:
            latents: f-hat ``[B, D, h, w]`` of the scales before; None at the first.
            codes: ``[B, h_k w_k]`` of this scale.
            scale: its index, from 0.

        Returns:
            f-hat with this scale, and the input of the next scale ``[B, h_(k+1) w_(k+1), D]``;
            after the last scale the input is empty, ``[B, 0, D]``.
        """
        latents = self.codebook.add(latents, codes, scale)
        if scale == len(self.scales) - 1:
            return latents, latents.new_zeros(len(codes), 0, latents.shape[1])
        return latents, self.codebook.pool(latents, scale + 1)

    @torch.no_grad()
    def correct(self, features: Tensor, wrong: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What a transformer reads and should answer after mistakes (self-correction).

        As `encode` and `next_inputs`, but some codes are wrong, and those after them make up for
        it: each scale is quantised against what the features still lack.

        Args:
            features: ``[B, D, h, w]`` of images.
            wrong: int64 ``[B, L]``, other codes.
            mask: bool ``[B, L]``, which of them take the place of right ones.

        Returns:
            the inputs ``[B, L - h_1 w_1, D]`` and the right codes ``[B, L]``.
        """
        steps = self.codebook.steps(features.float(), (wrong, mask))
        _, right, sums = zip(*steps, strict=True)
        return self._shrunk(sums, len(features)), torch.cat(right, dim=1)
