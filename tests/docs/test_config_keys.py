"""Every key that a config may have is told, with the default that it has."""

import json
import tomllib
from typing import Any

import pytest
from config_keys import NO_DEFAULT, config_tables, field_texts, in_words

from setar.config import CONFIGS, table
from setar.data.images import Size
from setar.models.base import FAMILIES
from setar.tokenizers.base import TOKENIZERS
from setar.training.run import RUNS, make_run

TABLES = config_tables()
KEYS = [key for one in TABLES for key in one.keys]
OF_TEXTS = ("stages", "data.scenes", "text")
"""Tables that other models refuse."""

LEAST = {"data": {"source": "emoji"}}


def flat(value: Any, path: str = "") -> set[str]:
    """The keys of nested tables, as for ``--set``."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return set().union(*(flat(inner, path) for inner in value))
    if not isinstance(value, dict):
        return {path}
    return set().union(*(flat(inner, f"{path}.{key}".lstrip(".")) for key, inner in value.items()))


def test_every_key_has_a_meaning():
    assert [(key.path, key.of) for key in KEYS if not key.meaning] == []
    assert [one.path for one in TABLES if not one.meaning] == []


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.toml")), ids=lambda file: file.stem)
def test_the_keys_of_shipped_configs_are_told(file):
    used = flat(tomllib.loads(file.read_text(encoding="utf-8")))
    # A table may be left out as a whole, and a recipe is a text.
    assert used <= {key.path for key in KEYS}


@pytest.mark.parametrize("task", [*RUNS])
def test_all_that_a_run_writes_is_told(task):
    written = table(make_run({"task": task, **LEAST}, "test"))
    empty = {one.path for one in TABLES}  # `text` and others that were left out
    assert flat(written) - empty <= {key.path for key in KEYS}


@pytest.mark.parametrize("family", [*FAMILIES])
def test_the_keys_of_each_family(family):
    told = {key.path for key in KEYS if key.of == family and key.path.startswith("model.")}
    kind = FAMILIES.find(family)
    preset = next(iter(kind.presets))
    fields = table(kind.presets[preset]).keys() - {*kind.Config.TOKENIZER_FACTS}
    assert told == {f"model.{name}" for name in fields}


def test_tokenizers_that_can_be_trained():
    told = {key.of for key in KEYS if key.path.startswith("tokenizer.")} - {""}
    assert {"vqgan", "multiscale"} <= told <= {*TOKENIZERS}
    assert "pixels" not in told


@pytest.mark.parametrize("task", [*RUNS])
def test_a_default_that_is_said_changes_nothing(task):
    plain = make_run({"task": task, **LEAST}, "test")
    tried = 0
    for one in TABLES:
        if task not in one.tasks or one.path.startswith(OF_TEXTS):
            continue
        for key in one.keys:
            if key.of or not key.default.startswith("`"):
                continue
            values: dict[str, Any] = {"task": task, "data": {**LEAST["data"]}}
            *above, last = key.path.split(".")
            inner = values
            for word in above:
                inner = inner.setdefault(word, {})
            inner[last] = json.loads(key.default.strip("`"))
            assert make_run(values, key.path) == plain, key.path
            tried += 1
    assert tried > 40


def test_what_must_be_given():
    needed = {key.path for key in KEYS if key.default == NO_DEFAULT}
    assert needed == {"task", "data.source", "stages.steps"}


def test_types_in_words():
    assert in_words(tuple[float, float]) == "list of 2 numbers"
    assert in_words(int | None) == "whole number"
    assert in_words(Size) == "whole number or list of whole numbers"


def test_a_field_says_what_its_base_class_says():
    texts = field_texts(FAMILIES.find("var").Config)
    assert texts["width"] == field_texts(FAMILIES.find("fmt").Config)["width"]
    assert texts["scales"].startswith("Rows and columns")
