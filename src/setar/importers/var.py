"""VAR's transformers (arXiv 2404.02905): ``var_d16.pth``, ``var_d20.pth``, ... and ``var_d36.pth``.

Their network is our `VARTransformer` under other names. Every size is read off the tensors, but for
the rows and columns of the scales: these are the tokenizer's, and what the file says of them must
agree.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from setar.importers import foreign
from setar.models.base import Scales
from setar.models.var import SCALES_256, VARConfig, VARTransformer
from setar.pretrained import load_tokenizer
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings

KIND = "a VAR transformer"

# Our names to theirs.
OUTER_NAMES = {
    "condition.table": "class_emb",
    "start_positions.weight": "pos_start",
    "words": "word_embed",
    "levels": "lvl_embed",
    "positions.weight": "pos_1LC",
    "shared_modulation": "shared_ada_lin.1",
    "head_modulation": "head_nm.ada_lin.1",
    "head": "head",
}
BLOCK_NAMES = {
    "modulation": "ada_lin.1",
    "modulation.offset": "ada_gss",
    "attention.qkv": "attn.mat_qkv",
    "attention.query_bias": "attn.q_bias",
    "attention.value_bias": "attn.v_bias",
    "attention.log_scale": "attn.scale_mul_1H11",
    "attention.output": "attn.proj",
    "feed_forward.0": "ffn.fc1",
    "feed_forward.2": "ffn.fc2",
}

WRAPPERS = ("trainer", "var_wo_ddp", "model", "state_dict", "module", "ema")
"""Entries of a checkpoint that may hold the weights: those of VAR's own training, and usual ones.
The published files have them bare."""

PUBLISHED = Guidance(1.5, "var"), SamplingSettings(top_k=900, top_p=0.96)
"""What the published scores were sampled with."""


def import_var(file: Path, tokenizer: str | Path, out: Path) -> VARTransformer:
    """Convert a checkpoint of VAR and a tokenizer into the model folder ``out``.

    Sampled as published by default: guidance 1.5 in VAR's dialect, top-k 900, top-p 0.96. Classes
    are called "0", "1" and so on.

    Args:
        file: the checkpoint.
        tokenizer: a model folder with the tokenizer of its codes (see `var_vqvae`).
        out: where to write.

    Returns:
        The generator, as `convert` makes it.

    Raises:
        ValueError: a file cannot be read, is no such model, or does not fit the tokenizer; nothing
            is written then.
    """
    decoder = load_tokenizer(tokenizer)
    if decoder.scales is None:
        raise ValueError(f"the tokenizer {tokenizer} has one scale; a VAR needs a multi-scale one")
    state = foreign.read(file, WRAPPERS)
    with foreign.blame(file):
        model = convert(state, decoder.scales)
        if model.config.code_dim != decoder.code_dim:
            raise ValueError(
                f"the tokenizer {tokenizer} has codes of {decoder.code_dim} dimensions, "
                f"the model of {model.config.code_dim}"
            )
        defaults = SamplingDefaults(Recipe.parse(model.config.recipe), *PUBLISHED)
        foreign.save(model, decoder, defaults, out)
    return model


def convert(state: Mapping[str, Tensor], scales: Scales = SCALES_256) -> VARTransformer:
    """VAR's state dict as our model, in float32 and frozen; errors of `foreign.load`.

    Raises:
        ValueError: ``scales``, which are the tokenizer's, are not those of the model, too.
    """
    config = infer_config(state, scales)
    constants = _check_constants(state, config)
    tensors = _flattened(state, config)
    return foreign.load(VARTransformer, config, tensors, foreign_name, KIND, constants)


def infer_config(state: Mapping[str, Tensor], scales: Scales = SCALES_256) -> VARConfig:
    """The shape of the model from its embeddings and its head; ValueError if it cannot be told."""
    table = foreign.find(state, "class_emb.weight", ("classes", "width"), KIND)
    words = foreign.find(state, "word_embed.weight", ("width", "dimensions"), KIND)
    head = foreign.find(state, "head.weight", ("codes", "width"), KIND)
    axes = ("1", "heads", "1", "1")
    sharpness = foreign.find(state, "blocks.0.attn.scale_mul_1H11", axes, KIND)
    layers = foreign.count_parts(state, "blocks.")
    return VARConfig(
        vocabulary=head.shape[0],
        code_dim=words.shape[1],
        classes=table.shape[0] - 1,
        scales=scales,
        width=table.shape[1],
        heads=sharpness.shape[1],
        layers=layers,
        shared_adaln="shared_ada_lin.1.weight" in state,
        drop_path=0.1 * layers / 24,
    )


def foreign_name(name: str) -> str:
    """VAR's name of one of our tensors.

    >>> foreign_name("blocks.3.attention.query_bias"), foreign_name("blocks.3.feed_forward.2.bias")
    ('blocks.3.attn.q_bias', 'blocks.3.ffn.fc2.bias')
    """
    if not name.startswith("blocks."):
        return _renamed(name, OUTER_NAMES)
    _, index, inner = name.split(".", 2)
    return f"blocks.{index}.{_renamed(inner, BLOCK_NAMES)}"


def _renamed(name: str, table: Mapping[str, str]) -> str:
    part, _, kind = name.rpartition(".")
    return table[name] if name in table else f"{table[part]}.{kind}"


def _check_constants(state: Mapping[str, Tensor], config: VARConfig) -> list[str]:
    """The names of buffers that follow from the sizes; ValueError if one in the file is another."""
    tokens, biases = config.tokens, [f"blocks.{i}.attn.zero_k_bias" for i in range(config.layers)]
    if "lvl_1L" in state:  # the scale of each token
        found = torch.unique_consecutive(state["lvl_1L"], return_counts=True)[1].tolist()
        if found != [*config.sizes]:
            theirs, ours = (", ".join(map(str, lengths)) for lengths in (found, config.sizes))
            raise ValueError(f"its scales have {theirs:.80} tokens, the tokenizer's {ours:.80}")
    shapes = {"lvl_1L": (1, tokens), "attn_bias_for_masking": (1, 1, tokens, tokens)}
    for name, shape in shapes.items():
        if name in state:
            foreign.find(state, name, shape, KIND)
    for name in biases:
        if name in state and foreign.find(state, name, (config.width,), KIND).any():
            raise ValueError(f"{name!r} must be zero: keys of a VAR have no bias")
    return [*biases, *shapes]


def _flattened(state: Mapping[str, Tensor], config: VARConfig) -> dict[str, Tensor]:
    """Their tensors, those with axes of size 1 in our shape."""
    flattened, width = dict(state), config.width
    for name, length in (("pos_start", config.sizes[0]), ("pos_1LC", config.tokens)):
        if name in state:
            flattened[name] = foreign.find(state, name, (1, length, width), KIND)[0]
    shapes = {"attn.scale_mul_1H11": (1, config.heads, 1, 1), "ada_gss": (1, 1, 6, width)}
    for index in range(config.layers):
        for inner, shape in shapes.items():
            name = f"blocks.{index}.{inner}"
            if name in state:
                flattened[name] = foreign.find(state, name, shape, KIND).flatten()
    return flattened
