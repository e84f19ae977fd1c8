"""What data sets have in common, and what a text names."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setar.data.base import DATASETS, Dataset, open_data, spread

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


def test_a_data_set_of_a_folder_says_what_it_left_out(tmp_path):
    (tmp_path / "birds").mkdir()
    (tmp_path / "cats").mkdir()
    Image.new("RGB", (8, 4)).save(tmp_path / "cats/tom.png")
    (tmp_path / "cats/notes.txt").write_text("mine")
    (tmp_path / "README").write_text("mine")
    data = open_data(str(tmp_path), 4)
    assert data.left_out == {".txt": 1, "": 1}
    assert list(data.empty) == ["birds"]


def test_a_folder_is_a_data_set(tmp_path):
    for name, colour in (("cats/tom", "red"), ("dogs/rex", "blue"), ("cats/kit", "green")):
        file = tmp_path / "my pictures" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 4), colour).save(file)
    data = open_data(str(tmp_path / "my pictures"), 4)
    assert list(data.names) == ["kit", "tom", "rex"]
    assert list(data.paths) == ["cats/kit.png", "cats/tom.png", "dogs/rex.png"]
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
        ("emojis", "emojis does not exist"),
        ("nowhere:train", "nowhere:train does not exist"),
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
    heldout = IMAGES[3:]
    assert torch.equal(dataset(heldout=heldout).shown(9), heldout)
    labels = torch.tensor([1, 1])
    assert torch.equal(dataset(heldout=heldout, heldout_labels=labels).shown(1), heldout[:1])


def test_shown_pictures_are_of_all_classes():
    assert torch.equal(dataset().shown(3), IMAGES[[0, 1, 3]])
    assert torch.equal(dataset().shown(9), IMAGES)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 50))
def test_what_is_spread_has_each_class_in_turn(labels, count):
    labels = torch.tensor(labels)
    found = spread(labels, count)
    assert len(found) == min(count, len(labels))
    assert (found.diff() > 0).all()
    all_of, some_of = (torch.bincount(part, minlength=7) for part in (labels, labels[found]))
    least = some_of[some_of < all_of].min() if (some_of < all_of).any() else 0
    assert (some_of[some_of == all_of] <= some_of.max()).all()
    assert some_of.max() <= max(least + 1, 1) or count >= len(labels)


def test_of_many_classes_some_are_chosen_from_all_over():
    assert spread(torch.arange(100), 4).tolist() == [0, 25, 50, 75]
    assert spread(torch.arange(8) // 4, 4).tolist() == [0, 2, 4, 6]


def test_labels_of_heldout_pictures_are_checked():
    with pytest.raises(ValueError, match=r"`heldout_labels` must be int64 \[2\]"):
        dataset(heldout=IMAGES[3:], heldout_labels=torch.tensor([1]))
    with pytest.raises(ValueError, match=r"`heldout_labels` must be indices into the 2 classes"):
        dataset(heldout=IMAGES[3:], heldout_labels=torch.tensor([1, 2]))


@pytest.mark.parametrize("name", ["emoji", "digits"])
def test_the_heldout_pictures_have_their_labels(name):
    data, heldout = open_data(name), open_data(f"{name}:heldout")
    assert torch.equal(data.heldout_labels, heldout.labels)
    assert torch.equal(data.heldout, heldout.images)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"labels": torch.zeros(4).long()}, r"`labels` must be int64 \[5\]"),
        ({"names": ("a",)}, "5 pictures have 1 `names`"),
        ({"captions": [["a"]] * 6}, "5 pictures have 6 `captions`"),
        ({"paths": ["a.png"]}, "5 pictures have 1 `paths`"),
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
