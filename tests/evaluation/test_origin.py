"""What a model was trained on: a help, and never a reason to stop."""

import json

import pytest

from setar.evaluation.origin import Origin, origin_of


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
