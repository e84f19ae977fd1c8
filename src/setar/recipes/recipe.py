"""Recipes: an order, a schedule and a number of sets, written as in the paper (section 4.2).

random-16-random            order-sets-schedule
raster-N-uniform            N: as many sets as the grid has tokens
raster-1,2,1                order-sizes, the set sizes written out (one set of four: raster-4,)
next-scale                  an order that brings its own set sizes
orders.json-20-lpd          the orders that a file lists, of any path
ar, mar                     short for raster-N-uniform and random-2-masked
random-2-masked-causal      MAR's ablations (table 6), for training only; random-2-masked-both

The orders are listed in `setar.recipes.orders`, the schedules in `setar.recipes.schedules`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from setar.numbers import as_whole
from setar.recipes.listed import ENDING, find_order
from setar.recipes.orders import MAX_TOKENS, ORDERS, SHORT_NAMES, check_grid
from setar.recipes.schedules import RESERVED, SCHEDULES, Schedule
from setar.registry import did_you_mean, quoted

MAX_TEXT = 4096
"""The longest recipe text, in characters."""

_EXAMPLE = "such as random-16-random, raster-N-uniform or raster-1,2,1"
_FORM = f"write order-sets-schedule or order-sizes, {_EXAMPLE}"
_NUMBER_RULE = f"must be a whole number from 1 to {MAX_TOKENS}, no leading zeros"


@dataclass(frozen=True, eq=False)
class SetPlan:
    """Which token of each image is output when. B images of N = height * width tokens."""

    grid: tuple[int, int]
    """(height, width) in tokens."""
    order: Tensor
    """int64 [B, N]: raster index of the j-th output."""
    known: Tensor
    """int64 [B, N]: the clock at which the j-th output becomes known, never decreasing along j."""
    supervised: Tensor
    """bool [B, N]: whether the loss of the j-th output counts."""
    decoder_causal: bool = True
    """False: the decoder's self-attention is unmasked (MAR training, section 4.4)."""
    grids: Tensor | None = None
    """int64 [B, 2]: (height, width) of each image, where they differ (`setar.recipes.padding`);
    None: all are `grid`."""

    def __post_init__(self) -> None:
        height, width = self.grid
        assert self.order.shape[1:] == (height * width,)
        assert self.order.shape == self.known.shape == self.supervised.shape

    @property
    def columns(self) -> Tensor:
        """int64 [B or 1, 1]: the width of each image in tokens."""
        if self.grids is not None:
            return self.grids[:, 1:]
        return torch.tensor([[self.grid[1]]], device=self.order.device)

    @property
    def asks(self) -> Tensor:
        """int64 [B, N]: the clock at which the query for the j-th output asks, known - 1."""
        return self.known - 1

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the sets that hold tokens; ValueError if the images' sets differ."""
        if (self.known != self.known[:1]).any():
            raise ValueError(
                "the images of this plan have different set sizes: use `sampling_plan`"
            )
        return tuple(torch.unique_consecutive(self.known[0], return_counts=True)[1].tolist())

    @property
    def steps(self) -> int:
        """The number of sets that hold tokens; ValueError if the images' sets differ."""
        return len(self.sizes)

    @cached_property
    def one_by_one(self) -> bool:
        """Whether no set holds two tokens, in any image."""
        return bool((self.known.diff() > 0).all())

    def slices(self) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of each set along j; ValueError if the images' sets differ."""
        start = 0
        for size in self.sizes:
            yield start, start + size
            start += size

    def to(self, device: torch.device | str) -> "SetPlan":
        """Return the plan with its tensors on `device`."""
        moved = self._each(lambda tensor: tensor.to(device))
        vars(moved)["one_by_one"] = self.one_by_one  # a look there would have to wait for it
        return moved

    def rows(self, rows: slice | Tensor) -> "SetPlan":
        """Return the plan of some of its images: a slice, or a bool mask [B]."""
        return self._each(lambda tensor: tensor[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "SetPlan":
        tensors = {"order": self.order, "known": self.known, "supervised": self.supervised}
        if self.grids is not None:
            tensors["grids"] = self.grids
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class Recipe:
    """What is generated when, on any grid; ValueError for names or numbers it cannot use."""

    order: str
    """Name of a registered order, or the path of a file of orders (`setar.recipes.listed`)."""
    schedule: str
    """Name of a registered schedule, ``"explicit"`` (see `sizes`) or ``"own"`` (the order's)."""
    sets: int | None = None
    """Number of sets; None is N, as many as tokens. None too where the schedule takes no number."""
    sizes: tuple[int, ...] | None = None
    """The set sizes of the schedule ``"explicit"``, each at least 1."""

    def __post_init__(self) -> None:
        order = find_order(self.order)
        if (self.schedule == "explicit") != (self.sizes is not None):
            raise ValueError("`sizes` must be given with the schedule 'explicit', and only then")
        if self.schedule == "own" and order.sizes is None:
            raise ValueError(f"order {order.name!r} has no set sizes of its own: {_FORM}")
        if self.schedule not in RESERVED:
            masking = SCHEDULES.find(self.schedule).masking
            if self.sets is not None:
                _check_number("sets", self.sets)
            if masking and self.sets != 2:
                sets = "N" if self.sets is None else self.sets
                raise ValueError(f"`sets` (={sets}) must be 2 with the schedule {self.schedule!r}")
        elif self.sets is not None:
            raise ValueError(
                f"`sets` (={quoted(self.sets)}) has no use with {self.schedule!r} sizes"
            )
        elif self.sizes is not None:
            if not isinstance(self.sizes, tuple) or not self.sizes:
                raise ValueError(
                    f"`sizes` (={quoted(self.sizes)}) must be a tuple of at least one set size"
                )
            for size in self.sizes:
                _check_number("sizes", size)
            if len(str(self)) > MAX_TEXT:
                raise ValueError(f"a recipe must not be longer than {MAX_TEXT} characters")

    def __str__(self) -> str:
        if self.schedule == "own":
            return self.order
        if self.sizes is not None:
            listed = ",".join(map(str, self.sizes))
            return f"{self.order}-{listed}" + ("," if len(self.sizes) == 1 else "")
        return f"{self.order}-{'N' if self.sets is None else self.sets}-{self.schedule}"

    @classmethod
    def parse(cls, text: str) -> "Recipe":
        """Read a recipe in the notation of this module; ``str(recipe)`` writes it back.

        Raises:
            ValueError: one line with the rule that `text` breaks.
        """
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
            raise ValueError(f"recipe {quoted(text)} must be text of 1 to {MAX_TEXT} characters")
        order, number, schedule = _split(SHORT_NAMES.get(text, text))
        if not order or not number:
            if text in ORDERS:
                return cls(text, "own")
            own = [name for name in ORDERS if ORDERS.find(name).sizes is not None]
            names = [*SHORT_NAMES, *own]
            raise ValueError(
                f"unknown recipe {quoted(text)} ({did_you_mean(text, names)}): {_FORM}"
            )
        if not schedule:
            return cls(order, "explicit", sizes=_parse_sizes(text, number))
        if "," in number:
            raise ValueError(f"recipe {quoted(text)} must end after its set sizes, {_EXAMPLE}")
        return cls(order, schedule, None if number == "N" else _parse_number("sets", number))

    @classmethod
    def from_table(cls, value: Any, where: str) -> "Recipe":
        """The recipe that a config writes as text; ValueError, saying ``where``, if it is wrong."""
        try:
            return cls.parse(value)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def to_table(self) -> str:
        """The inverse of `from_table`."""
        return str(self)

    def set_count(self, grid: tuple[int, int]) -> int:
        """Return the number of sets on `grid` = (height, width), empty ones included.

        Raises:
            ValueError: the grid is unusable or does not fit the recipe.
        """
        height, width = check_grid(grid)
        sizes = self._fixed_sizes(height, width)
        if sizes is not None:
            return len(sizes)
        sets = height * width if self.sets is None else self.sets
        if sets > height * width:
            raise ValueError(f"`sets` (={sets}) must not exceed {_tokens_of(height, width)}")
        return sets

    def plan(
        self,
        grid: tuple[int, int],
        batch: int = 1,
        generator: torch.Generator | None = None,
    ) -> SetPlan:
        """Plan `batch` images of `grid` = (height, width) for training, on the CPU.

        Random orders and schedules are drawn per image from `generator`, on the CPU too (None: the
        global one). Sets may be empty with a random schedule; then clocks skip their number.

        Raises:
            ValueError: the grid, batch or generator is unusable or does not fit the recipe.
        """
        grid = check_grid(grid)
        _check_number("batch", batch)
        _check_generator(generator)
        with torch.device("cpu"):  # whatever default the caller has set
            sizes = self._draw_sizes(grid, int(batch), generator)
            order = find_order(self.order).draw(grid, int(batch), generator, sizes)
            return self._planned(grid, order, sizes)

    def sampling_plan(
        self,
        grid: tuple[int, int],
        generators: Sequence[torch.Generator],
        schedule_generator: torch.Generator | None = None,
    ) -> SetPlan:
        """Plan one image per generator for sampling, on the CPU.

        All images share their set sizes, drawn from `schedule_generator` where they are random, and
        empty sets are left out. The order of image i depends on these and ``generators[i]`` alone.

        Raises:
            ValueError: the grid or a generator is unusable or does not fit the recipe.
        """
        grid = check_grid(grid)
        _check_number("generators", len(generators))
        if self._registered is not None and self._registered.masking:
            raise ValueError(
                f"recipe {str(self)!r} is for training; sample a masked model with full attention "
                "and a recipe such as random-64-cosine"
            )
        for generator in (schedule_generator, *generators):
            _check_generator(generator)
        with torch.device("cpu"):  # whatever default the caller has set
            sizes = self._draw_sizes(grid, 1, schedule_generator)
            sizes = sizes[sizes > 0][None]
            order = find_order(self.order).draw_each(grid, generators, sizes)
            return self._planned(grid, order, sizes)

    @property
    def _registered(self) -> Schedule | None:
        """The registered schedule, or None where the sizes are written out or the order's own."""
        return None if self.schedule in RESERVED else SCHEDULES.find(self.schedule)

    def _planned(self, grid: tuple[int, int], order: Tensor, sizes: Tensor) -> SetPlan:
        """Return the plan of `order` [B, N] split into `sizes` [B or 1, sets]."""
        schedule, ends = self._registered, sizes.cumsum(dim=-1)
        ending = torch.zeros(len(ends), order.shape[1] + 1, dtype=torch.int64)
        ending.scatter_add_(1, ends, torch.ones_like(ends))
        known = 1 + ending.cumsum(dim=-1)[:, :-1]  # 1 + the number of sets that have ended
        known = known.expand_as(order).contiguous()
        supervised = known > 1 if schedule and not schedule.first_supervised else known > 0
        return SetPlan(grid, order, known, supervised, not schedule or schedule.decoder_causal)

    def _fixed_sizes(self, height: int, width: int) -> tuple[int, ...] | None:
        """Return the set sizes that are written out or the order's own; None with a schedule."""
        tokens = _tokens_of(height, width)
        if self.sizes is not None and sum(self.sizes) != height * width:
            raise ValueError(f"`sizes` sum to {sum(self.sizes)} but must sum to {tokens}")
        if self.schedule != "own":
            return self.sizes
        own = find_order(self.order).sizes
        assert own is not None
        sizes = tuple(own(height, width))
        if min(sizes, default=0) < 1 or sum(sizes) != height * width:
            raise ValueError(
                f"the own sizes of order {self.order!r} must be at least 1 and sum to {tokens}"
            )
        return sizes

    def _draw_sizes(
        self, grid: tuple[int, int], batch: int, generator: torch.Generator | None
    ) -> Tensor:
        """Return set sizes, int64 [batch, sets], or [1, sets] where all images share them."""
        height, width = grid
        sizes = self._fixed_sizes(height, width)
        if sizes is not None:
            return torch.tensor([sizes])
        sets = self.set_count(grid)
        return SCHEDULES.find(self.schedule).draw(height * width, sets, batch, generator)


def _tokens_of(height: int, width: int) -> str:
    article = "an" if str(height)[0] == "8" or height in (11, 18) else "a"
    return f"the {height * width} tokens of {article} {height}x{width} grid"


def _split(text: str) -> tuple[str, str, str]:
    """Split order-number-schedule at the first part that is N or looks like numbers.

    If the order is a file, at the first one behind its name.
    """
    file, ending, rest = text.rpartition(f"{ENDING}-")
    parts = re.split("(?<!-)-", rest)  # a second hyphen is the sign of a negative number
    for index, part in enumerate(parts):
        if re.fullmatch(r"N|[-+.,\d]+", part):
            order = "-".join(parts[:index])
            return f"{file}{ending}{order}".removesuffix("-"), part, "-".join(parts[index + 1 :])
    return text, "", ""


def _parse_sizes(text: str, listed: str) -> tuple[int, ...]:
    """Read ``1,2,1`` or, for a single set, ``4,``."""
    if "," not in listed:
        raise ValueError(
            f"recipe {quoted(text)} must name its schedule (as in raster-16-cosine); "
            "sizes written out have a comma (raster-1,2,1, or raster-4, for one set)"
        )
    sizes = listed.split(",")
    if len(sizes) == 2 and not sizes[1]:
        sizes.pop()
    return tuple(_parse_number("sizes", size) for size in sizes)


def _parse_number(name: str, digits: str) -> int:
    """Read a whole number without leading zeros; its length is checked before it is converted."""
    if not re.fullmatch("[1-9][0-9]{0,6}", digits):
        raise ValueError(f"`{name}` (={quoted(digits)}) {_NUMBER_RULE}")
    return int(digits)


def _check_number(name: str, value: Any) -> None:
    number = as_whole(value)
    if number is None or not 1 <= number <= MAX_TOKENS:
        raise ValueError(f"`{name}` (={quoted(value)}) {_NUMBER_RULE}")


def _check_generator(generator: torch.Generator | None) -> None:
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(
            f"`generator` (on {generator.device}) must be on the CPU, where plans are drawn; "
            "move the plan with `plan.to(device)`"
        )
