"""Names and styles of nearest drawings, with features that are made up."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from setar.evaluation import drawings
from setar.evaluation.drawings import RANK, Gallery

NAMES = ["apple", "apple", "cat", "cat", "dog", "dog", "sun", "sun"]
STYLES = ["noto", "flat"] * 4


@pytest.fixture
def gallery():
    """Eight drawings at the angles 0, 45, ... of a circle, in opposite pairs: their mean is 0."""
    return Gallery(at(*range(0, 360, 45)), NAMES, STYLES)


def at(*degrees):
    """Features at these angles of a circle."""
    angles = torch.tensor(degrees).double() * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], dim=1).float()


def test_the_nearest_come_first(gallery):
    assert gallery.nearest(at(50), 3).tolist() == [[1, 2, 0]]
    assert gallery.nearest(at(50, 181), 1).tolist() == [[1], [4]]
    assert gallery.nearest(at(45), 1, without=torch.tensor([1])).item() in (0, 2)


def test_nearness_is_seen_from_the_mean_of_the_real_drawings(gallery):
    moved = torch.tensor([[100.0, -7.0]])
    away = Gallery(at(*range(0, 360, 45)) + moved, NAMES, STYLES)
    assert away.nearest(at(50) * 3 + moved, 3).tolist() == [[1, 2, 0]]


def test_the_rank_of_a_drawing(gallery):
    which = torch.tensor([1, 2, 0, 5])
    assert gallery.rank(at(50, 50, 50, 50), which).tolist() == [1, 2, 3, 8]


def test_of_equal_drawings_each_has_the_best_rank():
    gallery = Gallery(at(0, 0, 90, 180, 270), list("abcde"), ["one"] * 5)
    assert gallery.rank(at(0, 0, 0), torch.tensor([0, 1, 2])).tolist()[:2] == [1, 1]


@given(st.integers(0, 1000))
def test_rank_and_nearest_agree(seed):
    generator = torch.Generator().manual_seed(seed)
    real, made = (torch.randn(n, 6, generator=generator) for n in (30, 7))
    gallery = Gallery(real, ["x"] * 30, ["y"] * 30)
    which = torch.randint(30, (7,), generator=generator)
    within = (gallery.nearest(made) == which[:, None]).any(dim=1)
    assert torch.equal(within, gallery.rank(made, which) <= RANK)


def test_blocks_change_nothing(gallery, monkeypatch):
    made = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    which = torch.arange(9) % 8
    whole = gallery.nearest(made, without=which), gallery.rank(made, which)
    monkeypatch.setattr(drawings, "BLOCK", 16)
    again = gallery.nearest(made, without=which), gallery.rank(made, which)
    assert all(map(torch.equal, whole, again))


def test_what_is_found_of_each_drawing(gallery):
    # At 22 degrees the nearest are 0, 1 (45), 7 (315), 2 (90), 6 (270).
    found = drawings.find(gallery, at(22, 22, 22, 22), torch.tensor([0, 1, 2, 4]))
    assert found.drawing.tolist() == [True, True, True, False]
    assert found.style.tolist() == [True, False, True, True], "the nearest is a noto"
    assert found.name.tolist() == [True, True, True, False], "no dog in any style"
    # The flat cat is not among them, but the other cat is.
    found = drawings.find(gallery, at(22), torch.tensor([3]))
    assert (found.drawing.item(), found.name.item()) == (False, True)


def test_relatives_of_real_drawings_are_others():
    # The two apples are neighbours; the only sun has no relative.
    names, styles = ["apple", "apple", "sun", "a", "b", "c", "d"], ["x", "x", "y", *"zzzz"]
    features = at(0, 10, 100, 190, 200, 210, 220)
    found = drawings.find_others(Gallery(features, names, styles), torch.tensor([0, 2]))
    assert found.name.tolist() == [True, False]
    assert found.style.tolist() == [True, False]
    assert found.drawing.tolist() == [False, False]


def test_shares_of_samples_and_of_prompts():
    hits = torch.tensor([1, 0, 0, 0, 0, 0, 1, 1]).bool()
    assert drawings.share(hits) == 3 / 8
    assert drawings.share_of_prompts(hits, 4) == 1
    assert drawings.share_of_prompts(hits, 2) == 0.5
    assert drawings.share_of_prompts(hits, 1) == 3 / 8


def test_distinct_styles_of_the_samples_of_a_prompt(gallery):
    # 0, 1 -> noto, noto; 46, 91 -> flat, noto.
    assert drawings.distinct_styles(gallery, at(0, 1, 46, 91), 2) == 1.5


def test_two_names_are_looked_for_on_their_sides():
    names = [*"aaaaabbbbbc"]
    gallery = Gallery(at(0, 1, 2, 3, 4, 180, 181, 182, 183, 184, 90), names, ["s"] * 11)
    first, second = at(0, 180, 0, 90), at(180, 0, 0, 0)
    sides = drawings.find_sides(gallery, (first, second), ("aaaa", "bbbb"))
    assert sides.asked.tolist() == [[True, False, True, True], [True, False, False, False]]
    assert sides.swapped.tolist() == [[False, True, False, False], [False, True, True, True]]


def test_closer_to_the_truth(gallery):
    near, far = at(10, 100), at(90, 10)
    assert drawings.closer(gallery, near, far, at(0, 0)).tolist() == [True, False]
    assert drawings.closer(gallery, near, near, at(0, 0)).tolist() == [False, False]


def test_how_many_styles_draw_a_name(gallery):
    assert gallery.styles_of == dict.fromkeys(("apple", "cat", "dog", "sun"), 2)


def test_a_name_that_no_drawing_has_is_never_found(gallery):
    assert not gallery.named(gallery.nearest(at(0)), ["unicorn"]).any()


@pytest.mark.parametrize(
    ("count", "names", "styles", "message"),
    [
        (8, NAMES[:7], STYLES, "8 drawings have 7 names"),
        (8, NAMES, STYLES[:7], "8 drawings have 7 styles"),
        (4, NAMES[:4], STYLES[:4], "4 real drawings are too few: at least 5"),
    ],
)
def test_what_is_no_gallery(count, names, styles, message):
    with pytest.raises(ValueError, match=message):
        Gallery(at(*range(count)), names, styles)


def test_features_must_be_finite(gallery):
    with pytest.raises(ValueError, match="finite"):
        gallery.nearest(torch.tensor([[torch.nan, 0]]))
