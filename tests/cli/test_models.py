"""What is said of a model before torch is imported."""

import json

import pytest
from PIL import Image

from setar.cli import models


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, a tokenizer, a run, pictures and a file."""
    monkeypatch.chdir(tmp_path)
    for name, config in {
        "gen": {"model": {}, "tokenizer": {}, "classes": ["cat", "dog"]},
        "tok": {"tokenizer": {}},
        "texts": {"model": {}, "tokenizer": {}, "classes": [], "text": {"encoder": "minilm"}},
        "run/checkpoints/step-00000002": {"model": {}, "classes": ["old"]},
        "run/checkpoints/step-00000010": {"model": {}, "classes": ["new"]},
        "run/checkpoints/step-00000010-best": {"model": {}, "classes": ["a copy of mine"]},
    }.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(tmp_path / "photos" / "cats" / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    return tmp_path


def test_classes_of_what_lies_here(folder):
    assert models.class_names("gen") == ("cat", "dog")
    assert models.class_names("run") == ("new",)
    assert "cat-face" in models.class_names("emoji")
    assert models.class_names("texts") == ()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tok", "tok is a tokenizer, which makes no pictures of its own: use `setar reconstruct`"),
        ("photos", "photos is a folder of pictures, no model"),
        ("empty", "empty is no model folder"),
        ("file", "file is a file; a model is a folder"),
        ("", "a model has a name"),
        ("emojo", "'emojo' does not exist: .*did you mean 'emoji'"),
        ("./none", "./none does not exist"),
        ("none/", "none/ does not exist"),
        ("photos/none", "photos/none does not exist"),
        ("a/b/c", "a/b/c does not exist"),
        ("C:\\none", "does not exist"),
        ("/none", "/none does not exist"),
        ("a" * 5000, "does not exist"),
    ],
)
def test_what_is_no_generator(folder, source, message):
    with pytest.raises(ValueError, match=message):
        models.class_names(source)


def test_what_may_be_on_the_hub_is_asked_there(folder):
    assert models.find_config("owner/name") is None


@pytest.mark.parametrize("text", ["[]", "{", "\x00", '{"classes": 3}', "[" * 100_000])
def test_a_broken_config_is_said_by_loading(folder, text):
    (folder / "gen" / "config.json").write_text(text)
    with pytest.raises(ValueError, match="gen"):
        models.class_names("gen")
