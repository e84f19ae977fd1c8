"""The order in which training sees its samples: a function of seed and step, nothing else."""

from typing import Protocol

import torch
from torch import Tensor


class Batches(Protocol):
    """What a training sees at each step."""

    def indices(self, step: int) -> Tensor:
        """The items of batch ``step`` (from 0), int64; a function of the step alone."""
        ...


class ShuffledBatches:
    """Endless batches over ``samples`` items, each epoch in a fresh order.

    The order of an epoch is a permutation drawn from (seed, epoch), so a resumed run only needs to
    know its step.

    Args:
        samples: number of items.
        batch_size: items per batch; a batch may span two epochs.
        seed: of all permutations.
    """

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        if samples < 1:
            raise ValueError("there is nothing to train on: the data set is empty")
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """The items of batch ``step`` (from 0), int64 ``[batch_size]``."""
        start, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while start < end:
            epoch, offset = divmod(start, self.samples)
            parts.append(self._order(epoch)[offset : offset + end - start])
            start += len(parts[-1])
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._permutation = torch.randperm(self.samples, generator=generator)
            self._epoch = epoch
        return self._permutation


class ChosenBatches:
    """Batches of other items: ``items`` ``[n]`` in the place of the numbers 0 to n - 1."""

    def __init__(self, batches: Batches, items: Tensor) -> None:
        self.batches, self.items = batches, items

    def indices(self, step: int) -> Tensor:
        """The items of batch ``step`` (from 0), int64."""
        return self.items[self.batches.indices(step)]
