"""The training loop: resumable, every random number a function of (seed, step), see `draws`."""

import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from setar import checkpoint, durable
from setar.data.batches import Batches, ShuffledBatches
from setar.device import find_device, slow_in_bfloat16
from setar.numbers import counted, whole
from setar.pictures.memory import Memory
from setar.pictures.png import write_png
from setar.pictures.sheets import to_pil
from setar.registry import one_line
from setar.run_folder import (
    CHECKPOINTS,
    SAMPLES,
    checkpoint_folder,
    checkpoints,
    prune,
    step_folders,
    step_of,
)
from setar.training import sharded
from setar.training.cost import peak
from setar.training.distributed import (
    ALONE,
    Engine,
    Parallel,
    Processes,
    clip_gradients,
    gathered,
    idle_parameters,
    lost,
)
from setar.training.draws import BATCH, OWN, Part, seed_of
from setar.training.facts import Fact, of_loop, of_state, tell
from setar.training.guard import GENTLER, Guard
from setar.training.identity import AnotherRun, check_identity, check_weights
from setar.training.lock import locked
from setar.training.memory import held
from setar.training.optim import (
    AveragedWeights,
    OptimizerConfig,
    blank_state,
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
    check_like,
    not_finite,
    read_part,
)
from setar.training.sharded import Saver
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
        self.part: Part | None = None

    def in_turn(self, batch_size: int, seed: int) -> Batches:
        """All items in turn, each epoch in a fresh order; others may be set as `batches`."""
        return ShuffledBatches(self.samples, batch_size, seed)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(next(iter(self.networks.values())).parameters()).device

    def losses(self, items: Tensor, step: int) -> Step:
        """The losses of the items with these indices, all at once.

        They are the items of `part`, if the trainer has set one; then the mean over equal parts
        must be the loss of the batch. The loss of a network moves that network alone.
        """
        raise NotImplementedError

    def part_of(self, items: Tensor) -> Part:
        """Where the items of `losses` lie in the batch, by which their random numbers are drawn."""
        return self.part or Part(items, slice(0, len(items)))

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
    "micro_batch": (0, 2**20, "no device takes more at once"),
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
    """Length of the training; a resumed run may have another."""
    batch_size: int = 256
    """Images per step, of all processes together."""
    micro_batch: int = 0
    """Images that a process computes at once; their gradients are added up. 0: its whole share."""
    parallel: Parallel = "replicate"
    """What each of several processes holds: all of the model; with ``shard`` its share of every
    tensor; with ``hybrid`` its share on each machine. Means nothing to one process."""
    checkpointing: bool = False
    """Compute a transformer's blocks again for their backward passes: less memory, more time."""
    seed: int = 0
    """Of first weights, the order of images, plans and dropout."""
    log_every: int = 20
    """Steps between lines of ``metrics.jsonl`` and TensorBoard."""
    sample_every: int = 0
    """Steps between pictures; 0: only at the end."""
    checkpoint_every: int = 500
    """Steps between checkpoints, each a model folder; there is one at the end too."""
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
    """Fuse the operations of a generator's blocks, or of a tokenizer's encoder and decoder, with
    torch.compile; takes a C++ compiler and a minute."""

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

    def check_whole(self) -> None:
        """Raise ValueError if it asks for what only transformers can: their blocks, one by one."""
        plain = {"checkpointing": False, "parallel": "replicate"}
        for name, value in plain.items():
            if getattr(self, name) != value:
                raise ValueError(f"`loop.{name}` is for generators; leave it out for a tokenizer")


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
        uncaptioned: pictures without a caption, or captions without a picture, and which of both,
            for ``uncaptioned.txt``.
        codes: SHA-256 of the folder of codes that is trained on; empty without one.
        flops: floating-point operations of the mean image of a step, if they are known.
        fidelity: figures of what the network makes, every ``loop.fd_every`` steps.

    Raises:
        ValueError: the processes cannot take equal shares of a batch.
    """

    facts: Sequence[Fact] = ()
    left_out: Mapping[str, str] = {}
    uncaptioned: Mapping[str, str] = {}
    codes: str = ""
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
        half = loop.precision_on(objective.device) == "bfloat16"
        self.engine = Engine(processes, loop.parallel, loop.checkpointing, loop.compile, half)
        self.blank = partial(type(self.result), getattr(self.result, "config", None))
        for module in objective.networks.values():
            self.engine.prepare(module)
        self.losses = self.engine.losses(objective)
        self.saver = Saver(processes)
        short = half and not slow_in_bfloat16(objective.device)
        dtype = torch.bfloat16 if short else torch.float32
        self.optimizers = {
            name: make_optimizers(module, optimizer, dtype)
            for name, module in objective.networks.items()
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
        self.resumed_at = (self.step, self.seconds)
        (self.folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)  # or fail before the work
        with locked(self.folder, self.processes.first), StopRequest(self.processes) as stop:
            try:
                self._train_and_report(stop)
            except KINDS as error:
                self.saver.close()
                raise self._saying_what_is_left(error) from error
            finally:
                self.saver.close()
        if stop.signal:
            stop.end()

    def _train_and_report(self, stop: StopRequest) -> None:
        """Train with a report by the first process."""
        loop, first = self.loop, self.processes.first
        if first and self.facts:
            device, count = self.objective.device, self.processes.count
            how = of_loop(loop, self.objective.samples, self.step, device, count)
            tell([*self.facts, of_state(self._held()), how])
        about = (self.folder, self.step, loop.steps, loop.batch_size, loop.wandb)
        with Report(*about) if first else nullcontext() as report:
            self._train(report, stop)

    def _held(self) -> dict[str, float]:
        """Bytes that this process holds all the time, by what they are."""
        total: dict[str, float] = {}
        shards = self.processes.count if self.engine.shards else 1
        if self.loop.parallel == "hybrid":
            shards = min(shards, int(os.environ.get("LOCAL_WORLD_SIZE", shards)))
        for module in self.objective.networks.values():
            for name, amount in held(module, self.settings, shards).items():
                total[name] = total.get(name, 0.0) + amount
        return total

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
                with self._to_draw(everywhere=True) as module:
                    measured |= self.fidelity(module)
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
                saved = self.save(wait=last or stopping)
                if report and stopping and not last:
                    say(f"stopped after step {self.step}, saved as {saved}: --resume goes on")
            if last or (loop.sample_every and self.step % loop.sample_every == 0):
                self._draw(report)

    def _saying_what_is_left(self, error: Exception) -> Exception:
        """An error of a run, with the checkpoint to go on from."""
        found = checkpoints(self.folder)
        left = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        if self.processes.count > 1 and lost(error):
            return ConnectionError(
                f"process {self.processes.index} ends, for another one is gone or hangs, whose own "
                f"message says why; {left} ({one_line(error)[:200]})"
            )
        kind = next(kind for kind in KINDS if isinstance(error, kind))
        return kind(f"{one_line(error)}; {left}")

    def _step(self, step: int) -> Metrics:
        """One update of every network; the same whatever happened before in this process."""
        processes, networks, seed = self.processes, self.objective.networks, self.loop.seed
        torch.manual_seed(seed_of(seed, step, OWN + processes.index))
        batch = self.batches.indices(step)
        own = Part(batch, processes.rows(len(batch)), seed_of(seed, step, BATCH))
        factor = lr_factor(self.settings, step, self.loop.steps)
        for module in networks.values():
            module.train()
        metrics: Metrics = {"learning_rate": factor * self.settings.learning_rate}
        measured: Metrics = {}
        losses: dict[str, Any] = {}
        finish = Step({}, {}).finish
        parts = own.split(self.loop.micro_batch)
        for part in parts:
            with self.engine.accumulating(self.losses, networks, last=part is parts[-1]):
                weight = part.share / own.share
                found = self._add_gradients(part, step, weight)
                finish = found.finish
                for total, values in ((losses, found.losses), (measured, found.metrics)):
                    for name, value in values.items():
                        total[name] = total.get(name, 0) + value * weight
        norms = {name: clip_gradients(networks[name].parameters(), self.settings.clip)
                 for name in losses}  # fmt: skip
        sources = self.objective.sources(own.items, step)
        if not self.guard.lets_pass(step + 1, sources, losses, norms):
            for module in networks.values():
                module.zero_grad(set_to_none=True)
            return metrics
        for name in losses:
            set_learning_rate(self.optimizers[name], factor)
            for optimizer in self.optimizers[name].values():
                optimizer.step()
        for module in networks.values():
            module.zero_grad(set_to_none=True)
        metrics |= measured | {f"gradient_norm/{name}": norm for name, norm in norms.items()}
        finish()
        if self.settings.ema:
            self.ema.replace(self.result, self.objective.replaced())
            self.ema.update(self.result)
        return metrics

    def _add_gradients(self, part: Part, step: int, weight: float) -> Step:
        """Compute a part of a batch; what the objective says of it."""
        networks = self.objective.networks
        self.objective.part = part
        with self._numerics():
            found = self.losses(part.items, step)
        self.objective.part = None
        idle = idle_parameters(networks, found.losses)
        for name, loss in found.losses.items():
            # The loss of a network may reach into others, as into a critic; it moves its own.
            leaves = [*networks[name].parameters(), *idle] if len(networks) > 1 else None
            idle = []
            with self._numerics():
                (loss * weight).backward(inputs=leaves)
        return found._replace(losses={k: v.detach() for k, v in found.losses.items()})

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
            f"parameter_norm/{name}": gathered(nn.utils.get_total_norm(module.parameters()))
            for name, module in self.objective.networks.items()
        }
        return {**found, "skipped_steps": self.guard.skipped} if self.guard.skipped else found

    def _validate(self) -> dict[str, float]:
        """What the averaged weights make of held-out items; the same in every process."""
        with self._as_exported(), self._numerics():
            return dict(self.objective.validate())

    @contextmanager
    def _as_exported(self) -> Iterator[nn.Module]:
        """The result in evaluation mode, with its averaged weights for the time being.

        It is not compiled then: compiling for other shapes would take a minute.
        """
        module, own = self.result, {k: v.clone() for k, v in self.result.state_dict().items()}
        if self.settings.ema:
            module.load_state_dict(self.ema.state)
        eager = torch.compiler.set_stance("force_eager") if self.loop.compile else nullcontext()
        try:
            with eager:
                yield module.eval()
        finally:
            module.load_state_dict(own)
            module.train()

    @contextmanager
    def _to_draw(self, everywhere: bool = False) -> Iterator[nn.Module]:
        """The result as `_as_exported`; of a sharded one a whole copy, in the first process alone.

        A sharded module can only be called as in training, by all processes at once.
        """
        if not self.engine.shards:
            with self._as_exported() as module:
                yield module
            return
        here = everywhere or self.processes.first
        copy = self.blank().to(self.objective.device) if here else nn.Identity()
        state = copy.state_dict()
        for name, tensor in self._averaged().items():
            all_of_it = gathered(tensor)
            if name in state:
                state[name].copy_(all_of_it)
        yield copy.eval()

    def _draw(self, report: Report | None) -> None:
        """A picture of what the averaged weights make; what cannot be drawn ends no training."""
        if self.show is None or not (report or self.engine.shards):
            return
        try:
            with self._to_draw() as module, torch.inference_mode():
                if report is None:
                    return
                picture = self.show(module, self.step)
            report.draw(self.step, picture)
            file = self.folder / SAMPLES / f"step-{self.step:08d}.png"
            file.parent.mkdir(exist_ok=True)
            note = f"a training, after {counted(self.step, 'step')}"
            memory = Memory("training", model=str(self.folder), note=note)
            with durable.replacing(file) as beside:
                write_png(to_pil(picture[None])[0], beside, memory)
        except (ValueError, RuntimeError, ArithmeticError, OSError, MemoryError) as error:
            warn(f"no picture of step {self.step}: {one_line(error)}")

    def save(self, wait: bool = True) -> Path:
        """Write a checkpoint of this step, then delete those that are too many.

        Args:
            wait: return when it is on disk. Otherwise several processes train on while it is
                written, and the next save, or the end of the run, waits for it.

        Raises:
            FloatingPointError: a number in it is not finite; nothing is written.
            OSError: it, or the one before, cannot be written; nothing is left of it.
        """
        self.saver.wait()
        folder, parts = checkpoint_folder(self.folder, self.step), self._state()
        self.processes.all_raise(self._not_finite(parts))
        progress = Progress(
            self.step,
            self.seconds,
            self.ema.updates,
            self.objective.samples,
            self.guard.skipped,
            self.codes,
        ).text()
        exported = "average" if self.settings.ema else next(iter(self.objective.networks))

        def complete(beside: Path) -> None:
            weights = sharded.load_part(beside, exported, parts[exported])
            checkpoint.write(beside, *self.export(weights), {PROGRESS: progress})

        def done(folder: Path) -> None:
            prune(self.folder, step_of(folder), self.loop.keep)

        (self.folder / CHECKPOINTS).mkdir(exist_ok=True)  # but not a folder that was deleted
        self.saver.start(folder, parts, complete, done)
        if wait:
            self.saver.wait()
        return folder

    def _not_finite(self, parts: Parts) -> FloatingPointError | None:
        """What to say of a number in a state that is not finite."""
        for part, state in parts.items():
            if bad := not_finite(state):
                return FloatingPointError(
                    f"training diverged at step {self.step}: `{bad}` of {part} is not finite; "
                    f"{GENTLER}"
                )
        return None

    def resume(self) -> bool:
        """Go on from the newest checkpoint of the run's folder that is whole; False without any.

        Damaged ones that are newer are set aside, and a line says so.

        Raises:
            ValueError: all are damaged, or they are of another model, tokenizer or classes.
        """
        damaged: dict[Path, ValueError] = {}
        for folder in reversed(step_folders(self.folder)):
            try:
                progress = self._read(folder)
                break
            except AnotherRun:
                raise
            except ValueError as error:
                damaged[folder] = error
        else:
            if not damaged:
                return False
            newest = next(iter(damaged.values()))
            raise ValueError(
                f"no checkpoint of {self.folder} is whole: {newest}; train anew with another --out"
            )
        self.processes.wait()  # until all have read
        if self.processes.first:
            self._say_what_changed(folder, progress, damaged)
        self.step, self.seconds, self.ema.updates, self.guard.skipped = (
            progress.step,
            progress.seconds,
            progress.averaged,
            progress.skipped,
        )
        return True

    def _read(self, folder: Path) -> Progress:
        """Take over a checkpoint of this run; all is checked before anything of it is used.

        Raises:
            AnotherRun: it is whole, but of another run.
            ValueError: it is damaged, or its numbers are not finite. Then the next one that is read
                replaces them.
        """
        self.processes.by_first(lambda: self._check(folder))
        error, parts, progress = None, Parts(), Progress(0, 0.0, 0)
        try:
            progress, parts = Progress.read(folder), self._room_for(folder)
            sharded.load(folder, parts)
            for part, state in parts.items():
                if bad := not_finite(state):
                    raise ValueError(f"`{bad}` of {part} in {folder} is not finite")
        except ValueError as found:
            error = found
        self.processes.all_raise(error)
        for name, module in self.objective.networks.items():
            module.load_state_dict(parts[name])
            for kind, optimizer in self.optimizers[name].items():
                load_optimizer_state(optimizer, parts[f"{name}-{kind}"])
        self.objective.load_state(parts["objective"])
        return progress

    def _room_for(self, folder: Path) -> Parts:
        """Tensors to read a checkpoint into, those of this run where it has them.

        Raises:
            ValueError: the checkpoint has other tensors.
        """
        found, parts = sharded.describe(folder), self._state()
        for name, module in self.objective.networks.items():
            check_like(module.state_dict(), found.get(name, {}), f"{folder}: {name}")
            for kind, optimizer in self.optimizers[name].items():
                part = f"{name}-{kind}"
                check_optimizer_state(optimizer, found.get(part, {}), f"{folder}: {part}")
                parts[part] = blank_state(optimizer, found.get(part, {}))
        check_like(self.ema.state, found.get("average", {}), f"{folder}: average")
        memory = found.get("objective", {})
        self.objective.check_state(memory, f"{folder}: objective")
        parts["objective"] = {k: torch.empty_like(v, device="cpu") for k, v in memory.items()}
        return parts

    def _check(self, folder: Path) -> None:
        """Raise unless a checkpoint is undamaged, and of this run; see `_read`."""
        config = checkpoint.verify(folder)
        weights = self._averaged()
        config_now, exported = self.export(weights)
        check_identity(self.folder, config, config_now)
        trained = {id(tensor) for tensor in weights.values()}
        for part, state in exported.items():
            if not any(id(tensor) in trained for tensor in state.values()):
                check_weights(self.folder, part, read_part(folder, part), state)

    def _say_what_changed(
        self, folder: Path, progress: Progress, damaged: Mapping[Path, ValueError]
    ) -> None:
        """Set damaged checkpoints aside, and say so; say if images or codes are others now."""
        for other, reason in damaged.items():
            aside = durable.set_aside(other)
            warn(f"{reason}; it is now called {aside.name}, and {folder.name} goes on")
        before, now = progress.samples, self.objective.samples
        if before and before != now:
            say(f"an epoch has {now} images now, {before} before")
        if progress.codes and self.codes and progress.codes != self.codes:
            say("the codes are others than before: what follows is not what would have followed")

    def _averaged(self) -> dict[str, Tensor]:
        """The weights that are exported."""
        return self.ema.state if self.settings.ema else self.result.state_dict()

    def _state(self) -> Parts:
        """All that a run needs to go on, but `Progress`."""
        parts: Parts = {}
        for name, module in self.objective.networks.items():
            parts[name] = module.state_dict()
            for kind, optimizer in self.optimizers[name].items():
                parts[f"{name}-{kind}"] = optimizer_state(optimizer)
        parts["average"] = self.ema.state
        parts["objective"] = self.objective.state()
        return parts
