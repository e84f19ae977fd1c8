"""Orders: in which sequence the cells of a token grid are output.

An order is a permutation of raster indices (``row * width + column``): entry ``j`` is the cell that
is output ``j``-th. Figure 5 of the paper prints the inverse, the rank of every cell (see `ranks`).

A new order is one decorated function::

    @register_order("columns")
    def columns(height, width):
        return torch.arange(height * width).view(height, width).T.flatten()
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Protocol, TypeVar

import torch
from torch import Tensor

MAX_TOKENS = 2**20
"""The largest number of tokens of a grid (1024 x 1024)."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*")


class _Registered(Protocol):
    @property
    def function(self) -> Callable: ...


_Entry = TypeVar("_Entry", bound=_Registered)
_Function = TypeVar("_Function", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Order:
    """A registered order; `draw` makes and checks its permutations."""

    name: str
    function: Callable[..., Tensor]
    per_image: bool
    """True: ``function(height, width, batch, generator)`` gives [batch, N], each image its own."""
    sizes: Callable[[int, int], Iterable[int]] | None
    """``sizes(height, width)``: the set sizes that come with the order, if any."""

    def draw(
        self, grid: tuple[int, int], batch: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return int64 [batch, N]: the raster indices in output order, a fresh tensor.

        Raises:
            ValueError: the grid is unusable, or the function did not return permutations.
        """
        height, width = check_grid(grid)
        if not self.per_image:
            return _shared(self, height, width).repeat(batch, 1)
        order = self.function(height, width, batch, generator)
        return _checked(self.name, order, (batch, height * width))


ORDERS: dict[str, Order] = {}
"""Every registered order by its name."""


def register_order(
    name: str,
    *,
    per_image: bool = False,
    sizes: Callable[[int, int], Iterable[int]] | None = None,
) -> Callable[[_Function], _Function]:
    """Decorator: make a function usable as an order under `name` (lower-case words, hyphens).

    The function takes ``(height, width)`` and returns one permutation [N] that all images share;
    with `per_image` it takes ``(height, width, batch, generator)`` and returns [batch, N]. With
    `sizes`, the bare name is a recipe too: the order split into ``sizes(height, width)``.

    Raises:
        ValueError: the name is malformed or belongs to another function.
    """

    def register(function: _Function) -> _Function:
        add_entry(ORDERS, "order", name, Order(name, function, per_image, sizes))
        return function

    return register


def find_order(name: str) -> Order:
    """Return the order called `name`; ValueError names the nearest one and lists all."""
    return find_entry(ORDERS, "order", name)


def ranks(order: Tensor) -> Tensor:
    """Return int64 [..., N]: when each cell is output, counted from 0 (Figure 5)."""
    return order.argsort(dim=-1)


def check_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """Return ``(height, width)`` as given; ValueError unless both are usable whole numbers."""
    try:
        height, width = grid
    except (TypeError, ValueError):
        raise ValueError(f"`grid` (={quoted(grid)}) must be a pair (height, width)") from None
    for side in (height, width):
        if not isinstance(side, int) or isinstance(side, bool) or side < 1:
            raise ValueError(f"`grid` (={quoted(grid)}) must be two whole numbers of at least 1")
    if height * width > MAX_TOKENS:
        raise ValueError(f"`grid` (={quoted(grid)}) must not hold more than {MAX_TOKENS} tokens")
    return height, width


def quoted(value: object, limit: int = 60) -> str:
    """Return `value` for an error message: printable ASCII on one line, cut after `limit`."""
    text = ascii(value[:limit] if isinstance(value, str) else value)
    cut = isinstance(value, str) and len(value) > limit
    return text[:limit] + "..." if cut or len(text) > limit else text


def add_entry(registry: dict[str, _Entry], kind: str, name: str, entry: _Entry) -> None:
    """Register `entry`; running the same definition again (a notebook cell) replaces it."""
    if not isinstance(name, str) or len(name) > 40 or not _NAME.fullmatch(name):
        raise ValueError(
            f"{kind} name {quoted(name)} must be lower-case words joined by hyphens, like my-order"
        )
    if name in registry and _home(registry[name]) != _home(entry):
        raise ValueError(f"{kind} {name!r} is already registered by {_home(registry[name])}")
    registry[name] = entry


def find_entry(registry: dict[str, _Entry], kind: str, name: str) -> _Entry:
    """Return ``registry[name]``; ValueError names the nearest entry and lists all."""
    if isinstance(name, str) and name in registry:
        return registry[name]
    raise ValueError(
        f"unknown {kind} {quoted(name)}{nearest(name, registry)}; {kind}s: {_listed(registry)}"
    )


def nearest(name: object, names: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the most similar of `names`, or nothing."""
    close = difflib.get_close_matches(str(name)[:60], list(names), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _home(entry: _Registered) -> str:
    function = entry.function
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"


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
    cells, scales = 1, []
    while 2 * cells <= longer:
        rows = centres(height, -(-height * cells // longer))
        columns = centres(width, -(-width * cells // longer))
        scales.append((rows[:, None] * width + columns).flatten())
        cells *= 2
    free = torch.ones(height * width, dtype=torch.bool)
    sets = []
    for scale in [*scales, torch.arange(height * width)]:
        sets.append(scale[free[scale]])
        free[scale] = False
    return tuple(cells for cells in sets if len(cells))


def centres(length: int, cells: int) -> Tensor:
    """Return int64 [cells]: floor((j + 0.5) * length / cells), centre-aligned nearest indices."""
    return (2 * torch.arange(cells) + 1) * length // (2 * cells)
