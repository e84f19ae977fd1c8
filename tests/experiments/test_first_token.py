"""Real first tokens: whose they are, and what is said of them."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from setar.data import digits
from setar.tokenizers import pixels
from setar.tokenizers.base import encode_images


@pytest.fixture
def first_token(lab, monkeypatch):
    monkeypatch.setattr(lab, "PER_CLASS", 3)
    return importlib.import_module("first_token")


@pytest.mark.parametrize("count", [1, 4])
def test_so_many_tokens_of_digits_of_each_class_are_given(first_token, count):
    pipe = SimpleNamespace(tokenizer=pixels.PixelLevels(pixels.PixelLevelsConfig()))
    given = first_token.real_tokens(pipe, count, 0)
    assert given.shape == (30, 64)
    assert ((given >= 0).sum(1) == count).all()
    real = digits.load("train")
    codes = encode_images(pipe.tokenizer, real.images)
    for index, row in enumerate(given):
        (known,) = (row >= 0).nonzero(as_tuple=True)
        like = (codes[:, known] == row[known]).all(1)
        assert (real.labels[like] == index // 3).any()
    assert not torch.equal(given, first_token.real_tokens(pipe, count, 1))


@pytest.mark.parametrize(("one", "share"), [(10.0, "most of what it is behind"), (25.0, "little")])
def test_how_far_arpg_is_behind(first_token, lab, monkeypatch, one, share):
    def measured(family, count, seed):
        distance = {0: 30.0, 1: one}.get(count, 10.0) if family == "arpg" else 10.0
        return lab.Figures(distance, 0.9, 1.0)

    monkeypatch.setattr(first_token, "measured", measured)
    text = first_token.section()
    assert f"| ARPG | 30.0 ± 0.0 | {one} ± 0.0 |" in text
    assert f"is 3.0 times the FMT's with none given, {one / 10:.1f} times with one" in text
    assert f"explains {share}" in text
