"""``setar info``: what made a picture, or what a model is."""

import json
import math
import os
import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from setar.cli import models
from setar.cli.console import say, show
from setar.files import fingerprint

UNKNOWN = "not stated"


def info(
    what: Annotated[
        str,
        typer.Argument(help="A PNG file, or a model: a shipped name, a folder, a run, a hub id."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Say what made a picture, or what a model is: size, classes, recipe, licence and more."""
    facts = _of_picture(Path(what)) if os.path.isfile(what) else _of_model(what)
    if as_json:
        say(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        table.add_row(escape(name), escape(_shown(value)))
    show(table, 120)


def _shown(value: Any) -> str:
    """A value on a line of its own."""
    from setar.registry import printable

    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return UNKNOWN if value in (None, "") else printable(str(value))


def _of_picture(file: Path) -> dict[str, Any]:
    """All that a picture remembers, and whether its pixels are still those that were made."""
    from setar.pictures.memory import facts, recall

    memory = recall(file)
    asked = memory.prompt.split("\n") if memory.asked else []
    shown = {"asked for": "; ".join(asked)} if asked else {}
    if memory.negative_prompt is not None:
        shown["led away from"] = memory.negative_prompt
    found = facts(memory)
    if memory.manifest:
        found["Model hash"] = memory.manifest
    if memory.size is not None:
        found["Size"] = f"{memory.size[0]}x{memory.size[1]} pixels (height x width)"
    named = {name.lower(): value for name, value in found.items()}
    return {**shown, **named, "pixels": _pixels(file, memory.pixels)}


def _pixels(file: Path, expected: str) -> str:
    from PIL import Image

    from setar.pictures.png import checksum

    try:
        with Image.open(file) as picture:
            found = checksum(picture)
    except Exception as error:  # whatever Pillow raises of a damaged file
        return f"cannot be read: {error}"
    return "as they were made" if found == expected else "changed since they were made"


def _of_model(source: str) -> dict[str, Any]:
    """What a model's folder says of it; of its weights only the headers are read."""
    config = models.glance(source)
    folder = models.folder_of(source)
    if not config:
        raise ValueError(f"{source} is no model: its config.json cannot be read")
    model, tokenizer, sampling = (_part(config, n) for n in ("model", "tokenizer", "sampling"))
    if not model and not tokenizer:
        raise ValueError(
            f"{source} is no model: its config.json has neither a model nor a tokenizer"
        )
    guidance, card = _part(sampling, "guidance"), models.card_of(folder)
    facts: dict[str, Any] = {"model": source, "folder": str(folder)}
    if model:
        facts["family"] = model.get("family")
        facts["asked with"] = models.asked_with(config)
        facts["size"] = _size(source)
        facts["tokens"] = _grid(model)
        facts["recipe"] = sampling.get("recipe")
        facts["guidance"] = (
            f"{guidance.get('schedule')} {guidance.get('scale')}" if guidance else ""
        )
        facts["temperature"] = _part(sampling, "settings").get("temperature")
    facts["tokenizer"] = tokenizer.get("family")
    if codes := tokenizer.get("codebook_size") or model.get("vocabulary"):
        facts["codes"] = codes
    if not model:
        facts["size"] = _size(source)
    facts["trained on"] = config.get("data")
    commands = re.findall(r"^ *(setar train .*?)(?: +#.*)?$", card, re.M)
    facts["steps trained"] = models.steps_of(folder, config) or _steps_by(commands)
    facts["trained by"] = "; ".join(commands)
    facts["parameters"] = {n: f"{c / 1e6:.2f} M" for n, c in models.parameters_of(folder).items()}
    facts["bytes"] = models.bytes_of(folder)
    facts["licence"] = models.licence_of(card) or _of_the_package(folder)
    if config.get("precision"):
        facts["precision"] = config["precision"]
    if config.get("plugins"):
        facts["plugins"] = " ".join(map(str, config["plugins"]))
    facts["hash"] = fingerprint(folder)
    return facts


def _part(table: dict[str, Any], name: str) -> dict[str, Any]:
    part = table.get(name)
    return part if isinstance(part, dict) else {}


def _grid(model: dict[str, Any]) -> str:
    scales, grid = model.get("scales"), model.get("grid")
    if isinstance(scales, list) and scales:
        last = scales[-1] if isinstance(scales[-1], list) else [scales[-1]] * 2
        return f"{len(scales)} scales up to {'x'.join(map(str, last))}"
    if isinstance(grid, list) and all(isinstance(side, int) for side in grid):
        free = ", or any other grid" if model.get("positions") == "sine" else ""
        return f"{'x'.join(map(str, grid))} = {math.prod(grid)}{free}"
    return UNKNOWN


def _steps_by(commands: list[str]) -> str:
    """The steps of the last training that a card names, if that is of a config that is here."""
    from setar.config import find_config, read_toml

    named = re.match(r"setar train (\S+) --out \S+$", commands[-1]) if commands else None
    if named is None:
        return ""
    try:
        steps = _part(read_toml(find_config(named[1])), "loop").get("steps")
    except ValueError:
        return ""
    return f"{steps}, as its config says" if steps else ""


def _of_the_package(folder: Path) -> str:
    """What the package says of its own files."""
    if folder.parent != models.SHIPPED:
        return ""
    try:
        stated = metadata("setar").json.get("license_expression")
    except PackageNotFoundError:
        return ""
    return f"that of the package: {stated}" if stated else ""


def _size(source: str) -> str:
    """Height x width in pixels, which the tokenizer knows."""
    from setar.origin import trained_size

    size = trained_size(source)
    return UNKNOWN if size is None else f"{size[0]}x{size[1]} pixels (height x width)"
