"""Schedules: how many tokens each set holds, given the number of tokens and of sets.

A new schedule is one decorated function::

    @register_schedule("first-alone")
    def first_alone(tokens, sets):
        return [1, *uniform(tokens - 1, sets - 1)]
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from setar.recipes.orders import add_entry, find_entry

Sizes = Sequence[int] | Tensor
_Function = TypeVar("_Function", bound=Callable[..., Sizes])


@dataclass(frozen=True)
class Schedule:
    """A registered schedule; `draw` makes and checks its set sizes."""

    name: str
    function: Callable[..., Sizes]
    per_image: bool
    """True: ``function(tokens, sets, batch, generator)`` gives each image its own [batch, sets]."""
    masked: bool
    """Masked modelling: two sets, loss on the second only, decoder self-attention unmasked."""

    def draw(
        self, tokens: int, sets: int, batch: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the set sizes, int64 [batch, sets], or [1, sets] where all images share them.

        Raises:
            ValueError: more sets than tokens, or the function's sizes do not sum to `tokens`.
        """
        if not 1 <= sets <= tokens:
            raise ValueError(f"`sets` (={sets}) must be from 1 to the number of tokens (={tokens})")
        if not self.per_image:
            return _shared(self, tokens, sets)
        return _checked(
            self.name, self.function(tokens, sets, batch, generator), tokens, (batch, sets)
        )


SCHEDULES: dict[str, Schedule] = {}
"""Every registered schedule by its name."""

RESERVED = ("explicit", "own")
"""Schedule names with a meaning in `Recipe`: sizes written out, and sizes that the order brings."""


def register_schedule(
    name: str, *, per_image: bool = False, masked: bool = False
) -> Callable[[_Function], _Function]:
    """Decorator: make a function usable as a schedule under `name` (lower-case words, hyphens).

    The function takes ``(tokens, sets)`` and returns `sets` sizes that sum to `tokens`; with
    `per_image` it takes ``(tokens, sets, batch, generator)`` and returns int64 [batch, sets]. A
    size may be 0: that set is empty and costs nothing. `masked` says that the schedule is for
    masked modelling: two sets, loss on the second only, decoder self-attention unmasked.

    Raises:
        ValueError: the name is malformed, reserved or belongs to another function.
    """

    def register(function: _Function) -> _Function:
        if name in RESERVED:
            raise ValueError(f"schedule name {name!r} is reserved")
        add_entry(SCHEDULES, "schedule", name, Schedule(name, function, per_image, masked))
        return function

    return register


def find_schedule(name: str) -> Schedule:
    """Return the schedule called `name`; ValueError names the nearest one and lists all."""
    return find_entry(SCHEDULES, "schedule", name)


@lru_cache(maxsize=32)
def _shared(schedule: Schedule, tokens: int, sets: int) -> Tensor:
    sizes = torch.as_tensor(schedule.function(tokens, sets))[None]
    return _checked(schedule.name, sizes, tokens, (1, sets))


def _checked(name: str, sizes: Sizes, tokens: int, shape: tuple[int, int]) -> Tensor:
    """Return `sizes` if they are int64 of `shape` and sum to `tokens`, else ValueError."""
    if not isinstance(sizes, Tensor) or sizes.dtype != torch.int64 or tuple(sizes.shape) != shape:
        found = f"{sizes.dtype} {list(sizes.shape)}" if isinstance(sizes, Tensor) else type(sizes)
        raise ValueError(f"schedule {name!r} must return int64 {list(shape)}, not {found}")
    sizes = sizes.cpu()
    if (sizes < 0).any() or (sizes.sum(-1) != tokens).any():
        raise ValueError(f"schedule {name!r} must return sizes of at least 0 that sum to {tokens}")
    return sizes


@register_schedule("cosine")
def cosine(tokens: int, sets: int) -> list[int]:
    """Few tokens first, many last; every set holds at least one (section 4.2).

    After step i of K, floor(N cos(pi/2 * i/K)) tokens are still unknown, clamped so that each step
    outputs a token and leaves one for each step to come. K = N gives all ones.
    """
    unknown = [tokens]
    for step in range(1, sets + 1):
        wanted = math.floor(tokens * math.cos(math.pi / 2 * step / sets))
        unknown.append(max(sets - step, min(wanted, unknown[-1] - 1)))
    unknown[-1] = 0
    return [before - after for before, after in pairwise(unknown)]


@register_schedule("uniform")
def uniform(tokens: int, sets: int) -> list[int]:
    """As even as possible, the larger sets last."""
    size, larger = divmod(tokens, sets)
    return [size] * (sets - larger) + [size + 1] * larger


@register_schedule("random", per_image=True)
def random(
    tokens: int, sets: int, batch: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Split at sets - 1 whole numbers, each drawn evenly from 0..tokens (section 4.2).

    Equal ones, 0 and `tokens` leave a set empty.
    """
    cuts = torch.randint(0, tokens + 1, (batch, sets - 1), generator=generator).sort(dim=-1).values
    first, last = torch.zeros(batch, 1).long(), torch.full((batch, 1), tokens)
    return torch.cat([first, cuts, last], dim=-1).diff(dim=-1)


@register_schedule("masked", per_image=True, masked=True)
def masked(
    tokens: int, sets: int, batch: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Mask most tokens of an image, as MAR is trained: sizes [batch, 2], known then masked.

    The masked fraction is normal with mean 1 and deviation 0.25, truncated to [0.7, 1.0], and the
    number of masked tokens is rounded up. MAR draws one fraction per batch; here each image has its
    own.
    """
    if sets != 2:
        raise ValueError(f"`sets` (={sets}) must be 2 with the schedule 'masked'")
    uniform_draw = torch.rand(batch, generator=generator, dtype=torch.float64)
    lowest = torch.special.ndtr(torch.tensor((0.7 - 1.0) / 0.25, dtype=torch.float64))
    fraction = 1.0 + 0.25 * torch.special.ndtri(lowest + uniform_draw * (0.5 - lowest))
    hidden = (tokens * fraction).ceil().long().clamp(1, tokens)
    return torch.stack([tokens - hidden, hidden], dim=-1)
