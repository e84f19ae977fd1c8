"""Random numbers of a training: functions of (seed, step), however a batch is shared out.

What is drawn for the items of a batch (orders, which captions, whose class is dropped) is drawn for
all of it by one generator, of which each process and each micro batch takes its rows. So one
process learns what four do. What a network draws inside (dropout, drop path) is each process's own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

BATCH, OWN = 0, 1
"""Streams of random numbers: for a whole batch; and, from here on, of each process."""


def seed_of(*key: int) -> int:
    """A seed of 32 bits, all that torch's generator on a CPU uses, that mixes some numbers."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


@dataclass(frozen=True, eq=False)
class Part:
    """Those items of a batch that a process computes at once."""

    batch: Tensor
    """int64 ``[B]``: all items of the step, of all processes together."""
    rows: slice
    """Where the items of the part lie among them."""
    seed: int | None = None
    """Of what is drawn for the batch; None: torch's global generator draws it."""

    @property
    def items(self) -> Tensor:
        """int64 ``[b]``: the items of the part."""
        return self.batch[self.rows]

    @property
    def share(self) -> float:
        """Of the batch, 0..1."""
        return len(self.items) / len(self.batch)

    def generator(self) -> Generator | None:
        """Draws for the whole batch; the same numbers for each of its parts."""
        return None if self.seed is None else Generator().manual_seed(self.seed)

    def chances(self, generator: Generator | None) -> Tensor:
        """A uniform number for each item of the batch, ``[B]``."""
        return torch.rand(len(self.batch), generator=generator)

    def split(self, size: int) -> list["Part"]:
        """Parts of at most ``size`` items each; 0 splits nothing."""
        start, stop = self.rows.start, self.rows.stop
        starts = range(start, stop, size or max(1, stop - start))
        return [
            Part(self.batch, slice(at, min(at + starts.step, stop)), self.seed) for at in starts
        ]
