"""Several processes that train one model, each on its own device; PyTorch's engine, and all of it.

``torchrun`` starts them. Each takes its share of every batch, and the gradients are averaged.
Together they do what one process does with the whole batch, but for what networks draw inside
(dropout, drop path) and what is balanced within a share (the adaptive weight of an adversarial
loss). A process that is alone computes with plain modules.

    replicate   each process holds all of the model (DistributedDataParallel)
    shard       each holds a share of every tensor and gathers a block when it is needed (FSDP2)
    hybrid      sharded within a machine, replicated over machines (HSDP)

Sharded parameters are DTensors, and so are their gradients, averages and moments.
"""

import atexit
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from setar.training.loop import Objective, Step

Parallel = Literal["replicate", "shard", "hybrid"]

Result = TypeVar("Result")

ENTRIES = ("after_mistakes",)
"""Methods of a network, beside ``forward``, that a training calls."""

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
        """Whether this one logs, draws and exports."""
        return self.index == 0

    @cached_property
    def saving(self) -> distributed.ProcessGroup | None:
        """A group of its own for what is saved beside the training; None if alone."""
        if self.count == 1:
            return None
        group: Any = distributed.new_group(backend="gloo")
        return group

    def rows(self, items: int) -> slice:
        """Where this one's part of a batch lies, of whose size ``count`` must be a divisor."""
        share = items // self.count
        return slice(self.index * share, (self.index + 1) * share)

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over all processes of each of some numbers."""
        numbers = torch.tensor(values, dtype=torch.float64)
        if self.count > 1:
            distributed.all_reduce(numbers)
            numbers /= self.count
        return numbers.tolist()

    def highest(self, tensor: Tensor) -> None:
        """Replace a tensor by the highest values of all processes."""
        if self.count > 1:
            distributed.all_reduce(tensor, distributed.ReduceOp.MAX)

    def everyones(self, value: Result) -> list[Result]:
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

    def all_raise(self, error: Exception | None) -> None:
        """Raise the error of the first process that has one, in all of them."""
        for found in self.everyones(error):
            if found is not None:
                raise found

    def by_first(self, work: Callable[[], object]) -> None:
        """Let the first process do something; what it raises is raised by all."""
        error = None
        if self.first:
            try:
                work()
            except Exception as raised:
                error = raised
        self.all_raise(error)


ALONE = Processes()


def place() -> tuple[int, int]:
    """Index of this process, and how many ``torchrun`` started; 0 and 1 if it is alone.

    Raises:
        ValueError: the environment says what cannot be; such a process would wait for others.
    """
    index, count = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if count in ("", "1"):
        return 0, 1
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(
            f"the environment has WORLD_SIZE={count!r:.40} and RANK={index!r:.40}, not a process "
            "below a number of them: start several with torchrun, or unset both"
        )
    return int(index), int(count)


def join() -> Processes:
    """The processes that ``torchrun`` started with this one, or this one alone; see `place`."""
    if place()[1] == 1:
        return ALONE
    if not distributed.is_initialized():
        on_gpus = torch.cuda.is_available()
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=TIMEOUT)
        atexit.register(distributed.destroy_process_group)
    return Processes(distributed.get_rank(), distributed.get_world_size())


def lost(error: Exception) -> bool:
    """Whether an error says that another process is gone, or was waited for too long."""
    of_backend = isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error))
    return of_backend or isinstance(error, distributed.DistError)


# How a network is computed.


@dataclass(frozen=True)
class Engine:
    """What is done to networks so that they train on these processes.

    Args:
        processes: that train together.
        parallel: how; means nothing to a process that is alone.
        checkpointing: compute each transformer block again for its backward pass, and keep nothing.
        compiled: fuse the operations of each block with torch.compile; of a network without blocks
            what its own `compile` chooses.
        half: gather sharded parameters in bfloat16; gradients are reduced in float32.
    """

    processes: Processes = ALONE
    parallel: Parallel = "replicate"
    checkpointing: bool = False
    compiled: bool = False
    half: bool = False

    @property
    def shards(self) -> bool:
        """Whether each process holds a part of every tensor."""
        return self.processes.count > 1 and self.parallel != "replicate"

    def prepare(self, network: nn.Module) -> None:
        """Make a network ready, in place: recomputing, then compiling, then sharding its blocks.

        That is the order which torchtitan found. The names of its tensors stay.
        """
        self.processes.copy_first(network.state_dict().values())
        blocks = list(getattr(network, "transformer_blocks", list)())
        if self.compiled:
            torch._dynamo.config.recompile_limit = 64  # of texts and grids of several lengths
        for block in blocks:
            forward: Any = block.forward
            if self.checkpointing:
                forward = _recomputed(forward)
            if self.compiled:
                forward = torch.compile(forward, dynamic=False)
            block.forward = forward
        if self.compiled and not blocks:
            network.compile(dynamic=False)
        if self.shards:
            device = next(network.parameters()).device
            options: dict[str, Any] = {"mesh": self.mesh(device.type)}
            if self.half:
                options["mp_policy"] = MixedPrecisionPolicy(
                    torch.bfloat16, torch.float32, cast_forward_inputs=False
                )
            # It warns of outputs that are views, such as VAR's: nothing here writes into outputs.
            warnings.filterwarnings("ignore", "FSDP2-wrapped module")
            for unit in (*blocks, network):
                fully_shard(unit, **options)
            for name in ENTRIES:
                if hasattr(network, name):
                    register_fsdp_forward_method(network, name)

    def mesh(self, device: str) -> DeviceMesh:
        """The processes as FSDP sees them: a line, or a row for each machine."""
        count = self.processes.count
        if self.parallel != "hybrid":
            return init_device_mesh(device, (count,))
        own = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        if count % own:
            raise ValueError(
                f"`loop.parallel` = 'hybrid' needs as many processes on each machine: {own} of "
                f"{count} are on this one"
            )
        return init_device_mesh(device, (count // own, own), mesh_dim_names=("replicate", "shard"))

    def losses(self, objective: "Objective") -> Callable[[Tensor, int], "Step"]:
        """The losses of an objective, whose gradients will be those of all processes."""
        losses = _Losses(objective)
        if self.processes.count == 1 or self.shards:
            return losses
        return DistributedDataParallel(
            losses,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
        )

    @contextmanager
    def accumulating(
        self, losses: Any, networks: Mapping[str, nn.Module], last: bool
    ) -> Iterator[None]:
        """Inside, gradients are added up; only those of the ``last`` part are exchanged.

        Sharded ones are reduced within their shards each time, for whole ones would need the memory
        that sharding saves.
        """
        for network in networks.values():
            if isinstance(network, FSDPModule):
                network.set_requires_all_reduce(last)
        replicated = isinstance(losses, DistributedDataParallel)
        with losses.no_sync() if replicated and not last else nullcontext():
            yield


class _Losses(nn.Module):
    """An objective as a module, since DistributedDataParallel wraps the call of one.

    That waits for the gradients of all networks. Those without a loss at this step (a critic that
    begins later) get zeros, with the first loss; they are not moved by it.
    """

    def __init__(self, objective: "Objective") -> None:
        super().__init__()
        self.networks = nn.ModuleDict(objective.networks)
        self.objective = objective

    def forward(self, items: Tensor, step: int) -> "Step":
        found = self.objective.losses(items, step)
        idle = idle_parameters(self.objective.networks, found.losses)
        if idle and found.losses:
            name, loss = next(iter(found.losses.items()))
            found.losses[name] = loss + 0 * torch.stack([p.sum() for p in idle]).sum()
        return found


def idle_parameters(
    networks: Mapping[str, nn.Module], losses: Mapping[str, Tensor]
) -> list[nn.Parameter]:
    """Those of the networks that have no loss."""
    idle = [module for name, module in networks.items() if name not in losses]
    return [p for module in idle for p in module.parameters() if p.requires_grad]


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def again(*args: Any, **options: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*args, **options)
        return checkpoint(forward, *args, use_reentrant=False, **options)

    return again


# Tensors that may be sharded.


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor; all of one that is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered if it is sharded; all processes must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor that all processes hold, shared out as ``like`` is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale gradients so that their norm, over all shards, is at most ``most``; the norm before."""
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = gathered(nn.utils.get_total_norm(gradients))
    nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return norm
