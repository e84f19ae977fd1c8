"""Training a generator: what a config says, what is minimised, and how both meet."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from setar import checkpoint
from setar.config import build, table
from setar.data.base import Dataset
from setar.models.base import FAMILIES, Generator, GeneratorConfig
from setar.models.condition import CONDITIONS
from setar.pictures.sheets import tile
from setar.pipeline import Pipeline
from setar.pretrained import load_tokenizer
from setar.recipes.recipe import Recipe
from setar.registry import did_you_mean, quoted
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.base import TOKENIZERS, Tokenizer, device_of, encode_images, through
from setar.training.data import DataConfig
from setar.training.distributed import Processes
from setar.training.loop import Exported, LoopConfig, Objective, Step, Trainer
from setar.training.optim import OptimizerConfig

SHOWN = 64
"""Pictures in a sheet of samples."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a generator: a family, one of its presets, and changes of that.

    Vocabulary, classes and grid (or scales) follow from tokenizer and data.
    """

    family: str
    """The Fully Masked Transformer ``fmt``; the baseline ``decoder-only``, for the recipe ``ar``
    alone; or ``var``, which needs a multi-scale tokenizer and its scales as the recipe
    (``raster-1,4,9``)."""
    preset: str
    """What the other keys change: B, L or XL of the papers, tiny, emoji, d16 to d36 (VAR) and
    others; a wrong name lists them."""
    shape: GeneratorConfig
    """The preset with all changes; every other key of the table is a field of it."""

    @classmethod
    def from_table(cls, value: Any, where: str) -> "ModelConfig":
        """Read the table ``model``; ValueError, saying ``where``, if something in it is wrong."""
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be a table, not {quoted(value)}")
        # Earlier versions wrote what a family has not as null into settings.json.
        changes = {key: inner for key, inner in value.items() if inner is not None}
        family, preset = changes.pop("family", "fmt"), changes.pop("preset", "B")
        try:
            kind = FAMILIES.find(family)
            if not isinstance(preset, str) or preset not in kind.presets:
                known = ", ".join(kind.presets)
                raise ValueError(f"{family!r} has no preset {quoted(preset)}; known: {known}")
            follows = {*kind.Config.TOKENIZER_FACTS}
            known_keys = ["family", "preset", *(table(kind.presets[preset]).keys() - follows)]
            for key in changes:
                if key in follows:
                    raise ValueError(f"`{key}` follows from tokenizer and data")
                if key not in known_keys:
                    hint = did_you_mean(key, known_keys)
                    raise ValueError(f"unknown key `{str(key)[:80]}`; {hint}")
            CONDITIONS.find(changes.get("condition", kind.presets[preset].condition))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        shape = build(kind.Config, {**table(kind.presets[preset]), **changes}, where)
        return cls(family, preset, shape)

    def to_table(self) -> dict[str, Any]:
        """The inverse of `from_table`."""
        base = table(FAMILIES.find(self.family).presets[self.preset])
        changes = {key: value for key, value in table(self.shape).items() if value != base[key]}
        return {"family": self.family, "preset": self.preset, **changes}

    def create(self, tokenizer: Tokenizer, data: Dataset, grid: tuple[int, int]) -> Generator:
        """A freshly initialised model for these codes; ValueError if the tokenizer does not fit."""
        facts = CONDITIONS.find(self.shape.condition).facts(data)
        shape = self.shape.fitted(tokenizer, facts, grid)
        return FAMILIES.find(self.family)(shape)


@dataclass(frozen=True)
class GeneratorRun:
    """A config file with ``task = "generator"``."""

    task: Literal["generator"]
    data: DataConfig
    recipe: Recipe
    """What is generated when, in training; see ``setar recipe``."""
    tokenizer: str = "pixels"
    """A model folder, a run's folder or a shipped name with a tokenizer; ``pixels`` for digits."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig.from_table({}, "model"))
    self_correction: float = 0.0
    """Of a VAR: up to this share of an image's codes is wrong while training, and later scales
    learn to make up for it (0.3 is good); keeps the features of all images in memory."""
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    """How the finished model is sampled by default, and how the pictures on the way are made."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    plugins: tuple[str, ...] = ()
    """Python files with things of your own, beside the config or in the working directory."""

    def __post_init__(self) -> None:
        if not 0 <= self.self_correction <= 1:
            raise ValueError(f"`self_correction` (={self.self_correction}) must be from 0 to 1")
        if self.self_correction and not FAMILIES.find(self.model.family).self_correcting:
            raise ValueError(
                "`self_correction` is for families whose later tokens can make up for mistakes, "
                f"such as 'var'; those of {self.model.family!r} stay"
            )

    def trainer(self, folder: Path, processes: Processes) -> Trainer:
        """The trainer of this run; ValueError if its parts do not fit."""
        self.loop.check_compiler()
        device, data = self.loop.resolve_device(), self.data.open()
        tokenizer = self._load_tokenizer(data).to(device)
        grid = tokenizer.grid(*data.shown(1).shape[-2:])
        model = self.model.create(tokenizer, data, grid).to(device)
        pipeline = Pipeline(model, tokenizer, data.classes, self.sampling, self.data.source)
        model.check(self.recipe.plan(pipeline.grid))
        model.check(self.sampling.recipe.sampling_plan(pipeline.grid, [torch.Generator()]))
        pipeline.check_sampling(self.sampling)
        images, labels = self.data.images(data), self.data.labels(data)
        epoch, bar = self.data.epoch(labels), processes.first and sys.stderr.isatty()
        if self.self_correction:
            features = through(tokenizer.features, images, device_of(tokenizer), bar)
            objective: Objective = SelfCorrectionObjective(
                model, features, labels, self.self_correction, epoch
            )
        else:
            codes = encode_images(tokenizer, images, bar)
            objective = GeneratorObjective(model, codes, labels, self.recipe, epoch)
        if self.loop.compile:
            model.compile(dynamic=False)

        def export(weights: Mapping[str, Tensor]) -> Exported:
            states = {"model": dict(weights), "tokenizer": dict(tokenizer.state_dict())}
            return pipeline.describe(), states

        def show(module: Generator, step: int) -> Tensor:
            shown = Pipeline(module, tokenizer, data.classes, self.sampling)
            ids, columns = shown_classes(len(data.classes))
            return tile(shown.decode(shown.sample_codes(ids, seed=0)), columns, scale=0)

        return Trainer(objective, self.optimizer, self.loop, folder, export, show, processes)

    def _load_tokenizer(self, data: Dataset) -> Tokenizer:
        own = data.tokenizer
        if own is not None and self.tokenizer == own["family"]:
            return checkpoint.create(own, TOKENIZERS)
        if self.tokenizer in TOKENIZERS and not os.path.exists(self.tokenizer):
            raise ValueError(
                f"`tokenizer` = {self.tokenizer!r} does not suit the data {self.data.source!r} "
                "untrained; name a trained tokenizer"
            )
        return load_tokenizer(self.tokenizer)


@dataclass(eq=False, repr=False)
class GeneratorObjective(Objective):
    """Cross-entropy of every supervised token under a recipe (algorithm 1)."""

    model: Generator
    """Predicts codes."""
    codes: Tensor
    """int64 ``[n, N]``, all training codes in raster order."""
    labels: Tensor
    """int64 ``[n]``."""
    recipe: Recipe
    """Orders and sets; each batch gets a fresh plan."""
    epoch: Tensor | None = None
    """Indices of the codes of one epoch, some of them repeated; None is each once."""

    def __post_init__(self) -> None:
        used = self.labels if self.epoch is None else self.epoch
        super().__init__({"model": self.model}, len(used))

    def losses(self, items: Tensor, step: int) -> Step:
        """Mean negative log-likelihood in nats per supervised token."""
        plan = self.recipe.plan(self.model.config.grid, len(items)).to(self.device)
        items = items if self.epoch is None else self.epoch[items]
        codes, labels = self.codes[items].to(self.device), self.labels[items].to(self.device)
        logits = self.model(codes, labels, plan)
        loss = token_loss(logits, codes.gather(1, plan.order), plan.supervised)
        return Step({"model": loss}, {"loss": loss.detach()})


@dataclass(eq=False, repr=False)
class SelfCorrectionObjective(Objective):
    """Cross-entropy of a VAR that makes up for mistakes (Infinity, arXiv 2412.04431, for bits).

    A VAR that saw right codes only is lost once it has drawn a wrong one, for every finer code
    depends on it. Here random codes take the place of some, and what is asked for are the codes
    that lead back to the image. So no two passes over an image are the same either, and it is
    hard to learn by heart.
    """

    model: Generator
    """Predicts codes; self-correcting."""
    features: Tensor
    """Float32 ``[n, C, rows, columns]`` of all training images, by its tokenizer."""
    labels: Tensor
    """int64 ``[n]``."""
    share: float
    """Of an image's codes up to this are wrong, drawn for each image from 0 on."""
    epoch: Tensor | None = None
    """As of `GeneratorObjective`."""

    def __post_init__(self) -> None:
        used = self.labels if self.epoch is None else self.epoch
        super().__init__({"model": self.model}, len(used))

    def losses(self, items: Tensor, step: int) -> Step:
        """Mean negative log-likelihood in nats per token."""
        rows, columns = self.model.config.grid
        items = items if self.epoch is None else self.epoch[items]
        shape = (len(items), rows * columns)
        wrong = torch.randint(self.model.config.vocabulary, shape).to(self.device)
        where = (torch.rand(shape) < self.share * torch.rand(len(items), 1)).to(self.device)
        features, labels = self.features[items].to(self.device), self.labels[items].to(self.device)
        logits, targets = self.model.after_mistakes(features, labels, wrong, where)
        loss = token_loss(logits, targets, torch.ones_like(where))
        return Step({"model": loss}, {"loss": loss.detach()})


def token_loss(logits: Tensor, targets: Tensor, supervised: Tensor) -> Tensor:
    """Float32 cross-entropy ``[B, N, V]`` against ``[B, N]``, mean over supervised tokens."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    counted = supervised.flatten().float()
    return (losses * counted).sum() / counted.sum().clamp_min(1)


def shown_classes(classes: int) -> tuple[list[int], int]:
    """About `SHOWN` class ids, and the columns to show them in: a row each if they are few."""
    each, shown = max(1, SHOWN // classes), min(classes, SHOWN)
    spread = [i * classes // shown for i in range(shown)]
    return [label for label in spread for _ in range(each)], each if each > 1 else 8
