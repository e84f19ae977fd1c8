"""From a config to a trainer: data, tokenizer, model, objective, and the pictures on the way."""

import math
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from setar import checkpoint
from setar.data import digits, emoji
from setar.data.images import FolderImages, Images, MirroredImages
from setar.features.efficientnet import EfficientNetLite0
from setar.models.next_scale import VARGenerator
from setar.pictures import stack, tile
from setar.pipeline import Pipeline
from setar.pretrained import load_tokenizer
from setar.recipes.recipe import Recipe
from setar.tokenizers.base import Tokenizer, encode_images, reconstruct, through, to_uint8
from setar.tokenizers.losses import FeatureMaps
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig
from setar.tokenizers.reconstruction import stages
from setar.tokenizers.vqgan import VQGAN
from setar.training.objectives import (
    GeneratorObjective,
    SelfCorrectionObjective,
    TokenizerObjective,
)
from setar.training.processes import Processes, join
from setar.training.settings import (
    DataConfig,
    GeneratorRun,
    MultiScaleTokenizerRun,
    Run,
    TokenizerRun,
)
from setar.training.trainer import Trainer

SHOWN = 64
"""Pictures in a sample grid."""


@dataclass(frozen=True)
class TrainingData:
    """Labelled images; ``images[indices]`` is uint8 ``[B, 3, H, W]``."""

    images: Images
    labels: Tensor
    classes: tuple[str, ...]
    heldout: Tensor
    """Images to show that are never trained on (a folder has none: its first ones)."""


def load_data(config: DataConfig) -> TrainingData:
    """The training images of a config; ValueError if there are none."""
    if config.source == "emoji":
        train, heldout = emoji.load("train"), emoji.load("heldout")
        return TrainingData(train.images, train.labels, emoji.subgroups(), heldout.images[:SHOWN])
    if config.source == "digits":
        train, heldout = digits.load("train"), digits.load("heldout")
        pixels = [_grey(split.codes) for split in (train, heldout)]
        return TrainingData(pixels[0], train.labels, tuple("0123456789"), pixels[1][:SHOWN])
    images = FolderImages(Path(config.source), config.image_size)
    first = images[torch.arange(min(SHOWN, len(images)))]
    return TrainingData(images, images.labels, images.classes, first)


def _grey(codes: Tensor) -> Tensor:
    tokenizer = PixelLevels(PixelLevelsConfig(digits.VOCABULARY))
    return to_uint8(tokenizer.decode(codes, digits.GRID))


def make_trainer(run: Run, folder: Path) -> Trainer:
    """The trainer of a run; everything random in it follows from the config's seed."""
    _check_compiler(run)
    processes = join()
    torch.manual_seed(run.loop.seed)
    data = load_data(run.data)
    if isinstance(run, GeneratorRun):
        return _generator_trainer(run, data, folder, processes)
    return _tokenizer_trainer(run, data, folder, processes)


def _check_compiler(run: Run) -> None:
    """Refuse ``loop.compile`` where it cannot work, before anything is done."""
    if not run.loop.compile:
        return
    if not isinstance(run, GeneratorRun):
        raise ValueError("`loop.compile` is for generators; leave it out for a tokenizer")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        raise ValueError(
            "`loop.compile` needs a C++ compiler (g++); without one: --set loop.compile=false"
        )


def _tokenizer_trainer(
    run: TokenizerRun | MultiScaleTokenizerRun,
    data: TrainingData,
    folder: Path,
    processes: Processes,
) -> Trainer:
    device = run.loop.resolve_device()
    model = VQGAN(run.tokenizer) if isinstance(run, TokenizerRun) else MultiScaleVQ(run.tokenizer)
    model.to(device)
    model.grid(*data.heldout.shape[-2:])
    _check_critic(run, min(data.heldout.shape[-2:]))
    maps = None
    if run.loss.perceptual:
        maps = _feature_maps(EfficientNetLite0.pretrained().to(device))
    images: Images = MirroredImages(data.images) if run.data.flips else data.images
    objective = TokenizerObjective(model, images, run.loss, maps, processes)

    def export(weights: Mapping[str, Tensor]) -> Any:
        return {"tokenizer": checkpoint.describe(model)}, {"tokenizer": dict(weights)}

    def show(module: nn.Module, step: int) -> Tensor:
        if isinstance(module, MultiScaleVQ):
            pictures = (reconstructions(module, data.heldout), progression(module, data.heldout))
            return stack(pictures)
        return reconstructions(module, data.heldout)  # type: ignore[arg-type]

    return Trainer(objective, run.optimizer, run.loop, folder, export, show, processes)


def _check_critic(run: TokenizerRun | MultiScaleTokenizerRun, side: int) -> None:
    smallest = 3 * 2**run.loss.critic_layers
    if run.loss.adversarial and side < smallest:
        raise ValueError(
            f"a critic of `critic_layers` (={run.loss.critic_layers}) needs images of at least "
            f"{smallest} pixels a side; these have {side}"
        )


def _feature_maps(network: EfficientNetLite0) -> FeatureMaps:
    """The first three stages: edges and textures, before the class of things matters."""
    return lambda images: list(islice(network.stages(images), 3))


def reconstructions(tokenizer: Tokenizer, images: Tensor, columns: int = 16) -> Tensor:
    """Rows of originals, uint8 ``[n, 3, H, W]``, each above the row of their reconstructions.

    Only full rows are shown; fewer images than ``columns`` make one shorter row.
    """
    columns = min(columns, len(images))
    images = images[: len(images) // columns * columns]
    decoded = reconstruct(tokenizer, images)
    rows = zip(images.split(columns), decoded.split(columns), strict=True)
    return tile(torch.cat([half for pair in rows for half in pair]), columns, _scale(images))


def progression(tokenizer: MultiScaleVQ, images: Tensor, rows: int = 4) -> Tensor:
    """A row for each of some images, uint8 ``[n, 3, H, W]``: scale by scale, then the original."""
    rows = min(rows, len(images))
    images = images[torch.arange(rows) * len(images) // rows]
    columns = [*stages(tokenizer, images), images]
    return tile(torch.stack(columns, 1).flatten(0, 1), len(columns), _scale(images))


def _scale(images: Tensor) -> int:
    """Enlarge small pictures so that a person can see them."""
    return max(1, math.ceil(48 / images.shape[-1]))


def _generator_trainer(
    run: GeneratorRun, data: TrainingData, folder: Path, processes: Processes
) -> Trainer:
    device = run.loop.resolve_device()
    tokenizer = _tokenizer(run).to(device)
    grid = tokenizer.grid(*data.heldout.shape[-2:])  # type: ignore[operator]
    model = run.model.create(tokenizer, len(data.classes), grid)  # type: ignore[arg-type]
    model = model.to(device)
    recipe = Recipe.parse(run.recipe)
    pipeline = Pipeline(model, tokenizer, data.classes, run.sampling)  # type: ignore[arg-type]
    sampling = Recipe.parse(run.sampling.recipe)
    pipeline.generator.check(recipe.plan(pipeline.grid))
    pipeline.generator.check(sampling.sampling_plan(pipeline.grid, [torch.Generator()]))
    images, labels = data.images, data.labels
    if run.data.flips:
        images, labels = MirroredImages(images), torch.cat([labels, labels])
    bar = processes.first and sys.stderr.isatty()
    objective = _generator_objective(run, pipeline, images, labels, bar)

    def export(weights: Mapping[str, Tensor]) -> Any:
        states = {"model": dict(weights), "tokenizer": dict(tokenizer.state_dict())}
        return pipeline.describe(), states

    def show(module: nn.Module, step: int) -> Tensor:
        ids, columns = shown_classes(len(data.classes))
        pixels = pipeline.decode(pipeline.sample_codes(ids, seed=0))
        return tile(pixels, columns, _scale(pixels))

    return Trainer(objective, run.optimizer, run.loop, folder, export, show, processes)


def _generator_objective(
    run: GeneratorRun, pipeline: Pipeline, images: Images, labels: Tensor, bar: bool
) -> GeneratorObjective | SelfCorrectionObjective:
    """What is minimised: with or without mistakes to make up for."""
    tokenizer, generator = pipeline.tokenizer, pipeline.generator
    epoch, compile = balanced(labels, run.data.balance), run.loop.compile
    if not run.self_correction:
        codes = encode_images(tokenizer, images, bar)
        recipe, grid = Recipe.parse(run.recipe), pipeline.grid
        return GeneratorObjective(generator, codes, labels, recipe, grid, compile, epoch)
    assert isinstance(generator, VARGenerator)
    assert isinstance(tokenizer, MultiScaleVQ)
    device = next(tokenizer.parameters()).device
    features = through(tokenizer.features, images, device, bar)
    share = run.self_correction
    return SelfCorrectionObjective(generator, features, labels, share, compile, epoch)


def balanced(labels: Tensor, balance: float) -> Tensor:
    """Indices of the images of one epoch: those of small classes are repeated (`DataConfig`)."""
    counts = torch.bincount(labels)
    repeats = (counts.max() / counts.clamp_min(1)).pow(balance).round().long()
    return torch.arange(len(labels)).repeat_interleave(repeats[labels])


def shown_classes(classes: int) -> tuple[list[int], int]:
    """About `SHOWN` class ids, and the columns to show them in: a row each if they are few."""
    each, shown = max(1, SHOWN // classes), min(classes, SHOWN)
    spread = [i * classes // shown for i in range(shown)]
    return [label for label in spread for _ in range(each)], each if each > 1 else 8


def _tokenizer(run: GeneratorRun) -> nn.Module:
    if run.tokenizer == "pixels":
        if run.data.source != "digits":
            raise ValueError("`tokenizer` = 'pixels' is for the digits; name a trained tokenizer")
        return PixelLevels(PixelLevelsConfig(digits.VOCABULARY))
    return load_tokenizer(run.tokenizer)
