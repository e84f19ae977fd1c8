"""Schedules: how many tokens each set holds, given the number of tokens and of sets.

uniform                     as even as possible
cosine, arccos              few tokens first, many last; arccos rises later and more steeply
randar                      RandAR's cosine: a single token first
lpd                         one token first, then as cosine: LPD's own (`setar.recipes.lpd`)
random                      split at random places
masked                      MAR's training: two sets, loss on the second, decoder unmasked
masked-causal, masked-both  its ablations (table 6): a causal decoder; that, and loss on both sets

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

from setar.registry import Table

Sizes = Sequence[int] | Tensor
_Function = TypeVar("_Function", bound=Callable[..., Sizes])


@dataclass(frozen=True)
class Schedule:
    """A registered schedule; `draw` makes and checks its set sizes."""

    name: str
    function: Callable[..., Sizes]
    per_image: bool
    """True: ``function(tokens, sets, batch, generator)`` gives each image its own [batch, sets]."""
    masking: bool
    """True: masked modelling, which takes two sets and is for training only."""
    first_supervised: bool
    """False: the loss of the first set is left out."""
    decoder_causal: bool
    """False: the decoder's self-attention is unmasked."""

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
            return _shared(self, tokens, sets).clone()
        sizes = self.function(tokens, sets, batch, generator)
        return _checked(self.name, sizes, tokens, (batch, sets))


SCHEDULES: Table[Schedule] = Table("schedule", {"lpd": "setar.recipes.lpd:lpd_sizes"}, of=Schedule)
"""Every schedule by its name; one of a file of its own needs a line here."""

RESERVED = ("explicit", "own")
"""Schedule names with a meaning in `Recipe`: sizes written out, and sizes that the order brings."""


def register_schedule(
    name: str,
    *,
    per_image: bool = False,
    masking: bool = False,
    first_supervised: bool = True,
    decoder_causal: bool = True,
) -> Callable[[_Function], _Function]:
    """Decorator: make a function usable as a schedule under `name` (lower-case words, hyphens).

    The function takes ``(tokens, sets)`` and returns `sets` sizes that sum to `tokens`; with
    `per_image` it takes ``(tokens, sets, batch, generator)`` and returns int64 [batch, sets]. A
    size may be 0: that set is empty and costs nothing.

    A schedule for `masking` takes two sets and is for training only. Independently of that and of
    each other, ``first_supervised=False`` leaves the loss of the first set out and
    ``decoder_causal=False`` unmasks the decoder's self-attention.

    Raises:
        ValueError: the name is malformed, reserved or belongs to another function.
    """

    def register(function: _Function) -> _Function:
        if name in RESERVED:
            raise ValueError(f"schedule name {name!r} is reserved")
        flags = (per_image, masking, first_supervised, decoder_causal)
        SCHEDULES.add(name, Schedule(name, function, *flags))
        return function

    return register


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
    return _falling(tokens, [math.cos(math.pi / 2 * step / sets) for step in range(1, sets + 1)])


@register_schedule("arccos")
def arccos(tokens: int, sets: int) -> list[int]:
    """Almost even at first, very many tokens last; every set holds at least one.

    As `cosine`, with floor(N acos(i/K) / (pi/2)) tokens unknown after step i of K: the schedule of
    Besnier et al. 2025 (arXiv 2503.17076) for the order `halton`, and the one of ARPG's code
    (arXiv 2503.10568), as `cosine` is the other one of it.
    """
    return _falling(tokens, [math.acos(step / sets) / (math.pi / 2) for step in range(1, sets + 1)])


@register_schedule("randar")
def randar(tokens: int, sets: int) -> list[int]:
    """Cosine with a single token first, as RandAR's own sampling counts.

    After step i of K, from the second on, int((1 - cos(pi/2 * i/K)) N + 1) tokens are known, at
    least one more than before and at most N. One set is all tokens; RandAR's code makes two then.
    """
    known = [0, 1] if sets > 1 else [0]
    for step in range(len(known), sets + 1):
        counted = int((1.0 - math.cos(math.pi / 2.0 * step / sets)) * tokens + 1)
        known.append(max(known[-1] + 1, min(counted, tokens)))
    return [after - before for before, after in pairwise(known)]


def _falling(tokens: int, fractions: list[float]) -> list[int]:
    """Return the set sizes after which about these falling `fractions` of all tokens are unknown.

    Their numbers are rounded down, and clamped so that each step outputs a token and leaves one for
    each step to come.
    """
    unknown, still = [tokens], len(fractions)
    for fraction in fractions:
        still -= 1
        unknown.append(max(still, min(math.floor(tokens * fraction), unknown[-1] - 1)))
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


@register_schedule("masked-both", per_image=True, masking=True)
@register_schedule("masked-causal", per_image=True, masking=True, first_supervised=False)
@register_schedule(
    "masked", per_image=True, masking=True, first_supervised=False, decoder_causal=False
)
def masked(
    tokens: int, sets: int, batch: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Mask most tokens of an image, as MAR is trained: sizes [batch, 2], known then masked.

    The masked fraction is normal with mean 1 and deviation 0.25, truncated to [0.7, 1.0], and the
    number of masked tokens is rounded up. MAR draws one fraction per batch; here each image has its
    own. Table 6 ablates it: `masked` is row 3, `masked-causal` row 1 and `masked-both` row 2.
    """
    if sets != 2:
        raise ValueError(f"`sets` (={sets}) must be 2 with a masked schedule")
    uniform_draw = torch.rand(batch, generator=generator, dtype=torch.float64)
    lowest = torch.special.ndtr(torch.tensor((0.7 - 1.0) / 0.25, dtype=torch.float64))
    fraction = 1.0 + 0.25 * torch.special.ndtri(lowest + uniform_draw * (0.5 - lowest))
    hidden = (tokens * fraction).ceil().long().clamp(1, tokens)
    return torch.stack([tokens - hidden, hidden], dim=-1)
