"""A linear classifier of styles."""

import sys

import pytest
import torch

from setar.evaluation.manner import fit_styles


def drawn(seed, count=40):
    """Features of two styles that differ in a few directions, beside much that is no style."""
    generator = torch.Generator().manual_seed(seed)
    what = 5 * torch.randn(count, 12, generator=generator)
    how = torch.arange(count) % 2
    what[:, :2] = 0.3 * what[:, :2] / 5 + how[:, None]
    return what, ["round" if one else "flat" for one in how]


def test_styles_are_told_of_pictures_that_it_was_not_fitted_to():
    classifier = fit_styles(*drawn(0))
    features, styles = drawn(1)
    told = classifier(features)
    right = sum(a == b for a, b in zip(told, styles, strict=True)) / len(styles)
    assert right > 0.9
    nearest = torch.cdist(features, drawn(0)[0]).argmin(dim=1)
    by_nearest = [drawn(0)[1][index] for index in nearest]
    assert sum(a == b for a, b in zip(by_nearest, styles, strict=True)) / len(styles) < right


def test_more_features_than_pictures_are_no_fault():
    features, styles = drawn(2)
    wide = torch.cat([features, torch.zeros(len(features), 100)], dim=1)
    assert fit_styles(wide, styles)(wide) == styles


@pytest.mark.parametrize(("count", "styles"), [(3, ["a", "a", "a"]), (3, ["a", "b"]), (0, [])])
def test_what_cannot_be_told_apart_is_refused(count, styles):
    with pytest.raises(ValueError, match="two and one for each picture"):
        fit_styles(torch.zeros(count, 4), styles)


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.discriminant_analysis", None)
    with pytest.raises(ImportError, match=r"setar\[eval\]"):
        fit_styles(*drawn(0))
