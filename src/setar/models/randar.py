"""RandAR: a decoder-only transformer that is told where to go next (arXiv 2412.01827).

Before every token stands a query, a learned vector that is rotated to the position of the token:
whatever the order, the sequence is [condition, query, token, query, token, ...], and each element
sees itself and what came before it. A query gives the logits of the token after it.

What a set is. Tokens are read one after the other, those of a set too, in the order of the plan. A
set is what is asked at once: its queries see all earlier sets, and the queries of their own set
that come before them, as in parallel decoding (section 3.3), but no token of their set. When the
set is known its queries are read anew, each after the tokens before it, as though its tokens had
been made one by one. Only the first one is the same both times.

In training one pass holds both: what is read (c, q, t), and what asks (a). With sets of 1, 2 and 1
tokens, a row per query of attention and a column per key:

          c  q0 t0 q1 t1 q2 t2 q3 t3   a0 a1 a2 a3
    c     1  .  .  .  .  .  .  .  .    .  .  .  .
    q0    1  1  .  .  .  .  .  .  .    .  .  .  .
    t0    1  1  1  .  .  .  .  .  .    .  .  .  .
    q1    1  1  1  1  .  .  .  .  .    .  .  .  .
    t1    1  1  1  1  1  .  .  .  .    .  .  .  .
    q2    1  1  1  1  1  1  .  .  .    .  .  .  .
    t2    1  1  1  1  1  1  1  .  .    .  .  .  .
    q3    1  1  1  1  1  1  1  1  .    .  .  .  .
    t3    1  1  1  1  1  1  1  1  1    .  .  .  .

    a0    1  .  .  .  .  .  .  .  .    1  .  .  .
    a1    1  1  1  .  .  .  .  .  .    .  1  .  .
    a2    1  1  1  .  .  .  .  .  .    .  1  1  .
    a3    1  1  1  1  1  1  1  .  .    .  .  .  1

With sets of one, as RandAR is trained, the a are the q, and the triangle is all there is.

Blocks are LlamaGen's, the condition's query and key are 0 as there, and the query tokens are
rotated twice: as embeddings, and again as query and key of attention.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.layers.attention import KVCache
from setar.layers.blocks import EncoderBlock
from setar.layers.norm import RMSNorm
from setar.layers.rope import rotate
from setar.models.base import (
    MAX_LAYERS,
    GridConfig,
    GridGenerator,
    HeadDecoding,
    check_sizes,
    initialise,
)
from setar.recipes.clocks import visible
from setar.recipes.recipe import SetPlan

STEPS = 88
"""In which the authors sample 256 tokens."""


@dataclass(frozen=True)
class RandARConfig(GridConfig):
    """Shape of a RandAR; the defaults are as large as LlamaGen's GPT-B."""

    layers: int = 12
    """Number of blocks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "layers", most=MAX_LAYERS)

    @property
    def recipe(self) -> str:
        """Any order will do; the authors train with a random one, token by token."""
        return "random-N-uniform"

    @property
    def sampling_recipe(self) -> str:
        """The authors' number of steps and their sizes."""
        return f"random-{min(STEPS, self.grid[0] * self.grid[1])}-randar"


PRESETS = {
    # 110.9 M parameters, not published
    "B": RandARConfig(),
    # 342.9 M parameters (RandAR-L, 0.3B)
    "L": RandARConfig(width=1024, heads=16, layers=24),
    # 774.7 M parameters (RandAR-XL, 0.7B)
    "XL": RandARConfig(width=1280, heads=20, layers=36),
    # 0.12 M, for tests: a 4x4 grid of 32 codes
    "tiny": RandARConfig(vocabulary=32, classes=5, grid=(4, 4), width=32, heads=2, layers=4),
}


class RandARTransformer(GridGenerator[RandARConfig]):
    """Predicts the token at any position from the tokens before it, in any order."""

    Config, presets = RandARConfig, PRESETS
    editing = "kept-first"
    guides = True

    def __init__(self, config: RandARConfig) -> None:
        super().__init__(config)
        width, dropout = config.width, config.dropout
        self.query = nn.Embedding(1, width)  # what all queries are, before they are rotated
        self.blocks = nn.ModuleList(
            EncoderBlock(width, config.heads, dropout) for _ in range(config.layers)
        )
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, config.vocabulary, bias=False)
        self.apply(initialise)
        nn.init.zeros_(self.head.weight)

    def forward(self, codes: Tensor, condition: Tensor, plan: SetPlan) -> Tensor:
        """Predict every set from the sets before it, all at once (training).

        Sets of one are a sequence of 2 N, larger ones take N queries more. Arguments and result are
        those of `Generator.forward`.

        Raises:
            ValueError: the plan has another grid, or unmasks its queries (the recipe ``mar``).
        """
        self.check(plan)
        count, clock = codes.shape[1], self.condition.clock(condition)
        prefix, still = self.prefix(condition)
        pairs, moving = self.pairs(codes.gather(1, plan.order), plan.order)
        x, rotation = torch.cat([prefix, pairs], 1), torch.cat([still, moving], 2)
        mask = visible(places := sequence_clock(clock, 2 * count), places)
        if plan.one_by_one:
            # No query is left to see the last token.
            x, rotation, mask = x[:, :-1], rotation[:, :, :-1], mask[:, :-1, :-1]
            return self.logits(self.read(x, rotation, mask[:, None])[:, clock.shape[1] :: 2])
        asking = self.rotation(plan.order)
        x, rotation = torch.cat([x, self.queries(asking)], 1), torch.cat([rotation, asking], 2)
        x = self.read(x, rotation, asking_mask(plan, places, mask)[:, None], last=count)
        return self.logits(x)

    def prefix(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The condition's tokens ``[B, T, width]`` and rotations ``[B, 1, T, head_dim / 2]``, 0."""
        x = self.condition.embed(condition)
        origin = self.rotation(torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device))
        return x, torch.zeros_like(origin)

    def pairs(self, codes: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Query, token, query, token, ...: tokens ``[B, 2 n, width]`` and their rotations.

        ``codes`` ``[B, n]`` are those at raster ``positions`` ``[B, n]``.
        """
        rotation = self.rotation(positions)
        x = torch.stack([self.queries(rotation), self.embed(None, codes)], 2).flatten(1, 2)
        return x, rotation.repeat_interleave(2, 2)

    def queries(self, rotation: Tensor) -> Tensor:
        """What asks for the positions of rotations ``[B, 1, n, head_dim / 2]``: ``[B, n, width]``.

        The heads of the one learned vector are rotated as those of a key are.
        """
        heads = self.query.weight.view(1, self.config.heads, 1, -1)
        heads = heads.expand(len(rotation), -1, rotation.shape[2], -1)
        return rotate(heads, rotation).transpose(1, 2).flatten(2)

    def read(
        self,
        x: Tensor,
        rotation: Tensor,
        mask: Tensor,
        caches: list[KVCache] | None = None,
        last: int | None = None,
    ) -> Tensor:
        """Run all blocks on ``[B, L, width]``, to the same shape, or to the ``last`` so many.

        The last block then leaves out all of the others but their keys and values.
        """
        final = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            cache = caches[index] if caches else None
            x = block(x, rotation, mask, cache, last if index == final else None)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Float32 logits ``[B, L, V]`` of what `read` returned."""
        return self.head(self.norm(x)).float()

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
        if not cache:
            return RecomputedDecoding(self, condition)
        return CachedDecoding(self, condition, tokens)

    def check(self, plan: SetPlan) -> None:
        """Raise ValueError if the plan has another grid, or if its queries see later ones."""
        super().check(plan)
        if not plan.decoder_causal:
            raise ValueError(
                "a RandAR reads its sequence from the front, so that a query sees none after it: "
                "a recipe that unmasks them (mar) needs an FMT; random-2-masked-causal does not"
            )


def sequence_clock(prefix: Tensor, count: int) -> Tensor:
    """Clocks ``[B or 1, T + count]`` of a condition and of so many elements after it.

    Each is known just after the one before it, whatever its set.
    """
    places = torch.arange(1, count + 1, device=prefix.device)
    return torch.cat([prefix, places.expand(len(prefix), -1)], 1)


def asking_mask(plan: SetPlan, places: Tensor, mask: Tensor) -> Tensor:
    """The drawing of this module, bool ``[B, T + 3 N, T + 3 N]``.

    ``places`` ``[B or 1, T + 2 N]`` are the clocks of what is read, and ``mask`` is that of it.
    """
    begins = torch.searchsorted(plan.known, plan.known)  # how many tokens come before the set
    earlier = visible(places, 2 * begins)
    own = (begins[:, :, None] == begins[:, None, :]).tril()
    reading = F.pad(mask, (0, begins.shape[1])).expand(len(begins), -1, -1)
    return torch.cat([reading, torch.cat([earlier, own], 2)], 1)


class CachedDecoding(HeadDecoding):
    """Generation with cached keys and values.

    A step is one pass over what is new: the tokens of the last set, each but the first after its
    query, and then the queries of the next set.

        cache     ... q0                    q0 asked for the set that is now known: t0 t1
        chunk            t0 q1 t1 | q2 q3   of which q3 leaves its slot to t2, later

    All of it sees what is before it. The first query stays in the cache; the slots of the others
    are overwritten, since they asked without the tokens before them. Sets may be absorbed that were
    not asked for: they wait, with their first query, for the next chunk.
    """

    def __init__(self, model: RandARTransformer, condition: Tensor, tokens: int) -> None:
        self.model, config = model, model.config
        prefix = model.prefix(condition)
        batch, length, head_dim = len(condition), prefix[0].shape[1], config.width // config.heads
        shape = (batch, config.heads, length + 2 * tokens, head_dim)
        self.caches = [KVCache(*shape, model.cached_like()) for _ in range(config.layers)]
        self.clock = sequence_clock(model.condition.clock(condition), 2 * tokens)
        cells = torch.arange(config.grid[0] * config.grid[1], device=condition.device)[None]
        rotation = model.rotation(cells)  # of every position, once
        self.rotations, self.queries = rotation[0, 0], model.queries(rotation)[0]
        self.waiting = [prefix]
        self.known = 0  # slots of the cache that are read; what asks lies behind them
        self.asked = False

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        self.waiting.append((self.queries[positions], self.rotations[positions][:, None]))
        parts, rotations = zip(*self.waiting, strict=True)
        x, rotation = torch.cat(parts, 1), torch.cat(rotations, 2)
        count, end = positions.shape[1], self.known + x.shape[1]
        mask = visible(self.clock[:, :end], self.clock[:, self.known : end])[:, None]
        for cache in self.caches:
            cache.length = self.known
        x = self.model.read(x, rotation, mask, self.caches, count)
        self.waiting, self.known, self.asked = [], end - count, True
        return self.model.norm(x)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known."""
        x, rotation = self.model.pairs(codes, positions)
        if self.asked:  # its first query has been read
            x, rotation = x[:, 1:], rotation[:, :, 1:]
            self.known, self.asked = self.known + 1, False
        self.waiting.append((x, rotation))


class RecomputedDecoding(HeadDecoding):
    """Generation that computes everything anew at each step."""

    def __init__(self, model: RandARTransformer, condition: Tensor) -> None:
        self.model, self.condition = model, condition
        self.codes = torch.empty(len(condition), 0, dtype=torch.int64, device=condition.device)
        self.positions = self.codes

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        model, asking = self.model, self.model.rotation(positions)
        prefix, still = model.prefix(self.condition)
        pairs, moving = model.pairs(self.codes, self.positions)
        x = torch.cat([prefix, pairs, model.queries(asking)], 1)
        after = x.shape[1] - prefix.shape[1]
        clock = sequence_clock(model.condition.clock(self.condition), after)
        rotation = torch.cat([still, moving, asking], 2)
        x = model.read(x, rotation, visible(clock, clock)[:, None], last=positions.shape[1])
        return model.norm(x)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known."""
        self.codes = torch.cat([self.codes, codes], 1)
        self.positions = torch.cat([self.positions, positions], 1)
