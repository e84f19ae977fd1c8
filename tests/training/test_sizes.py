"""The size that a tokenizer was trained at."""

import json

import pytest

import setar
import tiny_runs
from random_weights import random_fmt
from setar.pipeline import Pipeline
from setar.pretrained import IMAGE_SIZE, describe_tokenizer, read_config, save_tokenizer
from setar.run_folder import checkpoints
from setar.tokenizers.multiscale import PRESETS as MULTISCALE
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.vqgan import PRESETS, VQGAN
from setar.training.sizes import trained_size

SMALL = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "latent_channels": 8}


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
    with pytest.raises(ValueError, match="no model 'nothing'"):
        trained_size("nothing")


def test_a_size_is_written_only_if_it_is_known():
    tokenizer = VQGAN(PRESETS["tiny"])
    assert IMAGE_SIZE not in describe_tokenizer(tokenizer)
    assert describe_tokenizer(tokenizer, (8, 4))[IMAGE_SIZE] == [8, 4]
