"""The VAR transformer (Visual Autoregressive Modeling, arXiv 2404.02905, section 3 and appendix).

An image is a list of token maps, coarse to fine; a step predicts a whole map from those before it.
Scales of 1x1, 1x2 and 2x2 tokens, a row per query and a column per key of the one sequence:

    input     class  pyramid 1  pyramid 2        1 . . . . . .
    output    r1     r2 r2      r3 r3 r3 r3      1 1 1 . . . .
    clock     0      1  1       2  2  2  2       1 1 1 . . . .
                                                 1 1 1 1 1 1 1   and three more such rows

Pyramid k is the sum of what the maps 1..k say about the image, shrunk to the size of map k + 1: one
vector for each token that is asked for. The tokenizer computes it; see `setar.models.var_decoding`.

The maps lie one after the other as a grid of one row, so that plans, noise and codes have the
shapes they have in any model: the recipe of a VAR is the raster order in sets of one scale each.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.layers.attention import KVCache
from setar.layers.blocks import AdaLNBlock, Offset, modulated_norm
from setar.layers.steady import SteadyLinear
from setar.models.base import (
    MAX_LAYERS,
    Generator,
    GeneratorConfig,
    Scales,
    TokenizerFacts,
    check_sizes,
)
from setar.models.var_decoding import CachedDecoding, Pyramid, RecomputedDecoding
from setar.numbers import as_real, as_whole
from setar.recipes.clocks import CONDITION, visible
from setar.recipes.recipe import Recipe, SetPlan
from setar.registry import quoted

MAX_SCALES = 256
"""Far more than the ten of the published models."""


def square(*sides: int) -> Scales:
    """Scales of as many rows as columns."""
    return tuple((side, side) for side in sides)


SCALES_256 = square(1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
"""Of the published models for 256 x 256 pixels: 680 tokens."""

SCALES_512 = square(1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
"""Of the published model for 512 x 512 pixels: 2240 tokens."""


def scale_recipe(scales: Scales) -> Recipe:
    """The recipe of next-scale prediction: a set for each scale, as ``raster-1,4,9``."""
    return Recipe("raster", "explicit", sizes=tuple(rows * columns for rows, columns in scales))


@dataclass(frozen=True)
class VARConfig(GeneratorConfig):
    """Shape of a VAR transformer; the defaults are VAR-d16 for ImageNet."""

    vocabulary: int = 4096
    grid: tuple[int, int] = field(init=False)
    """That of its plans: all tokens in one row."""
    code_dim: int = 32
    """Dimension of a code's vector, and so of the pyramid's inputs."""
    scales: Scales = SCALES_256
    """Rows and columns of each token map, coarse to fine."""
    width: int = 1024
    heads: int = 16
    layers: int = 16
    """Number of blocks."""
    shared_adaln: bool = False
    """One layer modulates all blocks, and each adds its own offset (d36): a third fewer weights."""
    l2_norm: bool = True
    """Queries and keys of unit length; False has no published model."""
    drop_path: float = 0.1 * 16 / 24
    """Share of images that skip a branch of the last block while training, linear in depth."""
    gate_start: float = 1e-3
    """Size of the gates' weights at the start over that of usual weights; less for deep models."""

    TOKENIZER_FACTS = ("vocabulary", "classes", "code_dim", "scales")

    def __post_init__(self) -> None:
        pairs = [scale for scale in self.scales if isinstance(scale, tuple) and len(scale) == 2]
        sides = [as_whole(side) or 0 for pair in pairs for side in pair]
        if len(pairs) != len(self.scales) or min(sides, default=0) < 1:
            raise ValueError(
                f"`scales` (={quoted(self.scales)}) must be (rows, columns) of at least 1 each"
            )
        if len(self.scales) > MAX_SCALES:
            raise ValueError(f"`scales` must be at most {MAX_SCALES}, not {len(self.scales)}")
        object.__setattr__(self, "grid", (1, self.tokens))
        super().__post_init__()
        check_sizes(self, "code_dim")
        check_sizes(self, "layers", most=MAX_LAYERS)
        if self.width % self.heads:
            raise ValueError(
                f"`width` (={self.width}) must be a multiple of `heads` (={self.heads})"
            )
        drop_path, gate_start = as_real(self.drop_path), as_real(self.gate_start)
        if drop_path is None or gate_start is None or not 0 <= drop_path < 1 or gate_start < 0:
            raise ValueError("0 <= `drop_path` < 1 and `gate_start` >= 0 must hold")

    def fitted(
        self, tokenizer: TokenizerFacts, condition: Mapping[str, Any], grid: tuple[int, int]
    ) -> Self:
        """The same for the scales of a tokenizer; ValueError if it has one scale only."""
        if tokenizer.scales is None:
            raise ValueError(
                "a model of the family 'var' needs a tokenizer of several scales (a multi-scale "
                "tokenizer, whose `tokenizer.family` is 'multiscale')"
            )
        facts = {"vocabulary": tokenizer.vocabulary, "code_dim": tokenizer.code_dim}
        return replace(self, **facts, scales=tokenizer.scales, **condition)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tokens of each scale."""
        return tuple(rows * columns for rows, columns in self.scales)

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens of the scales up to each one."""
        return tuple(accumulate(self.sizes))

    @property
    def tokens(self) -> int:
        """Tokens of all scales together, L."""
        return sum(self.sizes)

    @property
    def recipe(self) -> str:
        """The one recipe that it is trained and sampled with."""
        return str(scale_recipe(self.scales))


def _published(depth: int, gate_start: float) -> VARConfig:
    """The paper's rule: width 64 x depth, as many heads as layers, more drop path with depth."""
    width, drop_path = 64 * depth, 0.1 * depth / 24
    return VARConfig(
        width=width, heads=depth, layers=depth, drop_path=drop_path, gate_start=gate_start
    )


def _every_scale(last: int, vocabulary: int, width: int, heads: int, layers: int) -> VARConfig:
    """Scales 1, 2, 3, ... up to ``last``."""
    return VARConfig(
        vocabulary=vocabulary,
        scales=square(*range(1, last + 1)),
        width=width,
        heads=heads,
        layers=layers,
        drop_path=0.1 * layers / 24,
    )


PRESETS = {
    # 310 M parameters; FID 3.55 on ImageNet 256 (scores of the authors' model zoo)
    "d16": _published(16, 1e-3),
    # 600 M; FID 2.95
    "d20": _published(20, 1e-3),
    # 1.0 B; FID 2.33
    "d24": _published(24, 1e-4),
    # 2.0 B; FID 1.97
    "d30": _published(30, 1e-5),
    # 2.35 B; FID 2.63 on ImageNet 512
    "d36": replace(_published(36, 5e-6), scales=SCALES_512, shared_adaln=True),
    # 7.7 M: scales 1 to 8, 204 tokens
    "small": _every_scale(8, vocabulary=512, width=256, heads=8, layers=6),
    # 60.6 M: scales 1 to 16, 1496 tokens
    "medium": _every_scale(16, vocabulary=4096, width=512, heads=8, layers=12),
    # 261 M
    "large": _every_scale(16, vocabulary=4096, width=768, heads=12, layers=24),
    # 1.4 M: the shipped model, scales 1 to 8, 130 tokens
    "emoji": VARConfig(
        vocabulary=512,
        code_dim=16,
        classes=99,
        scales=square(1, 2, 3, 4, 6, 8),
        width=128,
        heads=4,
        layers=6,
        shared_adaln=True,
        drop_path=0.0,
    ),
    # 0.04 M, for tests: 21 tokens of 32 codes
    "tiny": VARConfig(
        vocabulary=32,
        code_dim=8,
        classes=5,
        scales=square(1, 2, 4),
        width=32,
        heads=2,
        layers=2,
        drop_path=0.0,
    ),
}


class VARTransformer(Generator[VARConfig]):
    """Predicts the next token map from those before it.

    Codes are read through the pyramid of its tokenizer, see `attach`; `predict_maps` reads the
    pyramid's vectors themselves.
    """

    Config, presets = VARConfig, PRESETS
    editing = "own"
    takes_prefix = False  # the condition modulates the blocks
    takes_soft_codes = True
    self_correcting = True

    def __init__(self, config: VARConfig) -> None:
        super().__init__(config)
        width, layers = config.width, config.layers
        self.start_positions = nn.Embedding(config.sizes[0], width)
        self.words = SteadyLinear(config.code_dim, width)
        self.levels = nn.Embedding(len(config.scales), width)
        self.positions = nn.Embedding(config.tokens, width)
        shared = config.shared_adaln
        self.shared_modulation = SteadyLinear(width, 6 * width) if shared else nn.Identity()
        self.blocks = nn.ModuleList(
            AdaLNBlock(width, config.heads, shared, drop_path, config.l2_norm)
            for drop_path in torch.linspace(0, config.drop_path, layers, device="cpu").tolist()
        )
        self.head_modulation = SteadyLinear(width, 2 * width)
        self.head = SteadyLinear(width, config.vocabulary)
        self._initialise()
        self._pyramid: tuple[Pyramid, ...] = ()  # a tuple hides the tokenizer's weights from ours

    def attach(self, tokenizer: Any) -> None:
        """Read codes through the pyramid of this tokenizer, from now on.

        Raises:
            ValueError: it has none, or other scales.
        """
        pyramid: Pyramid | None = tokenizer.pyramid
        if pyramid is None:
            raise ValueError("a VAR needs a multi-scale tokenizer")
        if tokenizer.scales != self.config.scales:
            raise ValueError(
                f"the tokenizer has the scales {tokenizer.scales}, the model {self.config.scales}"
            )
        self._pyramid = (pyramid,)

    @property
    def pyramid(self) -> Pyramid:
        """Makes its inputs; ValueError before `attach`."""
        if not self._pyramid:
            raise ValueError("a VAR reads codes through its tokenizer: call `attach` first")
        return self._pyramid[0]

    def forward(self, codes: Tensor, condition: Tensor, plan: SetPlan) -> Tensor:
        """Predict every map from the maps before it, all at once (training).

        Arguments and result are those of `Generator.forward`; codes ``[B, L]`` are the scales one
        after the other, and the plan is one of `scale_recipe`.

        Raises:
            ValueError: the plan has another grid, order or other sets.
        """
        self.check(plan)
        with torch.no_grad(), torch.autocast(codes.device.type, enabled=False):
            inputs = self.pyramid.next_inputs(codes)
        return self.predict_maps(inputs, condition)

    def after_mistakes(
        self, features: Tensor, condition: Tensor, wrong: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict every map from maps with mistakes before it; see `Generator.after_mistakes`."""
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            inputs, targets = self.pyramid.correct(features, wrong, mask)
        return self.predict_maps(inputs, condition), targets

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Fuse the transformer's operations, without the pyramid; arguments of `torch.compile`."""
        self.predict_maps = torch.compile(self.predict_maps, *args, **kwargs)

    def predict_maps(self, inputs: Tensor, condition: Tensor) -> Tensor:
        """Predict every map from what the maps before it look like.

        Args:
            inputs: float ``[B, n - first, C]``, the pyramid's inputs of scales 1, 2, ... (see
                `Pyramid.next_inputs`); whole scales from the second on, or none.
            condition: of each image, ``[B, ...]``.

        Returns:
            Float32 logits ``[B, n, V]``: row j predicts token j of the concatenated scales.

        Raises:
            ValueError: the inputs end inside a scale.
        """
        length = self.config.sizes[0] + inputs.shape[1]
        if length not in self.config.ends:
            raise ValueError(
                f"`inputs` (={inputs.shape[1]} tokens) must be whole scales after the first of "
                f"{self.config.scales}"
            )
        token = self.condition.embed(condition)
        x = torch.cat([self.embed_start(token), self.embed(inputs, self.config.sizes[0])], 1)
        clock = self._clock()[:length]
        mask, basis = visible(clock, clock), self.basis(token)
        for block in self.blocks:
            x = block(x, None, mask, basis=basis)
        return self.logits(x, token)

    def embed_start(self, condition: Tensor) -> Tensor:
        """Input ``[B, first, width]`` of the first scale, of the condition ``[B, 1, width]``."""
        return condition + self.start_positions.weight + self._place(0, self.config.sizes[0])

    def embed(self, inputs: Tensor, start: int) -> Tensor:
        """Input ``[B, n, width]`` of the pyramid's ``[B, n, C]``, from token ``start`` on."""
        words = self.words(inputs.to(self.words.weight.dtype))  # the pyramid's are float32
        return words + self._place(start, start + inputs.shape[1])

    def modulate(self, condition: Tensor) -> list[Tensor]:
        """What the condition ``[B, 1, width]`` does to each block: ``[B, 1, 6 * width]``."""
        basis = self.basis(condition)
        return [block.modulation(basis) for block in self._blocks()]

    def basis(self, condition: Tensor) -> Tensor:
        """What all blocks make their modulations of: ``[B, 1, width]``, or 6 times as wide."""
        return self.shared_modulation(F.silu(condition))

    def read(
        self, x: Tensor, modulations: Sequence[Tensor], caches: Sequence[KVCache] | None = None
    ) -> Tensor:
        """Run all blocks on ``[B, n, width]``, to the same shape."""
        for index, block in enumerate(self._blocks()):
            x = block(x, modulations[index], cache=caches[index] if caches else None)
        return x

    def logits(self, x: Tensor, condition: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of what `read` returned."""
        scale, shift = self.head_modulation(F.silu(condition)).chunk(2, -1)
        return self.head(modulated_norm(x, scale, shift)).float()

    def start(
        self,
        condition: Tensor,
        tokens: int,
        attention: str = "causal",
        cache: bool = True,
        grid: tuple[int, int] | None = None,
    ) -> CachedDecoding | RecomputedDecoding:
        """Begin to generate, a scale at a time; arguments and errors are `Generator.start`'s."""
        self.check_attention(attention)
        self.check_grid(grid)
        kind = CachedDecoding if cache else RecomputedDecoding
        return kind(self, condition, tokens)

    def check(self, plan: SetPlan) -> None:
        """Raise ValueError unless the plan is one of `scale_recipe` on the model's grid."""
        super().check(plan)
        raster = torch.arange(self.config.tokens, device=plan.order.device)
        known = self._clock(plan.known.device) + 1
        if not ((plan.order == raster).all() and (plan.known == known).all()):
            raise ValueError(self.rule)

    @property
    def rule(self) -> str:
        """Why another recipe is refused."""
        return (
            "a VAR predicts a whole scale at a time, coarse to fine (here the recipe "
            f"{self.config.recipe}); other orders and sets need an FMT"
        )

    def _clock(self, device: torch.device | None = None) -> Tensor:
        """int64 ``[L]``: when the queries of each token ask, and the same for their keys.

        By default it is where the weights are.
        """
        sizes = torch.tensor(self.config.sizes, device=device or self.words.weight.device)
        scales = torch.arange(CONDITION, CONDITION + len(sizes), device=sizes.device)
        return scales.repeat_interleave(sizes, output_size=self.config.tokens)

    def _place(self, start: int, stop: int) -> Tensor:
        """Level and position embedding ``[n, width]`` of some tokens."""
        return self.levels(self._clock()[start:stop]) + self.positions.weight[start:stop]

    def _blocks(self) -> Iterator[AdaLNBlock]:
        for block in self.blocks:
            assert isinstance(block, AdaLNBlock)
            yield block

    @torch.no_grad()
    def _initialise(self) -> None:
        """As in VAR's code: gates near zero, so that a block begins as the identity."""
        width, layers = self.config.width, self.config.layers
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=(3 * width) ** -0.5)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        self.head.weight.mul_(0.02)
        self.head_modulation.weight.mul_(0.5)
        for block in self._blocks():
            part = block.modulation
            weight = part.offset if isinstance(part, Offset) else part.weight
            if isinstance(part, Offset):
                nn.init.normal_(weight, std=width**-0.5)
            weight[: 2 * width].mul_(self.config.gate_start)
            weight[2 * width :].mul_(0.5)
            block.attention.output.weight.div_(math.sqrt(2 * layers))
            last = block.feed_forward[-1]
            assert isinstance(last, nn.Linear)
            last.weight.div_(math.sqrt(2 * layers))
