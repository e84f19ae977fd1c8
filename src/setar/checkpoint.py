"""Model folders: ``config.json``, one safetensors file per part, and a manifest of checksums.

A folder is written beside its final place, flushed to disk, then renamed, so a reader never meets
half a folder. ``manifest.json`` holds the SHA-256 sum of every file but the model card, which may
be edited, and is checked at load: plain safetensors load a flipped bit without a word. Nothing here
reads pickle.
"""

import hashlib
import json
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from setar import durable
from setar.config import build, table
from setar.device import Unfilled, float32_by_default
from setar.files import CONFIG, MANIFEST, MAX_JSON
from setar.registry import Table, one_line, quoted

MAX_HEADER = 2**24
"""Bytes of a safetensors header that are read: a hundred thousand tensors fit."""

FLOATS, WHOLES = {"F64", "F32", "F16", "BF16"}, {"I64", "I32", "I16", "I8", "U8", "BOOL"}
"""What safetensors calls the dtypes that stand for floats and for whole numbers."""

Module = TypeVar("Module", bound=nn.Module)


def describe(module: Any, kinds: Table[Any]) -> dict[str, Any]:
    """The entry of ``config.json`` from which `create` makes the same module again.

    ``kinds`` is the table that its class is in: of families of generators, or of tokenizers.
    """
    return {"family": kinds.name_of(type(module)), **table(module.config)}


def create(
    entry: Any, kinds: Table[type[Module]], source: str = CONFIG, device: str = "cpu"
) -> Module:
    """A freshly initialised module from its entry in ``config.json``.

    Its weights are float32 whatever torch's default is; on the device ``meta`` it has none, only
    their names and shapes.

    Raises:
        ValueError: the entry is wrong.
    """
    if not isinstance(entry, Mapping):
        raise ValueError(f"{source}: a module's entry must be a JSON object, not {entry!r:.60}")
    values = dict(entry)
    try:
        kind: Any = kinds.find(values.pop("family", None))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    config = build(kind.Config, values, source)
    with float32_by_default(), torch.device(device), Unfilled():
        try:
            return kind(config)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error


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
    beside = begin(folder)
    try:
        write(beside, config, tensors, texts or {})
        seal(beside)
    except BaseException:
        abandon(beside)
        raise
    place(beside, folder)


def abandon(beside: Path) -> None:
    """Leave nothing of the folder of `begin`."""
    shutil.rmtree(beside, ignore_errors=True)


def beside_of(folder: Path) -> Path:
    """Where a model folder is written before it is whole."""
    folder = Path(folder).resolve()
    return folder.with_name(f".{folder.name}.partial")


def begin(folder: Path) -> Path:
    """An empty folder beside a model folder that shall be written; errors as of `save`."""
    folder = Path(folder).resolve()
    beside, old = beside_of(folder), folder.with_name(f".{folder.name}.old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not folder.exists():
        old.rename(folder)
    free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not free and not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} exists and is no model folder, so it is not replaced")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    return beside


def seal(beside: Path) -> None:
    """Give the folder of `begin`, which has all its files, a manifest, and flush all of it."""
    files = sorted(file for file in beside.rglob("*") if file.is_file() and file.suffix != ".md")
    sums = {file.relative_to(beside).as_posix(): _sha256(file) for file in files}
    (beside / MANIFEST).write_text(json.dumps({"sha256": sums}, indent=2) + "\n", encoding="utf-8")
    for path in (*beside.rglob("*"), beside):
        durable.flush(path)


def place(beside: Path, folder: Path) -> None:
    """Let a folder that is sealed take the place of an older one, or of none."""
    folder = Path(folder).resolve()
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    durable.flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def write(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    texts: Mapping[str, str],
) -> None:
    """Write the files of a model into a folder, all but the manifest; arguments as of `save`."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for part, state in tensors.items():
        file = folder / f"{part}.safetensors"
        try:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
        except SafetensorError as error:
            raise OSError(f"cannot write {file}: {one_line(error)}") from error
        with suppress(OSError):  # `save_file` writes for the owner alone
            shutil.copymode(folder / CONFIG, file)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def verify(folder: Path, parts: Collection[str] | None = None) -> dict[str, Any]:
    """Check files against the manifest and return the config.

    Args:
        folder: a model folder.
        parts: check only these parts (and the config); None checks every file.

    Raises:
        ValueError: the folder is no model folder, a file is missing, damaged or no regular one, or
            a part is not in the manifest.
    """
    folder = Path(folder)
    for name, expected in _listed(folder, parts).items():
        try:
            found = _sha256(folder / name)
        except OSError as error:  # deleted at this moment, or the disk fails
            raise ValueError(f"cannot read {folder / name}: {error.strerror}") from error
        if found != expected:
            raise ValueError(
                f"{folder / name} is damaged: its SHA-256 is not the one in {MANIFEST}"
            )
    return read_json(folder / CONFIG)


def _listed(folder: Path, parts: Collection[str] | None) -> dict[str, Any]:
    """The checksums of the config and of some parts, all of which are there; as `verify`."""
    sums = read_json(folder / MANIFEST).get("sha256")
    if not isinstance(sums, dict):
        raise ValueError(f"{folder / MANIFEST} has no table `sha256`")
    wanted = [CONFIG, *(sums if parts is None else (f"{part}.safetensors" for part in parts))]
    for name in wanted:
        if name not in sums:
            raise ValueError(f"{folder / MANIFEST} does not list {name}")
        if not _is_inside(name):
            raise ValueError(f"{folder / MANIFEST} lists {quoted(name)}, which is no file in it")
        try:
            _regular(folder / name)
        except OSError as error:
            raise ValueError(f"{folder} lacks {name}, which its {MANIFEST} lists") from error
    return {name: sums[name] for name in wanted}


def _is_inside(name: str) -> bool:
    """Whether a name of a manifest is that of a file in the folder, or in one right inside it."""
    parts = name.split("/")
    return len(parts) <= 2 and all(
        part not in ("", "..") and Path(part).name == part for part in parts
    )


def load_tensors(folder: Path, part: str) -> dict[str, Tensor]:
    """The state dict of one part of a verified folder."""
    return read_tensors(Path(folder) / f"{part}.safetensors")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ValueError if it cannot be read."""
    with _reading(file, "cannot be read"):
        return load_file(file)


def load_module(
    folder: Path,
    part: str,
    entry: Mapping[str, Any],
    kinds: Table[type[Module]],
    prepare: Callable[[Module], Module] = lambda module: module,
) -> Module:
    """Make the module of ``entry`` with its weights in float32, in evaluation mode.

    ``prepare`` makes of a new module what the folder holds, a packed one for example.
    Names, shapes and dtypes are compared before the weights are read, and so is the checksum.

    Raises:
        ValueError: the entry is wrong, or the file does not have just its weights, whole.
    """
    folder = Path(folder)
    source = f"{folder}/{CONFIG}: {part}"
    _listed(folder, [part])
    try:
        shape = prepare(create(entry, kinds, source, "meta"))
    except RuntimeError:  # a family of a plugin may compute with its weights
        shape = prepare(create(entry, kinds, source))
    check_header(folder / f"{part}.safetensors", shape)
    verify(folder, [part])
    tensors = load_tensors(folder, part)
    state = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    module = prepare(create(entry, kinds, source))
    load_strictly(module, state, f"{folder}/{part}.safetensors")
    return module.eval().requires_grad_(False)


def check_header(file: Path, module: nn.Module) -> None:
    """ValueError unless a safetensors file holds what a module needs; only its header is read."""
    own, found = module.state_dict(), _header(file)
    shapes = {name: shape for name, (shape, _) in found.items()}
    _match({name: tuple(value.shape) for name, value in own.items()}, shapes, str(file))
    for name, (_, dtype) in found.items():
        floats = own[name].is_floating_point()
        if dtype not in (FLOATS if floats else WHOLES):
            kind = "floats" if floats else "whole numbers"
            raise ValueError(f"{file}: {name!r} must hold {kind}, not {quoted(dtype)}")


def _header(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor of a safetensors file; ValueError if it has no header."""
    with _reading(file, "is damaged") as length, file.open("rb") as stream:
        text = stream.read(8 + length)[8:]
    try:
        entries = json.loads(text.decode("utf-8"))
        entries.pop("__metadata__", None)
        return {name: (tuple(e["shape"]), str(e["dtype"])) for name, e in entries.items()}
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged: its header is no table of tensors") from error


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict whose names and shapes must match; ValueError names the first mismatch."""
    check_tensors(module.state_dict(), state, source)
    module.load_state_dict(dict(state))


def check_tensors(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError, naming the first mismatch, unless names and shapes are the same."""
    shapes, found = (
        {name: tuple(value.shape) for name, value in part.items()} for part in (own, state)
    )
    _match(shapes, found, source)


def _match(
    own: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """ValueError naming the first tensor that is missing, unknown or of another shape."""
    for name in [*own, *found]:
        if name not in found:
            raise ValueError(f"{source} lacks the tensor {name!r}")
        if name not in own:
            raise ValueError(f"{source} has a tensor {quoted(name)} that the model does not know")
        if own[name] != found[name]:
            shapes = f"{found[name]} instead of {own[name]}"
            raise ValueError(f"{source}: {name!r} has the shape {shapes}")


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict as float16: half the bytes on disk."""
    return {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder.

    Raises:
        ValueError: it is missing, no regular file, too large, or holds something else.
    """
    try:
        size = _regular(file).stat().st_size
        if size > MAX_JSON:
            raise ValueError(f"{file} has {size} bytes; at most {MAX_JSON} are read")
        text = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file.parent} is no model folder: it has no {file.name}") from error
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object")
    return content


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _regular(file: Path) -> Path:
    """The same; ValueError if it is a device, a pipe or a folder, OSError if it is not there."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError(f"{file} is no regular file")
    return file


@contextmanager
def _reading(file: Path, problem: str) -> Iterator[int]:
    """Errors of a safetensors file as one line; yields the length of its header, if bearable."""
    try:
        with _regular(file).open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"{file} {problem}: its header has {length} bytes")
        yield length
    except (OSError, SafetensorError, RuntimeError) as error:  # torch's word for a lost file
        raise ValueError(f"{file} {problem}: {one_line(error)}") from error


def _sha256(file: Path) -> str:
    with _regular(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
