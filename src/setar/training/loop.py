"""The training loop: resumable, every random number a function of (seed, step, process)."""

import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from setar import checkpoint, durable
from setar.data.batches import Batches, ShuffledBatches
from setar.device import find_device
from setar.numbers import whole
from setar.registry import one_line
from setar.run_folder import (
    CHECKPOINTS,
    SAMPLES,
    checkpoint_folder,
    checkpoints,
    prune,
    step_folders,
)
from setar.training.cost import peak
from setar.training.distributed import ALONE, Processes
from setar.training.facts import Fact, of_loop, tell
from setar.training.guard import GENTLER, Guard
from setar.training.identity import AnotherRun, check_identity, check_weights
from setar.training.lock import locked
from setar.training.optim import (
    AveragedWeights,
    OptimizerConfig,
    check_optimizer_state,
    load_optimizer_state,
    lr_factor,
    make_optimizers,
    optimizer_state,
    set_learning_rate,
)
from setar.training.report import Report, say, warn
from setar.training.saved import (
    PROGRESS,
    Parts,
    Progress,
    Saved,
    check_like,
    not_finite,
    read_part,
)
from setar.training.stopping import StopRequest

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
        self.batches: Callable[[int, int], Batches] = self.in_turn

    def in_turn(self, batch_size: int, seed: int) -> Batches:
        """All items in turn, each epoch in a fresh order; others may be set as `batches`."""
        return ShuffledBatches(self.samples, batch_size, seed)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(next(iter(self.networks.values())).parameters()).device

    def losses(self, items: Tensor, step: int) -> Step:
        """The losses of the items with these indices, all at once."""
        raise NotImplementedError

    def sources(self, items: Tensor, step: int) -> Tensor:
        """What the items of a step are in the data, to find a bad one; as they are by default."""
        return items

    def replaced(self) -> dict[str, Tensor]:
        """What the last step's ``finish`` set anew in the first network, rather than moved.

        Bool masks by tensor name; the averaged weights take these numbers over. Nothing by default.
        """
        return {}

    def state(self) -> dict[str, Tensor]:
        """What the objective itself must remember to resume; nothing by default."""
        return {}

    def check_state(self, state: Mapping[str, Tensor], source: str) -> None:
        """Raise ValueError unless `load_state` can take these tensors: names, sizes and dtypes."""
        own, found = (
            {name: (tensor.numel(), tensor.dtype) for name, tensor in part.items()}
            for part in (self.state(), state)
        )
        for name in own.keys() | found.keys():
            if own.get(name) != found.get(name):
                raise ValueError(f"{source}: {name!r} is missing, unknown or of another kind")

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""

    def validate(self) -> Mapping[str, float]:
        """Figures of items that are never trained on, of the networks as they are; by default none.

        They depend on the weights alone: not on the step, nor on random numbers of the training.
        """
        return {}


BOUNDS = {
    "steps": (1, 10**9, "at a thousand a second these take eleven days"),
    "batch_size": (1, 2**20, "these are the images of nearly a whole ImageNet"),
    "log_every": (1, 10**9, "no run has more steps"),
    "sample_every": (0, 10**9, "no run has more steps"),
    "checkpoint_every": (1, 10**9, "no run has more steps"),
    "keep": (1, 10**6, "more folders than that no file system likes"),
    "seed": (0, 2**32 - 1, "a step's own seed follows from it"),
    "skip_bad_steps": (0, 10**9, "no run has more steps"),
    "fd_every": (0, 10**9, "no run has more steps"),
    "fd_samples": (2, 10**6, "no one compares more"),
}
"""Of the numbers of `LoopConfig`: the least, the most, and why."""


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
    fd_every: int = 0
    """Steps between Frechet distances to the training images, also measured at the end; 0: never.
    Of a tokenizer it is that of reconstructions."""
    fd_samples: int = 1000
    """Images that are made for one."""
    wandb: str = ""
    """Project of Weights & Biases that gets all figures and pictures too; empty: none. It must be
    installed; ``WANDB_MODE=offline`` keeps them here."""
    skip_bad_steps: int = 0
    """Steps that are left out when a loss or gradient is not finite; the next one ends the run."""
    compile: bool = False
    """Fuse a generator's operations with torch.compile; takes a C++ compiler and a minute."""

    def __post_init__(self) -> None:
        for name, bounds in BOUNDS.items():
            whole(name, getattr(self, name), *bounds)

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


WARM = 20
"""Steps after which a speed says something of the device."""

KINDS = (FloatingPointError, OSError, ValueError, MemoryError, RuntimeError)
"""Of errors that end a training and are told with what is left of it."""

Exported = tuple[dict[str, Any], dict[str, dict[str, Tensor]]]
"""Config and tensors of a model folder."""

Export = Callable[[Mapping[str, Tensor]], Exported]
"""From the averaged weights of the first network to a model folder that can be loaded."""

Measure = Callable[[Any], Mapping[str, float]]
"""The first network with averaged weights to figures; called in every process."""

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
        flops: floating-point operations of the mean image of a step, if they are known.
        fidelity: figures of what the network makes, every ``loop.fd_every`` steps.

    Raises:
        ValueError: the processes cannot take equal shares of a batch.
    """

    facts: Sequence[Fact] = ()
    left_out: Mapping[str, str] = {}
    fidelity: Measure | None = None

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
        self.flops: Callable[[int], float | None] = lambda step: None
        self.step = 0
        self.seconds = 0.0
        self.resumed_at = (0, 0.0)
        self.optimizers = {
            name: make_optimizers(module, optimizer) for name, module in objective.networks.items()
        }
        self.ema = AveragedWeights(self.result, optimizer.ema)
        self.batches = objective.batches(loop.batch_size, loop.seed)
        self.guard = Guard(processes, loop.skip_bad_steps)

    @property
    def result(self) -> nn.Module:
        """The module that is trained."""
        return next(iter(self.objective.networks.values()))

    @property
    def average(self) -> AveragedWeights:
        """What `ema` was called until version 0.2."""
        warnings.warn("Trainer.average is now Trainer.ema", DeprecationWarning, stacklevel=2)
        return self.ema

    @property
    def parameters(self) -> int:
        """Trainable numbers of the module that is trained."""
        return sum(p.numel() for p in self.result.parameters() if p.requires_grad)

    @property
    def images_per_second(self) -> float:
        """Mean speed since the run began or was resumed."""
        step, seconds = self.resumed_at
        return (self.step - step) * self.loop.batch_size / max(self.seconds - seconds, 1e-9)

    @property
    def utilisation(self) -> float | None:
        """Share of the devices' operations that the mean speed takes (MFU), if it is known.

        It is not in the first steps, of which most of the time is for warming up.
        """
        device = self.objective.device
        if self.step - self.resumed_at[0] < WARM or device.type not in ("cpu", "cuda"):
            return None
        flops = self.flops(self.step - 1)
        if flops is None:
            return None
        most = peak(str(device), self.loop.precision_on(device)) * self.processes.count
        return flops * self.images_per_second / most

    def run(self) -> None:
        """Train to the last step, logging, drawing and saving on the way.

        A run that has reached it already is left as it is. Ctrl-C, SIGTERM and SIGHUP end it after
        the present step, which is saved; a second one ends it at once.

        Raises:
            ValueError: another training goes on in the folder.
            FloatingPointError: a loss, gradient or weight is not finite; no checkpoint is made of
                it.
            OSError: something cannot be written.
            KeyboardInterrupt, SystemExit: it was stopped, by Ctrl-C or by another signal.
        """
        if self.step >= self.loop.steps:
            return
        for module in self.objective.networks.values():
            self.processes.copy_first(module.state_dict().values())
        self.resumed_at = (self.step, self.seconds)
        (self.folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)  # or fail before the work
        with locked(self.folder, self.processes.first), StopRequest(self.processes) as stop:
            try:
                self._train_and_report(stop)
            except KINDS as error:
                raise self._saying_what_is_left(error) from error
        if stop.signal:
            stop.end()

    def _train_and_report(self, stop: StopRequest) -> None:
        """Train with a report by the first process."""
        loop, first = self.loop, self.processes.first
        if first and self.facts:
            how = of_loop(loop, self.objective.samples, self.step, self.objective.device)
            tell([*self.facts, how])
        about = (self.folder, self.step, loop.steps, loop.batch_size, loop.wandb)
        with Report(*about) if first else nullcontext() as report:
            self._train(report, stop)

    def _train(self, report: Report | None, stop: StopRequest) -> None:
        """Step by step, to the last one or until it shall stop."""
        loop, start, began, stopping = self.loop, self.seconds, time.monotonic(), False
        while self.step < loop.steps and not stopping:
            metrics = self._step(self.step)
            self.step += 1
            self.seconds = start + time.monotonic() - began
            last, stopping = self.step == loop.steps, stop.asked()
            if report:
                report.bar.update()
            due = last or self.step % loop.checkpoint_every == 0
            measured = self._validate() if due else {}
            if self.fidelity and loop.fd_every and (last or self.step % loop.fd_every == 0):
                measured |= self._with_average(self.fidelity)
            if last or measured or self.step % loop.log_every == 0:
                values = self._numbers({**metrics, **self._norms(), **measured})
                if report:
                    fast = self.images_per_second, self.utilisation
                    report.write(self.step, self.seconds, values, *fast)
            # Saved before it is drawn: what cannot be sampled was still learned.
            if due or stopping:
                self._numbers(metrics)
                if report:
                    report.flush()
                saved = self.save()
                if report and stopping and not last:
                    say(f"stopped after step {self.step}, saved as {saved}: --resume goes on")
            if last or (loop.sample_every and self.step % loop.sample_every == 0):
                self._draw(report)

    def _saying_what_is_left(self, error: Exception) -> Exception:
        """An error of a run, with the checkpoint to go on from."""
        found = checkpoints(self.folder)
        left = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        kind = next(kind for kind in KINDS if isinstance(error, kind))
        return kind(f"{one_line(error)}; {left}")

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
        norms: dict[str, Tensor] = {}
        for name, loss in losses.items():
            parameters = [p for p in networks[name].parameters() if p.requires_grad]
            with self._numerics():  # a loss would leave gradients in the other networks too
                loss.backward(inputs=parameters)
            processes.all_reduce_mean(p.grad for p in parameters if p.grad is not None)
            norms[name] = nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        metrics: Metrics = {"learning_rate": factor * self.settings.learning_rate}
        moves = self.guard.lets_pass(step + 1, self.objective.sources(items, step), losses, norms)
        if moves:
            for name in losses:
                set_learning_rate(self.optimizers[name], factor)
                for optimizer in self.optimizers[name].values():
                    optimizer.step()
        for module in networks.values():
            module.zero_grad(set_to_none=True)
        if not moves:
            return metrics
        metrics |= measured
        metrics |= {f"gradient_norm/{name}": norm for name, norm in norms.items()}
        finish()
        if self.settings.ema:
            self.ema.replace(self.result, self.objective.replaced())
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
            raise FloatingPointError(f"training diverged at step {self.step}: {values}; {GENTLER}")
        return values

    def _norms(self) -> Metrics:
        """The norm of all weights of each network, and how many steps moved none if some did."""
        found: Metrics = {
            f"parameter_norm/{name}": nn.utils.get_total_norm(module.parameters())
            for name, module in self.objective.networks.items()
        }
        return {**found, "skipped_steps": self.guard.skipped} if self.guard.skipped else found

    def _validate(self) -> dict[str, float]:
        """What the averaged weights make of held-out items; the same in every process."""
        return self._with_average(lambda module: self.objective.validate())

    def _with_average(self, measure: Measure) -> dict[str, float]:
        """Figures of the averaged weights."""
        eager = torch.compiler.set_stance("force_eager") if self.loop.compile else nullcontext()
        # Compiling again would take a minute.
        with self._as_exported() as module, self._numerics(), eager:
            return dict(measure(module))

    @contextmanager
    def _as_exported(self) -> Iterator[nn.Module]:
        """The result in evaluation mode, with its averaged weights for the time being."""
        module, own = self.result, {k: v.clone() for k, v in self.result.state_dict().items()}
        if self.settings.ema:
            module.load_state_dict(self.ema.state)
        try:
            yield module.eval()
        finally:
            module.load_state_dict(own)
            module.train()

    def _draw(self, report: Report | None) -> None:
        """A picture of what the averaged weights make; what cannot be drawn ends no training.

        Every process calls it, for weights may lie with all of them; the first one draws.
        """
        if self.show is None:
            return
        with self._as_exported() as module:
            if not report:
                return
            try:
                with torch.inference_mode():
                    picture = self.show(module, self.step)
                report.draw(self.step, picture)
                file = self.folder / SAMPLES / f"step-{self.step:08d}.png"
                file.parent.mkdir(exist_ok=True)
                with durable.replacing(file) as beside:
                    Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()).save(beside)
            except (ValueError, RuntimeError, ArithmeticError, OSError, MemoryError) as error:
                warn(f"no picture of step {self.step}: {one_line(error)}")

    def save(self) -> Path:
        """Write a checkpoint of this step, then delete those that are too many.

        The first process writes; all return when it is on disk.

        Raises:
            FloatingPointError: a number in it is not finite; nothing is written.
            OSError: it cannot be written; nothing is left of it.
        """
        folder = checkpoint_folder(self.folder, self.step)
        config, tensors = self.export(self._averaged())
        tensors |= self._state()
        for part, state in tensors.items():
            if bad := not_finite(state):
                raise FloatingPointError(
                    f"training diverged at step {self.step}: `{bad}` of {part} is not finite; "
                    f"{GENTLER}"
                )
        if self.processes.first:
            samples = self.objective.samples
            progress = Progress(
                self.step, self.seconds, self.ema.updates, samples, self.guard.skipped
            )
            (self.folder / CHECKPOINTS).mkdir(exist_ok=True)  # but not a folder that was deleted
            checkpoint.save(folder, config, tensors, {PROGRESS: progress.text()})
            prune(self.folder, self.step, self.loop.keep)
        self.processes.wait()
        return folder

    def resume(self) -> bool:
        """Go on from the newest checkpoint of the run's folder that is whole; False without any.

        Damaged ones that are newer are set aside, and a line says so.

        Raises:
            ValueError: all are damaged, or they are of another model, tokenizer or classes.
        """
        damaged: dict[Path, ValueError] = {}
        saved = None
        for folder in reversed(step_folders(self.folder)):
            try:
                saved = self._read(folder)
                break
            except AnotherRun:
                raise
            except ValueError as error:
                damaged[folder] = error
        if damaged and saved is None:
            newest = next(iter(damaged.values()))
            raise ValueError(
                f"no checkpoint of {self.folder} is whole: {newest}; train anew with another --out"
            )
        if saved is None:
            return False
        self.processes.wait()  # until all have read
        if self.processes.first:
            self._say_what_changed(saved, damaged)
        self._load(saved)
        return True

    def _read(self, folder: Path) -> Saved:
        """A checkpoint of this run, read whole before anything of it is used."""
        config = checkpoint.verify(folder)
        weights = self._averaged()
        config_now, exported = self.export(weights)
        check_identity(self.folder, config, config_now)
        trained = {id(tensor) for tensor in weights.values()}
        for part, state in exported.items():
            if not any(id(tensor) in trained for tensor in state.values()):
                check_weights(self.folder, part, read_part(folder, part), state)
        parts: Parts = {}
        for name, module in self.objective.networks.items():
            part = f"train-{name}"
            parts[part] = read_part(folder, part)
            check_like(module.state_dict(), parts[part], f"{folder}/{part}")
            for kind, optimizer in self.optimizers[name].items():
                state = f"{part}-{kind}"
                parts[state] = read_part(folder, state)
                check_optimizer_state(optimizer, parts[state], f"{folder}/{state}")
        for part in ("train-average", "train-objective"):
            parts[part] = read_part(folder, part)
        check_like(self.ema.state, parts["train-average"], f"{folder}/train-average")
        self.objective.check_state(parts["train-objective"], f"{folder}/train-objective")
        return Saved(folder, Progress.read(folder), parts)

    def _say_what_changed(self, saved: Saved, damaged: Mapping[Path, ValueError]) -> None:
        """Set damaged checkpoints aside, and say so; say if there are more images now, or fewer."""
        for folder, reason in damaged.items():
            aside = durable.set_aside(folder)
            warn(f"{reason}; it is now called {aside.name}, and {saved.folder.name} goes on")
        before, now = saved.progress.samples, self.objective.samples
        if before and before != now:
            say(f"an epoch has {now} images now, {before} before")

    def _load(self, saved: Saved) -> None:
        """Take over a checkpoint that fits."""
        for name, module in self.objective.networks.items():
            module.load_state_dict(saved.parts[f"train-{name}"])
            for kind, optimizer in self.optimizers[name].items():
                load_optimizer_state(optimizer, saved.parts[f"train-{name}-{kind}"])
        average = saved.parts["train-average"]
        self.ema.state = {k: v.to(self.objective.device) for k, v in average.items()}
        self.objective.load_state(saved.parts["train-objective"])
        progress = saved.progress
        self.step, self.seconds, self.ema.updates, self.guard.skipped = (
            progress.step,
            progress.seconds,
            progress.averaged,
            progress.skipped,
        )

    def _averaged(self) -> dict[str, Tensor]:
        """The weights that are exported."""
        return self.ema.state if self.settings.ema else self.result.state_dict()

    def _state(self) -> Parts:
        """All that a run needs to go on, but `Progress`."""
        parts: Parts = {}
        for name, module in self.objective.networks.items():
            parts[f"train-{name}"] = dict(module.state_dict())
            for kind, optimizer in self.optimizers[name].items():
                parts[f"train-{name}-{kind}"] = optimizer_state(optimizer)
        parts["train-average"] = self.ema.state
        parts["train-objective"] = self.objective.state()
        return parts
