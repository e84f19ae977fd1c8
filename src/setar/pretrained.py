"""Where models come from: this package, a folder, or the Hugging Face hub."""

import os
import re
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, TypeVar

import torch

from setar import checkpoint
from setar.device import find_device
from setar.files import CONFIG
from setar.registry import Table, did_you_mean, one_line, quoted, require_plugins
from setar.run_folder import checkpoints, is_run
from setar.tokenizers.base import TOKENIZERS, Tokenizer

Result = TypeVar("Result")

REREADING = 30.0
"""Seconds in which a model that is replaced again and again is read again and again."""

PATIENCE = 30
"""Seconds without a byte after which the hub is given up."""

SHIPPED = Path(__file__).parent / "weights"
"""Model folders inside the package, by name."""


IMAGE_SIZE = "image_size"
"""Key of ``config.json``: height and width in pixels of the pictures that a model was trained on;
folders of before version 0.3 have none."""


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(folder.parent.name for folder in SHIPPED.glob(f"[!.]*/{CONFIG}"))


def locate(source: str | PathLike[str]) -> Path:
    """The model folder of a shipped name, a model folder, a training run's folder or a hub id.

    A run's folder stands for its newest checkpoint; ``owner/name`` is downloaded from the hub once.
    A hub that sends nothing for `PATIENCE` seconds is given up.

    Raises:
        ValueError: there is no such model.
    """
    if not isinstance(source, str | PathLike):
        raise ValueError(f"a model is named by text or a path, not {quoted(source)}")
    folder = Path(source)
    # os.path answers False where pathlib raises: names too long, folders one may not enter.
    if os.path.isfile(folder / CONFIG):
        return folder
    if is_run(folder):
        # A run in training may replace its only checkpoint while the folder is listed.
        if found := checkpoints(folder) or checkpoints(folder):
            return found[-1]
        raise ValueError(f"the run {folder} has no checkpoint yet")
    name = str(source)
    if name in shipped():
        return SHIPPED / name
    if os.path.exists(folder):
        raise ValueError(f"{folder} is no model folder: it has no {CONFIG}")
    if name.count("/") == 1 and not name.startswith((".", "/")) and not name.endswith("/"):
        if os.path.isdir(folder.parent):
            raise ValueError(f"{name[:200]} does not exist")
        return _download(name)
    hint = did_you_mean(name, shipped())
    raise ValueError(
        f"{name[:200]!r} does not exist: no model folder, nor a shipped model or a hub id "
        f"owner/name; {hint}"
    )


def read_config(folder: Path, parts: tuple[str, ...] = ()) -> dict[str, Any]:
    """The ``config.json`` of a model folder whose ``parts`` (weights) are undamaged.

    Raises:
        ValueError: it is no model folder, or damaged.
    """
    config = checkpoint.verify(folder, parts)
    plugins = config.get("plugins", [])
    if not isinstance(plugins, list) or not all(isinstance(name, str) for name in plugins):
        raise ValueError(f"{folder}/{CONFIG}: `plugins` must be a list of names")
    return {**config, "plugins": plugins}


def read_newest(source: str | PathLike[str], read: Callable[[Path], Result]) -> Result:
    """What ``read`` makes of the model folder of a source, though it may be replaced meanwhile.

    A run that is being trained deletes its older checkpoints, and a model that is saved again takes
    the place of the one before. What was lost in the middle is read again from the newer one.

    Raises:
        ValueError: there is no such model, or it cannot be read.
    """
    end = time.monotonic() + REREADING
    while time.monotonic() < end:
        folder = locate(source)
        before = _identity(folder)
        try:
            return read(folder)
        except ValueError:
            if _identity(folder) == before:
                raise
    raise ValueError(f"{source} is replaced faster than it can be read")


def _identity(folder: Path) -> object:
    """What changes if another folder takes the place of this one; None if there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def load_tokenizer(source: str | PathLike[str], device: str | torch.device = "cpu") -> Tokenizer:
    """The tokenizer of any such model, on a device (``auto``: a GPU if there is one).

    Raises:
        ValueError: there is no such model or device, it has no tokenizer, or is damaged.
    """
    place = find_device(device)
    return read_newest(source, _read_tokenizer).to(place)


def _read_tokenizer(folder: Path) -> Tokenizer:
    config = read_config(folder)
    entry = config.get("tokenizer")
    if entry is None:
        raise ValueError(f"{folder} has no tokenizer")
    if isinstance(entry, dict) and entry.get("family") not in TOKENIZERS:
        require_plugins(config["plugins"], folder)
    return checkpoint.load_module(folder, "tokenizer", entry, TOKENIZERS)


def describe_tokenizer(tokenizer: Tokenizer, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """The ``config.json`` of a model folder of a tokenizer alone.

    ``size`` is the height and width of the pictures that it was trained on, if that is known.
    """
    entry = checkpoint.describe(tokenizer, TOKENIZERS)
    remembered = {} if size is None else {IMAGE_SIZE: list(size)}
    plugins = plugins_of((TOKENIZERS, entry["family"]))
    return {"tokenizer": entry, **remembered, "plugins": plugins}


def save_tokenizer(tokenizer: Tokenizer, folder: str | PathLike[str]) -> None:
    """Write a model folder of a tokenizer alone."""
    weights = {"tokenizer": tokenizer.state_dict()}
    checkpoint.save(Path(folder), describe_tokenizer(tokenizer), weights)


def plugins_of(*entries: tuple[Table[Any], str]) -> list[str]:
    """The plugins that some entries of tables come from, sorted."""
    return sorted({table.plugin_of(name) for table, name in entries} - {""})


def hub_file(name: str, file: str) -> Path:
    """One file of the repository ``name`` on the hub, downloaded if it is not there yet.

    Raises:
        ValueError: there is no such file, or the hub is given up.
    """
    from huggingface_hub import hf_hub_download

    def get(**options: Any) -> str:
        return hf_hub_download(name, file, **options)

    return _arrived(name, get, f"cannot get {file} of {name}")


def _download(name: str) -> Path:
    """The folder of a model on the hub, downloaded if it is not there yet."""
    from huggingface_hub import snapshot_download

    def get(**options: Any) -> str:
        wanted = ["*.json", "*.safetensors", "*.md"]
        return snapshot_download(name, allow_patterns=wanted, **options)

    return _arrived(name, get, f"no folder {name!r} here, nor a model on the hub")


def _arrived(name: str, get: Callable[..., str], missing: str) -> Path:
    """What the hub's client gets of a repository; ValueError, that begins with ``missing``.

    Some versions of the client wait for ever for a host that says nothing, so it works in a thread
    that is left behind once nothing more arrives.
    """
    from huggingface_hub import constants

    found: Queue[Path | Exception] = Queue()
    Thread(target=lambda: found.put(_tried(get)), daemon=True).start()
    arriving = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"
    size, last = 0, time.monotonic()
    while time.monotonic() < last + PATIENCE:
        try:
            result = found.get(timeout=0.2)
        except Empty:
            before, size = size, _size(arriving)
            last = time.monotonic() if size != before else last
            continue
        if isinstance(result, Path):
            return result
        reason = (str(result).splitlines() or [type(result).__name__])[0]
        raise ValueError(f"{missing}: {reason}") from result
    if isinstance(kept := _tried(get, local_files_only=True), Path):
        return kept
    raise ValueError(
        f"{missing}: the hub ({constants.ENDPOINT}) has sent nothing for {PATIENCE} seconds"
    )


def _tried(get: Callable[..., str], **options: Any) -> Path | Exception:
    """What the hub's client gets, or why it does not."""
    try:
        return Path(get(**options))
    except Exception as error:  # whatever the client raises, it becomes one line
        return error


def _size(folder: Path) -> int:
    """Bytes of the files of a folder, 0 if there is none."""
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0


def check_hub_name(name: Any) -> None:
    """ValueError unless this can be the name of a model on the hub, owner/name."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name):
        raise ValueError(f"a model on the hub is called owner/name, not {quoted(name)}")


def upload(folder: Path, name: str, private: bool, message: str, token: str | None) -> str:
    """Upload a model folder to the hub, into a repository that is made if it is not there yet.

    Returns:
        The address of the commit.

    Raises:
        ValueError: whatever the hub says, in one line.
    """
    from huggingface_hub import HfApi

    hub = HfApi(token=token)
    try:
        hub.create_repo(name, private=private, exist_ok=True)
        done = hub.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except Exception as error:  # whatever the client raises, it becomes one line
        raise ValueError(f"cannot upload {name} to the hub: {one_line(error)[:300]}") from error
    return done.commit_url
