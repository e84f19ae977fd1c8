"""The least time that some arithmetic takes: its matrix products alone, and moving its memory.

Products are done again as they were recorded, with the same weights one after the other, so that
weights come from where they came from. Attention counts as reading its keys and values once at the
measured bandwidth, or as its operations at the measured speed if that takes longer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from setar.bench.recorder import Attending, Clock, Like, Part

COPIED = 2**26
"""Bytes that are copied to measure the bandwidth: more than caches hold."""
SIDE = 768
"""Of the square matrices whose product measures the speed."""
ROUNDS = 4
"""So often each call is done again in a row, if there were as many of its shapes."""


@dataclass
class Machine:
    """What was measured of it in this run."""

    bandwidth: float
    """Bytes read and written in a second."""
    speed: float
    """Operations of a float32 product in a second."""


def measure_machine(device: torch.device, clock: Clock) -> Machine:
    """Bandwidth and speed, best of several."""
    source = torch.ones(COPIED // 4, device=device)
    target, square = torch.empty_like(source), torch.full((SIDE, SIDE), 0.5, device=device)
    copying = _best(lambda: target.copy_(source), clock)
    reading = _best(lambda: source.sum(), clock)
    multiplying = _best(lambda: square @ square, clock)
    bandwidth = max(2 * COPIED / copying, COPIED / reading)
    return Machine(bandwidth, 2 * SIDE**3 / multiplying)


def _best(work: Any, clock: Clock) -> float:
    best = float("inf")
    for _ in range(5):
        began = clock()
        work()
        best = min(best, clock() - began)
    return max(best, 1e-9)


def attention_seconds(attending: Attending, machine: Machine) -> float:
    """The least that all attention takes."""
    return max(attending.bytes / machine.bandwidth, attending.operations / machine.speed)


def products_seconds(parts: Iterable[Part], clock: Clock) -> float:
    """What the products of all calls take alone, now."""
    return sum(part.times * _seconds_of(part, clock) for part in parts)


@torch.inference_mode()
def _seconds_of(part: Part, clock: Clock) -> float:
    """What the products of one call take, in the mean of some."""
    made: dict[Any, Tensor] = {}
    calls = [
        (function, [_filled(value, made) for value in args], kwargs)
        for function, args, kwargs in part.calls
    ]
    rounds = min(ROUNDS, part.times)
    began = clock()
    for _ in range(rounds):
        for function, args, kwargs in calls:
            function(*args, **kwargs)
    return (clock() - began) / rounds


def _filled(value: Any, made: dict[Any, Tensor]) -> Any:
    """A tensor in the place of a `Like`, one for all that look the same."""
    if not isinstance(value, Like):
        return value
    key = (value.shape, value.dtype, value.device)
    if key not in made:
        made[key] = torch.full(value.shape, 0.5, device=value.device).to(value.dtype)
    return made[key]
