"""Orders that a file lists."""

import json

import pytest
import torch

from setar.recipes.recipe import Recipe

ORDERS = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 2, 4, 1, 3, 5]]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some-8-orders.v2" / "res-6-orders.json"
    path.parent.mkdir()
    path.write_text(json.dumps(ORDERS))
    return path


def seeds(count):
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_a_recipe_names_the_file(file):
    for rest, sizes in (("3-uniform", (2, 2, 2)), ("1,2,3", (1, 2, 3)), ("N-lpd", (1,) * 6)):
        recipe = Recipe.parse(f"{file}-{rest}")
        assert recipe.order == str(file)
        assert Recipe.parse(str(recipe)) == recipe
        assert recipe.sampling_plan((2, 3), seeds(2)).sizes == sizes


def test_each_image_takes_an_order_by_its_own_seed(file):
    recipe = Recipe.parse(f"{file}-3-uniform")
    orders = recipe.sampling_plan((2, 3), seeds(40)).order.tolist()
    assert {tuple(order) for order in orders} == {tuple(order) for order in ORDERS}
    assert recipe.sampling_plan((2, 3), seeds(3)).order.tolist() == orders[:3]
    drawn = recipe.plan((3, 2), 40, torch.Generator().manual_seed(0)).order
    assert len(drawn.unique(dim=0)) == 3


def test_a_file_that_changed_is_read_again(file):
    recipe = Recipe.parse(f"{file}-2-uniform")
    recipe.plan((2, 3))
    file.write_text(json.dumps([[1, 0, 3, 2, 5, 4]]))
    assert recipe.plan((2, 3)).order.tolist() == [[1, 0, 3, 2, 5, 4]]


@pytest.mark.parametrize(
    "content",
    ["", "no JSON", "{}", "7", "[]", "[[]]", "[0, 1]", "[[0, 1], [0]]", '[["a"]]', "[[0.5, 1]]",
     "[[true, false]]", "[[[0]]]", "[" * 5000, "[[9999999999999999999999]]"],
)  # fmt: skip
def test_a_file_of_something_else(file, content):
    file.write_text(content)
    with pytest.raises(ValueError, match=r"\A[^\n]*must hold a list of orders in JSON[^\n]*\Z"):
        Recipe.parse(f"{file}-2-uniform").plan((2, 3))


def test_orders_that_do_not_fit(file):
    recipe = Recipe.parse(f"{file}-2-uniform")
    with pytest.raises(ValueError, match=r"have 6 tokens, not the 16 of the grid 4x4\Z"):
        recipe.plan((4, 4))


@pytest.mark.parametrize("wrong", [[0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [2**32, 1, 2, 3, 4, 5]])
def test_one_wrong_order_among_many_is_found_at_once(file, wrong):
    recipe = Recipe.parse(f"{file}-2-uniform")
    file.write_text(json.dumps([*ORDERS * 30, wrong, *ORDERS]))
    rule = r"\A[^\n]*raster indices 0\.\.5, each once; order 90 is none\Z"
    with pytest.raises(ValueError, match=rule):
        recipe.sampling_plan((2, 3), seeds(1))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none.json", "No such file"), ("no\0ne.json", "embedded null"), (".json", "Is a directory")],
)
def test_a_file_that_is_not_there_is_missed_when_it_is_needed(tmp_path, name, reason):
    (tmp_path / ".json").mkdir()
    recipe = Recipe.parse(f"{tmp_path}/{name}-2-uniform")
    with pytest.raises(ValueError, match=rf"\Acannot read the orders of [^\n]*: {reason}"):
        recipe.plan((2, 3))


@pytest.mark.parametrize("text", ["a.json", "a.json-", "a.json-cosine", "a.json-b-4-cosine"])
def test_malformed_recipes(text):
    with pytest.raises(ValueError, match=r"\Aunknown (order|recipe) [^\n]*\Z"):
        Recipe.parse(text)
