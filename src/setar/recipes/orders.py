"""Orders: in which sequence the cells of a token grid are output.

An order is a permutation of raster indices (``row * width + column``): entry ``j`` is the cell that
is output ``j``-th. Figure 5 of the paper prints the inverse, the rank of every cell (see `ranks`).

raster, reversed-raster     row by row, and back (figure 5)
roll, reversed-roll         a spiral inward, and back (figure 5)
fixed-random, random        one shuffle for all images; one for each
next-scale                  nested grids from coarse to fine (figure 3)
halton                      spread evenly at every length, the same for all images
locality                    next to what is known, apart within a set; depends on the set sizes
lpd, lpd-wide               the same exactly as LPD publishes it (`setar.recipes.lpd`)
lpd-proximity, -repulsion   its ablations

A file of orders is one too (`setar.recipes.listed`).

A new order is one decorated function::

    @register_order("columns")
    def columns(height, width):
        return torch.arange(height * width).view(height, width).T.flatten()
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TypeVar

import torch
from torch import Tensor

from setar.numbers import as_whole
from setar.registry import Table, quoted

MAX_TOKENS = 2**20
"""The largest number of tokens of a grid (1024 x 1024)."""

SHORT_NAMES = {"ar": "raster-N-uniform", "mar": "random-2-masked"}
"""Recipes with a name of their own, which no order may have."""

_Function = TypeVar("_Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Order:
    """A registered order; `draw` makes and checks its permutations."""

    name: str
    function: Callable[..., Tensor]
    per_image: bool
    """True: each image has its own, ``function(height, width, batch, generator)``: [batch, N]."""
    uses_sizes: bool
    """True: and from its set sizes, ``function(height, width, sizes, generators)``: [batch, N]."""
    sizes: Callable[[int, int], Iterable[int]] | None
    """``sizes(height, width)``: the set sizes that come with the order, if any."""

    def draw(
        self,
        grid: tuple[int, int],
        batch: int = 1,
        generator: torch.Generator | None = None,
        sizes: Tensor | None = None,
    ) -> Tensor:
        """Return int64 [batch, N]: the raster indices in output order, a fresh tensor.

        The set `sizes`, int64 [batch or 1, sets], matter only to an order that uses them.

        Raises:
            ValueError: the grid is unusable, the function did not return permutations, or an order
                that uses set sizes was given none that fit.
        """
        height, width = check_grid(grid)
        if self.uses_sizes:
            return self.draw_each(grid, [generator] * batch, sizes)
        if not self.per_image:
            return _shared(self, height, width).repeat(batch, 1)
        order = self.function(height, width, batch, generator)
        return _checked(self.name, order, (batch, height * width))

    def draw_each(
        self,
        grid: tuple[int, int],
        generators: Sequence[torch.Generator | None],
        sizes: Tensor | None = None,
    ) -> Tensor:
        """`draw` one image per generator; that of image i depends on ``generators[i]`` alone."""
        if not self.uses_sizes:
            return torch.cat([self.draw(grid, 1, generator) for generator in generators])
        height, width = check_grid(grid)
        batch, tokens = len(generators), height * width
        if sizes is None:
            raise ValueError(f"order {self.name!r} must be given the `sizes` of the sets")
        if sizes.dim() != 2 or len(sizes) not in (1, batch) or (sizes.sum(-1) != tokens).any():
            raise ValueError(
                f"`sizes` (of shape {list(sizes.shape)}) must be [{batch} or 1, sets] and sum to "
                f"{tokens} tokens"
            )
        own = sizes.expand(batch, -1).clone()  # the function may change it
        order = self.function(height, width, own, generators)
        return _checked(self.name, order, (batch, tokens))


ORDERS: Table[Order] = Table(
    "order",
    {
        "lpd": "setar.recipes.lpd:lpd",
        "lpd-wide": "setar.recipes.lpd:lpd_wide",
        "lpd-proximity": "setar.recipes.lpd:lpd_proximity",
        "lpd-repulsion": "setar.recipes.lpd:lpd_repulsion",
    },
    of=Order,
)
"""Every order by its name; one of a file of its own needs a line here."""


def register_order(
    name: str,
    *,
    per_image: bool = False,
    uses_sizes: bool = False,
    sizes: Callable[[int, int], Iterable[int]] | None = None,
) -> Callable[[_Function], _Function]:
    """Decorator: make a function usable as an order under `name` (lower-case words, hyphens).

    The function takes ``(height, width)`` and returns one permutation [N] that all images share;
    with `per_image` it takes ``(height, width, batch, generator)`` and returns [batch, N].

    With `uses_sizes` it takes ``(height, width, sizes, generators)`` and returns [batch, N], where
    row i of `sizes`, int64 [batch, sets], is how many tokens each set of image i holds (0: an empty
    set) and ``generators[i]`` (None: the global one) is all that its randomness may come from.

    With `sizes`, the bare name is a recipe too: the order split into ``sizes(height, width)``.

    Raises:
        ValueError: the name is malformed or belongs to another function.
    """

    if name in SHORT_NAMES:
        raise ValueError(f"order name {name!r} is short for {SHORT_NAMES[name]}")

    def register(function: _Function) -> _Function:
        ORDERS.add(name, Order(name, function, per_image or uses_sizes, uses_sizes, sizes))
        return function

    return register


def ranks(order: Tensor) -> Tensor:
    """Return int64 [..., N]: when each cell is output, counted from 0 (Figure 5)."""
    return order.argsort(dim=-1)


def check_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """Return ``(height, width)`` as ints; ValueError unless both are usable whole numbers."""
    try:
        height, width = map(as_whole, grid)
    except (TypeError, ValueError):
        raise ValueError(f"`grid` (={quoted(grid)}) must be a pair (height, width)") from None
    if height is None or width is None or min(height, width) < 1:
        raise ValueError(f"`grid` (={quoted(grid)}) must be two whole numbers of at least 1")
    if height * width > MAX_TOKENS:
        raise ValueError(f"`grid` (={quoted(grid)}) must not hold more than {MAX_TOKENS} tokens")
    return height, width


@lru_cache(maxsize=32)
def _shared(order: Order, height: int, width: int) -> Tensor:
    return _checked(order.name, order.function(height, width), (height * width,))


def _checked(name: str, order: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return `order` if it is int64 permutations of the right shape, else ValueError."""
    if not isinstance(order, Tensor) or order.dtype != torch.int64 or tuple(order.shape) != shape:
        found = f"{order.dtype} {list(order.shape)}" if isinstance(order, Tensor) else type(order)
        raise ValueError(f"order {name!r} must return int64 {list(shape)}, not {found}")
    order, tokens = order.cpu(), shape[-1]
    inside = bool(((order >= 0) & (order < tokens)).all())
    if not inside or not torch.zeros(shape, dtype=torch.bool).scatter_(-1, order, True).all():
        raise ValueError(
            f"order {name!r} must output each of the cells 0..{tokens - 1} exactly once"
        )
    return order


@register_order("raster")
def raster(height: int, width: int) -> Tensor:
    """Row by row from the top left, as one reads (Figure 5a)."""
    return torch.arange(height * width)


@register_order("reversed-raster")
def reversed_raster(height: int, width: int) -> Tensor:
    """Row by row from the bottom right (Figure 5b)."""
    return raster(height, width).flip(0)


@register_order("roll")
def roll(height: int, width: int) -> Tensor:
    """Spiral inward: down the left column, right, up, left, and so on (Figure 5c)."""
    rest = torch.arange(height * width).view(height, width)
    sides = []
    while rest.numel():
        sides += [rest[:, 0], rest[-1, 1:]]
        # Sliced so that a single column or row, already output, leaves nothing to go back along.
        sides += [rest[:-1, 1:][:, -1:].flatten().flip(0), rest[:-1, 1:-1][:1].flatten().flip(0)]
        rest = rest[1:-1, 1:-1]
    return torch.cat(sides)


@register_order("reversed-roll")
def reversed_roll(height: int, width: int) -> Tensor:
    """Spiral outward: `roll` backwards (Figure 5d)."""
    return roll(height, width).flip(0)


@register_order("fixed-random")
def fixed_random(height: int, width: int) -> Tensor:
    """One shuffle for all images, the same on every machine and whatever the global seed."""
    # Trained weights depend on it for ever; of all generators only Python's `random()` promises
    # never to change its sequence for a seed.
    source = Random(0)
    keys = torch.tensor([source.random() for _ in range(height * width)], dtype=torch.float64)
    return keys.argsort(stable=True)


@register_order("random", per_image=True)
def random(height: int, width: int, batch: int, generator: torch.Generator | None = None) -> Tensor:
    """A fresh shuffle for every image."""
    return torch.rand(batch, height * width, generator=generator, dtype=torch.float64).argsort(-1)


def next_scale_sizes(height: int, width: int) -> tuple[int, ...]:
    """Return how many tokens each scale adds: 1, 4, 16, 43 on 8x8; 1, 4, 16, 64, 171 on 16x16."""
    return tuple(len(cells) for cells in _next_scale_sets(height, width))


@register_order("next-scale", sizes=next_scale_sizes)
def next_scale(height: int, width: int) -> Tensor:
    """From coarse to fine: nested nearest-neighbour grids, then all other cells (Figure 3)."""
    return torch.cat(_next_scale_sets(height, width))


@lru_cache(maxsize=32)
def _next_scale_sets(height: int, width: int) -> tuple[Tensor, ...]:
    """Return the raster indices that each scale adds; scales that add none are left out.

    The longer side gets 1, 2, 4, ... cells while that is at most half of it, the shorter side as
    many in proportion, rounded up; the last set is everything else.
    """
    longer = max(height, width)
    free, sets = torch.ones(height * width, dtype=torch.bool), []
    powers = [2**power for power in range(longer.bit_length() - 1)]
    for cells in (*powers, longer):
        rows = centres(height, -(-height * cells // longer))
        columns = centres(width, -(-width * cells // longer))
        scale = (rows[:, None] * width + columns).flatten()
        sets.append(scale[free[scale]])
        free[scale] = False
    return tuple(scale for scale in sets if len(scale))


def centres(length: int, cells: int) -> Tensor:
    """Return int64 [cells]: floor((j + 0.5) * length / cells), centre-aligned nearest indices."""
    return (2 * torch.arange(cells) + 1) * length // (2 * cells)


@register_order("halton")
def halton(height: int, width: int) -> Tensor:
    """Spread evenly at every length: the 2-D Halton sequence, repeated cells left out.

    Point i = 1, 2, ... is the radical inverse of i in base 2 (rows) and base 3 (columns), in whole
    numbers and so exact (Besnier et al. 2025, "Halton Scheduler for Masked Generative Image
    Transformer", arXiv 2503.17076).
    """
    tokens = height * width
    unseen, start = 2**62, 1
    first = torch.full((tokens,), unseen)  # the point that is the first in each cell
    # It ends: any 2^a * 3^b points in a row visit every box of 2^-a by 3^-b, and boxes that are
    # small enough lie in every cell.
    while first.max() == unseen:
        index = torch.arange(start, start + 2 * tokens)
        cells = _radical_inverse(index, 2, height) * width + _radical_inverse(index, 3, width)
        first.scatter_reduce_(0, cells, index, "amin")
        start += 2 * tokens
    return first.argsort()


def _radical_inverse(index: Tensor, base: int, length: int) -> Tensor:
    """Return floor(length * x) where the digits of x after the point are those of `index`."""
    mirrored, scale = torch.zeros_like(index), 1
    while scale <= index[-1]:
        mirrored = mirrored * base + index // scale % base
        scale *= base
    return mirrored * length // scale


MOST_LOCAL = 2**14
"""Tokens of a grid with an order that looks at distances; ten seconds for one image."""


@register_order("locality", uses_sizes=True)
def locality(
    height: int, width: int, sizes: Tensor, generators: Sequence[torch.Generator | None]
) -> Tensor:
    """Next to what is known, but far from each other within a set.

    A set takes one cell after the other: the one with the highest proximity to the sets before,
    which is the sum of 1 / distance over its eight neighbours in them. That must be at least 1, and
    the cell must not be a neighbour of its own set's. Where no such cell is left, and in the first
    set, the cell farthest from its own set's comes next. Ties, and so the very first cell, are
    settled by each image's own shuffle.

    This is the schedule of Zhang et al. 2025, "Locality-aware Parallel Decoding for Efficient
    Autoregressive Image Generation", arXiv 2507.01957, where the first set is always one token.

    Raises:
        ValueError: more than 16384 tokens, since the time grows with their square.
    """
    tokens = height * width
    if tokens > MOST_LOCAL:
        raise ValueError(
            f"`grid` (={height}x{width}) must not hold more than {MOST_LOCAL} tokens with the "
            "order 'locality'"
        )
    ties = torch.cat([random(height, width, 1, generator) for generator in generators])
    row, column = torch.arange(tokens) // width, torch.arange(tokens) % width
    around, weights = neighbours(height, width)
    # Where sets begin; those that are empty at the end begin at N, behind the last token.
    begins = torch.zeros(len(sizes), tokens + 1, dtype=torch.bool)
    begins.scatter_(1, sizes.cumsum(dim=-1) - sizes, True)
    beyond = height**2 + width**2  # more than any squared distance of two cells
    nearest = torch.full_like(ties, beyond)  # squared distance to the set's own cells
    proximity = torch.zeros(len(ties), tokens + 1, dtype=torch.int64)  # the last is off the grid
    order, wanted = torch.empty_like(ties), torch.zeros_like(ties)  # the score where wanted, or 0
    for place in range(tokens):
        new = begins[:, place]  # images of which a set begins here
        nearest[new] = beyond
        close = proximity[new, :-1]
        wanted[new] = (beyond + close) * (close >= weights.max())
        score = torch.maximum(nearest, wanted * (nearest > 2))
        cell = torch.add(ties, score, alpha=tokens).argmax(dim=-1, keepdim=True)
        order[:, place] = cell[:, 0]
        ties.scatter_(1, cell, -(2**62))  # taken: below every other, whatever its score
        distance = (row - row[cell]) ** 2 + (column - column[cell]) ** 2
        nearest = torch.minimum(nearest, distance)
        proximity.scatter_add_(1, around[cell[:, 0]], weights.expand(len(ties), -1))
    return order


def neighbours(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return int64 [N, 9] and [9]: the cells around each (off the grid: N), and their proximity.

    Proximity is 1 / distance in whole numbers, 64 beside and 45 diagonally, which keep equal sums
    equal and their order as it is.
    """
    tokens, steps = height * width, torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))
    row = torch.arange(tokens)[:, None] // width + steps[:, 0]
    column = torch.arange(tokens)[:, None] % width + steps[:, 1]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    weights = torch.tensor([45, 64, 45, 64, 0, 64, 45, 64, 45])
    return torch.where(inside, row * width + column, tokens), weights
