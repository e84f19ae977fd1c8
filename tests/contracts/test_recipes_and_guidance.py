"""What every order, set schedule and guidance schedule promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entries import GUIDANCE, ORDERS, SCHEDULES
from setar.recipes.orders import register_order
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance, Progress, register_guidance

grids = st.tuples(st.integers(1, 7), st.integers(1, 7))


@pytest.mark.parametrize("name", [*ORDERS])
@settings(max_examples=20)
@given(grid=grids, seed=st.integers(0, 99), data=st.data())
def test_an_order_outputs_every_cell_once(name, grid, seed, data):
    tokens = grid[0] * grid[1]
    sets = data.draw(st.integers(1, tokens))
    recipe = Recipe.parse(f"{name}-{sets}-uniform")
    plans = [recipe.plan(grid, 2, torch.Generator().manual_seed(seed)) for _ in range(2)]
    assert torch.equal(plans[0].order, plans[1].order)
    assert (plans[0].order.sort(1).values == torch.arange(tokens)).all()
    if not ORDERS.find(name).per_image:
        assert torch.equal(plans[0].order[0], plans[0].order[1])


@pytest.mark.parametrize("name", [*SCHEDULES])
@settings(max_examples=30)
@given(tokens=st.integers(2, 60), seed=st.integers(0, 99), data=st.data())
def test_a_schedule_splits_all_tokens(name, tokens, seed, data):
    masking = SCHEDULES.find(name).masking
    sets = 2 if masking else data.draw(st.integers(1, tokens))
    plan = Recipe.parse(f"raster-{sets}-{name}").plan(
        (1, tokens), 3, torch.Generator().manual_seed(seed)
    )
    assert (plan.known.diff(dim=1) >= 0).all()
    assert int(plan.known.min()) >= 1
    assert int(plan.known.max()) <= sets
    assert plan.supervised.any(1).all()


@pytest.mark.parametrize("name", [*GUIDANCE])
@settings(max_examples=40)
@given(steps=st.integers(1, 16), data=st.data())
def test_a_guidance_schedule_is_off_where_it_says(name, steps, data):
    done = data.draw(st.integers(0, 63))
    at = Progress(done, data.draw(st.integers(1, 64 - done)), 64, 1, steps)
    for step in range(1, steps + 1):
        moment = at._replace(step=step)
        off = Guidance(GUIDANCE.find(name).off, name)
        assert off.off
        assert off.at(moment) == 1
        strong = Guidance(3.0, name)
        assert not strong.off
        assert 1 <= strong.at(moment) <= 4
        assert Guidance(3.0, name, interval=(1.0, 1.0)).at(moment) == 1


def test_recipes_with_a_name_of_their_own_keep_it():
    with pytest.raises(ValueError, match="order name 'ar' is short for raster-N-uniform"):
        register_order("ar")(lambda height, width: torch.arange(height * width))


@pytest.mark.parametrize("wrong", [None, "2", float("nan"), float("inf")])
def test_a_guidance_schedule_gives_a_finite_number(wrong, monkeypatch):
    monkeypatch.setattr(GUIDANCE, "_entries", dict(GUIDANCE._entries))
    register_guidance("broken")(lambda guidance, at: wrong)
    with pytest.raises(
        ValueError, match=r"\Aguidance schedule 'broken' must give a number[^\n]*\Z"
    ):
        Guidance(2.0, "broken").at(Progress(0, 1, 4, 1, 4))
