"""The optimiser of the paper (section 4.1, after LlamaGen) and its learning-rate schedules."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; the defaults are the paper's."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    """Applies to matrices and kernels; norms, biases and embeddings are left alone."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    """The rate rises linearly from 0 over so many steps."""
    final_rate: float = 0.0
    """Where ``cosine`` ends, as a fraction of ``learning_rate``."""
    ema: float = 0.9999
    """Decay of the averaged weights that are evaluated and shipped; 0 turns averaging off."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or not self.clip > 0 or self.warmup_steps < 0:
            raise ValueError("`learning_rate`, `clip` must be above 0, `warmup_steps` at least 0")
        if not 0 <= self.ema < 1 or not 0 <= self.final_rate <= 1:
            raise ValueError(f"0 <= `ema` (={self.ema}) < 1 and 0 <= `final_rate` <= 1 must hold")


def adamw(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over a module's trainable parameters, with decay where it belongs."""
    embeddings = {
        id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
    }
    parameters = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in embeddings]
    plain = [p for p in parameters if p.ndim < 2 or id(p) in embeddings]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of step ``step`` (from 0) of ``steps``."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)


class AveragedWeights:
    """An exponential moving average of a module's parameters, kept in float32.

    The decay warms up as (1 + n) / (10 + n), so that a short run is not stuck at its start.
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
        ours: list[Tensor] = [self.state[k] for k in floats]
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            ours, [present[k].detach() for k in floats], 1 - decay
        )
        for name in present.keys() - set(floats):
            self.state[name].copy_(present[name])
