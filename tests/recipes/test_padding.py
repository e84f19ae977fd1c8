"""Plans and codes of images on different grids as one batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setar.recipes.clocks import PADDING, attention_clocks, dense_masks
from setar.recipes.padding import join_codes, join_plans
from setar.recipes.recipe import Recipe

GRIDS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4)
RECIPES = st.sampled_from(["random-N-uniform", "raster-1-cosine", "random-1-random", "ar"])


def plans_of(grids, recipe="random-N-uniform", batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [Recipe.parse(recipe).plan(grid, batch, generator) for grid in grids]


def test_the_docstring_is_true():
    plan = join_plans(plans_of([(2, 2), (1, 2)], "raster-2-uniform", batch=1))
    assert plan.order.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert plan.known.tolist() == [[1, 1, 2, 2], [1, 2, PADDING, PADDING]]
    assert plan.supervised.tolist() == [[True] * 4, [True, True, False, False]]
    assert plan.grids is not None
    assert plan.grids.tolist() == [[2, 2], [1, 2]]
    assert plan.columns.tolist() == [[2], [2]]


@settings(max_examples=40)
@given(GRIDS, RECIPES, st.integers(0, 30))
def test_each_image_keeps_its_own_plan(grids, recipe, least):
    plans = plans_of(grids, recipe)
    joined = join_plans(plans, least)
    length = max(least, *(rows * columns for rows, columns in grids))
    assert joined.order.shape == (2 * len(grids), length)
    for index, (plan, (rows, columns)) in enumerate(zip(plans, grids, strict=True)):
        own, count = slice(2 * index, 2 * index + 2), rows * columns
        assert torch.equal(joined.order[own, :count], plan.order)
        assert torch.equal(joined.known[own, :count], plan.known)
        assert torch.equal(joined.supervised[own, :count], plan.supervised)
        assert joined.known[own, count:].eq(PADDING).all()
        assert not joined.supervised[own, count:].any()
        # A permutation still, which a batch of codes is gathered with.
        assert joined.order[own].sort(1)[0].eq(torch.arange(length)).all()
        assert joined.columns.expand(2 * len(grids), 1)[own].eq(columns).all()


@settings(max_examples=40)
@given(GRIDS, st.integers(0, 30), st.integers(0, 3))
def test_padding_is_invisible(grids, least, prefix):
    joined = join_plans(plans_of(grids), least)
    masks, known = dense_masks(joined, prefix), attention_clocks(joined, prefix).known
    padding, tokens = known == PADDING, joined.known == PADDING
    real = (~padding)[:, :, None]
    assert not (masks.encoder_self & real & padding[:, None]).any()
    asking = (~tokens)[:, :, None]
    assert not (masks.cross & asking & padding[:, None]).any()
    assert not (masks.decoder_self & asking & tokens[:, None]).any()
    for mask in masks[0], masks[2]:  # every softmax is defined
        assert mask.any(-1).all()


def test_images_on_one_grid_are_a_plan_as_any_other():
    first, second = plans_of([(2, 3), (2, 3)])
    joined = join_plans([first, second])
    assert (joined.grid, joined.grids) == ((2, 3), None)
    assert torch.equal(joined.order, torch.cat([first.order, second.order]))
    padded = join_plans([first, second], 7)
    assert padded.grids is not None
    assert padded.known[:, 6:].eq(PADDING).all()
    moved = padded.to("cpu")
    assert moved.grids is not None
    assert torch.equal(moved.grids, padded.grids)


def test_codes_are_padded_alike():
    codes = join_codes([torch.tensor([[3, 4]]), torch.tensor([[5, 6, 7, 8]])])
    assert codes.tolist() == [[3, 4, 0, 0], [5, 6, 7, 8]]
    assert join_codes([torch.tensor([[3, 4]])], 3).tolist() == [[3, 4, 0]]


def test_plans_that_are_no_batch():
    masked = plans_of([(2, 2)], "mar")
    with pytest.raises(ValueError, match="of one recipe, and at least one"):
        join_plans([*masked, *plans_of([(2, 2)])])
    with pytest.raises(ValueError, match="at least one"):
        join_plans([])
