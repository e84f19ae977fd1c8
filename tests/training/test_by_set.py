"""Losses of held-out tokens by their set, and by what was known of the image."""

import pytest
import torch

from setar.recipes.clocks import PADDING
from setar.recipes.recipe import Recipe, SetPlan
from setar.training.by_set import LossBySet


def plan_of(known, supervised=None):
    known = torch.tensor([known])
    order = torch.arange(known.shape[1])[None]
    supervised = torch.ones_like(known, dtype=torch.bool) if supervised is None else supervised
    return SetPlan((1, known.shape[1]), order, known, supervised)


def test_the_drawing():
    found = LossBySet(4)
    found.add(torch.tensor([[1.0, 2, 4, 8, 8, 8, 16, 5]]), plan_of([1, 2, 2, 3, 3, 3, 3, 4]))
    assert found.figures() == {
        "heldout_loss": 6.5,
        "heldout_loss/set_1": 1, "heldout_loss/set_2": 3, "heldout_loss/set_3": 10,
        "heldout_loss/set_4": 5,
        "heldout_loss/known_00": 1, "heldout_loss/known_10": 3, "heldout_loss/known_30": 10,
        "heldout_loss/known_80": 5,
    }  # fmt: skip


def test_padding_and_what_is_not_asked_count_for_nothing():
    found = LossBySet(2)
    supervised = torch.tensor([[False, True, True, False]])
    found.add(torch.tensor([[9.0, 1, 3, 99]]), plan_of([1, 2, 2, PADDING], supervised))
    assert found.figures() == {
        "heldout_loss": 2, "heldout_loss/set_2": 2, "heldout_loss/known_30": 2
    }  # fmt: skip


def test_many_sets_are_taken_together():
    found, recipe = LossBySet(64), Recipe.parse("ar")
    losses = torch.arange(64.0).repeat(3, 1)
    found.add(losses, recipe.plan((8, 8), 3))
    figures = found.figures()
    sets = [name for name in figures if "set_" in name]
    assert len(sets) == 16
    assert figures["heldout_loss/set_5-8"] == pytest.approx(5.5)
    assert figures["heldout_loss"] == pytest.approx(31.5)
    assert figures["heldout_loss/known_90"] == pytest.approx(sum(range(58, 64)) / 6)


def test_batches_are_weighted_by_their_tokens():
    found, whole = LossBySet(8), LossBySet(8)
    recipe, losses = Recipe.parse("random-8-random"), torch.rand(7, 16)
    plan = recipe.plan((4, 4), 7, torch.Generator().manual_seed(0))
    whole.add(losses, plan)
    for rows in (slice(0, 5), slice(5, 7)):
        part = SetPlan((4, 4), plan.order[rows], plan.known[rows], plan.supervised[rows])
        found.add(losses[rows], part)
    assert found.figures() == pytest.approx(whole.figures())
    assert found.figures()["heldout_loss"] == pytest.approx(losses.mean().item())
