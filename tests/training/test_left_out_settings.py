"""What a config leaves out follows from the tokenizer and its images."""

import json
import re

import pytest

import setar
import tiny_runs
from setar.config import CONFIGS, table
from setar.pipeline import Pipeline
from setar.run_folder import SETTINGS
from setar.training.run import make_run, open_run, read_run

LOOP = {"steps": 1, "batch_size": 4, "device": "cpu"}
MULTISCALE = {
    "family": "multiscale", "channels": 8, "multipliers": [1, 1, 2], "blocks": 1,
    "codebook_size": 32, "codebook_dim": 8,
}  # fmt: skip
VQGAN = {
    "channels": 8, "multipliers": [1, 1, 2], "blocks": 1, "latent_channels": 8,
    "codebook_size": 16,
}  # fmt: skip
MODELS = {
    "fmt": {"preset": "tiny", "width": 16, "encoder_layers": 1, "decoder_layers": 1},
    "decoder-only": {"family": "decoder-only", "preset": "tiny", "width": 16, "layers": 1},
    "var": {"family": "var", "preset": "tiny", "layers": 1},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return str(tiny_runs.save_pictures(tmp_path_factory.mktemp("pictures"), 6))


def tokenizer_run(pictures, tokenizer, size=(16, 24)):
    data = {"source": pictures, "image_size": size if isinstance(size, int) else list(size)}
    return {"task": "tokenizer", "data": data, "tokenizer": tokenizer, "loop": LOOP}


def generator_run(source, trained, family, **changes):
    values = {"task": "generator", "data": {"source": source}, "tokenizer": str(trained)}
    return {**values, "model": MODELS[family], "loop": LOOP, **changes}


@pytest.fixture(scope="module")
def tokenizers(pictures, tmp_path_factory):
    """Folders of two tokenizers for pictures of 16x24 pixels."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for name, shape in (("one", VQGAN), ("several", MULTISCALE)):
        setar.train(tokenizer_run(pictures, shape), folder / name)
    return folder


@pytest.mark.parametrize(
    ("family", "tokenizer", "recipe", "sampling"),
    [
        ("fmt", "one", "random-16-random", "random-16-cosine"),
        ("decoder-only", "one", "raster-N-uniform", "raster-N-uniform"),
        ("var", "several", "raster-1,2,6,12,24", "raster-1,2,6,12,24"),
    ],
)
def test_recipes_and_size_follow(
    pictures, tokenizers, tmp_path, family, tokenizer, recipe, sampling
):
    setar.train(generator_run(pictures, tokenizers / tokenizer, family), tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    assert settings["data"]["image_size"] == [16, 24]
    assert (settings["recipe"], settings["sampling"]["recipe"]) == (recipe, sampling)
    pipe = Pipeline.from_pretrained(tmp_path)
    assert pipe.size == (24, 16)
    assert str(pipe.defaults.recipe) == sampling
    assert pipe(0)[0].size == (24, 16)


def test_what_is_given_is_taken(pictures, tokenizers):
    values = generator_run(
        pictures, tokenizers / "one", "fmt", recipe="ar", sampling={"recipe": "raster-4-cosine"}
    )
    values["data"] = {"source": pictures, "image_size": 8}
    run = make_run(values, "").completed()
    assert run.data.image_size == 8
    assert (str(run.recipe), str(run.sampling.recipe)) == ("raster-N-uniform", "raster-4-cosine")
    assert run.completed() == run


def test_few_tokens_make_few_sets(pictures, tokenizers):
    values = generator_run(pictures, tokenizers / "one", "fmt")
    values["data"] = {"source": pictures, "image_size": 8}
    run = make_run(values, "").completed()
    assert (str(run.recipe), str(run.sampling.recipe)) == ("random-4-random", "random-4-cosine")


@pytest.mark.parametrize(
    ("size", "scales", "phis"),
    [
        (32, (1, 2, 3, 4, 6, 8), 4),
        (8, (1, 2), 2),
        ((16, 32), ((1, 1), (1, 2), (2, 3), (2, 4), (3, 6), (4, 8)), 4),
    ],
)
def test_scales_follow_from_the_size(pictures, size, scales, phis):
    run = make_run(tokenizer_run(pictures, MULTISCALE, size), "").completed()
    assert (run.tokenizer.shape.scales, run.tokenizer.shape.phis) == (scales, phis)
    assert run.tokenizer.create().image_size == run.data.size()
    assert make_run(json.loads(json.dumps(table(run))), "") == run


def test_scales_that_are_given_are_taken(pictures):
    shape = {**MULTISCALE, "scales": [2, 4], "phis": 1}
    run = make_run(tokenizer_run(pictures, shape, 16), "").completed()
    assert (run.tokenizer.shape.scales, run.tokenizer.shape.phis) == ((2, 4), 1)


def test_without_a_size_a_tokenizer_takes_256_pixels(pictures):
    values = {"task": "tokenizer", "data": {"source": pictures}, "loop": LOOP}
    assert make_run(values, "").completed().data.image_size == 256
    values["data"] = {"source": "emoji"}
    assert make_run(values, "").completed().data.image_size is None
    assert make_run({**values, "tokenizer": MULTISCALE}, "").completed().tokenizer.shape.scales == (
        (1, 2, 3, 4, 6, 8)
    )


def test_a_run_goes_on_with_or_without_what_followed(pictures, tokenizers, tmp_path):
    values = generator_run(pictures, tokenizers / "several", "var")
    setar.train(values, tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    more = {**settings, "loop": {**settings["loop"], "steps": 2}}
    open_run(make_run(more, ""), tmp_path, resume=True)
    open_run(make_run({**values, "loop": {**LOOP, "steps": 2}}, ""), tmp_path, resume=True)
    small = generator_run(pictures, tokenizers / "one", "fmt")
    setar.train(small, tmp_path / "small")
    small["data"] = {"source": pictures, "image_size": 8}
    with pytest.raises(ValueError, match=r"was started with data\.image_size = \[16, 24\], not 8"):
        open_run(make_run(small, ""), tmp_path / "small", resume=True)


def test_older_settings_of_a_data_set_of_its_own_size_go_on(tmp_path):
    values = generator_run("digits", "pixels", "fmt")
    setar.train(values, tmp_path)
    file = tmp_path / SETTINGS
    settings = json.loads(file.read_text())
    settings["data"] = {"source": "digits", "image_size": 256, "flips": False, "balance": 0.0}
    file.write_text(json.dumps(settings))
    last = setar.train({**values, "loop": {**LOOP, "steps": 2}}, tmp_path, resume=True)
    assert last.name == "step-00000002"


@pytest.mark.parametrize("name", ["emoji-var-tokenizer", "emoji-var"])
def test_the_shipped_configs_mean_what_they_meant(name):
    run = read_run(CONFIGS / f"{name}.toml", ["tokenizer=emoji-var"] * (name == "emoji-var"))
    run = run.completed()
    if name == "emoji-var":
        assert str(run.recipe) == str(run.sampling.recipe) == "raster-1,4,9,16,36,64"
    else:
        assert (run.tokenizer.shape.scales, run.tokenizer.shape.phis) == ((1, 2, 3, 4, 6, 8), 6)


# What does not fit is refused before any image is encoded


@pytest.fixture
def never_encoded(monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("too late")

    for name in ("encode_images", "through"):
        monkeypatch.setattr(f"setar.training.generator.{name}", fail)


@pytest.mark.usefixtures("never_encoded")
@pytest.mark.parametrize(
    ("family", "tokenizer", "changes", "rule"),
    [
        ("var", "one", {}, "does not fit `model.family` = 'var': a model of the family"),
        ("fmt", "several", {}, "does not fit `model.family` = 'fmt': a tokenizer of several"),
        ("decoder-only", "several", {}, "does not fit `model.family` = 'decoder-only'"),
        (
            "fmt", "one", {"data": {"image_size": 18}},
            "must be multiples of 4 pixels, got 18x18; choose another `data.image_size`",
        ),
        (
            "var", "several", {"data": {"image_size": 16}},
            "tokenizer is 4x6; with `data.image_size` = [16, 24] it does",
        ),
        (
            "var", "several", {"data": {"source": "digits"}},
            "does not fit 'digits': an image of 8x8 pixels has 2x2 tokens at its last scale",
        ),
        ("var", "several", {"recipe": "ar"}, "`recipe` = 'raster-N-uniform': a VAR predicts"),
        (
            "var", "several", {"sampling": {"recipe": "random-8-cosine"}},
            "`sampling.recipe` = 'random-8-cosine': a VAR predicts a whole scale",
        ),
        ("var", "several", {"recipe": "ar"}, "left out, it is raster-1,2,6,12,24"),
        ("fmt", "one", {"recipe": "random-99-random"}, "`sets` (=99) must not exceed the 24"),
        ("decoder-only", "one", {"recipe": "random-4-random"}, "left out, it is ar"),
        ("fmt", "one", {"tokenizer": "pixels"}, "'pixels' does not suit the data"),
        ("fmt", "one", {"data": {"source": "no such folder"}}, "no such folder does not exist"),
    ],
)  # fmt: skip
def test_what_does_not_fit(pictures, tokenizers, tmp_path, family, tokenizer, changes, rule):
    data = {"source": pictures, **changes.get("data", {})}
    values = generator_run(pictures, tokenizers / tokenizer, family, **{**changes, "data": data})
    with pytest.raises(ValueError, match=re.escape(rule)) as error:
        setar.train(values, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_grey_levels_do_not_suit_coloured_images(pictures, tmp_path):
    setar.train(generator_run("digits", "pixels", "fmt"), tmp_path / "digits")
    values = generator_run(pictures, tmp_path / "digits", "fmt")
    with pytest.raises(ValueError, match=r"knows grey levels alone, and .* has coloured images"):
        setar.train(values, tmp_path / "run")
    assert make_run(values, "").completed().data.image_size == 8


def test_a_tokenizer_of_another_size_is_told(pictures, tokenizers, tmp_path, capsys):
    values = generator_run(pictures, tokenizers / "one", "fmt")
    values["data"] = {"source": pictures, "image_size": 8}
    setar.train(values, tmp_path)
    assert "note      the tokenizer was trained at 16x24 pixels" in capsys.readouterr().out
