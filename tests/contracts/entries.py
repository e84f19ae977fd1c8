"""Every entry of every table, plugins included, and small working examples of it.

The tests of this folder run over them: what a contract promises is tested once, for all.
"""

import dataclasses
from functools import cache
from pathlib import Path

import torch

from random_weights import randomise
from setar.data.base import DATASETS
from setar.evaluation.metrics import METRICS
from setar.features.base import EXTRACTORS
from setar.models.base import FAMILIES, Generator
from setar.models.condition import CONDITIONS
from setar.pipeline import Pipeline
from setar.recipes.orders import ORDERS
from setar.recipes.recipe import Recipe
from setar.recipes.schedules import SCHEDULES
from setar.registry import load_plugin
from setar.sampling.guidance import GUIDANCE, Guidance
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.base import TOKENIZERS, Tokenizer
from setar.tokenizers.multiscale import MultiScaleConfig

EXAMPLES = Path(__file__).parents[2] / "examples"
for plugin in sorted(EXAMPLES.glob("plugin*.py")):
    load_plugin(plugin)

TABLES = {
    "family": FAMILIES,
    "tokenizer": TOKENIZERS,
    "condition": CONDITIONS,
    "data set": DATASETS,
    "extractor": EXTRACTORS,
    "metric": METRICS,
    "guidance": GUIDANCE,
    "order": ORDERS,
    "schedule": SCHEDULES,
}

CLASSES = ("cat", "dog", "sun", "sea", "42")


@cache
def tokenizer_of(family: str) -> Tokenizer:
    """An untrained tokenizer for the tiny preset of a family, its weights random."""
    config = FAMILIES.find(family).presets["tiny"]
    scales = getattr(config, "scales", None)
    if scales is None:
        kind = TOKENIZERS.find("vqgan")
        shape = dataclasses.replace(kind.presets["tiny"], codebook_size=config.vocabulary)
    else:
        kind = TOKENIZERS.find("multiscale")
        shape = MultiScaleConfig(
            8, (1, 1, 2), 1, config.vocabulary, config.code_dim, scales=scales, phis=2
        )
    torch.manual_seed(0)
    return kind(shape).eval().requires_grad_(False)


def make(family: str, seed: int = 0, **changes: object) -> Generator:
    """A tiny model of a family with all its weights random, in evaluation mode."""
    kind = FAMILIES.find(family)
    model = randomise(kind(dataclasses.replace(kind.presets["tiny"], **changes)), seed)
    model.attach(tokenizer_of(family))
    return model.eval().requires_grad_(False)


def recipes(family: str) -> list[str]:
    """What a family is tested with: any order and sets, if it can make them."""
    kind = FAMILIES.find(family)
    if kind.editing != "kept-first":
        return [kind.presets["tiny"].recipe]
    return ["ar", "random-4-cosine", "next-scale", "raster-3,1,12", "halton-5-uniform"]


def pipeline(family: str, guidance: float = 1.0) -> Pipeline:
    """A tiny model of a family with its tokenizer."""
    recipe = Recipe.parse(recipes(family)[-1])
    defaults = SamplingDefaults(recipe, Guidance(guidance))
    return Pipeline(make(family), tokenizer_of(family), CLASSES, defaults)


def codes_for(model: Generator, batch: int, seed: int = 0) -> torch.Tensor:
    """Random codes int64 ``[batch, N]``."""
    rows, columns = model.config.grid
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.vocabulary, (batch, rows * columns), generator=generator)
