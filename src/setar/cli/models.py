"""What can be said of a model before torch is imported: whether it is one, and what it reads."""

import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

from setar.cli.files import PICTURES
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
