"""LlamaGen's class-conditional GPTs (arXiv 2406.06525): B, L, XL, XXL and 3B.

Their network is our `DecoderOnlyTransformer` under other names, with a class token that rotary
embedding sets to zero. Width, layers, vocabulary and classes are read off the tensors; heads and
grid leave no trace there. Of the heads of published models a table tells; the grid is asked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from setar.importers import foreign
from setar.models.decoder_only import DecoderOnlyConfig, DecoderOnlyTransformer
from setar.pretrained import load_tokenizer
from setar.recipes.recipe import Recipe
from setar.registry import quoted
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults

KIND = "a class-conditional GPT of LlamaGen"

# Our names to theirs.
OUTER_NAMES = {
    "condition.table": "cls_embedding.embedding_table",
    "tokens": "tok_embeddings",
    "norm": "norm",
    "head": "output",
}
BLOCK_NAMES = {
    "attention_norm": "attention_norm",
    "attention.qkv": "attention.wqkv",
    "attention.output": "attention.wo",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "feed_forward.w1",
    "feed_forward.up": "feed_forward.w3",
    "feed_forward.down": "feed_forward.w2",
}
CLASS_TABLE = "cls_embedding.embedding_table.weight"

ANGLES = "freqs_cis"
"""Rotary angles, a constant of grid and heads that some files carry."""

WRAPPERS = ("model", "module", "state_dict", "ema")
"""Entries of a checkpoint that hold the weights, in the order in which theirs are looked for; the
largest models (XXL, 3B) lie bare."""

HEADS = {(768, 12): 12, (1024, 24): 16, (1280, 36): 20, (1536, 48): 24, (3200, 24): 32}
"""Attention heads by width and layers of the published models: B, L, XL, XXL and 3B."""

SCALES = {1280: 1.75, 1536: 1.75, 3200: 1.65}
"""Guidance by width that the authors sample XL, XXL and 3B with."""
SCALE = 2.0
"""The guidance of all others."""

IMAGENET = 1000
"""Classes of all published models."""


def import_llamagen_gpt(
    file: Path,
    tokenizer: str | Path,
    out: Path,
    grid: tuple[int, int] = (16, 16),
    heads: int | None = None,
    classes: int | None = None,
) -> DecoderOnlyTransformer:
    """Convert a checkpoint of LlamaGen's GPT and a tokenizer into the model folder ``out``.

    Sampled as published by default: recipe ``ar``, constant guidance of 2.0, less for XL and larger
    (`SCALES`; off for a model that was trained without class dropout), no filters. Classes are
    called "0", "1" and so on.

    Args:
        file: the checkpoint.
        tokenizer: a model folder with the tokenizer of its codes (see `llamagen_vq`).
        out: where to write.
        grid: rows and columns of tokens.
        heads: attention heads; None looks width and layers up in `HEADS`.
        classes: their number; None takes the last row of the class table for "no class", and asks
            if there are just the 1000 rows that ImageNet would have without.

    Returns:
        The generator, as `convert` makes it.

    Raises:
        ValueError: a file cannot be read, is no such model, or does not fit the tokenizer; nothing
            is written then.
    """
    decoder = load_tokenizer(tokenizer)
    state = foreign.read(file, WRAPPERS)
    with foreign.blame(file):
        model = convert(state, grid, heads, classes)
        scale = SCALES.get(model.config.width, SCALE)
        guidance = Guidance(scale if model.config.class_dropout else 1.0)
        foreign.save(model, decoder, SamplingDefaults(Recipe.parse("ar"), guidance), out)
    return model


def convert(
    state: Mapping[str, Tensor],
    grid: tuple[int, int] = (16, 16),
    heads: int | None = None,
    classes: int | None = None,
) -> DecoderOnlyTransformer:
    """LlamaGen's state dict as our model, in float32 and frozen; errors of `foreign.load`.

    Raises:
        ValueError: ``heads``, ``grid`` or ``classes`` is impossible, too.
    """
    config = infer_config(state, grid, heads, classes)
    check_angles(state, config, KIND)
    if config.class_dropout == 0:
        state = with_null(state)
    return foreign.load(DecoderOnlyTransformer, config, state, foreign_name, KIND, {ANGLES})


def infer_config(
    state: Mapping[str, Tensor],
    grid: tuple[int, int] = (16, 16),
    heads: int | None = None,
    classes: int | None = None,
) -> DecoderOnlyConfig:
    """The shape of the model from its embeddings; ValueError if it cannot be told."""
    shape = infer_shape(state, grid, heads, classes, KIND)
    return DecoderOnlyConfig(**shape, class_rotation="zero")


def infer_shape(
    state: Mapping[str, Tensor],
    grid: tuple[int, int],
    heads: int | None,
    classes: int | None,
    kind: str,
) -> dict[str, Any]:
    """Fields of a config that networks of LlamaGen's names share; ValueError of both parts."""
    rows, null = infer_classes(state, classes, kind)
    return {
        **infer_network(state, heads, kind),
        "classes": rows - 1 if null else rows,
        "grid": grid,
        "class_dropout": 0.1 if null else 0.0,
    }


def infer_classes(state: Mapping[str, Tensor], classes: int | None, kind: str) -> tuple[int, bool]:
    """Rows of the class table, and whether the last is "no class"; ValueError if none can tell.

    A model that was trained without class dropout has no such row.
    """
    rows = len(foreign.find(state, CLASS_TABLE, ("classes", "width"), kind))
    if classes is None and rows == IMAGENET:
        raise ValueError(
            f"{CLASS_TABLE!r} has 1000 rows, which may be 1000 classes, or 999 and 'no class': say "
            "which, --classes 1000 or --classes 999 (in Python: classes=1000)"
        )
    if classes not in (None, rows, rows - 1):
        raise ValueError(
            f"`classes` (={quoted(classes)}) must be {rows - 1}, or {rows} if there is no row for "
            f"'no class': {CLASS_TABLE!r} has {rows} rows"
        )
    return rows, classes != rows


def with_null(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with a row for "no class", which our table has in any case; nothing reads it."""
    rows = state[CLASS_TABLE]
    return {**state, CLASS_TABLE: torch.cat([rows, torch.zeros_like(rows[:1])])}


def infer_network(state: Mapping[str, Tensor], heads: int | None, kind: str) -> dict[str, Any]:
    """Vocabulary, width, layers and heads of any GPT of theirs, whatever it is conditioned on."""
    codes, width = foreign.find(state, "tok_embeddings.weight", ("codes", "width"), kind).shape
    layers = foreign.count_parts(state, "layers.")
    if heads is None and (width, layers) not in HEADS:
        raise ValueError(
            f"no published model with {layers} layers has the width {width}, so its number of "
            "attention heads must be given (`heads`)"
        )
    heads = HEADS[width, layers] if heads is None else heads
    return {"vocabulary": codes, "width": width, "layers": layers, "heads": heads}


def check_angles(state: Mapping[str, Tensor], config: DecoderOnlyConfig, kind: str) -> None:
    """Raise ValueError if the file's rotary angles, where it has any, are of another shape."""
    if ANGLES in state:
        tokens = config.condition_length + config.grid[0] * config.grid[1]
        foreign.find(state, ANGLES, (tokens, config.width // config.heads // 2, 2), kind)


def foreign_name(name: str) -> str:
    """LlamaGen's name of one of our tensors.

    >>> foreign_name("blocks.3.feed_forward.gate.weight")
    'layers.3.feed_forward.w1.weight'
    """
    part = name.removesuffix(".weight")
    if part in OUTER_NAMES:
        return f"{OUTER_NAMES[part]}.weight"
    _, index, inner = part.split(".", 2)
    return f"layers.{index}.{BLOCK_NAMES[inner]}.weight"
