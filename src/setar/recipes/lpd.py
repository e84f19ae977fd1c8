"""LPD's orders and set sizes (Zhang et al. 2025, arXiv 2507.01957).

"Locality-aware Parallel Decoding for Efficient Autoregressive Image Generation" splits an image so
that each set lies next to what is known (proximity), its members far from each other (repulsion).
Both can be switched off:

random           neither (in `setar.recipes.orders`)
lpd-proximity    the nearest to what is known, however close to each other
lpd-repulsion    the farthest from each other, wherever they are
lpd              both: the method, as published
lpd-wide         both, members one cell farther apart (published for the XXL model in 20 steps)

A set takes one cell after the other. Proximity to the sets before is the sum of 1 / distance over a
cell's eight neighbours in them.

1. The cell of the highest proximity, of at least 1, whose row or column is more than `reach` away
   from that of every cell of its own set. Ties are settled by a shuffle, fresh for each set.
2. Where no such cell is left, the cell farthest from its own set's. Of ties the one comes first
   whose proximity is below 1, then that of the higher proximity, then the shuffle decides. The last
   set takes what is left in the order of these ties.

The very first cell is any. `locality` is the same with a reach of 1 on any grid, one shuffle per
image, and ties of 2 settled by it alone.

The sizes that belong to them are the schedule of this name: ``lpd-20-lpd`` is the published recipe
for 16x16 tokens, ``lpd-48-lpd`` for 32x32.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from setar.recipes.orders import MOST_LOCAL, neighbours, register_order
from setar.recipes.schedules import register_schedule

Generators = Sequence[torch.Generator | None]


@register_order("lpd", uses_sizes=True)
def lpd(height: int, width: int, sizes: Tensor, generators: Generators) -> Tensor:
    """Next to what is known, far from each other within a set: LPD's order, as published.

    The reach is an eighth of the shorter side, at least 1: 2 on 16x16 and 4 on 32x32, which are the
    published ones. ValueError: more than 16384 tokens, since the time grows with their square.
    """
    return _draw("lpd", height, width, sizes, generators, _reach(height, width))


@register_order("lpd-wide", uses_sizes=True)
def lpd_wide(height: int, width: int, sizes: Tensor, generators: Generators) -> Tensor:
    """LPD's order with a reach that is one cell longer: 3 on 16x16."""
    return _draw("lpd-wide", height, width, sizes, generators, _reach(height, width) + 1)


@register_order("lpd-proximity", uses_sizes=True)
def lpd_proximity(height: int, width: int, sizes: Tensor, generators: Generators) -> Tensor:
    """LPD's order without repulsion: members of a set may be neighbours."""
    return _draw("lpd-proximity", height, width, sizes, generators, -1)


@register_order("lpd-repulsion", uses_sizes=True)
def lpd_repulsion(height: int, width: int, sizes: Tensor, generators: Generators) -> Tensor:
    """LPD's order without proximity: a random first member, then the farthest ones."""
    return _draw("lpd-repulsion", height, width, sizes, generators, 0, near_first=False)


def _reach(height: int, width: int) -> int:
    return max(1, min(height, width) // 8)


def _draw(
    name: str,
    height: int,
    width: int,
    sizes: Tensor,
    generators: Generators,
    reach: int,
    near_first: bool = True,
) -> Tensor:
    """Return int64 [B, N], as the head of this file says; without `near_first` by rule 2 alone."""
    tokens = height * width
    if tokens > MOST_LOCAL:
        raise ValueError(
            f"`grid` (={height}x{width}) must not hold more than {MOST_LOCAL} tokens with the "
            f"order {name!r}"
        )
    row, column = torch.arange(tokens) // width, torch.arange(tokens) % width
    around, weights = neighbours(height, width)
    # Where sets begin; those that are empty at the end begin at N, behind the last token.
    begins = torch.zeros(len(sizes), tokens + 1, dtype=torch.bool)
    begins.scatter_(1, sizes.cumsum(dim=-1) - sizes, True)
    later = begins[:, 1:-1].flip(1).cumsum(1).flip(1)  # sets that begin behind each place
    final = F.pad(later == 0, (0, 1), value=True)
    beyond = height**2 + width**2  # more than any squared distance of two cells
    shape = len(sizes), tokens
    nearest = torch.full(shape, beyond)  # squared distance to the set's own cells
    proximity = torch.zeros(len(sizes), tokens + 1, dtype=torch.int64)  # the last: off the grid
    shuffle, tie, order = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    wanted, taken = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    images = torch.arange(len(sizes))
    for place in range(tokens):
        new = begins[:, place]  # images of which a set begins here
        for image in new.nonzero()[:, 0].tolist():
            shuffle[image] = torch.randperm(tokens, generator=generators[image])
        close = proximity[new, :-1]
        near = (close >= weights.max()) & near_first
        nearest[new], wanted[new], tie[new] = beyond, near, close + _MOST * ~near
        value = nearest * ~(final[:, place])[:, None]
        value = torch.where(wanted, beyond + 1, value)
        # Where a set has no cell yet and rule 2 begins, any cell may be the first.
        any_cell = new & ~wanted.any(1) & ~final[:, place]
        score = (value * 2 * _MOST + tie * ~any_cell[:, None]) * tokens + shuffle
        cell = score.masked_fill_(taken, -1).argmax(dim=-1)
        order[:, place] = cell
        taken[images, cell] = True
        down, across = (row - row[cell, None]).abs(), (column - column[cell, None]).abs()
        nearest = torch.minimum(nearest, down**2 + across**2)
        wanted &= torch.maximum(down, across) > reach
        proximity.scatter_add_(1, around[cell], weights.expand(len(sizes), -1))
    return order


_MOST = 512
"""Above the highest proximity, of 4 x 64 + 4 x 45."""


@register_schedule("lpd")
def lpd_sizes(tokens: int, sets: int) -> list[int]:
    """LPD's set sizes: one token, then about N (cos(pi/2 (i-1)/K) - cos(pi/2 i/K)) in set i of K.

    Each is rounded to the nearest whole number, at least 1. What that is too much in sum is taken
    from the first sets of the largest size; what is missing is added to the last. These are the
    sizes that LPD's models are published with: 1, 2, 4, 5, 7, ..., 20, 20, 20 for 256 tokens in 20
    sets. In some others of its tables (``group_sizes_lookup.json``) the sum is mended elsewhere,
    which `MENDED` knows.
    """
    left = [math.cos(math.pi / 2 * step / sets) for step in range(sets + 1)]
    shares = [tokens * (before - after) for before, after in pairwise(left)]
    sizes = [1, *(max(1, round(share)) for share in shares[1:])]
    for place, change in MENDED.get((tokens, sets), {}).items():
        sizes[place] += change
    excess = sum(sizes) - tokens
    sizes[-1] += max(0, -excess)
    while excess > 0:
        largest = max(sizes)
        for place, size in enumerate(sizes):
            if size == largest and excess > 0:
                sizes[place] -= 1
                excess -= 1
    return sizes


MENDED = {
    (256, 8): {4: 1, 5: 1, 6: 1},
    (256, 24): dict.fromkeys((16, 18, 21), -1),
    (1024, 56): dict.fromkeys((46, 52), -1),
    (1024, 64): dict.fromkeys((49, 55), -1),
    (1024, 80): dict.fromkeys((54, 60, 67), -1),
    (1024, 96): dict.fromkeys((46, 51, 57, 64, 72, 85), -1),
    (1024, 128): dict.fromkeys((94, 120), -1),
    (1024, 160): dict.fromkeys((47, 59, 72, 86, 103, 126), -1),
    (1024, 224): dict.fromkeys((30, 31, 51, 52, 73, 97, 124, 161), -1),
    (1024, 256): dict.fromkeys((96, 97, 130, 131, 174, 175), -1),
}
"""By tokens and sets: which sets of LPD's own tables are not the nearest whole numbers."""
