"""The training loop: resumable, every random number a function of (seed, step, process)."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from setar import checkpoint
from setar.data.batches import ShuffledBatches
from setar.device import find_device
from setar.run_folder import checkpoint_folder, checkpoints
from setar.training.distributed import ALONE, Processes
from setar.training.facts import Fact, of_loop, say
from setar.training.optim import (
    AveragedWeights,
    OptimizerConfig,
    lr_factor,
    make_optimizers,
    set_learning_rate,
)
from setar.training.report import Report

Metrics = dict[str, float | Tensor]
"""Scalars for the log; tensors of one element are read only when they are logged."""


class Step(NamedTuple):
    """What an objective says of one batch."""

    losses: dict[str, Tensor]
    """The scalar loss of each network that moves."""
    metrics: Metrics
    """What to log."""
    finish: Callable[[], None] = lambda: None
    """What happens to the weights outside the optimiser, once it has moved them."""


class Objective:
    """What is minimised: networks with an optimiser each, and their losses for a batch.

    Args:
        networks: modules in the order in which they move; the first one is the result.
        samples: number of training items.
    """

    def __init__(self, networks: dict[str, nn.Module], samples: int) -> None:
        self.networks, self.samples = networks, samples

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(next(iter(self.networks.values())).parameters()).device

    def losses(self, items: Tensor, step: int) -> Step:
        """The losses of the items with these indices, all at once."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What the objective itself must remember to resume; nothing by default."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""

    def validate(self) -> Mapping[str, float]:
        """Figures of items that are never trained on, of the networks as they are; by default none.

        They depend on the weights alone: not on the step, nor on random numbers of the training.
        """
        return {}


@dataclass(frozen=True)
class LoopConfig:
    """How long, how much at once, and what is kept."""

    steps: int = 1000
    batch_size: int = 256
    """Images per step, of all processes together."""
    seed: int = 0
    log_every: int = 20
    """Steps between lines of ``metrics.jsonl`` and TensorBoard."""
    sample_every: int = 0
    """Steps between pictures; 0: only at the end."""
    checkpoint_every: int = 500
    keep: int = 2
    """Checkpoints that are kept; older ones are deleted once a newer one is safely on disk."""
    device: str = "auto"
    """``auto`` takes a GPU if there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products; ``auto`` is bfloat16 on a GPU and float32 on a CPU."""
    compile: bool = False
    """Fuse a generator's operations with torch.compile; takes a C++ compiler and a minute."""

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch_size, self.log_every, self.checkpoint_every, self.keep)
        if min(counts) < 1 or self.sample_every < 0:
            raise ValueError("steps, sizes and counts of `loop` must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"`seed` (={self.seed}) must be a whole number from 0 to 2**32 - 1")

    def resolve_device(self) -> torch.device:
        """The device to train on; ValueError if this machine cannot use it.

        Of the processes that ``torchrun`` started on a machine with GPUs, each has its own.
        """
        own = os.environ.get("LOCAL_RANK")
        if own is None or self.device not in ("auto", "cuda") or not torch.cuda.is_available():
            return find_device(self.device)
        device = find_device(f"cuda:{own}")
        torch.cuda.set_device(device)
        return device

    def precision_on(self, device: torch.device) -> str:
        """What `precision` means on a device: ``float32`` or ``bfloat16``."""
        if self.precision != "auto":
            return self.precision
        return "bfloat16" if device.type == "cuda" else "float32"

    def check_compiler(self) -> None:
        """Raise ValueError if `compile` cannot work on this machine."""
        compilers = (os.environ.get("CXX", "g++"), "clang++")
        if self.compile and not any(map(shutil.which, compilers)):
            raise ValueError(
                "`loop.compile` needs a C++ compiler (g++); without one: --set loop.compile=false"
            )


Exported = tuple[dict[str, Any], dict[str, dict[str, Tensor]]]
"""Config and tensors of a model folder."""

Export = Callable[[Mapping[str, Tensor]], Exported]
"""From the averaged weights of the first network to a model folder that can be loaded."""

Show = Callable[[Any, int], Tensor]
"""The first network with averaged weights, and the step, to a picture uint8 ``[3, H, W]``."""


class Trainer:
    """Runs an objective.

    Args:
        objective: losses and networks; already on its device.
        optimizer: settings for every network.
        loop: settings of the run.
        folder: of the run; gets checkpoints, samples, ``metrics.jsonl``, TensorBoard files.
        export: makes each checkpoint a model folder that `setar.Pipeline` loads.
        show: draws samples.
        processes: those that train together; all have the same settings.

    Attributes:
        facts: what is said before the first step, beside what the loop itself knows.
        left_out: files of the data that are not trained on, and why, for ``left-out.txt``.

    Raises:
        ValueError: the processes cannot take equal shares of a batch.
    """

    facts: Sequence[Fact] = ()
    left_out: Mapping[str, str] = {}

    def __init__(
        self,
        objective: Objective,
        optimizer: OptimizerConfig,
        loop: LoopConfig,
        folder: Path,
        export: Export,
        show: Show | None = None,
        processes: Processes = ALONE,
    ) -> None:
        if loop.batch_size % processes.count:
            raise ValueError(
                f"`batch_size` (={loop.batch_size}) must be a multiple of the processes "
                f"(={processes.count}): each takes an equal share"
            )
        self.processes = processes
        self.objective, self.settings, self.loop = objective, optimizer, loop
        self.folder, self.export, self.show = Path(folder), export, show
        self.step = 0
        self.seconds = 0.0
        self.resumed_at = (0, 0.0)
        self.optimizers = {
            name: make_optimizers(module, optimizer) for name, module in objective.networks.items()
        }
        self.ema = AveragedWeights(self.result, optimizer.ema)
        self.batches = ShuffledBatches(objective.samples, loop.batch_size, loop.seed)

    @property
    def result(self) -> nn.Module:
        """The module that is trained."""
        return next(iter(self.objective.networks.values()))

    @property
    def parameters(self) -> int:
        """Trainable numbers of the module that is trained."""
        return sum(p.numel() for p in self.result.parameters() if p.requires_grad)

    @property
    def images_per_second(self) -> float:
        """Mean speed since the run began or was resumed."""
        step, seconds = self.resumed_at
        return (self.step - step) * self.loop.batch_size / max(self.seconds - seconds, 1e-9)

    def run(self) -> None:
        """Train to the last step, logging, drawing and saving on the way.

        A run that has reached it already is left as it is.

        Raises:
            FloatingPointError: a loss or gradient is not finite; no checkpoint is made of it.
            ImportError: TensorBoard is not installed.
        """
        if self.step >= self.loop.steps:
            return
        for module in self.objective.networks.values():
            self.processes.copy_first(module.state_dict().values())
        loop, start, began = self.loop, self.seconds, time.monotonic()
        self.resumed_at = (self.step, self.seconds)
        # Of several processes the first one reports.
        if self.processes.first and self.facts:
            how = of_loop(loop, self.objective.samples, self.step, self.objective.device)
            say([*self.facts, how])
        about = (self.folder, self.step, loop.steps, loop.batch_size)
        with Report(*about) if self.processes.first else nullcontext() as report:
            while self.step < loop.steps:
                metrics = self._step(self.step)
                self.step += 1
                self.seconds = start + time.monotonic() - began
                last = self.step == loop.steps
                if report:
                    report.bar.update()
                saving = last or self.step % loop.checkpoint_every == 0
                heldout = self._validate() if saving else {}
                if last or heldout or self.step % loop.log_every == 0:
                    values = self._numbers({**metrics, **heldout})
                    if report:
                        report.write(self.step, self.seconds, self.images_per_second, values)
                # Saved before it is drawn: what cannot be sampled was still learned.
                if saving:
                    self._numbers(metrics)
                    self.save()
                if report and (last or (loop.sample_every and self.step % loop.sample_every == 0)):
                    self._draw(report)

    def _step(self, step: int) -> Metrics:
        """One update of every network; the same whatever happened before in this process."""
        processes, networks = self.processes, self.objective.networks
        seed = self.loop.seed * 1_000_003 + step
        torch.manual_seed(seed * processes.count + processes.index)
        items = processes.shard(self.batches.indices(step))
        factor = lr_factor(self.settings, step, self.loop.steps)
        for module in networks.values():
            module.train()
        with self._numerics():
            losses, measured, finish = self.objective.losses(items, step)
        metrics: Metrics = {"learning_rate": factor * self.settings.learning_rate, **measured}
        for name, loss in losses.items():
            with self._numerics():
                loss.backward()
            parameters = list(networks[name].parameters())
            processes.all_reduce_mean(p.grad for p in parameters if p.grad is not None)
            norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip)
            metrics[f"gradient_norm/{name}"] = norm
            set_learning_rate(self.optimizers[name], factor)
            for optimizer in self.optimizers[name].values():
                optimizer.step()
            for module in networks.values():  # a loss leaves gradients in the others too
                module.zero_grad(set_to_none=True)
        finish()
        if self.settings.ema:
            self.ema.update(self.result)
        return metrics

    def _numerics(self) -> ExitStack:
        """Autocast if wanted; on a CPU also plain attention.

        There the backward pass of the fused kernel takes three times as long as the plain one at
        the short sequences that a CPU can train.
        """
        device = self.objective.device
        contexts = ExitStack()
        if self.loop.precision_on(device) == "bfloat16":
            contexts.enter_context(torch.autocast(device.type, torch.bfloat16))
        if device.type == "cpu":
            contexts.enter_context(sdpa_kernel(SDPBackend.MATH))
        return contexts

    def _numbers(self, metrics: Metrics) -> dict[str, float]:
        """The scalars, once the device has them; FloatingPointError unless all are finite.

        Of several processes they are the means, so all must ask.
        """
        means = self.processes.mean([float(value) for value in metrics.values()])
        values = dict(zip(metrics, means, strict=True))
        if not all(map(math.isfinite, values.values())):
            raise FloatingPointError(f"training diverged at step {self.step}: {values}")
        return values

    def _validate(self) -> Mapping[str, float]:
        """What the averaged weights make of held-out items; the same in every process."""
        eager = torch.compiler.set_stance("force_eager") if self.loop.compile else nullcontext()
        with self._averaged(), self._numerics(), eager:  # compiling again would take a minute
            return self.objective.validate()

    @contextmanager
    def _averaged(self) -> Iterator[nn.Module]:
        """The result in evaluation mode, with its averaged weights for the time being."""
        module, own = self.result, {k: v.clone() for k, v in self.result.state_dict().items()}
        if self.settings.ema:
            module.load_state_dict(self.ema.state)
        try:
            yield module.eval()
        finally:
            module.load_state_dict(own)
            module.train()

    def _draw(self, report: Report) -> None:
        """A picture of what the averaged weights make."""
        if self.show is None:
            return
        with self._averaged() as module, torch.inference_mode():
            picture = self.show(module, self.step)
        report.draw(self.step, picture)
        file = self.folder / "samples" / f"step-{self.step:08d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()).save(file)

    def save(self) -> Path:
        """Write a checkpoint of this step, then delete those that are too many.

        The first process writes; all return when it is on disk.
        """
        folder = checkpoint_folder(self.folder, self.step)
        if self.processes.first:
            averaged = self.ema.state if self.settings.ema else self.result.state_dict()
            config, tensors = self.export(averaged)
            for name, module in self.objective.networks.items():
                tensors[f"train-{name}"] = dict(module.state_dict())
                for kind, optimizer in self.optimizers[name].items():
                    tensors[f"train-{name}-{kind}"] = _flatten(optimizer)
            tensors["train-average"] = self.ema.state
            tensors["train-objective"] = self.objective.state()
            progress = {"step": self.step, "seconds": self.seconds, "averaged": self.ema.updates}
            texts = {"progress.json": json.dumps(progress) + "\n"}
            checkpoint.save(folder, config, tensors, texts)
            for old in checkpoints(self.folder)[: -self.loop.keep]:
                shutil.rmtree(old)
        self.processes.wait()
        return folder

    def resume(self) -> bool:
        """Go on from the newest checkpoint of the run's folder; False if there is none.

        Raises:
            ValueError: the checkpoint is damaged or of another model.
        """
        found = checkpoints(self.folder)
        if not found:
            return False
        folder = found[-1]
        try:
            checkpoint.verify(folder)
        except ValueError as error:
            before = found[-2].name if len(found) > 1 else "the start"
            raise ValueError(f"{error}; to go on from {before}, delete {folder}") from error
        for name, module in self.objective.networks.items():
            state = checkpoint.load_tensors(folder, f"train-{name}")
            checkpoint.load_strictly(module, state, f"{folder}/train-{name}")
            for kind, optimizer in self.optimizers[name].items():
                _unflatten(optimizer, checkpoint.load_tensors(folder, f"train-{name}-{kind}"))
        average = checkpoint.load_tensors(folder, "train-average")
        self.ema.state = {k: v.to(self.objective.device) for k, v in average.items()}
        self.objective.load_state(checkpoint.load_tensors(folder, "train-objective"))
        progress = json.loads((folder / "progress.json").read_text())
        self.step, self.seconds = progress["step"], progress["seconds"]
        self.ema.updates = progress["averaged"]
        return True


def _flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``<parameter>.<name>`` tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, entry in state.items() for name, value in entry.items()}


def _unflatten(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `_flatten`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
