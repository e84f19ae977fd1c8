"""What a config file of ``setar train`` may say: every key with its meaning and default."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from setar.config import build, read_toml
from setar.data.images import Size, height_and_width
from setar.models.families import FAMILIES, GeneratorConfig, GeneratorModel
from setar.recipes.recipe import Recipe
from setar.sampling.defaults import SamplingDefaults
from setar.tokenizers.base import Tokenizer
from setar.tokenizers.multiscale import MultiScaleConfig, MultiScaleVQ
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
    image_size: Size = 256
    """Of the centre crops from a folder, in pixels: the side of a square, or [height, width]; the
    built-in sets have their own size."""
    flips: bool = False
    """Train on each image and on its mirror image."""
    balance: float = 0.0
    """How much more often a generator sees images of small classes: 0 is each image equally often,
    1 each class; between, a class of n images comes in proportion to n to the power 1 - balance."""

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise ValueError(f"`balance` (={self.balance}) must be from 0 to 1")
        height_and_width(self.image_size)


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a generator; vocabulary, classes and grid follow from tokenizer and data."""

    family: Literal["fmt", "decoder-only", "var"] = "fmt"
    """The Fully Masked Transformer; the decoder-only baseline, for the recipe ``ar`` alone; or a
    VAR, which needs a multi-scale tokenizer and its scales as the recipe (``raster-1,4,9``)."""
    preset: str = "B"
    """What the values below change: B, L or XL of the papers, tiny, emoji (FMT), d16 to d36 (VAR)
    and others; a wrong name lists them."""
    width: int | None = None
    heads: int | None = None
    encoder_layers: int | None = None
    """Of an FMT."""
    decoder_layers: int | None = None
    """Of an FMT."""
    layers: int | None = None
    """Of a decoder-only model or a VAR."""
    dropout: float | None = None
    class_dropout: float | None = None

    def __post_init__(self) -> None:
        presets = FAMILIES[self.family].presets
        if self.preset not in presets:
            raise ValueError(f"unknown preset {self.preset!r}; known: {', '.join(presets)}")
        for name in self._given().keys() - vars(presets[self.preset]).keys():
            raise ValueError(f"a model of the family {self.family!r} has no {name!r}")

    def _given(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if v is not None and k not in ("family", "preset")}

    def shape(self, tokenizer: Tokenizer, classes: int, grid: tuple[int, int]) -> GeneratorConfig:
        """The complete configuration; ValueError if the tokenizer does not fit the family."""
        base = FAMILIES[self.family].presets[self.preset]
        facts = {**self._given(), "vocabulary": tokenizer.vocabulary, "classes": classes}
        if self.family != "var":
            return dataclasses.replace(base, **facts, grid=grid)
        if not isinstance(tokenizer, MultiScaleVQ):
            raise ValueError("a model of the family 'var' needs a multi-scale tokenizer")
        dim = tokenizer.config.codebook_dim
        return dataclasses.replace(base, **facts, scales=tokenizer.scales, code_dim=dim)

    def create(self, tokenizer: Tokenizer, classes: int, grid: tuple[int, int]) -> GeneratorModel:
        """A freshly initialised model of this shape."""
        shape = self.shape(tokenizer, classes, grid)
        return FAMILIES[self.family].model(shape)  # type: ignore[arg-type]


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
class MultiScaleTokenizerRun:
    """A config file with ``task = "multiscale-tokenizer"``, the tokenizer of a VAR."""

    task: Literal["multiscale-tokenizer"]
    data: DataConfig
    tokenizer: MultiScaleConfig = field(default_factory=MultiScaleConfig)
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
    self_correction: float = 0.0
    """Of a VAR: up to this share of an image's codes is wrong while training, and later scales
    learn to make up for it (0.3 is good); keeps the features of all images in memory."""
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    """How the finished model is sampled by default, and how the pictures on the way are made."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        Recipe.parse(self.recipe)
        Recipe.parse(self.sampling.recipe)
        if not 0 <= self.self_correction <= 1:
            raise ValueError(f"`self_correction` (={self.self_correction}) must be from 0 to 1")
        if self.self_correction and self.model.family != "var":
            raise ValueError(
                "`self_correction` is for the family 'var': only its later scales can make up for "
                f"mistakes, those of {self.model.family!r} stay"
            )


Run = TokenizerRun | MultiScaleTokenizerRun | GeneratorRun
"""What a config file asks for."""

RUNS: dict[str, type[Run]] = {
    "tokenizer": TokenizerRun,
    "multiscale-tokenizer": MultiScaleTokenizerRun,
    "generator": GeneratorRun,
}
"""The kinds of runs by their ``task``."""


def read_run(path: Path, overrides: list[str]) -> Run:
    """The settings of a config file; ValueError in one line if something in it is wrong."""
    return make_run(read_toml(path, overrides), str(path))


def make_run(values: Mapping[str, Any], source: str) -> Run:
    """The settings of nested tables; ValueError, naming their ``source``, if one is wrong."""
    task = values.get("task")
    if not isinstance(task, str) or task not in RUNS:
        raise ValueError(f"{source}: `task` must be one of {', '.join(RUNS)}, not {task!r}")
    return build(RUNS[task], dict(values), source)


SETTINGS = "settings.json"
"""The file of a run's folder that remembers what the run was started with."""

FREE = {"steps", "log_every", "sample_every", "checkpoint_every", "keep", "device", "compile"}
"""Keys of ``loop`` that a resumed run may change; the others would make it another run."""


def write_settings(run: Run, folder: Path) -> None:
    """Remember the settings of a run in its folder."""
    text = json.dumps(dataclasses.asdict(run), indent=2)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def check_settings(run: Run, folder: Path) -> None:
    """Raise ValueError if a run in ``folder`` was started with settings that differ from these."""
    file = folder / SETTINGS
    if not file.is_file():
        return
    # Through `make_run`, so that a setting that came later has its default.
    started = make_run(json.loads(file.read_text(encoding="utf-8")), str(file))
    before = _flat(json.loads(json.dumps(dataclasses.asdict(started))))
    now = _flat(json.loads(json.dumps(dataclasses.asdict(run))))
    free = {f"loop.{key}" for key in FREE}
    for key in sorted((before.keys() | now.keys()) - free):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{folder} was started with {key} = {before.get(key)!r}, not {now.get(key)!r}: "
                "resume it as it was, or choose another --out"
            )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with keys such as ``loop.steps``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat |= {f"{prefix}{key}": value} if inner is None else inner
    return flat
