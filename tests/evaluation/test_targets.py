"""What is measured; whole evaluations of each kind are tested with `setar.evaluation.run`."""

import pytest

import tiny_runs
from fake_features import random_pictures
from random_weights import randomise
from setar.evaluation.sources import find_pictures, save_pictures
from setar.evaluation.targets import (
    GeneratorTarget,
    Request,
    StoredPictures,
    TokenizerTarget,
    _per_class,
    find_target,
)
from setar.pretrained import save_tokenizer
from setar.tokenizers.multiscale import PRESETS, MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig


def test_each_source_is_of_one_kind(tmp_path):
    tiny_runs.save_pipeline(tmp_path / "model")
    save_tokenizer(PixelLevels(PixelLevelsConfig(17)), tmp_path / "tokenizer")
    save_pictures(random_pictures(3), tmp_path / "pictures.npz")
    tiny_runs.save_pictures(tmp_path / "photos", 3)
    assert isinstance(find_target(Request(str(tmp_path / "model"))), GeneratorTarget)
    assert isinstance(find_target(Request(str(tmp_path / "tokenizer"))), TokenizerTarget)
    for pictures in (str(tmp_path / "pictures.npz"), str(tmp_path / "photos"), "digits:heldout"):
        assert isinstance(find_target(Request(pictures)), StoredPictures)


def test_a_shipped_model_or_a_data_set_comes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_runs.save_pictures(tmp_path / "emoji", 3)
    target = find_target(Request("emoji"))
    assert isinstance(target, GeneratorTarget)
    assert target.own_reference == "emoji"
    (tmp_path / "emoji" / "config.json").touch()
    assert len(find_pictures("emoji").open()) == 3418


def test_more_pictures_than_memory_holds_are_refused():
    with pytest.raises(ValueError, match="more than 10000000, whose codes"):
        _per_class(Request("model", count=101), 100_000)
    assert _per_class(Request("model", count=100), 100_000) == 100


def test_a_tokenizer_of_one_size_has_it(tmp_path):
    save_tokenizer(PixelLevels(PixelLevelsConfig(17)), tmp_path / "any")
    assert find_target(Request(str(tmp_path / "any"))).size is None
    save_tokenizer(randomise(MultiScaleVQ(PRESETS["tiny"])), tmp_path / "scales")
    assert find_target(Request(str(tmp_path / "scales"))).size == (16, 16)


@pytest.mark.parametrize(("classes", "count"), [(99, 8), (1000, 8), (10, 80)])
def test_images_unless_told_otherwise(classes, count):
    assert _per_class(Request("model"), classes) == count
