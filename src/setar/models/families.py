"""The families of generators: what a config file, a checkpoint and a pipeline may hold."""

from typing import Any, NamedTuple

from setar.models import decoder_only, fmt, var
from setar.models.decoder_only import DecoderOnlyConfig, DecoderOnlyTransformer
from setar.models.fmt import FMTConfig, FullyMaskedTransformer
from setar.models.next_scale import Pyramid, VARGenerator
from setar.models.var import VARConfig, VARTransformer

GeneratorConfig = FMTConfig | DecoderOnlyConfig | VARConfig
"""The shape of a generator: vocabulary, classes, grid, class dropout, and what its family adds."""

GeneratorModel = FullyMaskedTransformer | DecoderOnlyTransformer | VARTransformer
"""The module that holds a generator's weights."""

CodeGenerator = FullyMaskedTransformer | DecoderOnlyTransformer | VARGenerator
"""A generator: called with codes, labels and a plan to train, `start` and `null` to sample."""


class Family(NamedTuple):
    """The classes and the presets of one family."""

    config: type[GeneratorConfig]
    model: type[GeneratorModel]
    presets: dict[str, GeneratorConfig]


FAMILIES = {
    "fmt": Family(FMTConfig, FullyMaskedTransformer, {**fmt.PRESETS}),
    "decoder-only": Family(DecoderOnlyConfig, DecoderOnlyTransformer, {**decoder_only.PRESETS}),
    "var": Family(VARConfig, VARTransformer, {**var.PRESETS}),
}


def generator_of(model: GeneratorModel, tokenizer: Any) -> CodeGenerator:
    """The generator of a model's weights: itself, or a VAR with its tokenizer's pyramid.

    Raises:
        ValueError: a VAR with a tokenizer of a single scale, or of other scales.
    """
    if not isinstance(model, VARTransformer):
        return model
    if not isinstance(tokenizer, Pyramid):
        raise ValueError("a VAR needs a multi-scale tokenizer")
    return VARGenerator(model, tokenizer)
