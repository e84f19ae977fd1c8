"""LlamaGen's text-to-image GPTs (arXiv 2406.06525, section 3.2): XL at 256 and at 512 pixels.

The network is that of their class-conditional GPTs (`setar.importers.llamagen_gpt`); a text stands
in the place of the class. 120 states of the encoder of FLAN-T5 XL, 2048 numbers each, padded on the
left, go through two matrices with a GELU between them; rotary embedding sets queries and keys of
all of them to zero. A learned sequence of as many states stands for "no text": for each text,
its tokens at the places that the text's own tokens have.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from setar.importers import foreign, llamagen_gpt
from setar.importers.llamagen_gpt import ANGLES, WRAPPERS, check_angles, infer_network
from setar.models.decoder_only import DecoderOnlyConfig, DecoderOnlyTransformer
from setar.pretrained import load_tokenizer
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings
from setar.text import TextConfig

KIND = "a text-to-image GPT of LlamaGen"

NULL_STATES = "cls_embedding.uncond_embedding"
# Our names to theirs; all others are those of `llamagen_gpt`.
CONDITION_NAMES = {
    "condition.nothing": NULL_STATES,
    "condition.project.0.weight": "cls_embedding.cap_proj.fc1.weight",
    "condition.project.2.weight": "cls_embedding.cap_proj.fc2.weight",
}

ENCODER = "google/flan-t5-xl"
"""The text encoder of the published models, which read its last layer, and captions in lower case.

Their captions were also freed of web addresses, markup, brackets and symbols, which no prompt needs
to have."""

DEFAULTS = SamplingDefaults(Recipe.parse("ar"), Guidance(7.5), SamplingSettings(top_k=1000))
"""How the published models are sampled."""


def import_llamagen_t2i(
    file: Path,
    tokenizer: str | Path,
    out: Path,
    grid: tuple[int, int] = (16, 16),
    heads: int | None = None,
    encoder: str = ENCODER,
) -> DecoderOnlyTransformer:
    """Convert a checkpoint of LlamaGen's text-to-image GPT into the model folder ``out``.

    Sampled as published by default: recipe ``ar``, constant guidance 7.5, of the 1000 likeliest
    codes. The text encoder is not copied: the model folder says which one it is.

    Args:
        file: the checkpoint.
        tokenizer: a model folder with the tokenizer of its codes (see `llamagen_vq`).
        out: where to write.
        grid: rows and columns of tokens: 16 x 16 at 256 pixels, 32 x 32 at 512.
        heads: attention heads; None looks width and layers up in `llamagen_gpt.HEADS`.
        encoder: hub id or folder of the text encoder that it was trained with.

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
        length = model.config.condition_length
        text = TextConfig(encoder, layer=-1, length=length, lowercase=True)
        foreign.save(model, decoder, DEFAULTS, out, text)
    return model


def convert(
    state: Mapping[str, Tensor], grid: tuple[int, int] = (16, 16), heads: int | None = None
) -> DecoderOnlyTransformer:
    """LlamaGen's state dict as our model, in float32 and frozen; errors of `foreign.load`.

    Raises:
        ValueError: ``heads`` or ``grid`` is impossible, too.
    """
    config = infer_config(state, grid, heads)
    check_angles(state, config, KIND)
    return foreign.load(DecoderOnlyTransformer, config, state, foreign_name, KIND, {ANGLES})


def infer_config(
    state: Mapping[str, Tensor], grid: tuple[int, int] = (16, 16), heads: int | None = None
) -> DecoderOnlyConfig:
    """The shape of the model from its embeddings; ValueError if it cannot be told."""
    length, dim = foreign.find(state, NULL_STATES, ("tokens", "numbers"), KIND).shape
    return DecoderOnlyConfig(
        **infer_network(state, heads, KIND),
        classes=1,
        grid=grid,
        condition="text",
        condition_length=length,
        condition_dim=dim,
        condition_projection="mlp",
        class_rotation="zero",
    )


def foreign_name(name: str) -> str:
    """LlamaGen's name of one of our tensors.

    >>> foreign_name("condition.project.2.weight")
    'cls_embedding.cap_proj.fc2.weight'
    """
    return CONDITION_NAMES.get(name) or llamagen_gpt.foreign_name(name)
