"""The optimisers and their learning-rate schedules: the paper's AdamW (section 4.1), or Muon."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from setar.training.distributed import local
from setar.training.muon import Muon


@dataclass(frozen=True)
class OptimizerConfig:
    """The defaults are the paper's AdamW."""

    name: Literal["adamw", "muon"] = "adamw"
    """``muon`` orthogonalises the updates of the matrices inside a transformer's blocks (Jordan et
    al. 2024), scaled to AdamW's size (Liu et al. 2025); AdamW moves everything else."""
    learning_rate: float = 1e-4
    """Of AdamW, at its highest."""
    muon_rate: float = 1.0
    """Muon's learning rate, as a multiple of ``learning_rate``."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's averages of the gradient and of its square, from 0 to below 1."""
    weight_decay: float = 0.05
    """Applies to matrices and kernels; norms and biases are left alone."""
    decay_embeddings: bool = False
    """Whether it applies to embeddings too, as in LlamaGen, whose settings the paper follows."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the rate goes on after ``warmup_steps``: it stays, or falls along half a cosine until the
    last step."""
    warmup_steps: int = 0
    """The rate rises linearly from 0 over so many steps."""
    final_rate: float = 0.0
    """Where ``cosine`` ends, as a fraction of ``learning_rate``."""
    ema: float = 0.9999
    """Decay of the averaged weights that are evaluated and shipped; 0 turns averaging off."""

    def __post_init__(self) -> None:
        if min(self.learning_rate, self.muon_rate, self.clip) <= 0 or self.warmup_steps < 0:
            raise ValueError(
                "`learning_rate`, `muon_rate`, `clip` must be above 0, `warmup_steps` at least 0"
            )
        if min(self.betas) < 0 or max(self.betas) >= 1 or self.weight_decay < 0:
            raise ValueError(
                f"0 <= `betas` (={list(self.betas)}) < 1 and 0 <= `weight_decay` "
                f"(={self.weight_decay}) must hold"
            )
        if not 0 <= self.ema < 1 or not 0 <= self.final_rate <= 1:
            raise ValueError(f"0 <= `ema` (={self.ema}) < 1 and 0 <= `final_rate` <= 1 must hold")


class Groups(NamedTuple):
    """The trainable parameters of a module, by what moves them."""

    matrices: list[nn.Parameter]
    """Moved by Muon; of others AdamW keeps the state."""
    decayed: list[nn.Parameter]
    plain: list[nn.Parameter]
    """Not decayed."""


def grouped(module: nn.Module, config: OptimizerConfig) -> Groups:
    """Which of a module's parameters are moved by what."""
    spared = () if config.decay_embeddings else (nn.Embedding,)
    embeddings = _ids(m for m in module.modules() if isinstance(m, spared))
    hidden = _ids(m for m in module.modules() if isinstance(m, nn.Linear))
    hidden -= _ids([getattr(module, "head", nn.Identity())])
    parameters = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in parameters if config.name == "muon" and p.ndim == 2 and id(p) in hidden]
    taken = {id(p) for p in matrices} | embeddings
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in taken]
    plain = [p for p in parameters if p.ndim < 2 or id(p) in embeddings]
    return Groups(matrices, decayed, plain)


def make_optimizers(
    module: nn.Module, config: OptimizerConfig, dtype: torch.dtype = torch.float32
) -> dict[str, torch.optim.Optimizer]:
    """The optimisers of a module's trainable parameters by their names, decay where it belongs.

    ``dtype`` is that of Muon's products on a CPU and of sharded matrices; elsewhere torch's own
    takes bfloat16.
    """
    matrices, decayed, plain = grouped(module, config)
    rate, decay = config.learning_rate, config.weight_decay
    groups = [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(groups, lr=rate, betas=config.betas, fused=True)
    }
    if matrices:
        fast = config.muon_rate * rate
        if matrices[0].device.type == "cpu" or isinstance(matrices[0], DTensor):
            optimizers["muon"] = Muon(matrices, fast, decay, dtype)
        else:
            optimizers["muon"] = torch.optim.Muon(
                matrices, fast, decay, adjust_lr_fn="match_rms_adamw"
            )
    return optimizers


def set_learning_rate(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    """Let every optimiser move at this share of its full learning rate."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = factor * optimizer.defaults["lr"]


STATE = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "Muon": {"momentum_buffer"}}
"""What each optimiser remembers of a parameter that it has moved."""


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``<parameter>.<name>`` tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, entry in state.items() for name, value in entry.items()}


def check_optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], source: str
) -> None:
    """Raise ValueError unless `load_optimizer_state` can take these tensors."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    wanted, found = STATE[type(optimizer).__name__], dict[int, set[str]]()
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters) or name not in wanted:
            raise ValueError(f"{source} has a tensor {key!r} that the optimiser does not know")
        parameter = parameters[int(index)]
        shape = () if name == "step" else tuple(parameter.shape)
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{source}: {key!r} has the shape {tuple(value.shape)} instead of {shape}"
            )
        if value.dtype != parameter.dtype:
            raise ValueError(f"{source}: {key!r} holds {value.dtype}, not {parameter.dtype}")
        found.setdefault(int(index), set()).add(name)
    for index, names in found.items():
        if names != wanted:
            raise ValueError(f"{source} lacks the tensor '{index}.{min(wanted - names)}'")


def blank_state(optimizer: torch.optim.Optimizer, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that a state with these names can be read into, sharded as their parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    blank: dict[str, Tensor] = {}
    for key in like:
        index, _, name = key.partition(".")
        parameter = parameters[int(index)].detach()
        blank[key] = torch.zeros(()) if name == "step" else torch.zeros_like(parameter)
    return blank


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _ids(modules: Iterable[nn.Module]) -> set[int]:
    return {id(p) for module in modules for p in module.parameters()}


def lr_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """The share of the full learning rate at step ``step`` (from 0) of ``steps``."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return config.final_rate + (1 - config.final_rate) * cosine


class AveragedWeights:
    """An exponential moving average of a module's parameters, kept in float32.

    Of a sharded module each process keeps the averages of its own shards, as DTensors. The decay
    warms up as (1 + n) / (10 + n), so that a short run is not stuck at its start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        present = module.state_dict()
        floats = [k for k, v in present.items() if v.is_floating_point()]
        ours, theirs = ([local(state[k]) for k in floats] for state in (self.state, present))
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            ours, theirs, 1 - decay
        )
        for name in present.keys() - set(floats):
            self.state[name].copy_(present[name])

    @torch.no_grad()
    def replace(self, module: nn.Module, numbers: Mapping[str, Tensor]) -> None:
        """Take some numbers of the module over as they are: by tensor name, bool masks."""
        present = module.state_dict()
        for name, mask in numbers.items():
            self.state[name][mask] = present[name][mask]
