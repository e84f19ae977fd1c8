"""TOML to typed, frozen configs; a wrong key or value is refused in one line.

A config class is a plain frozen dataclass; its field docstrings are the reference. One that is
written in another way than field by field (a recipe is a text, a model a preset with changes) has
a class method ``from_table(value, where)`` and its inverse ``to_table()``.
"""

import dataclasses
import json
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from setar.registry import did_you_mean, one_line

Config = TypeVar("Config")

MAX_CONFIG = 2**20
"""Bytes of a config file that are read: it is written by hand, or is a run's own settings."""

MAX_MESSAGE = 500
"""Characters of a message about a config: values in it may be of any length."""

_INSTALLED = Path(__file__).parent / "configs"
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "configs"
"""The configs that come with the package; in a checkout they lie beside `src`."""


def shipped_configs() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(file.stem for file in CONFIGS.glob("*.toml"))


def find_config(text: str) -> Path:
    """A config file: a path, or the name of a shipped one; ``configs/NAME.toml`` is that too.

    Raises:
        ValueError: there is neither.
    """
    name = text.removeprefix("configs/").removesuffix(".toml")
    if os.path.isfile(text) or name not in shipped_configs():
        if not text.endswith(".toml") and not os.path.exists(text):
            hint = did_you_mean(name, shipped_configs())
            raise ValueError(
                f"{text[:200]!r} does not exist: no file, nor a shipped config; {hint}"
            )
        return Path(text)
    return CONFIGS / f"{name}.toml"


def read_config(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a config: TOML, or the JSON of a run's settings; errors as `read_toml`."""
    return _read_tables(path, overrides, "JSON" if path.suffix == ".json" else "TOML")


def read_toml(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file, with ``key=value`` overrides such as ``loop.steps=10``.

    Raises:
        ValueError: the file is missing or is not TOML, or an override has no ``=``.
    """
    return _read_tables(path, overrides, "TOML")


def _read_tables(path: Path, overrides: Iterable[str], form: str) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise ValueError(f"cannot read the config {path}: it is no regular file")
        if path.stat().st_size > MAX_CONFIG:
            raise ValueError(f"cannot read the config {path}: more than {MAX_CONFIG} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the config {path}: {_one_line(error)}") from error
    try:
        tables = json.loads(text) if form == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid {form}: {_one_line(error)}") from error
    if not isinstance(tables, dict):
        raise ValueError(f"{path} must hold a JSON object")
    for override in overrides:
        _apply(tables, override)
    return tables


def _one_line(message: object) -> str:
    """A message on one line, of bearable length, and without what would move a cursor."""
    text = one_line(message)
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}..."


def _apply(tables: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not separator or not all(parts):
        raise ValueError(f"an override reads key=value, e.g. loop.steps=10; got {override[:80]!r}")
    *tables_above, last = parts
    for part in tables_above:
        tables = tables.setdefault(part, {})
        if not isinstance(tables, dict):
            raise ValueError(f"override {override[:80]!r}: {part!r} is a value, not a table")
    tables[last] = _value(text.strip())


def _value(text: str) -> Any:
    """A TOML value; whatever is not one is taken as the text itself (``recipe=ar``)."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text


def build(kind: type[Config], values: Any, source: str = "config", path: str = "") -> Config:
    """Check ``values`` against the dataclass ``kind`` and make one.

    Types are those of JSON, and nothing is converted except a whole number to a float and a list to
    a tuple: ``"16"``, ``16.0`` and ``true`` are no integers.

    Args:
        kind: a dataclass, or a class with ``from_table``.
        values: a table, as TOML or JSON gives it.
        source: where it comes from, for messages.
        path: its key there, such as ``sampling.guidance``; empty at the top.

    Raises:
        ValueError: an unknown key (with the nearest known one), a missing key, a wrong value.
    """
    where = f"{source}: {path}" if path else source
    any_kind: Any = kind
    own = getattr(kind, "from_table", None)
    try:
        if own is not None:
            return own(values, where)
        if not isinstance(values, Mapping):
            raise ValueError(f"{where}: Input should be a table, got {values!r:.60}")
        types_of = typing.get_type_hints(kind)
        fields = {f.name: f for f in dataclasses.fields(any_kind) if f.init}
        for key in values:
            if key not in fields:
                hint = did_you_mean(key, fields)
                raise ValueError(f"{where}: unknown key `{str(key)[:80]}`; {hint}")
        for key, field in fields.items():
            needed = field.default is field.default_factory is dataclasses.MISSING
            if needed and key not in values:
                raise ValueError(f"{where}: missing key `{key}`")
        prefix = f"{path}." if path else ""
        made = {k: _read(types_of[k], v, source, f"{prefix}{k}") for k, v in values.items()}
    except RecursionError as error:
        raise ValueError(f"{where}: the values are nested too deeply") from error
    except ValueError as error:
        raise ValueError(_one_line(error)) from error
    try:
        return kind(**made)
    except ValueError as error:
        raise ValueError(_one_line(f"{where}: {error}")) from error


def _read(hint: Any, value: Any, source: str, path: str) -> Any:
    """A value of a field of the type ``hint``: a table of its own, or plain JSON."""
    parts: tuple[Any, ...] = (hint, *typing.get_args(hint))
    kinds: list[Any] = [part for part in parts if dataclasses.is_dataclass(part)]
    if kinds and typing.get_origin(hint) is tuple:  # of any number of tables
        if not isinstance(value, list | tuple):
            raise ValueError(f"{source}: {path}: Input should be a list of tables")
        return tuple(build(kinds[0], v, source, f"{path}.{i}") for i, v in enumerate(value))
    if kinds and value is not None:
        return build(kinds[0], value, source, path)
    _refuse_unbounded(value, f"{source}: {path}")
    try:
        return _adapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([path, *map(str, first["loc"])])
        plain = isinstance(first["input"], str | int | float)
        got = f", got {first['input']!r:.60}" if plain else ""
        raise ValueError(f"{source}: {key}: {first['msg']}{got}") from error
    except TypeError as error:
        reason = f"a value has a type that neither TOML nor JSON knows ({error})"
        raise ValueError(f"{source}: {path}: {reason}") from error


@lru_cache(maxsize=256)
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _refuse_unbounded(value: Any, where: str) -> None:
    """Refuse NaN, infinity and what 64 bits cannot hold: no setting means that."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            _refuse_unbounded(inner, where)
    elif isinstance(value, int | float) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where}: a number must be finite and fit 64 bits")


def table(value: Any) -> Any:
    """The inverse of `build`: a config as tables, lists and plain values, ready for JSON."""
    if hasattr(value, "to_table"):
        return value.to_table()
    if dataclasses.is_dataclass(value):
        return {f.name: table(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {key: table(inner) for key, inner in value.items()}
    return [table(inner) for inner in value] if isinstance(value, list | tuple) else value
