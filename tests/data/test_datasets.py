"""What data sets have in common, and what a text names."""

import pytest
import torch
from PIL import Image

from setar.data.base import DATASETS, Dataset, open_data

IMAGES = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 2, 2)


def dataset(**changes):
    values = {"images": IMAGES, "labels": torch.tensor([0, 1, 1, 0, 1]), "classes": ("a", "b")}
    return Dataset(**{**values, **changes})


@pytest.mark.parametrize("name", ["emoji", "digits"])
def test_every_data_set_describes_each_picture(name):
    sizes = {}
    for split in ("train", "heldout", "all"):
        data = open_data(f"{name}:{split}")
        sizes[split] = len(data)
        pictures = data.images[torch.tensor([1, 0])]
        assert pictures.shape[:2] == (2, 3)
        assert pictures.dtype == torch.uint8
        assert data.labels.dtype == torch.int64
        assert data.labels.unique().max() < len(data.classes)
        assert (data.heldout is not None) == (split == "train")
    assert sizes["train"] + sizes["heldout"] == sizes["all"]
    assert len(open_data(name)) == sizes["train"]
    assert len(open_data(f"{name}:train").heldout) == sizes["heldout"]


def test_a_folder_is_a_data_set(tmp_path):
    for name, colour in (("cats/tom", "red"), ("dogs/rex", "blue"), ("cats/kit", "green")):
        file = tmp_path / "my pictures" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 4), colour).save(file)
    data = open_data(str(tmp_path / "my pictures"), 4)
    assert list(data.names) == ["kit", "tom", "rex"]
    assert data.classes == ("cats", "dogs")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.heldout is None
    assert data.tokenizer is None
    assert data.shown(2).shape == (2, 3, 4, 4)
    assert open_data(str(tmp_path / "my pictures")).shown(9).shape == (3, 3, 4, 8), "as they are"


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("emoji:test", "`split` (='test') must be one of train, heldout, all"),
        ("digits:", None),
        ("emojis", "there is no folder emojis"),
        ("nowhere:train", "there is no folder nowhere:train"),
    ],
)
def test_what_a_text_cannot_name(source, rule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if rule is None:
        assert len(open_data(source)) == len(open_data("digits:train"))
        return
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        open_data(source)
    assert rule in str(error.value)


def test_heldout_pictures_are_shown_if_there_are_any():
    assert torch.equal(dataset().shown(3), IMAGES[:3])
    heldout = IMAGES[3:]
    assert torch.equal(dataset(heldout=heldout).shown(9), heldout)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"labels": torch.zeros(4).long()}, r"`labels` must be int64 \[5\]"),
        ({"names": ("a",)}, "5 pictures have 1 `names`"),
        ({"captions": [["a"]] * 6}, "5 pictures have 6 `captions`"),
    ],
)
def test_what_is_said_must_be_said_of_each_picture(changes, rule):
    with pytest.raises(ValueError, match=rule):
        dataset(**changes)


def test_a_data_set_of_ones_own(monkeypatch):
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    DATASETS.add("fives", lambda split: dataset(names=[split] * 5))
    assert open_data("fives").names[0] == "train"
    assert open_data("fives:heldout").names[0] == "heldout"


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 1, -1, 0, 1]), torch.zeros(5)]
)
def test_labels_are_indices_into_the_classes(labels):
    with pytest.raises(ValueError, match=r"\A`labels` must be [^\n]+\Z"):
        dataset(labels=labels)


def test_classes_are_a_tuple_whatever_is_given():
    assert dataset(classes=["a", "b"]).classes == ("a", "b")
