"""LlamaGen's image tokenizers (arXiv 2406.06525): VQ-16, VQ-8 and any other size of theirs.

Their network is our `VQGAN` under other names. Nothing in a checkpoint tells its shape, so it is
read off the tensors; then every tensor must be used, and have the shape that this size demands.
Codebooks that are compared without normalising (never published) look the same and are not known.
"""

import argparse
import pickle
import struct
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from setar import checkpoint
from setar.tokenizers.vqgan import VQGAN, VQGANConfig

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

WRAPPERS = ("ema", "model", "state_dict")
"""Entries of a checkpoint that hold the weights; theirs are evaluated in this order too."""

GROUPS = 32
"""Of every GroupNorm of theirs."""

# What `torch.load(weights_only=True)` raises for bytes that it cannot read or will not run, found
# by flipping, cutting and inserting bytes in files of both of its formats.
UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def import_llamagen_vq(file: Path, out: Path) -> VQGAN:
    """Convert a checkpoint of LlamaGen's tokenizer into the model folder ``out``.

    Returns:
        The tokenizer, as `convert` makes it.

    Raises:
        ValueError: the file cannot be read or is not such a tokenizer; nothing is written then.
    """
    state = read(file)
    try:
        model = convert(state)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    checkpoint.save(
        Path(out), {"tokenizer": checkpoint.describe(model)}, {"tokenizer": model.state_dict()}
    )
    return model


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` file, or in a checkpoint of ``torch.save``.

    Only tensors and plain values are unpickled, never code. Weights may lie bare or under ``ema``,
    ``model`` or ``state_dict``; the first of these wins.

    Raises:
        ValueError: there is no such file, it is damaged, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if isinstance(content, Mapping):
        content = next((content[name] for name in WRAPPERS if name in content), content)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no state dict, bare or under {', '.join(WRAPPERS)}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path} holds no state dict: {str(name)[:80]!r} is not a tensor")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read {path}: not a safetensors file, or damaged") from error


def _read_pickle(path: Path) -> Any:
    try:
        # Checkpoints of their training carry its arguments; a Namespace is only a dict with dots.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ValueError(
            f"cannot read {path}: not a PyTorch checkpoint of plain tensors, or damaged "
            "(pickled objects are never loaded)"
        ) from error


def convert(state: Mapping[str, Tensor]) -> VQGAN:
    """LlamaGen's state dict as our tokenizer, in float32 and evaluation mode, without gradients.

    Raises:
        ValueError: names a tensor that is missing, unknown, or of the wrong shape or kind.
    """
    config = infer_config(state)
    with torch.device("meta"):
        model = VQGAN(config)
    names = {ours: foreign_name(ours) for ours in model.state_dict()}
    for ours, empty in model.state_dict().items():
        _check(state, names[ours], tuple(empty.shape))
    for name in state:
        if name not in NOT_PARAMETERS and name not in names.values():
            raise ValueError(f"a LlamaGen tokenizer of this size has no tensor {name[:80]!r}")
    weights = {
        ours: state[theirs].detach().to(torch.float32, copy=True) for ours, theirs in names.items()
    }
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def infer_config(state: Mapping[str, Tensor]) -> VQGANConfig:
    """The shape of the tokenizer, from its biases and its codebook; ValueError if there is none."""
    channels = _width(state, "encoder.conv_in.bias")
    if not channels or channels % GROUPS:
        raise ValueError(
            f"'encoder.conv_in.bias' has {channels} channels, which {GROUPS} groups cannot share"
        )
    codebook = _find(state, "quantize.embedding.weight")
    if codebook.ndim != 2:
        raise _misshapen("quantize.embedding.weight", codebook, "(codes, dimensions)")
    levels = _number(state, "encoder.conv_blocks.")
    return VQGANConfig(
        channels=channels,
        multipliers=tuple(_multiplier(state, level, channels) for level in range(levels)),
        blocks=_number(state, "encoder.conv_blocks.0.res."),
        latent_channels=_width(state, "encoder.conv_out.bias"),
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


def _number(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many parts are numbered from 0; at least 1, so that a missing first one is named."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    return max(1, next(i for i in count() if str(i) not in numbers))


def _multiplier(state: Mapping[str, Tensor], level: int, channels: int) -> int:
    name = f"encoder.conv_blocks.{level}.res.0.conv1.bias"
    width = _width(state, name)
    if width % channels:
        raise ValueError(f"{name!r} (={width} wide) must be a multiple of {channels} channels")
    return width // channels


def _width(state: Mapping[str, Tensor], name: str) -> int:
    vector = _find(state, name)
    if vector.ndim != 1:
        raise _misshapen(name, vector, "(channels,)")
    return vector.shape[0]


def _find(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"a LlamaGen tokenizer must have the tensor {name!r}, which is missing")
    return state[name]


def _check(state: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> None:
    tensor = _find(state, name)
    if tuple(tensor.shape) != shape:
        raise _misshapen(name, tensor, str(shape))
    if not tensor.is_floating_point():
        raise ValueError(f"{name!r} must hold floats, not {tensor.dtype}")


def _misshapen(name: str, tensor: Tensor, expected: str) -> ValueError:
    return ValueError(f"{name!r} has the shape {tuple(tensor.shape)} instead of {expected}")
