"""Names of recipes, refused before torch is imported."""

import pytest

from setar import registry
from setar.cli.recipes import ORDERS, SCHEDULES, SHORT, check_recipe
from setar.recipes import orders, schedules
from setar.recipes.recipe import Recipe


def test_the_names_are_those_of_the_tables():
    own = {table: [n for n in table if not table.plugin_of(n)] for table in TABLES}
    assert sorted(own[orders.ORDERS]) == sorted(ORDERS)
    assert sorted(own[schedules.SCHEDULES]) == sorted(SCHEDULES)
    assert {*orders.SHORT_NAMES} < {*SHORT}


TABLES = (orders.ORDERS, schedules.SCHEDULES)


@pytest.mark.parametrize(
    "text",
    [
        *SHORT,
        "random-16-cosine",
        "raster-N-uniform",
        "raster-1,2,1",
        "raster-4,",
        "reversed-roll-8-random",
        "random-2-masked-causal",
        "raster-1,4,9,16,36,64",
    ],
)
def test_what_recipes_read_is_let_through(text, monkeypatch):
    monkeypatch.setattr(registry, "_files", {})
    check_recipe(text)
    read = Recipe.parse(text)
    assert Recipe.parse(str(read)) == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rndom-16-cosine", "unknown order 'rndom'; did you mean 'random'"),
        ("random-16-cosin", "unknown schedule 'cosin'; did you mean 'cosine'"),
        ("rastr-1,2,1", "unknown order 'rastr'; did you mean 'raster'"),
        (
            "x",
            "unknown recipe 'x', write order-sets-schedule, such as random-16-cosine; known",
        ),
    ],
)
def test_what_does_not_exist_is_refused(text, message, monkeypatch):
    monkeypatch.setattr(registry, "_files", {})
    with pytest.raises(ValueError, match=message):
        check_recipe(text)
    with pytest.raises(ValueError, match="unknown"):
        Recipe.parse(text)


@pytest.mark.parametrize("text", ["", "random", "random--2-cosine", "a\nb", "RANDOM-1-cosine", "²"])
def test_the_rest_is_left_to_recipes(text, monkeypatch):
    monkeypatch.setattr(registry, "_files", {})
    check_recipe(text)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        Recipe.parse(text)


def test_a_plugin_may_have_brought_a_name(monkeypatch):
    monkeypatch.setattr(registry, "_files", {})
    with pytest.raises(ValueError, match="unknown order 'snake'"):
        check_recipe("snake-4-halves")
    monkeypatch.setattr(registry, "_files", {"mine.py": "mine.py"})
    check_recipe("snake-4-halves")
