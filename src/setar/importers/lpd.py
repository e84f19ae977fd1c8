"""LPD's transformers (arXiv 2507.01957): ``lpd_l_256.pth``, ``lpd_xl_512.pth`` and the others.

Their network is our `LPD` under other names. Width, layers, vocabulary, classes and the number of
tokens are read off the tensors, and the grid is square; heads leave no trace there, but for all
published models they are of 64 numbers.
"""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from setar.importers import foreign
from setar.models.lpd import LPD, LPDConfig
from setar.pretrained import load_tokenizer
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults

KIND = "an LPD"

# Our names to theirs.
OUTER_NAMES = {
    "condition.table.weight": "class_emb.weight",
    "tokens.weight": "token_emb.weight",
    "positions.weight": "pos_embed",
    "query": "mask_token",
    "input_norm": "z_proj_ln",
    "norm": "norm",
    "head": "head",
}
BLOCK_NAMES = {
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.output": "attn.proj",
    "feed_forward_norm": "norm2",
    "feed_forward.0": "mlp.fc1",
    "feed_forward.3": "mlp.fc2",
}

NULL = "fake_latent"
"""Their vector of "no class", which is the last row of our table."""

WRAPPERS = ("model", "module", "state_dict")
"""Entries of a checkpoint that may hold the weights; theirs is the first."""

HEAD_DIM = 64
"""Numbers of a head in all published models."""

PUBLISHED = {
    (256, 1024): ("lpd-20-lpd", 4.8),
    (256, 1280): ("lpd-20-lpd", 4.9),
    (256, 1536): ("lpd-wide-20-lpd", 5.9),
    (1024, 1024): ("lpd-48-lpd", 7.3),
    (1024, 1280): ("lpd-48-lpd", 6.0),
}
"""Recipe and guidance of the published scores by the number of tokens and the width: L, XL, XXL."""
USUAL = 1024
"""The width of L, whose settings those of other widths take."""


def import_lpd(file: Path, tokenizer: str | Path, out: Path, heads: int | None = None) -> LPD:
    """Convert a checkpoint of LPD and a tokenizer into the model folder ``out``.

    Sampled as published by default: recipe ``lpd-20-lpd``, or ``lpd-48-lpd`` on 32x32 tokens, and
    its guidance in LPD's dialect, ``linear-token``, see `PUBLISHED`. Classes are called "0", "1"
    and so on.

    Args:
        file: the checkpoint.
        tokenizer: a model folder with the tokenizer of its codes (see `llamagen_vq`).
        out: where to write.
        heads: attention heads; None are those of the published models.

    Returns:
        The generator, as `convert` makes it.

    Raises:
        ValueError: a file cannot be read, is no such model, or does not fit the tokenizer; nothing
            is written then.
    """
    decoder = load_tokenizer(tokenizer)
    state = foreign.read(file, WRAPPERS)
    with foreign.blame(file):
        model = convert(state, heads)
        rows, columns = model.config.grid
        own = model.config.sampling_recipe, PUBLISHED[256, USUAL][1]
        usual = PUBLISHED.get((rows * columns, USUAL), own)
        recipe, guidance = PUBLISHED.get((rows * columns, model.config.width), usual)
        defaults = SamplingDefaults(Recipe.parse(recipe), Guidance(guidance, "linear-token"))
        foreign.save(model, decoder, defaults, out)
    return model


def convert(state: Mapping[str, Tensor], heads: int | None = None) -> LPD:
    """LPD's state dict as our model, in float32 and frozen; errors of `foreign.load`.

    Raises:
        ValueError: heads that are needed and not given, or that do not fit; tokens that fill no
            square grid.
    """
    config = infer_config(state, heads)
    width, rows = config.width, config.grid[0]
    positions = foreign.find(state, "pos_embed", (1, 1 + rows * rows, width), KIND)[0]
    query = foreign.find(state, "mask_token", (1, 1, width), KIND)[0, 0]
    null = foreign.find(state, NULL, (1, width), KIND)
    classes = torch.cat([state["class_emb.weight"], null.to(state["class_emb.weight"])])
    own = {"class_emb.weight": classes, "pos_embed": positions, "mask_token": query}
    return foreign.load(LPD, config, {**state, **own}, foreign_name, KIND, {NULL})


def infer_config(state: Mapping[str, Tensor], heads: int | None = None) -> LPDConfig:
    """The shape of the model from its embeddings; ValueError if it cannot be told."""
    classes, width = foreign.find(state, "class_emb.weight", ("classes", "width"), KIND).shape
    codes = len(foreign.find(state, "token_emb.weight", ("codes", width), KIND))
    tokens = foreign.find(state, "pos_embed", (1, "tokens + 1", width), KIND).shape[1] - 1
    side = isqrt(max(0, tokens))
    if side * side != tokens:
        raise ValueError(f"'pos_embed' has {tokens} tokens after the class, which fill no square")
    if heads is None and width % HEAD_DIM:
        raise ValueError(
            f"no published model has the width {width}, so its number of attention heads must be "
            "given (`heads`)"
        )
    return LPDConfig(
        vocabulary=codes,
        classes=classes,
        grid=(side, side),
        width=width,
        heads=width // HEAD_DIM if heads is None else heads,
        layers=foreign.count_parts(state, "blocks."),
    )


def foreign_name(name: str) -> str:
    """LPD's name of one of our tensors.

    >>> foreign_name("blocks.3.feed_forward.3.bias"), foreign_name("positions.weight")
    ('blocks.3.mlp.fc2.bias', 'pos_embed')
    """
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    part, _, kind = name.rpartition(".")
    if part in OUTER_NAMES:
        return f"{OUTER_NAMES[part]}.{kind}"
    _, index, inner = part.split(".", 2)
    return f"blocks.{index}.{BLOCK_NAMES[inner]}.{kind}"
