"""Set-autoregressive image generation: choose an order, choose the sets, generate.

The public names are imported on first use, so that ``import setar`` stays instant.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from setar.evaluation.metrics import register_metric
    from setar.models.decoder_only import DecoderOnlyTransformer
    from setar.models.fmt import FullyMaskedTransformer
    from setar.models.var import VARTransformer
    from setar.pictures.sheets import grid
    from setar.pipeline import Pipeline
    from setar.recipes.orders import register_order
    from setar.recipes.recipe import Recipe, SetPlan
    from setar.recipes.schedules import register_schedule
    from setar.registry import load_plugin
    from setar.sampling.guidance import register_guidance
    from setar.tokenizers.multiscale import MultiScaleVQ
    from setar.tokenizers.vqgan import VQGAN
    from setar.training.run import train

__version__ = "0.6.0"

# torch then takes memory for caches and logits in pages of 2 MB where Linux has them: touching
# fresh pages of 4 KB is most of what copies cost a sampling. It is read at the first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_PUBLIC = {
    "DecoderOnlyTransformer": "setar.models.decoder_only",
    "FullyMaskedTransformer": "setar.models.fmt",
    "MultiScaleVQ": "setar.tokenizers.multiscale",
    "Pipeline": "setar.pipeline",
    "Recipe": "setar.recipes.recipe",
    "SetPlan": "setar.recipes.recipe",
    "VARTransformer": "setar.models.var",
    "VQGAN": "setar.tokenizers.vqgan",
    "grid": "setar.pictures.sheets",
    "load_plugin": "setar.registry",
    "register_guidance": "setar.sampling.guidance",
    "register_metric": "setar.evaluation.metrics",
    "register_order": "setar.recipes.orders",
    "register_schedule": "setar.recipes.schedules",
    "train": "setar.training.run",
}

__all__ = [
    "VQGAN",
    "DecoderOnlyTransformer",
    "FullyMaskedTransformer",
    "MultiScaleVQ",
    "Pipeline",
    "Recipe",
    "SetPlan",
    "VARTransformer",
    "grid",
    "load_plugin",
    "register_guidance",
    "register_metric",
    "register_order",
    "register_schedule",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'setar' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
