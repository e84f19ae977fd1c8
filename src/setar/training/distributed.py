"""Several processes that train one model, each on its own device (data parallelism).

``torchrun`` starts them. Each holds the whole model and the whole data set, takes its share of
every batch, and the gradients are averaged. Together they do what one process does with the whole
batch, but for what is drawn (orders, dropout, mistakes: each process has its own stream) and what
is balanced within a share (the adaptive weight of an adversarial loss).
"""

import atexit
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long the processes wait for one of them, before they all end. What the first one does alone
(saving, drawing) must take less."""


@dataclass(frozen=True)
class Processes:
    """This process among ``count`` that train together; by default it is alone.

    What more than one of them must do, they all must do in the same order.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one logs, draws and saves."""
        return self.index == 0

    def shard(self, items: Tensor) -> Tensor:
        """This one's part of a batch ``[B]``, of which ``count`` must be a divisor."""
        return items.chunk(self.count)[self.index]

    def all_reduce_mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of one type by their mean over all processes."""
        if self.count == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        parts = flat.div_(self.count).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over all processes of each of some numbers."""
        numbers = torch.tensor(values, dtype=torch.float64)
        self.all_reduce_mean([numbers])
        return numbers.tolist()

    def highest(self, tensor: Tensor) -> None:
        """Replace a tensor by the highest values of all processes."""
        if self.count > 1:
            distributed.all_reduce(tensor, distributed.ReduceOp.MAX)

    def everyones(self, value: T) -> list[T]:
        """The value of each process; small ones, for they are pickled."""
        values = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(values, value)
        return values

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        for tensor in tensors if self.count > 1 else ():
            distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.mean([0.0])


ALONE = Processes()


def join() -> Processes:
    """The processes that ``torchrun`` started with this one, or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if not distributed.is_initialized():
        on_gpus = torch.cuda.is_available()
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=TIMEOUT)
        atexit.register(distributed.destroy_process_group)
    return Processes(distributed.get_rank(), distributed.get_world_size())
