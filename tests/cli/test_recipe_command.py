"""``setar recipe``."""

import pytest
from PIL import Image


@pytest.mark.parametrize(
    ("text", "grid", "sets"),
    [
        ("roll-8-cosine", "8x8", 8),
        ("next-scale", "4X6", None),
        ("raster-1,2,1", "2x2", 3),
        ("mar", "5x5", None),
        ("ar", "1x9", 9),
    ],
)
def test_recipes_are_drawn(run, tmp_path, text, grid, sets):
    out = tmp_path / "new folder" / "plan.png"
    code, shown, err = run("recipe", text, "--grid", grid, "--seed", 3, "--out", out)
    assert (code, err) == (0, "")
    if sets:
        assert f"{sets} sets" in shown
    assert str(out) in shown.replace("\n", "")
    with Image.open(out) as picture:
        picture.load()
        assert min(picture.size) > 300


def test_the_seed_of_a_drawing(run):
    first = run("recipe", "random-4-random", "--seed", 1)
    assert first == run("recipe", "random-4-random", "--seed", 1)
    assert first != run("recipe", "random-4-random", "--seed", 2)


@pytest.mark.parametrize("grid", ["8", "8x", "0x8", "-1x8", "99999x99999", "8x8x8", "axb", "²x8"])
def test_bad_grids(refused, grid):
    assert "--grid" in refused("recipe", "ar", "--grid", grid)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must be text of 1 to"),
        ("rndom", "order-sets-schedule"),
        ("random-16", "must name its schedule"),
        ("random-99-cosine", "must not exceed the 64 tokens"),
        ("raster-1,2", "must sum to the 64 tokens"),
        ("a\nb", "order-sets-schedule"),
    ],
)
def test_bad_recipes(refused, text, rule):
    assert rule in refused("recipe", text)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_bad_seeds_of_a_drawing(refused, seed):
    assert "`seed`" in refused("recipe", "ar", "--seed", seed)
