"""Every key of a config file, with what it takes, its default and its meaning.

All of it is read from the dataclasses of a run: types, defaults, and the text below each field.
"""

import ast
import dataclasses
import inspect
import json
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from setar.config import table
from setar.models.base import FAMILIES
from setar.tokenizers.base import TOKENIZERS
from setar.training.run import RUNS

NO_DEFAULT = "none: it must be given"

FAMILIES_OF = {"model": FAMILIES, "tokenizer": TOKENIZERS}
"""Tables of a config whose keys depend on their ``family``."""

IN_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


class Key(NamedTuple):
    """One key of a config file."""

    path: str
    """As for ``--set``: ``loop.steps``. In the tables of a list: ``stages.steps``."""
    takes: str
    default: str
    meaning: str
    """The text below the field; empty if it has none."""
    of: str = ""
    """The family that has it, if others do not, or not so."""


class KeyTable(NamedTuple):
    """One table of a config file."""

    path: str
    """Empty: the top level."""
    tasks: tuple[str, ...]
    """The kinds of runs that have it."""
    meaning: str
    keys: list[Key]


def config_tables() -> list[KeyTable]:
    """All tables, those at the top first, in the order in which they are declared."""
    found: dict[tuple[str, type], KeyTable] = {}
    for task, run in RUNS.items():
        for path, kind in _tables_below("", run):
            known = found.get((path, kind))
            tasks = (*(known.tasks if known else ()), task)
            keys = known.keys if known else list(keys_of(path, kind))
            found[path, kind] = KeyTable(path, tasks, inspect.getdoc(kind) or "", keys)
    return list(found.values())


def keys_of(path: str, kind: type) -> Iterator[Key]:
    """The keys of the table ``path``, which is read into the dataclass ``kind``."""
    if path not in FAMILIES_OF or not _of_a_family(kind):
        yield from _fields(path, kind, leave_out=set())
        return
    yield from _fields(path, kind, leave_out={"shape", "left_out"}, defaults=_chosen(kind, path))
    families = FAMILIES_OF[path]
    for name in families:
        family = families.find(name)
        if path == "tokenizer" and family(family.presets["tiny"]).quantizer is None:
            continue  # there is nothing to train
        facts = {*getattr(family.Config, "TOKENIZER_FACTS", ())}
        yield from _fields(path, family.Config, leave_out=facts, of=name)


def _tables_below(path: str, kind: type) -> Iterator[tuple[str, type]]:
    yield path, kind
    if path in FAMILIES_OF and _of_a_family(kind):
        return
    for field, hint in _declared(kind):
        inner = _table_in(hint)
        if inner is not None:
            yield from _tables_below(f"{path}.{field.name}".lstrip("."), inner)


def _of_a_family(kind: type) -> bool:
    return "family" in {field.name for field in dataclasses.fields(typing.cast(Any, kind))}


def _declared(kind: Any) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    return ((field, hints[field.name]) for field in dataclasses.fields(kind) if field.init)


def _table_in(hint: Any) -> type | None:
    """The dataclass that a field of this type is read into; None if it is a plain value."""
    for part in (hint, *typing.get_args(hint)):
        is_text = hasattr(part, "from_table") and not _of_a_family(part)
        if dataclasses.is_dataclass(part) and not is_text:
            return typing.cast(type, part)
    return None


def _chosen(kind: Any, path: str) -> dict[str, str]:
    """What `from_table` takes for the keys that an empty table does not say."""
    empty = kind.from_table({}, path)
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: _written(getattr(empty, name)) for name in ("family", "preset") if name in names}


def _fields(
    path: str, kind: Any, leave_out: set[str], of: str = "", defaults: dict[str, str] | None = None
) -> Iterator[Key]:
    meanings = field_texts(kind)
    for field, hint in _declared(kind):
        if field.name in leave_out or _table_in(hint) is not None:
            continue
        default = (defaults or {}).get(field.name) or _default(field)
        name = f"{path}.{field.name}".lstrip(".")
        yield Key(name, in_words(hint), default, meanings.get(field.name, ""), of)


def field_texts(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass; a base class's where it says nothing itself."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(part):
            continue
        [body] = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(body, ast.ClassDef)
        for line, following in zip(body.body, body.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                match following:
                    case ast.Expr(ast.Constant(str(text))):
                        found[line.target.id] = inspect.cleandoc(text)
    return found


def in_words(hint: Any) -> str:
    """A type as a person would say it: ``whole number``, ``list of 2 numbers``."""
    if hint in IN_WORDS:
        return IN_WORDS[hint]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(part)}`" for part in parts)
    if origin in (types.UnionType, typing.Union):
        words = [in_words(part) for part in parts if part is not type(None)]
        return " or ".join(dict.fromkeys(words))
    if origin is tuple:
        inner = [in_words(part) for part in parts if part is not Ellipsis]
        count = "" if Ellipsis in parts else f"{len(inner)} "
        several = {"text": "texts"}.get(inner[0], f"{inner[0]}s")
        return f"list of {count}{several}" if len({*inner}) == 1 else f"list ({', '.join(inner)})"
    return getattr(hint, "__name__", str(hint)).lower()


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _written(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _written(field.default_factory())
    return NO_DEFAULT


def _written(value: Any) -> str:
    """As a config file would have it."""
    return "left out" if value is None else f"`{json.dumps(table(value))}`"
