"""Query tokens that see each other: LPD (Locality-aware Parallel Decoding, arXiv 2507.01957).

    sequence   [condition, tokens | queries]        clocks: known | asks

One transformer reads the tokens that are known and, behind them, a query for each token that is
asked for: the same learned vector, at the position that it asks for. Tokens are for reading alone
and queries for asking alone, so tokens may come in any order and in sets of any size. A token sees
what is known when it is; a query sees what is known when it asks, and the queries of its own set.
For sets of 1, 2 and 1 tokens after one condition, a row per query and a column per key:

            known       asks
          | 0 1 2 2 3 | 0 1 1 2
        --+-----------+--------
        0 | 1 . . . . | . . . .
        1 | 1 1 . . . | . . . .
        2 | 1 1 1 1 . | . . . .
        2 | 1 1 1 1 . | . . . .
        3 | 1 1 1 1 1 | . . . .
        --+-----------+--------
        0 | 1 . . . . | 1 . . .
        1 | 1 1 . . . | . 1 1 .
        1 | 1 1 . . . | . 1 1 .
        2 | 1 1 1 1 . | . . . 1

No later row ever sees a query, so in sampling the keys and values of queries lie in the places of
the cache that the tokens take at the next step.

Blocks, norms, initialisation and dropout are those of the authors' code (mit-han-lab/lpd). The
last set's tokens, which nobody sees, stay in the sequence while training: shapes stay fixed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from setar.layers.attention import KVCache
from setar.layers.vit import PlainBlock, initialise_plain, layer_norm
from setar.models.base import MAX_LAYERS, Generator, GeneratorConfig, HeadDecoding, check_sizes
from setar.numbers import as_real
from setar.recipes.clocks import visible
from setar.recipes.recipe import SetPlan


@dataclass(frozen=True)
class LPDConfig(GeneratorConfig):
    """Shape of an LPD; the defaults are LPD-L for ImageNet at 256 pixels."""

    width: int = 1024
    heads: int = 16
    layers: int = 24
    """Number of blocks."""
    dropout: float = 0.1
    """On residuals and inside the feed-forward layer, while training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "layers", most=MAX_LAYERS)
        if self.width % self.heads:
            raise ValueError(
                f"`width` (={self.width}) must be a multiple of `heads` (={self.heads})"
            )
        share = as_real(self.dropout)
        if share is None or not 0 <= share < 1:
            raise ValueError(f"0 <= `dropout` (={self.dropout}) < 1 must hold")

    @property
    def recipe(self) -> str:
        """Random orders, as the paper trains; sets of any sizes, as its lists of sizes have."""
        return f"random-{min(16, self.grid[0] * self.grid[1])}-random"

    @property
    def sampling_recipe(self) -> str:
        """What the paper samples 256 pixels with, in 20 steps."""
        return f"lpd-{min(20, self.grid[0] * self.grid[1])}-lpd"


PRESETS = {
    # 337.2 M parameters (the authors: 337 M); FID of the published weights 2.40 in 20 steps
    "L": LPDConfig(),
    # 751.9 M (752 M); 2.10
    "XL": LPDConfig(width=1280, heads=20, layers=36),
    # 1412.2 M (1.4 B); 2.00
    "XXL": LPDConfig(width=1536, heads=24, layers=48),
    # 0.04 M, for tests: a 4x4 grid of 32 codes
    "tiny": LPDConfig(vocabulary=32, classes=5, grid=(4, 4), width=32, heads=2, layers=3),
}


class LPD(Generator[LPDConfig]):
    """Predicts any set of tokens from any other."""

    Config, presets = LPDConfig, PRESETS
    editing = "kept-first"
    guides = True

    def __init__(self, config: LPDConfig) -> None:
        super().__init__(config)
        width, prefix = config.width, self.condition.length
        self.tokens = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Embedding(prefix + config.grid[0] * config.grid[1], width)
        self.query = nn.Parameter(torch.empty(width))
        self.input_norm = layer_norm(width)
        self.blocks = nn.ModuleList(
            PlainBlock(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = layer_norm(width)
        self.head = nn.Linear(width, config.vocabulary, bias=False)
        self.apply(initialise_plain)
        nn.init.normal_(self.query, std=0.02)

    def forward(self, codes: Tensor, condition: Tensor, plan: SetPlan) -> Tensor:
        """Predict every set from the sets before it, all at once (training).

        Arguments and result are those of `Generator.forward`.

        Raises:
            ValueError: the plan has another grid, or lets all queries see each other.
        """
        self.check(plan)
        start = self.condition.clock(condition)
        known = torch.cat([start.expand(len(plan.known), -1), plan.known], 1)
        tokens = self.embed(condition, codes.gather(1, plan.order), plan.order)
        x = torch.cat([tokens, self.ask(plan.order)], 1)
        mask = sequence_mask(known, plan.asks)
        return self.logits(self.read(x, mask, plan.asks.shape[1]))

    def embed(self, condition: Tensor | None, codes: Tensor, positions: Tensor) -> Tensor:
        """Input ``[B, T + n, width]``: a condition's T tokens, if any, and codes ``[B, n]``.

        ``positions`` ``[B, n]`` are those of the codes, raster indices.
        """
        length = self.condition.length
        x = self.tokens(codes) + self.positions(length + positions)
        if condition is not None:
            prefix = self.condition.embed(condition)
            # A text that is shorter than others is padded on its left, or stands alone.
            places = torch.arange(length - prefix.shape[1], length, device=codes.device)
            x = torch.cat([prefix + self.positions(places), x], 1)
        return self.input_norm(x)

    def ask(self, positions: Tensor) -> Tensor:
        """Queries ``[B, n, width]`` for the tokens at raster ``positions`` ``[B, n]``."""
        return self.input_norm(self.query + self.positions(self.condition.length + positions))

    def read(
        self, x: Tensor, mask: Tensor, queries: int, caches: list[KVCache] | None = None
    ) -> Tensor:
        """Run all blocks on ``[B, L, width]``, of which the last rows are ``queries``.

        Of the tokens the last block makes keys and values only, since nothing reads more of them.

        Returns:
            What the queries became, ``[B, queries, width]``.
        """
        for index, block in enumerate(self.blocks):
            final = queries if index == len(self.blocks) - 1 else None
            x = block(x, mask, caches[index] if caches else None, final)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of what `read` made of queries."""
        return self.head(self.norm(x)).float()

    def start(
        self,
        condition: Tensor,
        tokens: int,
        attention: str = "causal",
        cache: bool = True,
        grid: tuple[int, int] | None = None,
    ) -> "LPDDecoding":
        """Begin to generate; arguments and errors are those of `Generator.start`."""
        self.check_attention(attention)
        self.check_grid(grid)
        return LPDDecoding(self, condition, tokens if cache else None)

    def check(self, plan: SetPlan) -> None:
        """Raise ValueError unless the plan is on the model's grid, and its sets are causal."""
        super().check(plan)
        if not plan.decoder_causal:
            raise ValueError(
                "a query of an LPD sees those of its own set alone: the schedule 'masked', in "
                "which all see each other, needs an FMT"
            )


def sequence_mask(known: Tensor, asks: Tensor, start: int = 0) -> Tensor:
    """Who sees whom among tokens and the queries behind them; drawn at the top of this file.

    Args:
        known: int64 ``[B or 1, M]``, clocks of condition and tokens.
        asks: int64 ``[B or 1, n]``, of the queries.
        start: rows of tokens to leave out, which were read before.

    Returns:
        bool ``[B or 1, 1, M - start + n, M + n]``.
    """
    rows = torch.cat([known[:, start:], asks.expand(len(known), -1)], 1)
    # Tokens ask for nothing: a clock that no query has.
    never = asks.new_full((len(asks), rows.shape[1] - asks.shape[1]), torch.iinfo(asks.dtype).min)
    together = torch.cat([never, asks], 1)[:, :, None] == asks[:, None, :]
    return torch.cat([visible(known, rows), together.expand(len(rows), -1, -1)], 2)[:, None]


class LPDDecoding(HeadDecoding):
    """Generation step by step; with a cache, each token and each query is read once.

    What is absorbed waits for the next `predict`, which reads it together with its queries: one
    pass of the network per set. Then the cache is cut back to the tokens, and those of the next
    set take the places of the queries. Without a cache everything waits for ever.

    Args:
        model: an `LPD`.
        condition: ``[B, ...]``.
        tokens: places of the cache for tokens; None: no cache.
    """

    def __init__(self, model: LPD, condition: Tensor, tokens: int | None) -> None:
        self.model, self.caches = model, None
        self.known = model.condition.clock(condition)  # [B or 1, T + tokens], of all absorbed
        config, nothing = model.config, condition.new_empty(len(condition), 0, dtype=torch.int64)
        self.waiting = model.embed(condition, nothing, nothing)  # [B, n, width], not in the cache
        if tokens is not None:
            length, head_dim = self.known.shape[1] + tokens, config.width // config.heads
            shape = (len(condition), config.heads, length, head_dim)
            self.caches = [KVCache(*shape, model.cached_like()) for _ in range(config.layers)]

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        count, read = positions.shape[1], self.known.shape[1] - self.waiting.shape[1]
        mask = sequence_mask(self.known, self.known[:, -1:].expand(-1, count), read)
        x = torch.cat([self.waiting, self.model.ask(positions)], 1)
        asked = self.model.read(x, mask, count, self.caches)
        if self.caches is not None:
            for cache in self.caches:
                cache.length = self.known.shape[1]
            self.waiting = self.waiting[:, :0]
        return self.model.norm(asked)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known."""
        self.waiting = torch.cat([self.waiting, self.model.embed(None, codes, positions)], 1)
        clock = (self.known[:, -1:] + 1).expand(-1, codes.shape[1])
        self.known = torch.cat([self.known, clock], 1)
