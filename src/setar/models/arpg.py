"""ARPG, the two-pass decoder for any order (arXiv 2503.10568, section 3 and figure 2).

    first pass     [condition, tokens known so far] -> self-attention     known sees known
    between them   one projection to keys and values, shared by all layers of the second pass
    second pass    one learned query, the same for every position -> cross-attention alone
                                                                          asks sees known

A query tells its position by its rotation only, and does not see other queries: what is asked
together is predicted independently. Until a token is known it sees the class alone, and attention
to one key is the same from everywhere: the first set is predicted without its positions. For sets
of 1, 2 and 1 tokens after the condition, with a row per query and a column per key, as
`setar.recipes.clocks` makes them:

    first pass            second pass
      | 0 1 2 2 3           | 0 1 2 2 3
    --+----------         --+----------
    0 | 1 . . . .         0 | 1 . . . .
    1 | 1 1 . . .         1 | 1 1 . . .
    2 | 1 1 1 1 .         1 | 1 1 . . .
    2 | 1 1 1 1 .         2 | 1 1 1 1 .
    3 | 1 1 1 1 1

The authors train with sets of one, where the first pass is the causal triangle, and sample with
larger ones, whose tokens then see one another. Here the clocks say it, in training too, so that a
model may be trained with the sets that it is sampled with.

Blocks, initialisation and dropout are LlamaGen's; the query gets no dropout.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from setar.layers.attention import KeysValues, KVCache, Mask
from setar.layers.blocks import EncoderBlock, QueryBlock
from setar.layers.norm import RMSNorm
from setar.models.base import (
    MAX_LAYERS,
    GridConfig,
    GridGenerator,
    HeadDecoding,
    check_sizes,
    initialise,
)
from setar.recipes.clocks import attention_clocks, unpadded, visible
from setar.recipes.recipe import SetPlan
from setar.registry import quoted


@dataclass(frozen=True)
class ARPGConfig(GridConfig):
    """Shape of an ARPG; the defaults are ARPG-L for ImageNet (table 1)."""

    width: int = 1024
    heads: int = 16
    self_layers: int = 12
    """Of the first pass, over what is known."""
    cross_layers: int = 12
    """Of the second pass, over what is asked."""
    class_rotation: Literal["identity", "zero"] = "zero"
    """What rotary embedding does to query and key of the class token, or of each token of a text:
    ``zero`` makes both 0, as the authors do, so that tokens attend to it whatever it says;
    ``identity`` keeps them, which a text needs, whose tokens would all weigh the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "self_layers", "cross_layers", most=MAX_LAYERS)
        if self.class_rotation not in ("identity", "zero"):
            given = quoted(self.class_rotation)
            raise ValueError(f"`class_rotation` must be 'identity' or 'zero', not {given}")

    @property
    def layers(self) -> int:
        """Of both passes together."""
        return self.self_layers + self.cross_layers

    @property
    def recipe(self) -> str:
        """Any recipe will do; the authors train one token after the other in random order."""
        return "random-N-uniform"

    @property
    def sampling_recipe(self) -> str:
        """The authors' 64 steps on their better schedule, or as many as there are tokens."""
        return f"random-{min(64, self.grid[0] * self.grid[1])}-arccos"


PRESETS = {
    # 319.8 M parameters (table 1: 320 M)
    "L": ARPGConfig(),
    # 719.0 M parameters (719 M)
    "XL": ARPGConfig(width=1280, heads=20, self_layers=18, cross_layers=18),
    # 1302.4 M parameters (1.3 B)
    "XXL": ARPGConfig(width=1536, heads=24, self_layers=24, cross_layers=24),
    # 0.12 M, for tests: a 4x4 grid of 32 codes
    "tiny": ARPGConfig(
        vocabulary=32, classes=5, grid=(4, 4), width=32, heads=2, self_layers=2, cross_layers=2
    ),
}


class ARPGTransformer(GridGenerator[ARPGConfig]):
    """Predicts any set of tokens from any other, each of its tokens for itself."""

    Config, presets = ARPGConfig, PRESETS
    editing = "kept-first"
    guides = True

    def __init__(self, config: ARPGConfig) -> None:
        super().__init__(config)
        width, heads, dropout = config.width, config.heads, config.dropout
        self.query = nn.Embedding(1, width)
        self.self_blocks = nn.ModuleList(
            EncoderBlock(width, heads, dropout) for _ in range(config.self_layers)
        )
        self.memory = KeysValues(width, heads)
        self.cross_blocks = nn.ModuleList(
            QueryBlock(width, heads, dropout) for _ in range(config.cross_layers)
        )
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, config.vocabulary, bias=False)
        self.apply(initialise)
        nn.init.zeros_(self.head.weight)

    def transformer_blocks(self) -> list[nn.Module]:
        """Those of both passes, and between them what makes the shared keys and values."""
        return [*self.self_blocks, self.memory, *self.cross_blocks]

    def forward(self, codes: Tensor, condition: Tensor, plan: SetPlan) -> Tensor:
        """Predict every set from the sets before it, all at once (training).

        The last set's tokens stay in the first pass, where no query sees them: shapes stay fixed.
        Arguments and result are those of `Generator.forward`.
        """
        clock = self.condition.clock(condition)
        known, asks, _ = attention_clocks(plan, clock)
        tokens = self.rotation(plan.order, plan.columns)
        x = self.embed(condition, codes.gather(1, plan.order))
        rotation = self.prefixed(tokens, clock.shape[1])
        keys_values = self.remember(x, rotation, self.mask(known, known))
        asked = self.ask(len(codes), tokens, keys_values, self.mask(known, asks))
        return self.head(asked).float()

    def remember(
        self,
        x: Tensor,
        rotation: Tensor,
        mask: Mask | None = None,
        caches: list[KVCache] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The first pass over ``[B, L, width]``: shared keys, values ``[B, heads, L, head_dim]``.

        With ``caches``, one of each of its layers, it sees what they hold too.
        """
        for index, block in enumerate(self.self_blocks):
            x = block(x, rotation, mask, caches[index] if caches else None)
        return self.memory(x, rotation)

    def ask(
        self,
        batch: int,
        rotation: Tensor,
        keys_values: tuple[Tensor, Tensor],
        mask: Mask | None = None,
    ) -> Tensor:
        """The second pass: what the head reads, ``[B, n, width]``, at n rotations' positions."""
        x = self.query.weight.expand(batch, rotation.shape[2], -1)
        for block in self.cross_blocks:
            x = block(x, rotation, keys_values, mask)
        return self.norm(x)

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
        grid = self.check_grid(grid)
        if not cache:
            return RecomputedDecoding(self, condition, grid)
        return CachedDecoding(self, condition, tokens, grid)

    @property
    def any_grid(self) -> bool:
        """Positions are rotations alone, which every grid has (section 4.3, other resolutions)."""
        return True

    def prefixed(self, rotation: Tensor, prefix: int) -> Tensor:
        """Rotations of a condition of ``prefix`` tokens, and of tokens after it."""
        shape = (len(rotation), 1, prefix, rotation.shape[-1])
        zero = self.config.class_rotation == "zero"
        return torch.cat([rotation.new_full(shape, 0 if zero else 1), rotation], 2)


class CachedDecoding(HeadDecoding):
    """Generation that computes nothing twice.

    The first pass has a cache of keys and values for each layer, the second a single one for all of
    its layers. Clocks never decrease, so everything cached is visible to everything that comes
    later, but for the padding of texts.
    """

    def __init__(
        self, model: ARPGTransformer, condition: Tensor, tokens: int, grid: tuple[int, int]
    ) -> None:
        self.model = model
        clock = model.condition.clock(condition)
        batch, config, prefix = len(condition), model.config, clock.shape[1]
        self.seen = unpadded(clock, tokens)
        shape = (batch, config.heads, prefix + tokens, config.width // config.heads)
        like = model.cached_like()
        self.caches = [KVCache(*shape, like) for _ in range(config.self_layers)]
        self.shared = KVCache(*shape, like)
        cells = torch.arange(grid[0] * grid[1], device=condition.device)[None]
        self.rotations = model.rotation(cells, grid[1])[0, 0]  # of every position, once
        nothing = torch.empty(batch, 0, dtype=torch.int64, device=condition.device)
        x, origin = model.embed(condition, nothing), model.prefixed(model.rotation(nothing), prefix)
        self._remember(x, origin, visible(clock, clock)[:, None] if prefix > 1 else None)

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        rotation = self._rotation(positions)
        return self.model.ask(len(positions), rotation, self.shared.view(), self._mask(0))

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known."""
        x, rotation = self.model.embed(None, codes), self._rotation(positions)
        self._remember(x, rotation, self._mask(positions.shape[1]))

    def _rotation(self, positions: Tensor) -> Tensor:
        return self.rotations[positions][:, None]

    def _mask(self, more: int) -> Tensor | None:
        """Which keys are no padding, those cached and ``more``; None if all are visible."""
        return None if self.seen is None else self.seen[..., : self.shared.length + more]

    def _remember(self, x: Tensor, rotation: Tensor, mask: Tensor | None) -> None:
        self.shared.append(*self.model.remember(x, rotation, mask, self.caches))


class RecomputedDecoding(HeadDecoding):
    """Generation that computes everything anew at each step."""

    def __init__(self, model: ARPGTransformer, condition: Tensor, grid: tuple[int, int]) -> None:
        self.model, self.condition, self.columns = model, condition, grid[1]
        self.codes = torch.empty(len(condition), 0, dtype=torch.int64, device=condition.device)
        self.positions = self.codes
        self.known = model.condition.clock(condition)  # [B or 1, T + tokens]
        self.prefix = self.known.shape[1]

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        model, known = self.model, self.known
        rotation = model.prefixed(model.rotation(self.positions, self.columns), self.prefix)
        x = model.embed(self.condition, self.codes)
        keys_values = model.remember(x, rotation, visible(known, known)[:, None])
        asks = known[:, -1:].expand(-1, positions.shape[1])
        asked = model.rotation(positions, self.columns)
        return model.ask(len(positions), asked, keys_values, visible(known, asks)[:, None])

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known."""
        self.codes = torch.cat([self.codes, codes], 1)
        self.positions = torch.cat([self.positions, positions], 1)
        later = (self.known[:, -1:] + 1).expand(-1, codes.shape[1])
        self.known = torch.cat([self.known, later], 1)
