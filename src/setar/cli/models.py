"""What can be said of a model before torch is imported: whether it is one, and what it reads."""

import json
import math
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from setar.cli.files import PICTURES
from setar.files import open_regular
from setar.registry import did_you_mean

SHIPPED = Path(__file__).parents[1] / "weights"
LARGEST = 2**26
"""Bytes of a `config.json`; a thousand classes with long names need a thousandth of that."""
LOOKED_AT = 1000
"""Files of a folder that are looked at, to say that it is one of pictures."""


def class_names(source: str) -> tuple[str, ...]:
    """The names of a generator's classes; of one that reads texts there are none.

    Raises:
        ValueError: the source is no generator, or its `config.json` is wrong.
    """
    config = _generator(source)
    names = config.get("classes")
    if names == [] and config.get("text"):
        return ()
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    from setar.pipeline import Pipeline

    return Pipeline.from_pretrained(source).classes  # which says what is wrong


def _generator(source: str) -> dict[str, Any]:
    """The `config.json` of what is no tokenizer alone; ValueError if it is one."""
    config = glance(source)
    if "model" not in config and "tokenizer" in config:
        raise ValueError(
            f"{source} is a tokenizer, which makes no pictures of its own: use `setar reconstruct`"
        )
    return config


def glance(source: str) -> dict[str, Any]:
    """The `config.json` of a model, unchecked; empty if it cannot be read: loading says why.

    Raises:
        ValueError: there is no such model, here or on the hub.
    """
    file = find_config(source)
    if file is None:
        from setar.pretrained import locate

        file = locate(source) / "config.json"
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            return {}
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def find_config(source: str) -> Path | None:
    """The `config.json` of a model that lies here; None of one that may be on the hub.

    Raises:
        ValueError: there is no such model.
    """
    folder = Path(source)
    if not source.strip():
        raise ValueError("a model has a name; this one is empty")
    if os.path.isfile(folder / "config.json"):
        return folder / "config.json"
    if os.path.isdir(folder / "checkpoints"):
        files = folder.glob("checkpoints/step-*/config.json")
        steps = {file.parent.name.removeprefix("step-"): file for file in files}
        newest = max(filter(str.isdecimal, steps), key=int, default=None)
        return None if newest is None else steps[newest]
    shipped = {file.parent.name: file for file in SHIPPED.glob("[!.]*/config.json")}
    if source in shipped:
        return shipped[source]
    if os.path.isdir(folder):
        files = islice(folder.rglob("*"), LOOKED_AT)
        if any(file.suffix.lower() in PICTURES for file in files):
            raise ValueError(f"{source} is a folder of pictures, no model")
        raise ValueError(f"{source} is no model folder: it has no config.json")
    if os.path.exists(folder):
        raise ValueError(f"{source} is a file; a model is a folder, or a shipped name")
    if source.count("/") == 1 and not source.startswith((".", "/", "~")) and source[-1] != "/":
        if not os.path.isdir(folder.parent):
            return None
    elif "/" not in source and "\\" not in source:
        hint = did_you_mean(source, sorted(shipped))
        raise ValueError(
            f"{source[:200]!r} does not exist: no model folder, nor a shipped model; {hint}"
        )
    raise ValueError(f"{source[:200]} does not exist")


def shipped() -> list[Path]:
    """The `config.json` of the models of the package, by name."""
    return sorted(SHIPPED.glob("[!.]*/config.json"))


def cached() -> list[tuple[str, Path]]:
    """Name and folder of models from the hub that lie in its cache, in their newest state."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    found: dict[str, Path] = {}
    manifests = [*cache.glob("models--*--*/snapshots/*/manifest.json")]
    for file in sorted(manifests, key=lambda file: file.stat().st_mtime):
        name = file.parents[2].name.removeprefix("models--").replace("--", "/", 1)
        if (file.parent / "config.json").is_file():
            found[name] = file.parent
    return sorted(found.items())


def nearby(folder: Path, depth: int) -> Iterator[Path]:
    """Model folders and runs with a checkpoint below a folder, by name."""
    if all(os.path.isfile(folder / name) for name in ("config.json", "manifest.json")):
        yield folder
        return
    if os.path.isdir(folder / "checkpoints"):
        if next(folder.glob("checkpoints/step-*/manifest.json"), None) is not None:
            yield folder
        return
    try:
        inner = sorted(f for f in folder.iterdir() if os.path.isdir(f) and not f.is_symlink())
    except OSError:
        return
    for below in inner if depth else ():
        if not below.name.startswith(".") and below.resolve() != SHIPPED:
            yield from nearby(below, depth - 1)


def folder_of(source: str) -> Path:
    """The folder of a model; of one on the hub it is downloaded. ValueError if there is none."""
    file = find_config(source)
    if file is None:
        from setar.pretrained import locate

        return locate(source)
    return file.parent


def asked_with(config: dict[str, Any]) -> str:
    """What a model is asked with, from its `config.json`, in a few words."""
    model, text, names = config.get("model"), config.get("text"), config.get("classes")
    if not isinstance(model, dict):
        return "a tokenizer, which makes no pictures" if config.get("tokenizer") else "unknown"
    if isinstance(text, dict):
        return f"texts, read by {text.get('encoder')}"
    if isinstance(names, list) and names:
        some = ", ".join(map(str, names[:3]))
        return f"{len(names)} classes: {some}{', ...' if len(names) > 3 else ''}"
    return "unknown"


def parameters_of(folder: Path) -> dict[str, int]:
    """Numbers in each file of weights, which their headers say; a damaged one has none."""
    return {file.stem: _numbers(file) for file in sorted(folder.glob("*.safetensors"))}


def _numbers(file: Path) -> int:
    try:
        with open_regular(file) as stream:
            length = int.from_bytes(stream.read(8), "little")
            entries = json.loads(stream.read(min(length, LARGEST)))
        entries.pop("__metadata__", None)
        return sum(math.prod(entry["shape"]) for entry in entries.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 0


def bytes_of(folder: Path) -> int:
    """Of all files of a folder."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def card_of(folder: Path) -> str:
    """The text of a model card; empty if there is none."""
    try:
        with open_regular(folder / "README.md") as stream:
            return stream.read(LARGEST).decode("utf-8", "replace")
    except ValueError:
        return ""


def licence_of(card: str) -> str | None:
    """The licence that a model card states, in its front matter or in a sentence."""
    front = re.match(r"---\n(.*?)\n---", card, re.S)
    stated = re.search(r"^license: *(\S.*)$", front[1], re.M) if front else None
    if stated:
        return stated[1].strip()
    section = re.search(r"^#+ *licen[cs]es?\s+(\S.*?)(?:\n\n|\Z)", card, re.M | re.I | re.S)
    sentence = section[1] if section else next(re.finditer(r"^.*\blicen[cs]e.*$", card, re.M), "")
    text = sentence if isinstance(sentence, str) else sentence[0]
    return " ".join(text.split())[:300] or None


def steps_of(folder: Path, config: dict[str, Any]) -> int | None:
    """Steps of training after which a model was written; None if nothing says."""
    named = re.fullmatch(r"step-0*([0-9]+)", folder.resolve().name)
    if isinstance(steps := config.get("steps"), int):
        return steps
    return int(named[1]) if named else None
