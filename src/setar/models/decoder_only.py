"""The decoder-only baseline: the GPT of LlamaGen (arXiv 2406.06525, section 2).

    input     class  t0  t1  t2          the mask, a row per query and a column per key:
    output    t0     t1  t2  t3
    clock     0      1   2   3           1 . . .
                                         1 1 . .
                                         1 1 1 .
                                         1 1 1 1

A token that is known at k is also the query that asks for the token known at k + 1, so one sequence
with one clock is all there is. It has no query that could name a position: a token's place in the
sequence says which token comes next, hence raster order and sets of one (the recipe ``ar``).

A text of T tokens stands in the place of the class, at the clocks -T+1 .. 0, and its last token
asks for t0. Padding on its left is known at `PADDING`, so that no token ever sees it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from setar.layers.attention import KVCache, Mask
from setar.layers.blocks import EncoderBlock
from setar.layers.norm import RMSNorm
from setar.models.base import (
    MAX_LAYERS,
    GridConfig,
    GridGenerator,
    HeadDecoding,
    check_sizes,
    initialise,
)
from setar.recipes.clocks import unpadded, visible
from setar.recipes.recipe import SetPlan

RASTER_ONLY = (
    "a decoder-only model predicts one token at a time in raster order (the recipe ar), "
    "since a token's place in its sequence says which one comes next; "
    "other orders and larger sets need an FMT"
)


@dataclass(frozen=True)
class DecoderOnlyConfig(GridConfig):
    """Shape of a decoder-only transformer; the defaults are LlamaGen's GPT-B for ImageNet."""

    layers: int = 12
    """Number of blocks."""
    class_rotation: Literal["identity", "zero"] = "zero"
    """What rotary embedding does to query and key of the class token, or of each token of a text:
    ``zero`` makes both 0, as in LlamaGen, so that tokens attend to it whatever it says;
    ``identity`` keeps them, as in our FMT, and was the default until version 0.3."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "layers", most=MAX_LAYERS)
        if self.class_rotation not in ("identity", "zero"):
            raise ValueError(
                f"`class_rotation` must be 'identity' or 'zero', not {self.class_rotation!r}"
            )


PRESETS = {
    # 110.9 M parameters (LlamaGen, table 1: 111 M)
    "B": DecoderOnlyConfig(),
    # 342.9 M parameters (343 M)
    "L": DecoderOnlyConfig(width=1024, heads=16, layers=24),
    # 774.7 M parameters (775 M)
    "XL": DecoderOnlyConfig(width=1280, heads=20, layers=36),
    # 0.12 M, for tests: a 4x4 grid of 32 codes
    "tiny": DecoderOnlyConfig(vocabulary=32, classes=5, grid=(4, 4), width=32, heads=2, layers=4),
}


class DecoderOnlyTransformer(GridGenerator[DecoderOnlyConfig]):
    """Predicts the next token in raster order."""

    Config, presets = DecoderOnlyConfig, PRESETS
    editing = "suffix"
    guides = True

    def __init__(self, config: DecoderOnlyConfig) -> None:
        super().__init__(config)
        width, dropout = config.width, config.dropout
        self.blocks = nn.ModuleList(
            EncoderBlock(width, config.heads, dropout) for _ in range(config.layers)
        )
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, config.vocabulary, bias=False)
        self.apply(initialise)
        nn.init.zeros_(self.head.weight)

    def forward(self, codes: Tensor, condition: Tensor, plan: SetPlan) -> Tensor:
        """Predict every token from the condition and the tokens before it, all at once (training).

        Arguments and result are those of `Generator.forward`; the plan is one of the recipe ``ar``.

        Raises:
            ValueError: the plan has another grid, another order, or a set larger than one.
        """
        self.check(plan)
        return self.head(self.follow(condition, codes[:, :-1])).float()

    def follow(self, condition: Tensor, codes: Tensor) -> Tensor:
        """What the head reads of the token after the condition and after each code.

        ``codes`` ``[B, n]`` are the first n tokens of images with ``condition`` ``[B, ...]``; the
        result is ``[B, 1 + n, width]``.
        """
        positions = torch.arange(codes.shape[1], device=codes.device)[None]
        prefix = self.condition.clock(condition)
        length = prefix.shape[1]
        rotation = torch.cat([self.prefix_rotation(length), self.rotation(positions)], 2)
        clock = torch.cat([prefix, (positions + 1).expand(len(prefix), -1)], 1)
        x = self.read(self.embed(condition, codes), rotation, self.mask(clock, clock))
        return self.norm(x[:, length - 1 :])

    def read(
        self,
        x: Tensor,
        rotation: Tensor,
        mask: Mask | None = None,
        caches: list[KVCache] | None = None,
    ) -> Tensor:
        """Run all blocks on ``[B, L, width]``, to the same shape."""
        for index, block in enumerate(self.blocks):
            x = block(x, rotation, mask, caches[index] if caches else None)
        return x

    def start(
        self,
        condition: Tensor,
        tokens: int,
        attention: str = "causal",
        cache: bool = True,
        grid: tuple[int, int] | None = None,
    ) -> "CachedDecoding | RecomputedDecoding":
        """Begin to generate; arguments and errors are those of `Generator.start`."""
        self.check_attention(attention)
        self.check_grid(grid)
        kind = CachedDecoding if cache else RecomputedDecoding
        return kind(self, condition, tokens)

    def check(self, plan: SetPlan) -> None:
        """Raise ValueError unless the plan is one of the recipe ``ar`` on the model's grid."""
        super().check(plan)
        raster = torch.arange(plan.order.shape[1], device=plan.order.device)
        if not ((plan.order == raster).all() and (plan.known.diff() > 0).all()):
            raise ValueError(RASTER_ONLY)

    def prefix_rotation(self, length: int) -> Tensor:
        """What query and key of each of ``length`` tokens of the condition are multiplied by."""
        device = self.norm.weight.device
        identity = self.rotation(torch.zeros(1, length, dtype=torch.int64, device=device))
        return torch.zeros_like(identity) if self.config.class_rotation == "zero" else identity


class CachedDecoding(HeadDecoding):
    """Generation with cached keys and values: each token goes through the model once.

    What a token says about the next one is kept, so `predict` costs only the head, and tokens may
    be absorbed that were not asked for (their guidance was skipped). Padding in the condition stays
    in the cache, where no later token sees it.
    """

    def __init__(self, model: DecoderOnlyTransformer, condition: Tensor, tokens: int) -> None:
        self.model, self.done = model, 0
        batch, config, clock = len(condition), model.config, model.condition.clock(condition)
        prefix = clock.shape[1]
        shape = (batch, config.heads, prefix + tokens, config.width // config.heads)
        self.caches = [KVCache(*shape, model.cached_like()) for _ in range(config.layers)]
        cells = torch.arange(config.grid[0] * config.grid[1], device=condition.device)[None]
        self.rotations = model.rotation(cells)[0, 0]  # of every position, once
        nothing = torch.empty(batch, 0, dtype=torch.int64, device=condition.device)
        mask = visible(clock, clock)[:, None] if prefix > 1 else None
        x = model.embed(condition, nothing)
        self.last = model.read(x, model.prefix_rotation(prefix), mask, self.caches)[:, -1:]
        self.seen = unpadded(clock, tokens)

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads; ValueError if ``positions`` ``[B, 1]`` are not the next."""
        _check_next(positions, self.done)
        return self.model.norm(self.last)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, 1]`` of the next token, at ``positions`` ``[B, 1]``, known."""
        _check_next(positions, self.done)
        x, rotation = self.model.embed(None, codes), self.rotations[positions][:, None]
        keys = self.caches[0].length + 1
        mask = None if self.seen is None else self.seen[..., :keys]
        self.last = self.model.read(x, rotation, mask, self.caches)
        self.done += 1


class RecomputedDecoding(HeadDecoding):
    """Generation that computes everything anew at each step."""

    def __init__(self, model: DecoderOnlyTransformer, condition: Tensor, tokens: int) -> None:
        self.model, self.condition = model, condition
        self.codes = torch.empty(len(condition), 0, dtype=torch.int64, device=condition.device)

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads; ValueError if ``positions`` ``[B, 1]`` are not the next."""
        _check_next(positions, self.codes.shape[1])
        return self.model.follow(self.condition, self.codes)[:, -1:]

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, 1]`` of the next token, at ``positions`` ``[B, 1]``, known."""
        _check_next(positions, self.codes.shape[1])
        self.codes = torch.cat([self.codes, codes], 1)


def _check_next(positions: Tensor, done: int) -> None:
    if positions.shape[1] != 1 or (positions != done).any():
        raise ValueError(RASTER_ONLY)
