"""RandAR's class-conditional models (arXiv 2412.01827): L (0.3B) and XL (0.7B).

Their tensors are those of LlamaGen's GPT and one more, which all position tokens are made of.
Sampled by their own settings: 88 steps of their sizes, in a random order, with guidance that rises
from 1 linearly with the tokens that are done.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from setar.importers import foreign, llamagen_gpt
from setar.models.randar import RandARConfig, RandARTransformer
from setar.pretrained import load_tokenizer
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults

KIND = "a class-conditional RandAR"

QUERY = "pos_instruct_embeddings"

SCALES = {(16384, 1024): 3.4}
"""The guidance, by vocabulary and width, of a published model that is best with less than `SCALE`:
RandAR-L with LlamaGen's tokenizer."""
SCALE = 4.0
"""The guidance of all others, which is the default of their command."""


def import_randar(
    file: Path,
    tokenizer: str | Path,
    out: Path,
    grid: tuple[int, int] = (16, 16),
    heads: int | None = None,
    classes: int | None = None,
) -> RandARTransformer:
    """Convert a checkpoint of RandAR and a tokenizer into the model folder ``out``.

    Args:
        file: the checkpoint, a flat ``.safetensors``.
        tokenizer: a model folder with the tokenizer of its codes (see `llamagen_vq`).
        out: where to write.
        grid: rows and columns of tokens.
        heads: attention heads; None is for widths that were published.
        classes: as for `llamagen_gpt.import_llamagen_gpt`.

    Returns:
        The generator, as `convert` makes it.

    Raises:
        ValueError: a file cannot be read, is no such model, or does not fit the tokenizer; nothing
            is written then.
    """
    decoder = load_tokenizer(tokenizer)
    state = foreign.read(file, llamagen_gpt.WRAPPERS)
    with foreign.blame(file):
        model = convert(state, grid, heads, classes)
        shape = model.config
        scale = SCALES.get((shape.vocabulary, shape.width), SCALE) if shape.class_dropout else 1.0
        recipe = Recipe.parse(shape.sampling_recipe)
        foreign.save(model, decoder, SamplingDefaults(recipe, Guidance(scale, "linear")), out)
    return model


def convert(
    state: Mapping[str, Tensor],
    grid: tuple[int, int] = (16, 16),
    heads: int | None = None,
    classes: int | None = None,
) -> RandARTransformer:
    """RandAR's state dict as our model, in float32 and frozen; errors of `foreign.load`.

    Raises:
        ValueError: ``heads``, ``grid`` or ``classes`` is impossible, too.
    """
    config = RandARConfig(**llamagen_gpt.infer_shape(state, grid, heads, classes, KIND))
    state = state if config.class_dropout else llamagen_gpt.with_null(state)
    return foreign.load(RandARTransformer, config, state, foreign_name, KIND)


def foreign_name(name: str) -> str:
    """RandAR's name of one of our tensors.

    >>> foreign_name("query.weight")
    'pos_instruct_embeddings'
    >>> foreign_name("blocks.3.attention.qkv.weight")
    'layers.3.attention.wqkv.weight'
    """
    return QUERY if name == "query.weight" else llamagen_gpt.foreign_name(name)
