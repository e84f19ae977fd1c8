"""What a model was trained on: a help, and never a reason to stop."""

import json

import pytest

import setar
import tiny_runs
from random_weights import random_fmt
from setar.origin import Origin, origin_of, trained_size
from setar.pipeline import Pipeline
from setar.pretrained import IMAGE_SIZE, describe_tokenizer, read_config, save_tokenizer
from setar.run_folder import checkpoints
from setar.tokenizers.multiscale import PRESETS as MULTISCALE
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.vqgan import PRESETS, VQGAN

SMALL = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "latent_channels": 8}


@pytest.fixture
def folder(tmp_path):
    """Writes a checkpoint's config and the settings of its run; gives the run."""

    def write(config, settings=None):
        checkpoint = tmp_path / "run" / "checkpoints" / "step-00000001"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "config.json").write_text(json.dumps(config))
        (checkpoint / "manifest.json").write_text("{}")
        (tmp_path / "run" / "settings.json").write_text(json.dumps(settings))
        return str(tmp_path / "run")

    return write


@pytest.mark.parametrize(
    ("config", "settings", "origin"),
    [
        ({"data": "photos"}, None, Origin("photos")),
        ({}, {"data": {"source": "photos", "image_size": 16}}, Origin("photos", (16, 16))),
        ({}, {"data": {"source": "photos", "image_size": [8, 16]}}, Origin("photos", (8, 16))),
        ({"data": "digits"}, {"data": {"source": "photos"}}, Origin("digits")),
        ({"data": 3}, {"data": {"image_size": ["a", 0]}}, Origin()),
        ({"data": None}, {"data": {"source": 4, "image_size": [8, 8, 8]}}, Origin()),
        ({}, {"data": {"source": "photos", "image_size": True}}, Origin("photos")),
        ({}, {"data": {"source": "photos", "image_size": -4}}, Origin("photos")),
        ({}, {"data": {"source": "photos", "resize": "adm"}}, Origin("photos", resize="adm")),
        ({}, {"data": {"source": "photos", "resize": ["adm"]}}, Origin("photos")),
        ({}, [], Origin()),
        ({}, {"data": [1]}, Origin()),
    ],
)
def test_config_and_settings_are_asked(folder, config, settings, origin):
    assert origin_of(folder(config, settings)) == origin


def test_a_broken_file_says_nothing(folder, tmp_path):
    run = folder({"data": "photos"})
    (tmp_path / "run" / "settings.json").write_text("{")
    assert origin_of(run) == Origin("photos")


def test_a_shipped_model_knows_its_data():
    assert origin_of("emoji").data == "emoji"


@pytest.fixture
def run(tmp_path):
    """The folder of a tokenizer that was trained on pictures of 16x24 pixels."""
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 4)
    values = {
        "task": "tokenizer",
        "data": {"source": str(pictures), "image_size": [16, 24]},
        "tokenizer": {**SMALL, "codebook_size": 16},
        "loop": {"steps": 1, "batch_size": 4, "device": "cpu"},
    }
    setar.train(values, tmp_path / "run")
    return tmp_path / "run"


def forget(run):
    """Make a run's checkpoint what it was before it remembered the size."""
    folder = checkpoints(run)[-1]
    config = read_config(folder)
    del config[IMAGE_SIZE]
    (folder / "config.json").write_text(json.dumps(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    from setar.checkpoint import _sha256

    manifest["sha256"]["config.json"] = _sha256(folder / "config.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_remembers_it(run):
    assert read_config(checkpoints(run)[-1])[IMAGE_SIZE] == [16, 24]
    assert trained_size(str(run)) == trained_size(str(checkpoints(run)[-1])) == (16, 24)


def test_older_runs_have_it_in_their_settings(run):
    forget(run)
    assert trained_size(str(run)) == (16, 24)
    file = run / "settings.json"
    values = json.loads(file.read_text())
    for data, size in (
        ({"source": "digits", "image_size": 256}, (8, 8)),
        ({"source": "photos", "image_size": 64}, (64, 64)),
        ({"source": "photos", "image_size": "64"}, None),
        ({"source": "photos", "image_size": [0, 4]}, None),
        ({"source": "photos"}, None),
    ):
        file.write_text(json.dumps({**values, "data": data}))
        assert trained_size(str(run)) == size
    file.write_text("[")
    assert trained_size(str(run)) is None
    file.unlink()
    assert trained_size(str(run)) is None


@pytest.mark.parametrize(("name", "size"), [("emoji", (32, 32)), ("emoji-var", (32, 32))])
def test_shipped_models(name, size):
    assert trained_size(name) == size


def test_a_model_folder(tmp_path):
    model = random_fmt(grid=(4, 6), vocabulary=32, classes=5)
    Pipeline(model, VQGAN(PRESETS["tiny"]), list("abcde")).save_pretrained(tmp_path / "pair")
    assert trained_size(str(tmp_path / "pair")) == (16, 24)
    save_tokenizer(VQGAN(PRESETS["tiny"]), tmp_path / "alone")
    assert trained_size(str(tmp_path / "alone")) is None
    save_tokenizer(MultiScaleVQ(MULTISCALE["tiny"]), tmp_path / "scales")
    assert trained_size(str(tmp_path / "scales")) == (16, 16)


def test_a_tokenizer_that_is_not_there():
    with pytest.raises(ValueError, match="'nothing' does not exist"):
        trained_size("nothing")


def test_a_size_is_written_only_if_it_is_known():
    tokenizer = VQGAN(PRESETS["tiny"])
    assert IMAGE_SIZE not in describe_tokenizer(tokenizer)
    assert describe_tokenizer(tokenizer, (8, 4))[IMAGE_SIZE] == [8, 4]
