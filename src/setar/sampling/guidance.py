"""Classifier-free guidance: how far to move from "no condition" towards it, step by step.

Logits are u + s (c - u), conditional c and unconditional u, with a scale s that may change while
the image fills (Ho and Salimans 2022; the schedules are those of public autoregressive models).

constant       the scale, all the time
linear         rises from 1 with the share of tokens done before a step (RandAR)
linear-after   the same with the share done after it (MAR, ARPG)
linear-token   as linear, for each token of a step anew: those before it in the step count (LPD)
power-cosine   stays low and rises late
var            counts sets: VAR's (1 + t) c - t u with t from 0 at the first to the scale at the
               last, so that its 1.5 rises from 1 to 2.5; 0 is the plain model

A new schedule is one decorated function::

    @register_guidance("late")
    def late(guidance, at):
        return guidance.scale if at.done > at.total / 2 else 1.0
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from setar.numbers import as_real
from setar.registry import Table, quoted


class Progress(NamedTuple):
    """How far an image is before a step."""

    done: int
    """Tokens that are there."""
    size: int
    """Tokens that the step makes."""
    total: int
    """Tokens of the image."""
    step: int
    """1 .. ``steps``."""
    steps: int


class GuidanceSchedule(NamedTuple):
    """A registered schedule."""

    function: "Callable[[Guidance, Progress], float]"
    """The scale s of a step."""
    off: float
    """The `Guidance.scale` that means the plain conditional model at every step."""
    each_token: bool = False
    """Whether each token of a step is asked for by itself, as a step of one token."""


GUIDANCE: Table[GuidanceSchedule] = Table("guidance schedule", of=GuidanceSchedule)
"""Every guidance schedule by its name; one of a file of its own needs a line here."""

_Function = TypeVar("_Function", bound="Callable[[Guidance, Progress], float]")


def register_guidance(
    name: str, off: float = 1.0, each_token: bool = False
) -> Callable[[_Function], _Function]:
    """Decorator: make ``function(guidance, progress)``, which returns s, a guidance schedule.

    With the scale ``off`` it must return 1 at every step: the unconditional pass is then skipped.
    With ``each_token`` it is asked for every token of a step, each as a step of one token behind
    those before it, and the tokens of a step have scales of their own.
    ValueError if the name is malformed or belongs to another function.
    """

    def register(function: _Function) -> _Function:
        GUIDANCE.add(name, GuidanceSchedule(function, off, each_token))
        return function

    return register


@dataclass(frozen=True)
class Guidance:
    """A scale and how it changes while an image fills."""

    scale: float = 2.0
    """1 is the plain conditional model and skips the unconditional pass; 0 ignores the condition.
    With the schedule ``var`` it is VAR's own number, and 0 is the plain model."""
    schedule: str = "constant"
    """A name of this module's list, or of a plugin's."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Shares of tokens done between which guidance acts; outside, the unconditional pass is
    skipped and the scale is 1."""
    power: float = 2.75
    """Exponent of ``power-cosine``."""

    def __post_init__(self) -> None:
        scale, power = as_real(self.scale), as_real(self.power)
        if scale is None or scale < 0:
            raise ValueError(f"`scale` (={quoted(self.scale)}) must be a number of at least 0")
        GUIDANCE.find(self.schedule)
        if not isinstance(self.interval, tuple | list) or len(self.interval) != 2:
            raise ValueError(f"`interval` (={quoted(self.interval)}) must be two numbers")
        low, high = map(as_real, self.interval)
        if low is None or high is None or not 0 <= low <= high <= 1:
            edges = ", ".join(map(quoted, self.interval))
            raise ValueError(f"`interval` (={edges}) must be ordered, within 0..1")
        if power is None or power <= 0:
            raise ValueError(f"`power` (={quoted(self.power)}) must be above 0")

    @property
    def off(self) -> bool:
        """Whether the scale is 1 at every step, so that the unconditional pass is not needed."""
        return self.scale == self.neutral

    @property
    def neutral(self) -> float:
        """The `scale` that turns it off."""
        return GUIDANCE.find(self.schedule).off

    def at(self, progress: Progress) -> float:
        """The scale s of a step."""
        low, high = self.interval
        if not low <= progress.done / progress.total <= high:
            return 1.0
        found = GUIDANCE.find(self.schedule).function(self, progress)
        if not isinstance(found, int | float) or not math.isfinite(found):
            raise ValueError(
                f"guidance schedule {self.schedule!r} must give a number, not {found!r}"
            )
        return found

    def scales(self, progress: Progress) -> list[float]:
        """The scales of a step: one for all of its tokens, or one for each, in output order."""
        if not GUIDANCE.find(self.schedule).each_token:
            return [self.at(progress)]
        places = range(progress.done, progress.done + progress.size)
        return [self.at(progress._replace(done=done, size=1)) for done in places]


@register_guidance("constant")
def _constant(guidance: Guidance, at: Progress) -> float:
    return guidance.scale


@register_guidance("linear-token", each_token=True)
@register_guidance("linear")
def _linear(guidance: Guidance, at: Progress) -> float:
    return 1 + (guidance.scale - 1) * (at.done / at.total)


@register_guidance("linear-after")
def _linear_after(guidance: Guidance, at: Progress) -> float:
    return 1 + (guidance.scale - 1) * ((at.done + at.size) / at.total)


@register_guidance("power-cosine")
def _power_cosine(guidance: Guidance, at: Progress) -> float:
    share = (1 - math.cos(math.pi * (at.done / at.total) ** guidance.power)) / 2
    return 1 + (guidance.scale - 1) * share


@register_guidance("var", off=0.0)
def _var(guidance: Guidance, at: Progress) -> float:
    return 1 + guidance.scale * (at.step - 1) / max(1, at.steps - 1)
