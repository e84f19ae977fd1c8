"""TOML to typed, frozen configs; a wrong key or value is refused in one line.

A config class is a plain frozen dataclass; its field docstrings are the reference.
"""

import dataclasses
import difflib
import json
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
        raise ValueError(f"cannot read the config {path}: {_one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid TOML: {_one_line(error)}") from error
    for override in overrides:
        _apply(tables, override)
    return tables


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


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


def build(kind: type[Config], values: Mapping[str, Any], source: str = "config") -> Config:
    """Check ``values`` against the dataclass ``kind`` and make one.

    Types are those of JSON, and nothing is converted except a whole number to a float and a list to
    a tuple: ``"16"``, ``16.0`` and ``true`` are no integers.

    Raises:
        ValueError: an unknown key (with the nearest known one), a missing key, a wrong value.
    """
    try:
        _refuse_unknown(kind, values, source)
        _refuse_unbounded(values, source)
        return TypeAdapter(kind).validate_json(json.dumps(dict(values)), strict=True)
    except ValidationError as error:
        raise ValueError(_one_line(f"{source}: {_explain(error)}")) from error
    except RecursionError as error:
        raise ValueError(f"{source}: the values are nested too deeply") from error
    except TypeError as error:
        reason = f"a value has a type that neither TOML nor JSON knows ({error})"
        raise ValueError(_one_line(f"{source}: {reason}")) from error


def _explain(error: ValidationError) -> str:
    """The first complaint: where, what, and the value if it is a plain one."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    plain = isinstance(first["input"], str | int | float)
    got = f", got {first['input']!r:.60}" if plain else ""
    return f"{'.'.join(map(str, first['loc']))}: {message}{got}"


def _refuse_unknown(kind: Any, values: Mapping[str, Any], source: str) -> None:
    types_of = typing.get_type_hints(kind)
    hints = {field.name: types_of[field.name] for field in dataclasses.fields(kind) if field.init}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, 1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(hints)}"
            raise ValueError(_one_line(f"{source}: unknown key `{str(key)[:80]}`; {hint}"))
        for inner in _dataclasses_in(hints[key]):
            if isinstance(value, Mapping):
                _refuse_unknown(inner, value, f"{source}: {key}")


def _refuse_unbounded(value: Any, where: str) -> None:
    """Refuse NaN, infinity and what 64 bits cannot hold: no setting means that."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unbounded(inner, f"{where}: {key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_unbounded(inner, where)
    elif isinstance(value, int | float) and not -(2**63) <= value < 2**63:
        raise ValueError(_one_line(f"{where}: a number must be finite and fit 64 bits"))


def _dataclasses_in(hint: Any) -> list[Any]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [inner for part in typing.get_args(hint) for inner in _dataclasses_in(part)]
    return [hint] if dataclasses.is_dataclass(hint) else []
