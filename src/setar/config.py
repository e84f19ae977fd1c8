"""TOML to typed, frozen configs; a wrong key or value is refused in one line.

A config class is a plain frozen dataclass; its field docstrings are the reference.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

Config = TypeVar("Config")


def read_toml(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file, with ``key=value`` overrides such as ``loop.steps=10``.

    Raises:
        ValueError: the file is missing or is not TOML, or an override has no ``=``.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the config {path}: {_first_line(error)}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {_first_line(error)}") from error
    for override in overrides:
        _apply(tables, override)
    return tables


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


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
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def build(kind: type[Config], values: Mapping[str, Any], source: str = "config") -> Config:
    """Check ``values`` against the dataclass ``kind`` and make one.

    Raises:
        ValueError: an unknown key (with the nearest known one), a missing key, a wrong value.
    """
    _refuse_unknown(kind, values, source)
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{source}: {f'{where}: ' if where else ''}{message}") from error


def _refuse_unknown(kind: Any, values: Mapping[str, Any], source: str) -> None:
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(hints)}"
            raise ValueError(f"{source}: unknown key `{key}`; {hint}")
        for inner in _dataclasses_in(hints[key]):
            if isinstance(value, Mapping):
                _refuse_unknown(inner, value, f"{source}: {key}")


def _dataclasses_in(hint: Any) -> list[Any]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [inner for part in typing.get_args(hint) for inner in _dataclasses_in(part)]
    return [hint] if dataclasses.is_dataclass(hint) else []
