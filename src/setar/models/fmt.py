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

import torch
from torch import Tensor, nn

from setar.layers.attention import KVCache
from setar.layers.blocks import DecoderBlock, EncoderBlock, rms_norm
from setar.models.base import MAX_LAYERS, GridConfig, GridGenerator, check_sizes, initialise
from setar.recipes.clocks import CONDITION, dense_masks, prefix_clock, visible
from setar.recipes.recipe import SetPlan


@dataclass(frozen=True)
class FMTConfig(GridConfig):
    """Shape of a Fully Masked Transformer; the defaults are FMT-B for ImageNet (table 3)."""

    encoder_layers: int = 6
    decoder_layers: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "encoder_layers", "decoder_layers", most=MAX_LAYERS)

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

    def __init__(self, config: FMTConfig) -> None:
        super().__init__(config)
        width, heads, dropout = config.width, config.heads, config.dropout
        self.positions = nn.Embedding(config.grid[0] * config.grid[1], width)
        self.encoder = nn.ModuleList(
            EncoderBlock(width, heads, dropout) for _ in range(config.encoder_layers)
        )
        self.encoder_norm = rms_norm(width)
        self.decoder = nn.ModuleList(
            DecoderBlock(width, heads, dropout) for _ in range(config.decoder_layers)
        )
        self.norm = rms_norm(width)
        self.head = nn.Linear(width, config.vocabulary, bias=False)
        self.apply(initialise)
        nn.init.zeros_(self.head.weight)

    def forward(self, codes: Tensor, condition: Tensor, plan: SetPlan) -> Tensor:
        """Predict every set from the sets before it, all at once (training, algorithm 1).

        The last set's tokens stay in the encoder, where no query sees them: shapes stay fixed.
        Arguments and result are those of `Generator.forward`.
        """
        known = codes.gather(1, plan.order)
        masks = dense_masks(plan, self.condition.length)
        encoder_mask, cross_mask, decoder_mask = (mask[:, None] for mask in masks)
        rotation = self.prefixed(self.rotation(plan.order))
        memory = self.encode(self.embed(condition, known), rotation, encoder_mask)
        return self.decode(plan.order, memory, rotation, decoder_mask, cross_mask)

    def encode(
        self,
        x: Tensor,
        rotation: Tensor,
        mask: Tensor | None = None,
        caches: list[KVCache] | None = None,
    ) -> Tensor:
        """Run the encoder on ``[B, L, width]``: the memory of the same shape."""
        for index, block in enumerate(self.encoder):
            x = block(x, rotation, mask, caches[index] if caches else None)
        return self.encoder_norm(x)

    def decode(
        self,
        positions: Tensor,
        memory: Tensor,
        memory_rotation: Tensor,
        self_mask: Tensor | None = None,
        cross_mask: Tensor | None = None,
    ) -> Tensor:
        """Ask for the tokens at raster ``positions`` ``[B, n]``: float32 logits ``[B, n, V]``."""
        x, rotation = self.dropout(self.positions(positions)), self.rotation(positions)
        for block in self.decoder:
            assert isinstance(block, DecoderBlock)
            keys_values = block.cross_attention.remember(memory, memory_rotation)
            x = block(x, rotation, keys_values, self_mask, cross_mask)
        return self.head(self.norm(x)).float()

    def start(
        self, condition: Tensor, tokens: int, attention: str = "causal", cache: bool = True
    ) -> "CachedDecoding | RecomputedDecoding":
        """Begin to generate; with ``attention="full"`` as MAR is sampled, see `FullDecoding`.

        Arguments and errors are those of `Generator.start`.
        """
        self.check_attention(attention)
        if attention == "full":
            return FullDecoding(self, condition)
        return (
            CachedDecoding(self, condition, tokens)
            if cache
            else RecomputedDecoding(self, condition)
        )

    def prefixed(self, rotation: Tensor) -> Tensor:
        """Rotations of the condition, which stays as it is, and then of tokens."""
        origin = rotation.new_ones(len(rotation), 1, self.condition.length, rotation.shape[-1])
        return torch.cat([origin, rotation], 2)


class CachedDecoding:
    """Generation with caches in all three attentions; nothing is computed twice.

    Clocks never decrease, so everything cached is visible to everything that comes later and no
    mask is needed after the condition.
    """

    def __init__(self, model: FullyMaskedTransformer, condition: Tensor, tokens: int) -> None:
        self.model = model
        batch, config, prefix = len(condition), model.config, model.condition.length
        heads, head_dim = config.heads, config.width // config.heads

        def caches(layers: int, length: int) -> list[KVCache]:
            like = model.head.weight
            return [KVCache(batch, heads, length, head_dim, like) for _ in range(layers)]

        self.encoder_caches = caches(config.encoder_layers, prefix + tokens)
        self.cross_caches = caches(config.decoder_layers, prefix + tokens)
        self.decoder_caches = caches(config.decoder_layers, tokens)
        self.asked = 0
        nothing = torch.empty(batch, 0, dtype=torch.int64, device=condition.device)
        clock = prefix_clock(prefix, condition.device)
        x, origin = model.embed(condition, nothing), model.prefixed(model.rotation(nothing))
        self._remember(x, origin, visible(clock, clock) if prefix > 1 else None)

    def predict(self, positions: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of the next set, at raster ``positions`` ``[B, n]``."""
        model = self.model
        x, rotation = model.positions(positions), model.rotation(positions)
        for index, block in enumerate(model.decoder):
            keys_values = self.cross_caches[index].view()
            x = block(x, rotation, keys_values, cache=self.decoder_caches[index])
        self.asked += positions.shape[1]
        return model.head(model.norm(x)).float()

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known.

        A set that was not asked for (its guidance was skipped) is asked for first, since later
        queries attend to its queries.
        """
        if self.encoder_caches[0].length - self.model.condition.length == self.asked:
            self.predict(positions)
        self._remember(self.model.embed(None, codes), self.model.rotation(positions))

    def _remember(self, x: Tensor, rotation: Tensor, mask: Tensor | None = None) -> None:
        memory = self.model.encode(x, rotation, mask, self.encoder_caches)
        for block, cache in zip(self.model.decoder, self.cross_caches, strict=True):
            assert isinstance(block, DecoderBlock)
            cache.append(*block.cross_attention.remember(memory, rotation))


class RecomputedDecoding:
    """Generation that computes everything anew at each step."""

    def __init__(self, model: FullyMaskedTransformer, condition: Tensor) -> None:
        self.model, self.condition = model, condition
        self.codes = torch.empty(len(condition), 0, dtype=torch.int64, device=condition.device)
        self.positions = self.codes
        self.known = prefix_clock(model.condition.length, condition.device)

    def predict(self, positions: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of the next set, at raster ``positions`` ``[B, n]``."""
        count, before = positions.shape[1], self.known[self.model.condition.length :] - 1
        asks = torch.cat([before, self.known[-1].expand(count)])
        return self.ask(torch.cat([self.positions, positions], 1), asks)[:, -count:]

    def ask(self, positions: Tensor, asks: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` at ``positions`` ``[B, n]``, asking at clocks ``[n]``."""
        model = self.model
        rotation = model.prefixed(model.rotation(self.positions))
        x = model.embed(self.condition, self.codes)
        memory = model.encode(x, rotation, visible(self.known, self.known))
        masks = visible(asks, asks), visible(self.known, asks)
        return model.decode(positions, memory, rotation, *masks)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known."""
        self.codes = torch.cat([self.codes, codes], 1)
        self.positions = torch.cat([self.positions, positions], 1)
        self.known = torch.cat([self.known, self.clock().expand(codes.shape[1])])

    def clock(self) -> Tensor:
        """The clock at which the next set becomes known."""
        return self.known[-1] + 1


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

    def predict(self, positions: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of the next set, at raster ``positions`` ``[B, n]``."""
        rows, columns = self.model.config.grid
        free = positions.new_ones(len(positions), rows * columns, dtype=torch.bool)
        free.scatter_(1, self.positions, False)
        unknown = free.nonzero()[:, 1].view(len(positions), -1)  # in raster order
        logits = self.ask(unknown, self.clock().expand(unknown.shape[1]))
        place = torch.searchsorted(unknown, positions.contiguous())
        return logits.gather(1, place[..., None].expand(-1, -1, logits.shape[-1]))

    def clock(self) -> Tensor:
        """The clock of all tokens and of all queries, just after the condition's."""
        return torch.full_like(self.known[-1], CONDITION + 1)
