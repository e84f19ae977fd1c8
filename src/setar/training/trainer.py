"""The training loop: resumable, every random number a function of (seed, step, process)."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from setar import checkpoint
from setar.data.batches import ShuffledBatches
from setar.training.objectives import Metrics, Objective
from setar.training.optim import (
    AveragedWeights,
    OptimizerConfig,
    make_optimizers,
    rate_share,
    set_learning_rate,
)
from setar.training.processes import ALONE, Processes
from setar.training.report import Report


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


def find_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is a GPU if there is one. ValueError if it is unusable."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"this machine has no device {name[:40]!r} that torch can use") from error
    return device


Export = Callable[[Mapping[str, Tensor]], tuple[dict[str, Any], dict[str, dict[str, Tensor]]]]
"""The averaged weights of the first player to (config, tensors) of a loadable model folder."""

Show = Callable[[nn.Module, int], Tensor]
"""The first player with averaged weights, and the step, to a picture uint8 ``[3, H, W]``."""


class Trainer:
    """Runs an objective.

    Args:
        objective: losses and players; already on its device.
        optimizer: settings for every player.
        loop: settings of the run.
        folder: of the run; gets checkpoints, samples, ``metrics.jsonl``, TensorBoard files.
        export: makes each checkpoint a model folder that `setar.Pipeline` loads.
        show: draws samples.
        processes: those that train together; all have the same settings.

    Raises:
        ValueError: the processes cannot take equal shares of a batch.
    """

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
            name: make_optimizers(module, optimizer) for name, module in objective.players.items()
        }
        self.average = AveragedWeights(self.result, optimizer.ema)
        self.batches = ShuffledBatches(objective.samples, loop.batch_size, loop.seed)

    @property
    def result(self) -> nn.Module:
        """The module that is trained."""
        return next(iter(self.objective.players.values()))

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
        for module in self.objective.players.values():
            self.processes.copy_first(module.state_dict().values())
        steps, start, began = self.loop.steps, self.seconds, time.monotonic()
        self.resumed_at = (self.step, self.seconds)
        with self._report() as report:
            while self.step < steps:
                metrics = self._step(self.step)
                self.step += 1
                self.seconds = start + time.monotonic() - began
                last = self.step == steps
                if report:
                    report.bar.update()
                if last or self.step % self.loop.log_every == 0:
                    self._log(report, metrics)
                if last or (self.loop.sample_every and self.step % self.loop.sample_every == 0):
                    self._draw(report)
                if last or self.step % self.loop.checkpoint_every == 0:
                    self._numbers(metrics)
                    self.save()

    def _report(self) -> AbstractContextManager[Report | None]:
        """Of several processes the first one reports."""
        if not self.processes.first:
            return nullcontext()
        return Report(self.folder, self.step, self.loop.steps, self.loop.batch_size)

    def _log(self, report: Report | None, metrics: Metrics) -> None:
        values = self._numbers(metrics)
        if report:
            report.write(self.step, self.seconds, self.images_per_second, values)

    def _step(self, step: int) -> Metrics:
        """One update of every player; the same whatever happened before in this process."""
        processes = self.processes
        seed = self.loop.seed * 1_000_003 + step
        torch.manual_seed(seed * processes.count + processes.index)
        items = processes.share(self.batches.indices(step))
        share = rate_share(self.settings, step, self.loop.steps)
        metrics: Metrics = {"learning_rate": share * self.settings.learning_rate}
        for player, optimizers in self.optimizers.items():
            module = self.objective.players[player].train()
            with self._numerics():
                loss, measured = self.objective.loss(player, items, step)
                if loss is None:
                    continue
                loss.backward()
            processes.average(p.grad for p in module.parameters() if p.grad is not None)
            norm = nn.utils.clip_grad_norm_(module.parameters(), self.settings.clip)
            set_learning_rate(optimizers, share)
            for optimizer in optimizers.values():
                optimizer.step()
            self._forget_gradients()
            metrics |= measured | {f"gradient_norm/{player}": norm}
        self.objective.after_step(step)
        if self.settings.ema:
            self.average.update(self.result)
        return metrics

    def _forget_gradients(self) -> None:
        """One player's loss also leaves gradients in the others."""
        for optimizers in self.optimizers.values():
            for optimizer in optimizers.values():
                optimizer.zero_grad(set_to_none=True)

    def _numerics(self) -> ExitStack:
        """Autocast if wanted; on a CPU also plain attention.

        There the backward pass of the fused kernel takes three times as long as the plain one at
        the short sequences that a CPU can train.
        """
        device = next(self.result.parameters()).device.type
        wanted = self.loop.precision
        contexts = ExitStack()
        if wanted == "bfloat16" or (wanted == "auto" and device == "cuda"):
            contexts.enter_context(torch.autocast(device, torch.bfloat16))
        if device == "cpu":
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

    def _draw(self, report: Report | None) -> None:
        """A picture by the first process; the others go on."""
        if self.show is None or report is None:
            return
        from PIL import Image

        with self._averaged() as module, torch.inference_mode():
            picture = self.show(module, self.step)
        report.draw(self.step, picture)
        (self.folder / "samples").mkdir(exist_ok=True)
        file = self.folder / "samples" / f"step-{self.step:08d}.png"
        Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()).save(file)

    def _averaged(self) -> "_Swapped":
        return _Swapped(self.result, self.average.state if self.settings.ema else None)

    def save(self) -> Path:
        """Write a checkpoint of this step, then delete those that are too many.

        The first process writes; all return when it is on disk.
        """
        folder = self.folder / "checkpoints" / f"step-{self.step:08d}"
        if self.processes.first:
            self._write(folder)
        self.processes.wait()
        return folder

    def _write(self, folder: Path) -> None:
        averaged = self.average.state if self.settings.ema else self.result.state_dict()
        config, tensors = self.export(averaged)
        for player, module in self.objective.players.items():
            tensors[f"train-{player}"] = dict(module.state_dict())
            for name, optimizer in self.optimizers[player].items():
                tensors[f"train-{player}-{name}"] = _flatten(optimizer)
        tensors["train-average"] = self.average.state
        tensors["train-objective"] = self.objective.state()
        progress = {"step": self.step, "seconds": self.seconds, "averaged": self.average.updates}
        texts = {"progress.json": json.dumps(progress) + "\n"}
        checkpoint.save(folder, config, tensors, texts)
        for old in checkpoints(self.folder)[: -self.loop.keep]:
            shutil.rmtree(old)

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
        for player, module in self.objective.players.items():
            state = checkpoint.load_tensors(folder, f"train-{player}")
            checkpoint.load_strictly(module, state, f"{folder}/train-{player}")
            for name, optimizer in self.optimizers[player].items():
                _unflatten(optimizer, checkpoint.load_tensors(folder, f"train-{player}-{name}"))
        device = next(self.result.parameters()).device
        average = checkpoint.load_tensors(folder, "train-average")
        self.average.state = {k: v.to(device) for k, v in average.items()}
        self.objective.load_state(checkpoint.load_tensors(folder, "train-objective"))
        progress = json.loads((folder / "progress.json").read_text())
        self.step, self.seconds = progress["step"], progress["seconds"]
        self.average.updates = progress["averaged"]
        return True


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted((Path(run) / "checkpoints").glob("step-*"))


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


class _Swapped:
    """A module that holds other weights, in evaluation mode, inside a ``with`` block."""

    def __init__(self, module: nn.Module, state: Mapping[str, Tensor] | None) -> None:
        self.module, self.state = module, state

    def __enter__(self) -> nn.Module:
        self.own = {k: v.clone() for k, v in self.module.state_dict().items()}
        if self.state is not None:
            self.module.load_state_dict(self.state)
        return self.module.eval()

    def __exit__(self, *_: object) -> None:
        self.module.load_state_dict(self.own)
        self.module.train()
