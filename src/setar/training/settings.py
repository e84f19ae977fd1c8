"""What a config file of ``setar train`` may say: every key with its meaning and default."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from setar.config import build, read_toml
from setar.models.fmt import PRESETS, FMTConfig
from setar.pipeline import SamplingDefaults
from setar.recipes.recipe import Recipe
from setar.tokenizers.vqgan import VQGANConfig
from setar.training.objectives import TokenizerLossConfig
from setar.training.optim import OptimizerConfig
from setar.training.trainer import LoopConfig


@dataclass(frozen=True)
class DataConfig:
    """What is trained on."""

    source: str
    """``emoji`` or ``digits`` (they come with the package), or a folder with one subfolder of
    images per class."""
    image_size: int = 256
    """Side in pixels of the square crops from a folder; the built-in sets have their own size."""
    flips: bool = False
    """Train on each image and on its mirror image."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of an FMT; vocabulary, classes and grid follow from tokenizer and data."""

    preset: str = "B"
    """What the values below change: B, L or XL of the paper, emoji, or tiny."""
    width: int | None = None
    heads: int | None = None
    encoder_layers: int | None = None
    decoder_layers: int | None = None
    dropout: float | None = None
    class_dropout: float | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset {self.preset!r}; known: {', '.join(PRESETS)}")

    def shape(self, vocabulary: int, classes: int, grid: tuple[int, int]) -> FMTConfig:
        """The complete configuration."""
        given = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        del given["preset"]
        base = PRESETS[self.preset]
        return dataclasses.replace(base, **given, vocabulary=vocabulary, classes=classes, grid=grid)


@dataclass(frozen=True)
class TokenizerRun:
    """A config file with ``task = "tokenizer"``."""

    task: Literal["tokenizer"]
    data: DataConfig
    tokenizer: VQGANConfig = field(default_factory=VQGANConfig)
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class GeneratorRun:
    """A config file with ``task = "generator"``."""

    task: Literal["generator"]
    data: DataConfig
    recipe: str
    """What is generated when, in training; see ``setar recipe``."""
    tokenizer: str = "pixels"
    """A model folder, a run's folder or a shipped name with a tokenizer; ``pixels`` for digits."""
    model: ModelConfig = field(default_factory=ModelConfig)
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    """How the finished model is sampled by default, and how the pictures on the way are made."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        Recipe.parse(self.recipe)
        Recipe.parse(self.sampling.recipe)


def read_run(path: Path, overrides: list[str]) -> TokenizerRun | GeneratorRun:
    """The settings of a config file; ValueError in one line if something in it is wrong."""
    values = read_toml(path, overrides)
    kinds = {"tokenizer": TokenizerRun, "generator": GeneratorRun}
    task = values.get("task")
    if not isinstance(task, str) or task not in kinds:
        raise ValueError(f"{path}: `task` must be one of {', '.join(kinds)}, not {task!r}")
    return build(kinds[task], values, str(path))
