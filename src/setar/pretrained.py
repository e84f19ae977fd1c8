"""Where models come from: this package, a folder, or the Hugging Face hub."""

import os
from pathlib import Path
from typing import Any

from setar import checkpoint
from setar.checkpoint import CONFIG
from setar.registry import Table, did_you_mean, require_plugins
from setar.run_folder import checkpoints, is_run
from setar.tokenizers.base import TOKENIZERS, Tokenizer

SHIPPED = Path(__file__).parent / "weights"
"""Model folders inside the package, by name."""


IMAGE_SIZE = "image_size"
"""Key of ``config.json``: height and width in pixels of the pictures that a model was trained on;
folders of before version 0.3 have none."""


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(folder.parent.name for folder in SHIPPED.glob(f"[!.]*/{CONFIG}"))


def locate(source: str | Path) -> Path:
    """The model folder of a shipped name, a model folder, a training run's folder or a hub id.

    A run's folder stands for its newest checkpoint; ``owner/name`` is downloaded from the hub once.

    Raises:
        ValueError: there is no such model.
    """
    folder = Path(source)
    # os.path answers False where pathlib raises: names too long, folders one may not enter.
    if os.path.isfile(folder / CONFIG):
        return folder
    if is_run(folder):
        if found := checkpoints(folder):
            return found[-1]
        raise ValueError(f"the run {folder} has no checkpoint yet")
    name = str(source)
    if name in shipped():
        return SHIPPED / name
    if os.path.exists(folder):
        raise ValueError(f"{folder} is no model folder: it has no {CONFIG}")
    if name.count("/") == 1 and not name.startswith((".", "/")) and not name.endswith("/"):
        if os.path.isdir(folder.parent):
            raise ValueError(f"there is no {folder.name!r} in the folder {folder.parent}")
        return _download(name)
    hint = did_you_mean(name, shipped())
    raise ValueError(f"no model {name[:200]!r}: {hint}; or give a folder or a hub id owner/name")


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


def load_tokenizer(source: str | Path, device: str = "cpu") -> Tokenizer:
    """The tokenizer of any such model; ValueError if it has none or is damaged."""
    folder = locate(source)
    config = read_config(folder, ("tokenizer",))
    entry = config.get("tokenizer")
    if entry is None:
        raise ValueError(f"{folder} has no tokenizer")
    if isinstance(entry, dict) and entry.get("family") not in TOKENIZERS:
        require_plugins(config["plugins"], folder)
    return checkpoint.load_module(folder, "tokenizer", entry, TOKENIZERS).to(device)


def describe_tokenizer(tokenizer: Tokenizer, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """The ``config.json`` of a model folder of a tokenizer alone.

    ``size`` is the height and width of the pictures that it was trained on, if that is known.
    """
    entry = checkpoint.describe(tokenizer, TOKENIZERS)
    remembered = {} if size is None else {IMAGE_SIZE: list(size)}
    plugins = plugins_of((TOKENIZERS, entry["family"]))
    return {"tokenizer": entry, **remembered, "plugins": plugins}


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write a model folder of a tokenizer alone."""
    weights = {"tokenizer": tokenizer.state_dict()}
    checkpoint.save(Path(folder), describe_tokenizer(tokenizer), weights)


def plugins_of(*entries: tuple[Table[Any], str]) -> list[str]:
    """The plugins that some entries of tables come from, sorted."""
    return sorted({table.plugin_of(name) for table, name in entries} - {""})


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.md"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"no folder {name!r} here, nor a model on the hub: {reason}") from error
