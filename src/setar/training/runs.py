"""From a config file to a finished run: ``setar train configs/digits.toml``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from setar import checkpoint
from setar.config import build
from setar.data import emoji
from setar.pictures import tile
from setar.tokenizers.base import to_float, to_uint8
from setar.tokenizers.vqgan import VQGAN, VQGANConfig
from setar.training.objectives import TokenizerLossConfig, TokenizerObjective
from setar.training.optim import OptimizerConfig
from setar.training.trainer import LoopConfig, Trainer


@dataclass(frozen=True)
class TokenizerRun:
    """Settings of a tokenizer's training."""

    task: str
    dataset: str
    tokenizer: VQGANConfig
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def tokenizer_trainer(config: TokenizerRun, folder: Path) -> Trainer:
    """The trainer of a tokenizer on a data set's images."""
    torch.manual_seed(config.loop.seed)
    device = config.loop.resolve_device()
    model = VQGAN(config.tokenizer).to(device)
    images, shown = emoji.load("train").images, emoji.load("heldout").images[:32]
    objective = TokenizerObjective(model, images, config.loss)

    def export(weights: dict[str, Tensor]) -> Any:
        return {"tokenizer": checkpoint.describe(model)}, {"tokenizer": dict(weights)}

    def show(module: nn.Module, step: int) -> Tensor:
        originals = to_float(shown).to(device)
        codes = module.encode(originals)
        decoded = to_uint8(module.decode(codes, module.grid(*originals.shape[-2:]))).cpu()
        pairs = [
            half for i in range(0, 32, 16) for half in (shown[i : i + 16], decoded[i : i + 16])
        ]
        return tile(torch.cat(pairs), 16, scale=2)

    return Trainer(objective, config.optimizer, config.loop, folder, export, show)
