"""``setar compare``."""

import json

import pytest
from PIL import Image

from fake_features import FakeFeatures, random_pictures
from setar.bench import compare as comparing
from setar.bench.compare import rows_of
from setar.cli.compare import split_recipes
from setar.evaluation import run as evaluation
from setar.evaluation.sources import save_pictures
from setar.files import fingerprint
from setar.pipeline import Pipeline


@pytest.fixture
def real(tmp_path, monkeypatch):
    """Reference pictures, and a projection for features."""
    monkeypatch.setattr(evaluation, "make_extractor", lambda *_: FakeFeatures("EffLite0"))
    save_pictures(random_pictures(20, seed=2), tmp_path / "real.npz")
    return tmp_path / "real.npz"


def words(model, real, *more):
    return ["compare", model, "--reference", real, "--count", 2, "--out", real.parent / "c", *more]


def test_table_sheet_and_json(run, model, real):
    recipes = ("--recipes", "random-4-cosine,raster-4-cosine,ar", "--steps", "2,4", "--scales", 3)
    code, shown, err = run(*words(model, real, *recipes))
    assert code == 0, err
    tables = json.loads((real.parent / "c" / "compare.json").read_text())
    found = [table["settings"]["recipe"] for table in tables]
    assert found == [
        *("random-2-cosine", "random-4-cosine", "raster-2-cosine", "raster-4-cosine"),
        "raster-N-uniform",
    ]
    for table in tables:
        assert table["settings"]["guidance"]["scale"] == 3.0
        assert table["speed"]["seconds"] > 0
        assert f"{table['figures']['FD-EffLite0']:.4g}" in shown
    # Two caches of condition and 16 tokens in each of two layers, and one of 16; keys and values
    # of width 32, with the condition and without.
    assert {table["speed"]["cache_bytes"] for table in tables} == {
        2 * 2 * 2 * 32 * 4 * (17 + 17 + 16)
    }
    with Image.open(real.parent / "c" / "compare.png") as sheet:
        assert sheet.height > 5 * 64
    code, said, _ = run("info", real.parent / "c" / "compare.png", "--json")
    memory = json.loads(said)
    assert memory["sampler"] == "; ".join(found)
    assert memory["model hash"] == fingerprint(model)
    assert (memory["cfg scale"], memory["seed"]) == ("3", "0")
    assert (memory["made"], memory["pixels"]) == ("comparison of 5 rows", "as they were made")


def test_it_goes_on_where_it_was(run, model, real, monkeypatch):
    recipes = ["--recipes", "random-2-cosine,random-4-cosine,raster-4-cosine"]
    measure, asked = comparing._measure, []

    def stopped(row, *rest):
        asked.append(row.sampling["recipe"])
        if len(asked) == 2:
            raise ValueError("stopped")
        measure(row, *rest)

    monkeypatch.setattr(comparing, "_measure", stopped)
    assert run(*words(model, real, *recipes))[0] == 2
    assert run(*words(model, real, *recipes))[0] == 0
    assert asked == ["random-2-cosine", "random-4-cosine", "random-4-cosine", "raster-4-cosine"]
    first = json.loads((real.parent / "c" / "compare.json").read_text())
    code, shown, _ = run(*words(model, real, *recipes, "--json"))
    assert (code, json.loads(shown)) == (0, first)  # the very seconds of before
    assert len(asked) == 4
    assert run(*words(model, real, *recipes, "--seed", 1))[0] == 0  # other samples
    assert len(asked) == 7


@pytest.mark.parametrize("own", [False, True], ids=["asked", "the model's own"])
def test_files_that_changed_are_measured_again(run, model, real, monkeypatch, own):
    measure, asked = comparing._measure, []
    monkeypatch.setattr(
        comparing, "_measure", lambda row, *rest: (asked.append(row), measure(row, *rest))
    )
    orders = real.parent / "some.json"
    orders.write_text(json.dumps([[*range(16)]]))
    recipe = f"{orders}-4-uniform"
    command = words(model, real, "--recipes", recipe)
    if own:
        pipe = Pipeline.from_pretrained(model, sampling={"recipe": recipe})
        pipe.save_pretrained(real.parent / "its own")
        command = words(real.parent / "its own", real)
    for content, measured in (([*range(16)], 1), ([*range(15, -1, -1)], 2)):
        if measured > 1:
            orders.write_text(json.dumps([content, content]))
        for _ in range(2):
            assert run(*command)[0] == 0
            assert len(asked) == measured
    save_pictures(random_pictures(21, seed=3), real)
    assert run(*command)[0] == 0
    assert len(asked) == 3


def test_models_of_texts(run, text_model, real):
    more = ("--show", "a red dot", "--recipes", "random-2-cosine")
    code, _, err = run(*words(text_model, real, *more))
    assert code == 2
    assert "captions" in err  # of the reference: evaluation says what it needs


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (("--recipe", "ar"), "--recipe"),
        (("--guidance", "two"), "--guidance reads numbers"),
        (("--guidance", ","), "--guidance names nothing"),
        (("--recipes", ", ,"), "--recipes names nothing"),
        (
            ("--recipes", "random-4-cosine,mar"),
            "model with recipe random-2-masked: recipe 'random-2-masked' is for training",
        ),
        (("--recipes", "randon-4-cosine"), "unknown order 'randon'"),
        (("--recipes", "random-17-cosine"), "`sets` (=17) must not exceed"),
        (("--recipes", "ar", "--steps", "a"), "--steps reads whole numbers"),
        (("--steps", "4"), "name these too"),
        (("--scales", "nan"), "--guidance reads numbers"),
        (("--show", "a unicorn"), "a unicorn"),
        (("--attention", "none"), "causal or full"),
    ],
)
def test_refused_in_one_line(refused, model, real, more, rule):
    assert rule in refused(*words(model, real, *more))


def test_rows_and_recipes():
    assert split_recipes("raster-1,4,16, ar ,mar") == ["raster-1,4,16", "ar", "mar"]
    assert split_recipes("raster-64,,ar,,raster-64,") == ["raster-64,", "ar", "raster-64,"]
    assert rows_of(["a", "a"], ["ar", "ar"], [1.0, 1.0]) == rows_of(["a"], ["ar"], [1.0])
    rows = rows_of(["a", "b"], ["random-4-cosine"], [1.0, 2.0], [2, 3], {"top_k": 5})
    assert len(rows) == 8
    assert rows[0].sampling == {"recipe": "random-2-cosine", "scale": 1.0, "top_k": 5}
    assert rows_of(["a"])[0].sampling == {}
