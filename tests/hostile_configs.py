"""Configs with one value that nobody meant: what a config says, mutated at every key."""

import copy
import json
from collections.abc import Iterator
from typing import Any

HOSTILE: dict[str, Any] = {
    "huge": 10**9,
    "beyond 64 bits": 10**30,
    "negative": -1,
    "zero": 0,
    "float": 1.5,
    "infinity": float("inf"),
    "nan": float("nan"),
    "bool": True,
    "null": None,
    "text": "x",
    "long text": "x" * 100_000,
    "control": "\x1b[31m\n",
    "list": [],
    "numbers": [10**9, 10**9, 10**9],
    "many": [1] * 20_000,
    "table": {},
    "strange table": {"__class__": "x", "family": 3},
    "deep": None,  # below
}
for _ in range(200):
    HOSTILE["deep"] = [HOSTILE["deep"]]


def paths(value: Any, above: tuple = ()) -> Iterator[tuple]:
    """The place of every value in nested tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*above, key)
        if isinstance(inner, dict) or (isinstance(inner, list) and len(inner) < 4):
            yield from paths(inner, (*above, key))


def mutated(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies of a config, each with one hostile value, and what was done to it."""
    config = json.loads(json.dumps(config))  # lists for tuples, as a file has them
    for path in paths(config):
        for kind, value in HOSTILE.items():
            changed = copy.deepcopy(config)
            table = changed
            for key in path[:-1]:
                table = table[key]
            table[path[-1]] = value
            yield f"{'.'.join(map(str, path))} = {kind}", changed
        changed = copy.deepcopy(config)
        table = changed
        for key in path[:-1]:
            table = table[key]
        del table[path[-1]]
        yield f"no {'.'.join(map(str, path))}", changed
