"""What importers share: reading files of other projects, and loading by a table of names.

Loading is strict. Every tensor of a foreign checkpoint must be used, and every tensor of ours must
be in it with the right shape: what would load by halves is refused in one line.
"""

import argparse
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from setar.checkpoint import read_tensors
from setar.device import Unfilled, float32_by_default
from setar.files import check_file
from setar.models.base import Generator
from setar.pipeline import Pipeline
from setar.registry import quoted
from setar.sampling.settings import SamplingDefaults
from setar.text import TextConfig
from setar.tokenizers.base import Tokenizer

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)

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
    zipfile.BadZipFile,
)

WRAPPED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that say how a module was run, at any depth: compiled, sharded, recomputed."""

MAX_WRAPPERS = 10
"""Depth to which weights may lie inside of others: a table that holds itself has no end."""


def read(path: Path, wrappers: Collection[str]) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` file, or in a checkpoint of ``torch.save``.

    Only tensors and plain values are unpickled, never code. Weights may lie bare or under one of
    the names ``wrappers``, of which the first wins, and under another one inside of that. What
    compiling, sharding and data parallelism put into the names of tensors is taken out of them.

    Raises:
        ValueError: there is no such file, it is damaged, or it holds something else.
    """
    path = Path(path)
    check_file(path)
    content = _content(path)
    for _ in range(MAX_WRAPPERS):
        if not isinstance(content, Mapping):
            break
        inner = (content[name] for name in wrappers if isinstance(content.get(name), Mapping))
        found = next(filter(None, inner), None)
        if found is None:
            break
        content = found
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no state dict, bare or under {', '.join(wrappers)}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path} holds no state dict: {quoted(name)} is not a tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{path}: {quoted(name)} is sparse, quantised or without content")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{path}: {quoted(name)} says that it is larger than what is stored")
    with blame(path):
        return unwrapped(content)


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the names of the model itself; ValueError if two of them become one.

    >>> unwrapped({"module.layers.0._orig_mod.bias": torch.zeros(1)})
    {'layers.0.bias': tensor([0.])}
    """
    names = {name: [part for part in name.split(".") if part not in WRAPPED] for name in state}
    # An average of weights counts its updates beside the module.
    names = {name: parts for name, parts in names.items() if parts != ["n_averaged"]}
    while names and all(len(parts) > 1 and parts[0] == "module" for parts in names.values()):
        names = {name: parts[1:] for name, parts in names.items()}
    found = {".".join(parts): state[name] for name, parts in names.items()}
    if len(found) < len(names):
        raise ValueError("it holds the same tensors twice, under names that differ in their prefix")
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return read_tensors(path)
        except ValueError as error:
            raise ValueError(f"cannot read {path}: not a safetensors file, or damaged") from error
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # a few bytes could unfold to any number
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ValueError("torch.save compresses nothing")
        # Checkpoints of a training often carry its arguments; a Namespace is a dict with dots.
        quiet = warnings.catch_warnings(action="ignore")  # of pickle's newer protocols, say
        with quiet, torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ValueError(
            f"cannot read {path}: not a PyTorch checkpoint of plain tensors, or damaged "
            "(pickled objects are never loaded)"
        ) from error


@contextmanager
def blame(file: Path) -> Iterator[None]:
    """Put the name of the file before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def load(
    family: Callable[[Config], Model],
    config: Config,
    state: Mapping[str, Tensor],
    foreign_name: Callable[[str], str],
    kind: str,
    ignored: Collection[str] = (),
) -> Model:
    """A model with copies of foreign weights, in float32 and evaluation mode, without gradients.

    Args:
        family: the class of the model.
        config: its shape.
        state: the foreign tensors.
        foreign_name: their name of one of our tensors.
        kind: what the checkpoint is, for messages: ``"a LlamaGen tokenizer"``.
        ignored: their tensors that are no parameters.

    Raises:
        ValueError: names a tensor that is missing, unknown, of the wrong shape or kind, or that
            holds what is no number.
    """
    with float32_by_default(), torch.device("meta"), Unfilled():
        model = family(config)
    names = {ours: foreign_name(ours) for ours in model.state_dict()}
    for ours, empty in model.state_dict().items():
        theirs = find(state, names[ours], tuple(empty.shape), kind)
        if not theirs.is_floating_point():
            raise ValueError(f"{names[ours]!r} must hold floats, not {theirs.dtype}")
    known = {*names.values(), *ignored}
    for name in state:
        if name not in known:
            raise ValueError(f"{kind} of this size has no tensor {name[:80]!r}")
    weights = {
        ours: state[theirs].detach().to(torch.float32, copy=True) for ours, theirs in names.items()
    }
    for ours, weight in weights.items():
        if not weight.isfinite().all():
            kind = "NaN" if weight.isnan().any() else "infinity"
            raise ValueError(f"{names[ours]!r} holds {kind}: the model can make no picture")
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def find(state: Mapping[str, Tensor], name: str, axes: tuple[str | int, ...], kind: str) -> Tensor:
    """A tensor of this shape, with words for sizes that may be any; ValueError if there is none."""
    if name not in state:
        raise ValueError(f"{kind} must have the tensor {name!r}, which is missing")
    shape = tuple(state[name].shape)
    sizes = zip(axes, shape, strict=False)
    if len(shape) != len(axes) or any(a != size for a, size in sizes if isinstance(a, int)):
        expected = f"({', '.join(map(str, axes))}{',' if len(axes) == 1 else ''})"
        raise ValueError(f"{name!r} has the shape {shape} instead of {expected}")
    return state[name]


def count_parts(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many parts are numbered from 0; at least 1, so that a missing first one is named."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    return max(1, next(i for i in count() if str(i) not in numbers))


def save(
    model: Generator,
    tokenizer: Tokenizer,
    defaults: SamplingDefaults,
    folder: str | Path,
    text: TextConfig | None = None,
) -> None:
    """Write the model folder of a foreign generator, with the text encoder if it reads texts.

    Classes have no names in foreign checkpoints: they are called "0", "1" and so on.

    Raises:
        ValueError: the tokenizer is not that of its codes.
    """
    classes = [] if text else [str(label) for label in range(model.config.classes)]
    Pipeline(model, tokenizer, classes, defaults, text=text).save_pretrained(folder)


GROUPS = 32
"""Groups of the norms of these tokenizers' encoders."""


def width(state: Mapping[str, Tensor], name: str, kind: str) -> int:
    """Channels of the layer with this bias; ValueError if there is none."""
    return len(find(state, name, ("channels",), kind))


def first_width(state: Mapping[str, Tensor], name: str, kind: str) -> int:
    """Channels of an encoder's first layer; ValueError unless its norms' groups can share them."""
    channels = width(state, name, kind)
    if not channels or channels % GROUPS:
        raise ValueError(f"{name!r} has {channels} channels, which {GROUPS} groups cannot share")
    return channels


def multiple(state: Mapping[str, Tensor], name: str, channels: int, kind: str) -> int:
    """How many times ``channels`` the layer with this bias has; ValueError if not whole."""
    wide = width(state, name, kind)
    if wide % channels:
        raise ValueError(f"{name!r} (={wide} wide) must be a multiple of {channels} channels")
    return wide // channels
