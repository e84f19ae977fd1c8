"""The order in which training sees its samples: a function of seed and step, nothing else.

Nothing here grows with the number of samples: an order is computed where it is asked for, so a
resumed run only needs to know its step, and any number of processes see the same batches.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

ROUNDS = 8
"""Of the Feistel network; four are proven to be enough for random round functions."""

WORD = 2**64


class Batches(Protocol):
    """What a training sees at each step."""

    def indices(self, step: int) -> Tensor:
        """The items of batch ``step`` (from 0), int64; a function of the step alone."""
        ...


class ShuffledBatches:
    """Endless batches over ``samples`` items, each epoch in a fresh order.

    The order of an epoch is the `Permutation` of (seed, epoch).

    Args:
        samples: number of items.
        batch_size: items per batch; a batch may span two epochs.
        seed: of all permutations.
    """

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        if samples < 1:
            raise ValueError("there is nothing to train on: the data set is empty")
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self._last: tuple[int, Permutation] | None = None

    def indices(self, step: int) -> Tensor:
        """The items of batch ``step`` (from 0), int64 ``[batch_size]``."""
        start, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while start < end:
            epoch, offset = divmod(start, self.samples)
            count = min(self.samples - offset, end - start)
            parts.append(self._order(epoch)(torch.arange(offset, offset + count)))
            start += count
        return torch.cat(parts)

    def _order(self, epoch: int) -> "Permutation":
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, Permutation(self.samples, self.seed, epoch)
        return self._last[1]


class ChosenBatches:
    """Batches of other items: ``items`` ``[n]`` in the place of the numbers 0 to n - 1."""

    def __init__(self, batches: Batches, items: Tensor) -> None:
        self.batches, self.items = batches, items

    def indices(self, step: int) -> Tensor:
        """The items of batch ``step`` (from 0), int64."""
        return self.items[self.batches.indices(step)]


class Permutation:
    """A permutation of 0 .. count - 1 that follows from a key, without a table of it.

    A Feistel network permutes the numbers below the next power of four; what comes out too large
    goes through it again (cycle walking), so that the others are permuted among themselves.

    Args:
        count: of the numbers, from 1 to 2**60.
        key: whole numbers, such as seed and epoch.
    """

    def __init__(self, count: int, *key: int) -> None:
        if not 1 <= count <= 2**60:
            raise ValueError(f"`count` (={count}) must be from 1 to 2**60")
        self.count = count
        self.half = np.uint64(max(1, -(-(count - 1).bit_length() // 2)))
        self.keys = [keyed(*key, index) for index in range(ROUNDS)]

    def __call__(self, places: Tensor) -> Tensor:
        """The numbers at some places, int64 ``[n]``, each from 0 to count - 1."""
        values = self._network(places.numpy().astype(np.uint64))
        while (beyond := values >= self.count).any():
            values[beyond] = self._network(values[beyond])
        return torch.from_numpy(values.astype(np.int64))

    def _network(self, values: np.ndarray) -> np.ndarray:
        low = np.uint64((1 << int(self.half)) - 1)
        left, right = values >> self.half, values & low
        for key in self.keys:
            left, right = right, left ^ (mixed(right, key) & low)
        return left << self.half | right


def choices(items: Tensor, count: int, *key: int) -> Tensor:
    """A number from 0 to count - 1 for each of some items, int64 ``[n]``.

    It follows from the item and from the key, whole numbers such as seed and step.
    """
    drawn = mixed(items.numpy().astype(np.uint64), keyed(*key)) >> np.uint64(32)
    return torch.from_numpy((drawn * np.uint64(count) >> np.uint64(32)).astype(np.int64))


def keyed(*key: int) -> int:
    """A key of 64 bits that follows from some whole numbers, in this order."""
    state = np.zeros(1, np.uint64)
    for part in key:
        state = mixed(state ^ np.uint64(part % WORD), 0)
    return int(state[0])


def mixed(values: np.ndarray, key: int) -> np.ndarray:
    """The finaliser of splitmix64 on ``[n]`` uint64, whose every bit depends on every bit."""
    values = values + np.uint64((key + 0x9E3779B97F4A7C15) % WORD)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
