"""The least time that some arithmetic takes: its matrix products alone, and moving its memory.

Products are done again as they were recorded, with the same weights one after the other, so that
weights come from where they came from. Attention is two products of its shapes: the kernel that
does both is done again too, with keys and values that lie in a row, each call's in a place of its
own, so that they too come from memory where all of them together are larger than its caches.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from setar.bench.recorder import Clock, Like, Part

COPIED = 2**26
"""Bytes that are copied to measure the bandwidth: more than caches hold."""
ROUNDS = 4
"""So often each call is done again in a row, if there were as many of its shapes."""


def bandwidth_of(device: torch.device, clock: Clock) -> float:
    """Bytes that are read and written in a second, best of several."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    copying = _best(lambda: target.copy_(source), clock)
    reading = _best(lambda: source.sum(), clock)
    return max(2 * COPIED / copying, COPIED / reading)


def _best(work: Any, clock: Clock) -> float:
    best = float("inf")
    for _ in range(5):
        began = clock()
        work()
        best = min(best, clock() - began)
    return max(best, 1e-9)


def products_seconds(parts: Iterable[Part], clock: Clock) -> float:
    """What the products of all calls take alone, now."""
    parts = list(parts)
    pool = Pool(max((sum(map(_remembered, part.calls)) for part in parts), default=0))
    return sum(part.times * _seconds_of(part, clock, pool) for part in parts)


class Pool:
    """Memory for what calls remember, handed out in turns; of so many bytes, on a CPU or not."""

    def __init__(self, size: int) -> None:
        self.size, self.next = size, 0
        self.places: dict[torch.device, Tensor] = {}

    def take(self, like: Like) -> Tensor:
        """A tensor behind the last one that was taken, or from the beginning again."""
        if like.device not in self.places:
            self.places[like.device] = torch.zeros(self.size, dtype=torch.uint8, device=like.device)
        size = _bytes(like)
        self.next = self.next if self.next + size <= self.size else 0
        taken = self.places[like.device][self.next : self.next + size]
        self.next += size
        return taken.view(like.dtype).view(like.shape)


@torch.inference_mode()
def _seconds_of(part: Part, clock: Clock, pool: Pool) -> float:
    """What the products of one call take, in the mean of some."""
    made: dict[Any, Tensor] = {}
    calls = [
        (
            function,
            [_filled(value, made) for value in args],
            {name: _filled(value, made) for name, value in kwargs.items()},
        )
        for function, args, kwargs in part.calls
    ]
    for call, (_, args, _) in zip(part.calls, calls, strict=True):
        for index, like in _keys_values(call):
            args[index] = pool.take(like)
    rounds = min(ROUNDS, part.times)
    began = clock()
    for _ in range(rounds):
        for function, args, kwargs in calls:
            function(*args, **kwargs)
    return (clock() - began) / rounds


def _keys_values(call: Any) -> list[tuple[int, Like]]:
    """Keys and values among the arguments of a call that attends, and their places.

    Where attention is two products, they are the larger factor of each.
    """
    function, args, _ = call
    if "attention" in str(function):
        places = (1, 2)
    elif "matmul" in str(function) or ".bmm" in str(function):
        places = (max((0, 1), key=lambda index: math.prod(args[index].shape)),)
    else:
        return []
    return [(index, args[index]) for index in places if isinstance(args[index], Like)]


def _remembered(call: Any) -> int:
    return sum(_bytes(like) for _, like in _keys_values(call))


def _bytes(like: Like) -> int:
    return math.prod(like.shape) * like.dtype.itemsize


def _filled(value: Any, made: dict[Any, Tensor]) -> Any:
    """A tensor in the place of a `Like`, one for all that look the same."""
    if not isinstance(value, Like):
        return value
    key = (value.shape, value.dtype, value.device)
    if key not in made:
        made[key] = torch.full(value.shape, 0.5, device=value.device).to(value.dtype)
    return made[key]
