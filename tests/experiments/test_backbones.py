"""Five backbones under one roof: equal in size, measured once, and weighed by one rule."""

from dataclasses import replace

import pytest
import torch

from random_weights import randomise
from setar.models.base import FAMILIES
from setar.recipes.recipe import Recipe, SetPlan

FAMILY_NAMES = ("fmt", "randar", "arpg", "lpd", "decoder-only", "fmt-apart")


@pytest.mark.parametrize("bed", ["digits", "emoji"])
def test_all_have_the_parameters_of_the_fmt(backbones, bed):
    assert tuple(backbones.SHAPES[bed]) == tuple(backbones.NAMES) == FAMILY_NAMES
    with torch.device("meta"):
        sizes = {
            family: sum(p.numel() for p in backbones.model_of(bed, family).parameters())
            for family in FAMILY_NAMES
        }
    assert sizes["fmt-apart"] == sizes["fmt"]
    for family, size in sizes.items():
        assert abs(size / sizes["fmt"] - 1) < 0.02, family


@pytest.mark.parametrize("bed", ["digits", "emoji"])
def test_all_are_trained_alike(backbones, bed):
    runs = {family: backbones.run_for(bed, family, 1) for family in FAMILY_NAMES}
    for family, run in runs.items():
        for part in ("data", "tokenizer", "optimizer", "loop"):
            assert getattr(run, part) == getattr(runs["fmt"], part)
        assert str(run.recipe) == (
            "raster-N-uniform" if family == "decoder-only" else "random-16-random"
        )
        shape = run.model.shape
        assert (shape.dropout, shape.class_dropout) == (0.0, 0.1)
    assert runs["fmt"].loop.seed == 1


def plan(order):
    """Sets of 1, 2 and 1 tokens on a grid of 2x2."""
    known = torch.tensor([[1, 2, 2, 3]])
    return SetPlan((2, 2), torch.tensor([order]), known, known > 0)


def model(family, backbones):
    shape = replace(FAMILIES.find("fmt").presets["tiny"], grid=(2, 2))
    return randomise(FAMILIES.find(family)(shape)).eval()


def test_queries_apart_do_not_see_those_of_their_set(backbones):
    codes, condition = torch.tensor([[3, 5, 7, 9]]), torch.tensor([2])
    for family, same in (("fmt", False), ("fmt-apart", True)):
        net = model(family, backbones)
        # The token at 1 is asked for beside that at 2, and beside that at 3.
        first = net(codes, condition, plan([0, 1, 2, 3]))[:, 1]
        other = net(codes, condition, plan([0, 1, 3, 2]))[:, 1]
        assert torch.allclose(first, other, atol=1e-5) == same
        # Both read the first token.
        changed = codes.clone()
        changed[0, 0] = 4
        assert not torch.allclose(first, net(changed, condition, plan([0, 1, 2, 3]))[:, 1])


def test_queries_apart_are_sampled_as_they_are_trained(backbones):
    net, steps = model("fmt-apart", backbones), plan([2, 0, 3, 1])
    codes, condition = torch.tensor([[3, 5, 7, 9]]), torch.tensor([2])
    expected, decoding, found = net(codes, condition, steps), net.start(condition, 4), []
    for start, stop in steps.slices():
        positions = steps.order[:, start:stop]
        found.append(decoding.predict(positions))
        decoding.absorb(codes.gather(1, positions), positions)
    assert torch.allclose(torch.cat(found, 1), expected, atol=1e-5)
    with pytest.raises(ValueError, match="`attention` must be 'causal'"):
        net.start(condition, 4, "full")


@pytest.fixture
def small(backbones, lab, monkeypatch):
    """Digits in two steps of four pictures, of which few are measured."""

    def run(recipe, shape, seed):
        whole = lab.run_of(recipe, seed, shape["family"], 2, {"preset": "tiny", **shape})
        return replace(whole, loop=replace(whole.loop, batch_size=4))

    monkeypatch.setattr(lab, "PER_CLASS", 4)
    bed = replace(backbones.BEDS["digits"], run=run)
    monkeypatch.setitem(backbones.BEDS, "digits", bed)
    recipes = ["random-4-cosine", "locality-4-cosine"]
    monkeypatch.setattr(backbones, "recipes_for", lambda family: recipes)
    return backbones


def test_what_is_measured_is_kept_and_goes_on(small, capsys, monkeypatch):
    found = small.measured("digits", "arpg", 0)
    assert [*found["figures"]] == small.recipes_for("arpg")
    assert found["parameters"] == 297_792
    assert found["images"] == 8
    assert 0 < found["heldout"] < 4
    assert small.is_whole("digits", "arpg", 0)
    assert capsys.readouterr().out.count("training arpg") == 1
    assert small.measured("digits", "arpg", 0) == found
    assert capsys.readouterr().out == ""
    # A recipe more is measured alone, of the model that is there.
    monkeypatch.setattr(
        small, "recipes_for", lambda family: [*found["figures"], "raster-N-uniform"]
    )
    assert not small.is_whole("digits", "arpg", 0)
    more = small.measured("digits", "arpg", 0)
    assert {k: more["figures"][k] for k in found["figures"]} == found["figures"]
    out = capsys.readouterr().out
    assert "training" not in out
    assert out.count("digits arpg 0") == 1
    # Figures of other settings count for nothing.
    sampled = replace(small.BEDS["digits"], sampled={"guidance": 3})
    monkeypatch.setitem(small.BEDS, "digits", sampled)
    assert small.kept("digits", "arpg", 0)["figures"] == {}


@pytest.mark.parametrize("family", ["randar", "decoder-only"])
def test_speeds_are_of_the_shapes_that_are_trained(backbones, monkeypatch, family):
    monkeypatch.setattr(backbones, "TIMED_STEPS", (2, 64) if family == "decoder-only" else (2,))
    monkeypatch.setattr(backbones, "TIMED_BATCH", {"training": 2, "sampling": 1})
    monkeypatch.setattr(backbones, "REPEATS", 1)
    found = backbones.speed("digits", family)
    assert [*found["seconds"]] == (["64"] if family == "decoder-only" else ["2"])
    assert found["images"] > 0
    # Keys and values of 4 layers, width 72, float32, with and without the condition.
    tokens = 65 if family == "decoder-only" else 1 + 2 * 64
    assert found["caches"] == 2 * 4 * 4 * 2 * 72 * tokens


def figures(backbones, family, level):
    """Kept figures: three seeds around a level, so that they are told apart from others."""
    recipes = backbones.recipes_for(family)
    return [
        {
            "parameters": 300_000,
            "images": 25_600,
            "curve": [[20, 3.0], [40, 2.0]],
            "trained": level / 10 + off,
            "heldout": level / 10 + off,
            "figures": {name: {"distance": level + off, "right": 0.5} for name in recipes},
        }
        for off in (0.0, 0.01, 0.02)
    ]


def speed_of(rate):
    seconds = {"4": 1 / rate, "16": 2 / rate, "64": 4 / rate}
    return {"images": rate, "seconds": seconds, "caches": int(rate) * 1024}


def test_the_answer_follows_from_the_figures(backbones, backbones_page, monkeypatch):
    levels = dict(zip(FAMILY_NAMES, (5.0, 7.0, 6.0, 5.0, 4.0, 8.0), strict=True))
    beds = {
        bed: {family: figures(backbones, family, level) for family, level in levels.items()}
        for bed in backbones.BEDS
    }
    rates = dict(zip(FAMILY_NAMES, (100.0, 50.0, 400.0, 200.0, 300.0, 1.0), strict=True))
    speeds = {family: speed_of(rate) for family, rate in rates.items()}
    timed = {bed: {"machine": "some", "date": "today", **speeds} for bed in beds}
    backbones_page.print_page(beds, timed)
    page = backbones_page.PAGE.read_text(encoding="utf-8")
    assert "in 4 steps**: on digits FMT and LPD (5.0 ± 0.0); on emoji FMT and LPD" in page
    assert "in 64 steps**: on digits decoder-only (4.0 ± 0.0)" in page
    assert "on digits the decoder-only model (4.0 ± 0.0) beats the best" in page
    assert "Trains fastest**: on digits ARPG (400 images/s), least RandAR (50)" in page
    assert "FMT 8, RandAR 0, ARPG 0, LPD 8, decoder-only 2. Take FMT and LPD for few" in page
    assert "it is 4.0 times as fast, at so many times the distance: 1.2 on digits, 1.2 on" in page
    assert "seeing each other is better in 4, 8, 16, 32, 64 steps." in page
    assert page.count("| LPD | 5.0 ± 0.0 |") == 4
    assert "nan" not in page
    # Without seconds nothing is said of them.
    backbones_page.print_page({"digits": beds["digits"]}, {})
    page = backbones_page.PAGE.read_text(encoding="utf-8")
    assert "fast" not in page
    assert "emoji" not in page


def test_two_are_told_apart_by_the_error_of_their_difference(backbones_page):
    leaders = backbones_page.leaders
    assert leaders({"b": [2.0, 2.1, 1.9], "a": [1.0, 1.1, 0.9]}) == ["a"]
    assert leaders({"b": [1.2, 2.1, 0.9], "a": [1.0, 1.1, 0.9]}) == ["a", "b"]
    assert leaders({"b": [1.0], "a": [1.0]}) == ["b", "a"]


def test_the_recipes_can_be_followed(backbones):
    for family in FAMILY_NAMES:
        names = backbones.recipes_for(family)
        assert len({*names}) == len(names)
        for name in names:
            net = backbones.model_of("digits", family)
            net.check(Recipe.parse(name).plan((8, 8)))
