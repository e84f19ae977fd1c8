"""Model folders: ``config.json``, one safetensors file per part, and a manifest of checksums.

A folder is written beside its final place, flushed to disk, then renamed, so a reader never meets
half a folder. ``manifest.json`` holds the SHA-256 sum of every file but the model card, which may
be edited, and is checked at load: plain safetensors load a flipped bit without a word. Nothing here
reads pickle.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from setar import durable
from setar.config import build, table
from setar.registry import Table

MANIFEST = "manifest.json"
CONFIG = "config.json"

Module = TypeVar("Module", bound=nn.Module)


def describe(module: Any, kinds: Table[Any]) -> dict[str, Any]:
    """The entry of ``config.json`` from which `create` makes the same module again.

    ``kinds`` is the table that its class is in: of families of generators, or of tokenizers.
    """
    return {"family": kinds.name_of(type(module)), **table(module.config)}


def create(entry: Any, kinds: Table[type[Module]], source: str = CONFIG) -> Module:
    """A freshly initialised module from its entry in ``config.json``; ValueError if it is wrong."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{source}: a module's entry must be a JSON object, not {entry!r:.60}")
    values = dict(entry)
    try:
        kind: Any = kinds.find(values.pop("family", None))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return kind(build(kind.Config, values, source))


def save(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder in one durable step, replacing an older model of that name.

    Whenever the process dies, one of both is complete: the older one stays under its name until the
    new one is on disk, then for two renames under ``.<name>.old``, from where the next call takes
    it back. If it fails, the older one is as it was, and nothing is left beside it.

    Args:
        folder: where it shall be.
        config: becomes ``config.json``.
        tensors: part name to state dict; each becomes ``<part>.safetensors``.
        texts: further files by name, such as the model card.

    Raises:
        ValueError: something is there already that is no model; it is left alone.
        OSError: it cannot be written; the disk is full, for example.
    """
    folder = Path(folder).resolve()
    beside, old = (folder.with_name(f".{folder.name}.{end}") for end in ("partial", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not folder.exists():
        old.rename(folder)
    free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not free and not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} exists and is no model folder, so it is not replaced")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        _write(beside, config, tensors, texts or {})
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    durable.flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    texts: Mapping[str, str],
) -> None:
    """Fill an empty folder and flush it; the manifest comes last."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for part, state in tensors.items():
        file = folder / f"{part}.safetensors"
        try:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
        except SafetensorError as error:
            raise OSError(f"cannot write {file}: {' '.join(str(error).split())}") from error
        with suppress(OSError):  # `save_file` writes for the owner alone
            shutil.copymode(folder / CONFIG, file)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    files = sorted(file for file in folder.iterdir() if file.suffix != ".md")
    sums = {file.name: _sha256(file) for file in files}
    (folder / MANIFEST).write_text(json.dumps({"sha256": sums}, indent=2) + "\n", encoding="utf-8")
    for file in (*folder.iterdir(), folder):
        durable.flush(file)


def verify(folder: Path, parts: Collection[str] | None = None) -> dict[str, Any]:
    """Check files against the manifest and return the config.

    Args:
        folder: a model folder.
        parts: check only these parts (and the config); None checks every file.

    Raises:
        ValueError: the folder is no model folder, or a file is missing or damaged.
    """
    folder = Path(folder)
    sums = read_json(folder / MANIFEST).get("sha256")
    if not isinstance(sums, dict):
        raise ValueError(f"{folder / MANIFEST} has no table `sha256`")
    if CONFIG not in sums:
        raise ValueError(f"{folder / MANIFEST} does not list {CONFIG}")
    wanted = None if parts is None else {CONFIG, *(f"{part}.safetensors" for part in parts)}
    for name, expected in sums.items():
        if wanted is not None and name not in wanted:
            continue
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{folder} lacks {name}, which its {MANIFEST} lists")
        if _sha256(file) != expected:
            raise ValueError(f"{file} is damaged: its SHA-256 is not the one in {MANIFEST}")
    return read_json(folder / CONFIG)


def load_tensors(folder: Path, part: str) -> dict[str, Tensor]:
    """The state dict of one part of a verified folder."""
    file = Path(folder) / f"{part}.safetensors"
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read {file}: {' '.join(str(error).split())}") from error


def load_module(
    folder: Path, part: str, entry: Mapping[str, Any], kinds: Table[type[Module]]
) -> Module:
    """Make the module of ``entry``, load its weights strictly, in float32 and evaluation mode."""
    module = create(entry, kinds, f"{folder}/{CONFIG}: {part}")
    tensors = load_tensors(folder, part)
    state = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    load_strictly(module, state, f"{folder}/{part}.safetensors")
    return module.eval().requires_grad_(False)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict whose names and shapes must match; ValueError names the first mismatch."""
    check_tensors(module.state_dict(), state, source)
    module.load_state_dict(dict(state))


def check_tensors(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError, naming the first mismatch, unless names and shapes are the same."""
    for name in [*own, *state]:
        if name not in state:
            raise ValueError(f"{source} lacks the tensor {name!r}")
        if name not in own:
            raise ValueError(f"{source} has a tensor {name!r} that the model does not know")
        if own[name].shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            raise ValueError(f"{source}: {name!r} has the shape {shapes}")


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict as float16: half the bytes on disk."""
    return {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder; ValueError if it is missing or no object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file.parent} is no model folder: it has no {file.name}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object")
    return content


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
