"""LlamaGen's image tokenizers (arXiv 2406.06525): VQ-16, VQ-8 and any other size of theirs.

Their network is our `VQGAN` under other names. Nothing in a checkpoint tells its shape, so it is
read off the tensors; then every tensor must be used, and have the shape that this size demands.
Codebooks that are compared without normalising (never published) look the same and are not known.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from setar.importers import foreign
from setar.pretrained import save_tokenizer
from setar.tokenizers.vqgan import VQGAN, VQGANConfig

KIND = "a LlamaGen tokenizer"

# Our names to theirs: outside the two networks, at the top of each, and inside their blocks.
OUTER_NAMES = {
    "to_code": "quant_conv",
    "from_code": "post_quant_conv",
    "codebook": "quantize.embedding",
}
NETWORK_NAMES = {
    "input": "conv_in",
    "levels": "conv_blocks",
    "middle": "mid",
    "norm": "norm_out",
    "output": "conv_out",
}
BLOCK_NAMES = {
    "residual": "res",
    "attention": "attn",
    "shortcut": "nin_shortcut",
    "query": "q",
    "key": "k",
    "value": "v",
    "output": "proj_out",
}
RESAMPLE_NAMES = {"encoder": "downsample", "decoder": "upsample"}

NOT_PARAMETERS = frozenset({"quantize.codebook_used"})
"""The last 65536 codes they saw in training: a statistic, absent from some files."""

WRAPPERS = ("ema", "model", "state_dict", "module")
"""Entries of a checkpoint that hold the weights; theirs are evaluated in this order too."""


def import_llamagen_vq(file: Path, out: Path) -> VQGAN:
    """Convert a checkpoint of LlamaGen's tokenizer into the model folder ``out``.

    Returns:
        The tokenizer, as `convert` makes it.

    Raises:
        ValueError: the file cannot be read or is not such a tokenizer; nothing is written then.
    """
    state = read(file)
    with foreign.blame(file):
        model = convert(state)
    save_tokenizer(model, out)
    return model


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of theirs, bare or wrapped; ValueError as in `foreign.read`."""
    return foreign.read(path, WRAPPERS)


def convert(state: Mapping[str, Tensor]) -> VQGAN:
    """LlamaGen's state dict as our tokenizer, in float32 and frozen; errors of `foreign.load`."""
    return foreign.load(VQGAN, infer_config(state), state, foreign_name, KIND, NOT_PARAMETERS)


def infer_config(state: Mapping[str, Tensor]) -> VQGANConfig:
    """The shape of the tokenizer, from its biases and its codebook; ValueError if there is none."""
    channels = foreign.first_width(state, "encoder.conv_in.bias", KIND)
    codebook = foreign.find(state, "quantize.embedding.weight", ("codes", "dimensions"), KIND)
    levels = foreign.count_parts(state, "encoder.conv_blocks.")
    return VQGANConfig(
        channels=channels,
        multipliers=tuple(
            foreign.multiple(state, f"encoder.conv_blocks.{level}.res.0.conv1.bias", channels, KIND)
            for level in range(levels)
        ),
        blocks=foreign.count_parts(state, "encoder.conv_blocks.0.res."),
        latent_channels=foreign.width(state, "encoder.conv_out.bias", KIND),
        codebook_size=codebook.shape[0],
        codebook_dim=codebook.shape[1],
    )


def foreign_name(name: str) -> str:
    """LlamaGen's name of one of our tensors.

    >>> foreign_name("decoder.levels.0.attention.2.query.weight")
    'decoder.conv_blocks.0.attn.2.q.weight'
    """
    first, second, *rest = name.split(".")
    if first in OUTER_NAMES:
        return f"{OUTER_NAMES[first]}.{second}"
    inner = {**BLOCK_NAMES, "resample": RESAMPLE_NAMES[first]}
    return ".".join([first, NETWORK_NAMES[second], *(inner.get(part, part) for part in rest)])
