"""The Fully Masked Transformer (SAR, arXiv 2410.10511, section 3.2 and figure 4).

    encoder input   [condition, tokens known so far]     clocks: known
    decoder input   position embeddings alone            clocks: asks

    encoder   self-attention    known sees known
    decoder   self-attention    asks sees asks
              cross-attention   asks sees known

The encoder reads what is known; the decoder asks for the tokens at given positions. Every mask is
the comparison of clocks in `setar.recipes.clocks`, and since clocks never decrease along the
sequence, keys and values can be cached set by set.

Blocks, initialisation and dropout are LlamaGen's, as the paper says. Two things it does not say,
and LlamaGen has not: the encoder's output is normalised (`encoder_norm`) before the decoder reads
it, as in every encoder whose blocks normalise their input; and the decoder's position embeddings
get the dropout that LlamaGen gives to token embeddings, in whose place they are.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from setar.layers.attention import KVCache, Mask
from setar.layers.blocks import DecoderBlock, EncoderBlock
from setar.layers.norm import RMSNorm
from setar.layers.rope import sine_positions
from setar.models.base import (
    MAX_LAYERS,
    GridConfig,
    GridGenerator,
    HeadDecoding,
    check_sizes,
    initialise,
)
from setar.models.fmt_fixed import FixedDecoding, FixedShapes
from setar.recipes.clocks import CONDITION, attention_clocks, unpadded, visible
from setar.recipes.recipe import SetPlan
from setar.registry import quoted


@dataclass(frozen=True)
class FMTConfig(GridConfig):
    """Shape of a Fully Masked Transformer; the defaults are FMT-B for ImageNet (table 3)."""

    encoder_layers: int = 6
    """Blocks that read what is known."""
    decoder_layers: int = 6
    """Blocks that predict, each with cross-attention to the encoder's output."""
    positions: Literal["learned", "sine"] = "learned"
    """What the decoder reads: ``learned`` embeddings of the positions of one grid, or ``sine``
    waves, which any grid has (appendix A.3)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "encoder_layers", "decoder_layers", most=MAX_LAYERS)
        if self.positions not in ("learned", "sine"):
            given = quoted(self.positions)
            raise ValueError(f"`positions` must be 'learned' or 'sine', not {given}")

    @property
    def recipe(self) -> str:
        """Any recipe will do; this is the one that the paper trains with (section 4.2)."""
        return f"random-{min(16, self.grid[0] * self.grid[1])}-random"

    @property
    def sampling_recipe(self) -> str:
        """As many sets as it is trained with, the small ones first."""
        return f"random-{min(16, self.grid[0] * self.grid[1])}-cosine"


PRESETS = {
    # 125.2 M parameters (table 3, row B)
    "B": FMTConfig(),
    # 393.5 M parameters (row L)
    "L": FMTConfig(width=1024, heads=16, encoder_layers=12, decoder_layers=12),
    # 892.9 M parameters (row XL)
    "XL": FMTConfig(width=1280, heads=20, encoder_layers=18, decoder_layers=18),
    # 2.95 M parameters: the shipped emoji model (its card has the scores and what they cost)
    "emoji": FMTConfig(
        vocabulary=512,
        classes=99,
        grid=(8, 8),
        width=176,
        heads=4,
        encoder_layers=3,
        decoder_layers=3,
        dropout=0.0,
    ),
    # 0.13 M, for tests: a 4x4 grid of 32 codes
    "tiny": FMTConfig(
        vocabulary=32, classes=5, grid=(4, 4), width=32, heads=2, encoder_layers=2, decoder_layers=2
    ),
}


class FullyMaskedTransformer(GridGenerator[FMTConfig]):
    """Predicts any set of tokens from any other."""

    Config, presets = FMTConfig, PRESETS
    editing = "kept-first"
    attentions = ("causal", "full")
    guides = True
    fixed: FixedShapes | None = None
    """The compiled steps, if `compile_sampling` was called."""

    def __init__(self, config: FMTConfig) -> None:
        super().__init__(config)
        width, heads, dropout = config.width, config.heads, config.dropout
        if config.positions == "learned":
            self.positions = nn.Embedding(config.grid[0] * config.grid[1], width)
        self.encoder = nn.ModuleList(
            EncoderBlock(width, heads, dropout) for _ in range(config.encoder_layers)
        )
        self.encoder_norm = RMSNorm(width)
        self.decoder = nn.ModuleList(
            DecoderBlock(width, heads, dropout) for _ in range(config.decoder_layers)
        )
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, config.vocabulary, bias=False)
        self.apply(initialise)
        nn.init.zeros_(self.head.weight)

    def forward(self, codes: Tensor, condition: Tensor, plan: SetPlan) -> Tensor:
        """Predict every set from the sets before it, all at once (training, algorithm 1).

        The last set's tokens stay in the encoder, where no query sees them: shapes stay fixed.
        Arguments and result are those of `Generator.forward`.
        """
        known = codes.gather(1, plan.order)
        clock = self.condition.clock(condition)
        masks = attention_clocks(plan, clock).masks(self.mask)
        tokens = self.rotation(plan.order, plan.columns)
        rotation = self.prefixed(tokens, clock.shape[1])
        memory = self.encode(self.embed(condition, known), rotation, masks.encoder_self)
        asked = self.dropout(self.queries(plan.order, plan.columns))
        asked = self.decode(asked, tokens, memory, rotation, masks.decoder_self, masks.cross)
        return self.head(asked).float()

    def encode(
        self,
        x: Tensor,
        rotation: Tensor,
        mask: Mask | None = None,
        caches: list[KVCache] | None = None,
    ) -> Tensor:
        """Run the encoder on ``[B, L, width]``: the memory of the same shape."""
        for index, block in enumerate(self.encoder):
            x = block(x, rotation, mask, caches[index] if caches else None)
        return self.encoder_norm(x)

    def queries(self, positions: Tensor, columns: Tensor | int = 0) -> Tensor:
        """What asks for raster ``positions`` ``[B or 1, n]``, ``[B or 1, n, width]``.

        ``columns`` are those of `rotation`.
        """
        if self.config.positions == "learned":
            return self.positions(positions)
        waves = sine_positions(*self.cells(positions, columns), self.config.width)
        return waves.to(self.norm.weight.dtype)

    def decode(
        self,
        x: Tensor,
        rotation: Tensor,
        memory: Tensor,
        memory_rotation: Tensor,
        self_mask: Mask | None = None,
        cross_mask: Mask | None = None,
    ) -> Tensor:
        """Ask with `queries` ``[B or 1, n, width]`` and their rotations.

        Returns:
            What the head reads, ``[B, n, width]``.
        """
        for block in self.decoder:
            x = block(x, rotation, None, self_mask, cross_mask, memory=(memory, memory_rotation))
        return self.norm(x)

    def start(
        self,
        condition: Tensor,
        tokens: int,
        attention: str = "causal",
        cache: bool = True,
        grid: tuple[int, int] | None = None,
    ) -> "CachedDecoding | FixedDecoding | RecomputedDecoding":
        """Begin to generate; with ``attention="full"`` as MAR is sampled, see `FullDecoding`.

        Arguments and errors are those of `Generator.start`.
        """
        self.check_attention(attention)
        grid = self.check_grid(grid)
        if attention == "full":
            return FullDecoding(self, condition, grid)
        if not cache:
            return RecomputedDecoding(self, condition, grid)
        if self.fixed is not None:
            return self.fixed.start(condition, tokens, grid[1])
        return CachedDecoding(self, condition, tokens, grid)

    def compile_sampling(self, **options: Any) -> Self:
        """As `Generator.compile_sampling`, see `setar.models.fmt_fixed`."""
        if self.packing is not None:
            raise ValueError(
                f"a model whose weights are laid out in {self.packing} for a CPU is not compiled"
            )
        self.fixed = FixedShapes(self, **options)
        return self

    @property
    def any_grid(self) -> bool:
        """Sine waves know every position."""
        return self.config.positions == "sine"

    def prefixed(self, rotation: Tensor, prefix: int) -> Tensor:
        """Rotations of a condition of ``prefix`` tokens, which stay as they are, and of tokens."""
        origin = rotation.new_ones(len(rotation), 1, prefix, rotation.shape[-1])
        return torch.cat([origin, rotation], 2)


class CachedDecoding(HeadDecoding):
    """Generation with caches in all three attentions; nothing is computed twice.

    Clocks never decrease, so everything cached is visible to everything that comes later, but for
    the padding of texts, and without that no mask is needed after the condition.
    """

    def __init__(
        self,
        model: FullyMaskedTransformer,
        condition: Tensor,
        tokens: int,
        grid: tuple[int, int],
    ) -> None:
        self.model, self.columns = model, grid[1]
        clock = model.condition.clock(condition)
        batch, config, prefix = len(condition), model.config, clock.shape[1]
        self.prefix, self.seen = prefix, unpadded(clock, tokens)
        heads, head_dim = config.heads, config.width // config.heads

        def caches(layers: int, length: int) -> list[KVCache]:
            like = model.cached_like()
            return [KVCache(batch, heads, length, head_dim, like) for _ in range(layers)]

        self.encoder_caches = caches(config.encoder_layers, prefix + tokens)
        self.cross_caches = caches(config.decoder_layers, prefix + tokens)
        self.decoder_caches = caches(config.decoder_layers, tokens)
        self.asked = 0
        cells = torch.arange(grid[0] * grid[1], device=condition.device)[None]
        self.rotations = model.rotation(cells, self.columns)[0, 0]  # of every position, once
        nothing = torch.empty(batch, 0, dtype=torch.int64, device=condition.device)
        x, origin = model.embed(condition, nothing), model.prefixed(model.rotation(nothing), prefix)
        self._remember(x, origin, visible(clock, clock)[:, None] if prefix > 1 else None)

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        model = self.model
        x, rotation = model.queries(positions, self.columns), self._rotation(positions)
        mask = self._mask(0)
        for index, block in enumerate(model.decoder):
            keys_values, cache = self.cross_caches[index].view(), self.decoder_caches[index]
            x = block(x, rotation, keys_values, cross_mask=mask, cache=cache)
        self.asked += positions.shape[1]
        return model.norm(x)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known.

        A set that was not asked for (its guidance was skipped) is asked for first, since later
        queries attend to its queries.
        """
        if self.encoder_caches[0].length - self.prefix == self.asked:
            self.ask(positions)
        mask = self._mask(positions.shape[1])
        self._remember(self.model.embed(None, codes), self._rotation(positions), mask)

    def _rotation(self, positions: Tensor) -> Tensor:
        return self.rotations[positions][:, None]

    def _mask(self, more: int) -> Tensor | None:
        """Which keys are no padding, those cached and ``more``; None if all are visible."""
        keys = self.encoder_caches[0].length + more
        return None if self.seen is None else self.seen[..., :keys]

    def _remember(self, x: Tensor, rotation: Tensor, mask: Tensor | None = None) -> None:
        memory = self.model.encode(x, rotation, mask, self.encoder_caches)
        for block, cache in zip(self.model.decoder, self.cross_caches, strict=True):
            assert isinstance(block, DecoderBlock)
            cache.append(*block.cross_attention.remember(memory, rotation))


class RecomputedDecoding(HeadDecoding):
    """Generation that computes everything anew at each step."""

    def __init__(
        self, model: FullyMaskedTransformer, condition: Tensor, grid: tuple[int, int]
    ) -> None:
        self.model, self.condition, self.grid = model, condition, grid
        self.codes = torch.empty(len(condition), 0, dtype=torch.int64, device=condition.device)
        self.positions = self.codes
        self.known = model.condition.clock(condition)  # [B or 1, T + tokens]
        self.prefix = self.known.shape[1]

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        count, before = positions.shape[1], self.known[:, self.prefix :] - 1
        asks = torch.cat([before, self.known[:, -1:].expand(-1, count)], 1)
        return self.ask_at(torch.cat([self.positions, positions], 1), asks)[:, -count:]

    def ask_at(self, positions: Tensor, asks: Tensor) -> Tensor:
        """`ask` at clocks ``[B, n]`` of positions ``[B, n]`` of any sets."""
        model, columns = self.model, self.grid[1]
        rotation = model.prefixed(model.rotation(self.positions, columns), self.prefix)
        x = model.embed(self.condition, self.codes)
        memory = model.encode(x, rotation, visible(self.known, self.known)[:, None])
        masks = visible(asks, asks)[:, None], visible(self.known, asks)[:, None]
        asked = model.queries(positions, columns), model.rotation(positions, columns)
        return model.decode(*asked, memory, rotation, *masks)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known."""
        self.codes = torch.cat([self.codes, codes], 1)
        self.positions = torch.cat([self.positions, positions], 1)
        self.known = torch.cat([self.known, self.clock().expand(-1, codes.shape[1])], 1)

    def clock(self) -> Tensor:
        """The clock ``[B or 1, 1]`` at which the next set becomes known."""
        return self.known[:, -1:] + 1


class FullDecoding(RecomputedDecoding):
    """Generation as MAR does it (section 4.4): one clock for all tokens, whenever they came.

        positions 0..3, of which 1 and 3 are known; a row per query, a column per key

        encoder      c 1 3        decoder self    0 2        cross    c 1 3
          c          1 . .          0             1 1          0      1 1 1
          1          1 1 1          2             1 1          2      1 1 1
          3          1 1 1

    Every step asks at all positions that are still unknown, and the caller keeps the next set's
    answers: in masked training all of them are decoded together, and a query that finds itself
    alone was never trained (on digits it doubles the distance). The condition does not see the
    tokens, as in training, whatever the recipe.
    """

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        rows, columns = self.grid
        free = positions.new_ones(len(positions), rows * columns, dtype=torch.bool)
        free.scatter_(1, self.positions, False)
        unknown = free.nonzero()[:, 1].view(len(positions), -1)  # in raster order
        asked = self.ask_at(unknown, self.clock().expand(-1, unknown.shape[1]))
        place = torch.searchsorted(unknown, positions.contiguous())
        return asked.gather(1, place[..., None].expand(-1, -1, asked.shape[-1]))

    def clock(self) -> Tensor:
        """The clock of all tokens and of all queries, just after the condition's."""
        return torch.full_like(self.known[:, -1:], CONDITION + 1)
