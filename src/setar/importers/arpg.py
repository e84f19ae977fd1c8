"""ARPG's class-conditional models (arXiv 2503.10568): ``arpg_300m.pt``, ``_700m.pt``, ``_1b.pt``.

Their network is our `ARPGTransformer` under other names. One table of theirs holds all embeddings,
of which each kind has a table here; query, key and value of a self-attention are three matrices
there and one here. Every size is read off the tensors but heads and grid, as in `llamagen_gpt`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from setar.importers import foreign
from setar.models.arpg import ARPGConfig, ARPGTransformer
from setar.pretrained import load_tokenizer
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults

KIND = "an ARPG"

TABLE = "embeddings.weight"
"""All embeddings of theirs, in this order."""
CODES, QUERY, CLASSES = (f"{TABLE} ({part})" for part in ("codes", "mask token", "classes"))
"""The parts of it that are ours: V codes, the mask token, C classes and "no class"."""
BEYOND = "their drop token, which nothing reads"
"""The last row of it, for a kind of guidance that their public code has not."""

QUERY_KEY_VALUE = ("to_q", "to_k", "to_v")

# Our names to theirs.
OUTER_NAMES = {
    "tokens.weight": CODES,
    "query.weight": QUERY,
    "condition.table.weight": CLASSES,
    "memory.norm.weight": "layers.norm.weight",
    "memory.key.weight": "layers.to_k.weight",
    "memory.value.weight": "layers.to_v.weight",
    "norm.weight": "norm.weight",
    "head.weight": "head.weight",
}
PASSES = {"self_blocks": "layers.self_dec", "cross_blocks": "layers.cross_dec"}
BLOCK_NAMES = {
    "attention_norm": "attn_norm",
    "attention.qkv": "attn.(to_q, to_k, to_v)",  # as `_parts` calls them together
    "attention.query": "attn.to_q",
    "attention.output": "attn.proj",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "ffn.w1",
    "feed_forward.up": "ffn.w3",
    "feed_forward.down": "ffn.w2",
}

WRAPPERS = ("model", "module", "state_dict", "ema")
"""Entries of a checkpoint that hold the weights, in the order in which theirs are looked for."""

HEADS = {(1024, 24): 16, (1280, 36): 20, (1536, 48): 24}
"""Attention heads by width and layers of the published models: L, XL and XXL."""

SCALES = {(1024, 24): 5.0, (1280, 36): 6.0, (1536, 48): 7.5}
"""The guidance of the authors' commands of evaluation (their GETTING_STARTED.md), for 64 steps of
the schedule arccos; their table of results has others, of other schedules."""
USUAL_SCALE = 4.0
"""The guidance of their code where nothing is said."""


def import_arpg(
    file: Path,
    tokenizer: str | Path,
    out: Path,
    grid: tuple[int, int] = (16, 16),
    heads: int | None = None,
) -> ARPGTransformer:
    """Convert a checkpoint of ARPG and a tokenizer into the model folder ``out``.

    Sampled as published by default: recipe ``random-64-arccos``, guidance that rises linearly with
    the share of tokens done after a step, no filters. Classes are called "0", "1" and so on.

    Args:
        file: the checkpoint.
        tokenizer: a model folder with the tokenizer of its codes (see `llamagen_vq`).
        out: where to write.
        grid: rows and columns of tokens.
        heads: attention heads; None looks width and layers up in `HEADS`.

    Returns:
        The generator, as `convert` makes it.

    Raises:
        ValueError: a file cannot be read, is no such model, or does not fit the tokenizer; nothing
            is written then.
    """
    decoder = load_tokenizer(tokenizer)
    state = foreign.read(file, WRAPPERS)
    with foreign.blame(file):
        model = convert(state, grid, heads)
        scale = SCALES.get((model.config.width, model.config.layers), USUAL_SCALE)
        recipe = Recipe.parse(model.config.sampling_recipe)
        defaults = SamplingDefaults(recipe, Guidance(scale, "linear-after"))
        foreign.save(model, decoder, defaults, out)
    return model


def convert(
    state: Mapping[str, Tensor], grid: tuple[int, int] = (16, 16), heads: int | None = None
) -> ARPGTransformer:
    """ARPG's state dict as our model, in float32 and frozen; errors of `foreign.load`.

    All of it is used but the row that `BEYOND` names.

    Raises:
        ValueError: ``heads`` or ``grid`` is impossible, too.
    """
    config = infer_config(state, grid, heads)
    return foreign.load(ARPGTransformer, config, _parts(state, config), foreign_name, KIND)


def infer_config(
    state: Mapping[str, Tensor], grid: tuple[int, int] = (16, 16), heads: int | None = None
) -> ARPGConfig:
    """The shape of the model from its embeddings and its head; ValueError if it cannot be told."""
    rows, width = foreign.find(state, TABLE, ("rows", "width"), KIND).shape
    codes = len(foreign.find(state, "head.weight", ("codes", "width"), KIND))
    if rows < codes + 4:
        raise ValueError(
            f"{TABLE!r} (={rows} rows) must have {codes} codes, as 'head.weight', a mask token, at "
            "least one class, 'no class' and a drop token"
        )
    first, second = (foreign.count_parts(state, f"{name}.") for name in PASSES.values())
    if heads is None and (width, first + second) not in HEADS:
        raise ValueError(
            f"no published model with {first + second} layers has the width {width}, so its number "
            "of attention heads must be given (`heads`)"
        )
    return ARPGConfig(
        vocabulary=codes,
        classes=rows - codes - 3,
        grid=grid,
        width=width,
        heads=HEADS[width, first + second] if heads is None else heads,
        self_layers=first,
        cross_layers=second,
    )


def foreign_name(name: str) -> str:
    """ARPG's name of one of our tensors, or what `_parts` calls it.

    >>> foreign_name("cross_blocks.3.feed_forward.up.weight")
    'layers.cross_dec.3.ffn.w3.weight'
    """
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    blocks, index, inner = name.removesuffix(".weight").split(".", 2)
    return f"{PASSES[blocks]}.{index}.{BLOCK_NAMES[inner]}.weight"


def _parts(state: Mapping[str, Tensor], config: ARPGConfig) -> dict[str, Tensor]:
    """Their tensors, cut and joined as ours are."""
    parts, codes, width = dict(state), config.vocabulary, config.width
    table = parts.pop(TABLE)
    parts[CODES], parts[QUERY] = table[:codes], table[codes : codes + 1]
    parts[CLASSES] = table[codes + 1 : -1]
    for index in range(config.self_layers):
        layer = f"{PASSES['self_blocks']}.{index}.attn"
        names = [f"{layer}.{part}.weight" for part in QUERY_KEY_VALUE]
        matrices = [foreign.find(parts, name, (width, width), KIND) for name in names]
        if len(kinds := {matrix.dtype for matrix in matrices}) > 1:
            raise ValueError(f"{KIND}: {layer} mixes {', '.join(sorted(map(str, kinds)))}")
        for name in names:
            del parts[name]
        parts[f"{layer}.({', '.join(QUERY_KEY_VALUE)}).weight"] = torch.cat(matrices)
    return parts
