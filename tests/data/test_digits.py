import sys

import pytest
import torch

from setar.data import digits

pytest.importorskip("sklearn")


def test_splits_partition_the_1797_digits():
    train, heldout, everything = (digits.load(split) for split in ("train", "heldout", "all"))
    assert (len(train), len(heldout), len(everything)) == (1617, 180, 1797)
    assert torch.equal(heldout.codes, everything.codes[::10])
    assert torch.equal(heldout.labels, everything.labels[::10])
    both = torch.cat([train.codes, heldout.codes]).unique(dim=0)
    assert torch.equal(both, everything.codes.unique(dim=0))


def test_codes_are_the_grey_levels_of_an_8x8_grid():
    everything = digits.load("all")
    height, width = digits.GRID
    assert everything.codes.shape == (1797, height * width)
    assert everything.codes.dtype == everything.labels.dtype == torch.int64
    assert everything.codes.unique().tolist() == list(range(digits.VOCABULARY))
    assert everything.labels.unique().tolist() == list(range(10))


def test_pictures_have_the_levels_of_their_codes():
    train = digits.load("train")
    assert train.images.shape == (1617, 3, 8, 8)
    expected = (train.codes.float() * 255 / 16).round().to(torch.uint8)
    for channel in range(3):
        assert torch.equal(train.images[:, channel].flatten(1), expected)
    assert train.classes == tuple("0123456789")


def test_raster_order_draws_the_first_digit():
    """Picture 0 is a zero: ink on both sides of an empty centre."""
    picture = digits.load("all").codes[0].view(8, 8)
    assert (picture[3:5, 3:5] == 0).all()
    assert (picture[3:5, 2] > 4).all()
    assert (picture[3:5, 5] > 4).all()


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"'test'.*must be one of train, heldout, all"):
        digits.load("test")  # pyright: ignore[reportArgumentType]


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"install setar\[train\]"):
        digits.load()
