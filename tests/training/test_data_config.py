"""The table ``data`` of a config: which pictures, how often."""

import re

import pytest
import torch

import tiny_runs
from setar.data import digits, emoji
from setar.data.images import FolderImages
from setar.training.data import DataConfig

TOKENIZER = """
task = "tokenizer"
data.source = "emoji"
"""


def test_emoji_are_trained_without_the_heldout_ones():
    config = DataConfig("emoji")
    data = config.open()
    images = config.images(data)
    heldout = {image.numpy().tobytes() for image in emoji.load("heldout").images}
    assert not heldout & {image.numpy().tobytes() for image in images}
    shown = data.shown(64)
    assert len(shown) == 64
    assert {image.numpy().tobytes() for image in shown} <= heldout
    assert len(config.labels(data)) == len(images)
    assert data.classes == emoji.subgroups()


def test_digits_are_the_training_split():
    config = DataConfig("digits")
    data = config.open()
    assert torch.equal(config.images(data)[torch.arange(1617)], digits.load("train").images)
    assert torch.equal(config.labels(data), digits.load("train").labels)
    assert data.classes == tuple("0123456789")


def test_a_folder_shows_its_first_pictures(tmp_path):
    config = DataConfig(str(tiny_runs.save_pictures(tmp_path / "my pictures")), 16)
    data = config.open()
    assert data.classes == ("cats", "dogs")
    assert config.labels(data).tolist() == [0] * 6 + [1] * 6
    assert torch.equal(data.shown(64), config.images(data)[torch.arange(12)])


@pytest.mark.parametrize("value", ["[16]", "[16, 32, 8]", "[16, 0]", "0", "'16x32'", "[16, 1.5]"])
def test_an_image_size_is_a_side_or_two(read, value):
    assert read(TOKENIZER, "data.image_size=[16, 32]").data.image_size == (16, 32)
    with pytest.raises(ValueError, match=r"\A[^\n]*image_size[^\n]*\Z"):
        read(TOKENIZER, f"data.image_size={value}")


def test_a_size_is_for_folders_alone(tmp_path):
    assert DataConfig("digits", 16).open().shown(1).shape == (1, 3, 8, 8)
    folder = str(tiny_runs.save_pictures(tmp_path / "pictures", 2))
    assert DataConfig(folder, (8, 16)).open().shown(1).shape == (1, 3, 8, 16)


def test_flips_double_images_and_labels(tmp_path):
    folder = str(tiny_runs.save_pictures(tmp_path / "pictures"))
    config = DataConfig(folder, 16, flips=True)
    data = config.open()
    images, labels = config.images(data)[torch.arange(24)], config.labels(data)
    assert torch.equal(images[12:], images[:12].flip(-1))
    assert not torch.equal(images[12:], images[:12])
    assert labels.tolist() == ([0] * 6 + [1] * 6) * 2


def test_balance_repeats_small_classes():
    labels = torch.tensor([0] * 16 + [1] * 4 + [3])
    counts = {
        balance: torch.bincount(labels[DataConfig("", balance=balance).epoch(labels)]).tolist()
        for balance in (0.0, 0.5, 1.0)
    }
    assert counts == {0.0: [16, 4, 0, 1], 0.5: [16, 8, 0, 4], 1.0: [16, 16, 0, 16]}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"balance": -0.1}, "`balance` (=-0.1) must be from 0 to 1"),
        ({"balance": 1.5}, "`balance` (=1.5) must be from 0 to 1"),
        ({"image_size": (4, 0)}, "`image_size` (=[4, 0]) must be at least 1"),
    ],
)
def test_impossible_values_are_refused(changes, rule):
    with pytest.raises(ValueError, match=re.escape(rule)):
        DataConfig("digits", **changes)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("no such folder", "no such folder does not exist"),
        ("emoji:all of it", "must be one of"),
    ],
)
def test_data_that_are_not_there(source, rule):
    with pytest.raises(ValueError, match=rule):
        DataConfig(source).open()


def test_crops_are_made_as_the_config_says(tmp_path):
    folder = str(tiny_runs.save_pictures(tmp_path / "pictures"))
    one = torch.tensor([0])
    adm, lanczos = (
        DataConfig(folder, 5, resize).open().images[one] for resize in ("adm", "lanczos")
    )
    assert torch.equal(adm, FolderImages(tmp_path / "pictures", 5, "adm")[one])
    assert not torch.equal(adm, lanczos)
    with pytest.raises(ValueError, match=r"`resize` \(='box'\) must be one of lanczos, adm"):
        DataConfig(folder, 5, "box")
