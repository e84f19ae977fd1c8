"""What every kind of condition promises, alone and as the prefix of a generator."""

import dataclasses

import pytest
import torch

from entries import CONDITIONS, codes_for, make
from random_weights import differ
from setar.models.base import FAMILIES
from setar.models.condition import make_condition
from setar.recipes.recipe import Recipe

each_condition = pytest.mark.parametrize("name", [*CONDITIONS])


def config(name, **changes):
    """A shape with three tokens of the condition, or with one if it cannot have more."""
    tiny = dataclasses.replace(FAMILIES.find("fmt").presets["tiny"], condition=name, **changes)
    if CONDITIONS.find(name).reads == "text":
        tiny = dataclasses.replace(tiny, condition_dim=6)
    several = dataclasses.replace(tiny, condition_length=3)
    try:
        make_condition(several, 16)
    except ValueError:
        return tiny
    return several


@each_condition
def test_conditions_become_tokens_and_some_become_none_in_training(name):
    torch.manual_seed(0)
    condition = make_condition(config(name, class_dropout=0.5), 16)
    for parameter in condition.parameters():  # those of "nothing" begin with zeros
        torch.nn.init.normal_(parameter)
    labels = condition.example(4).repeat_interleave(50, 0)
    null = condition.null(labels)
    assert null.shape == labels.shape
    condition.eval()
    tokens, none = condition.embed(labels), condition.embed(null)
    assert tokens.shape == (200, condition.length, 16)
    assert torch.equal(condition.embed(labels), tokens)
    assert differ(tokens[0], tokens[50])
    condition.train()
    dropped = (condition.embed(labels) == none).all(2).all(1)
    # 200 draws of 1/2: outside of 60..140 once in 10^8.
    assert 60 < int(dropped.sum()) < 140
    chances = torch.linspace(0, 1, 200)
    with condition.dropping_by(chances):
        dropped = (condition.embed(labels) == none).all(2).all(1)
    assert torch.equal(dropped, chances < 0.5)
    condition.drop = 0.0
    assert torch.equal(condition.embed(labels), tokens)


@each_condition
@pytest.mark.parametrize("family", [*FAMILIES])
def test_every_path_reads_the_prefix_alike(name, family):
    shape = config(name)
    length = shape.condition_length if FAMILIES.find(family).takes_prefix else 1
    facts = {"condition_length": length, "condition_dim": shape.condition_dim}
    model = make(family, condition=name, **facts)
    codes, labels = codes_for(model, 2), model.condition.example(2)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    plan = Recipe.parse(model.config.recipe).sampling_plan(model.config.grid, generators)
    whole = model(codes, labels, plan)
    assert differ(whole, model(codes, model.null(labels), plan))
    for cache in (True, False):
        decoding, parts = model.start(labels, codes.shape[1], cache=cache), []
        for start, stop in plan.slices():
            positions = plan.order[:, start:stop]
            parts.append(decoding.predict(positions))
            decoding.absorb(codes.gather(1, positions), positions)
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


def test_a_length_that_it_cannot_have_is_refused():
    tiny = FAMILIES.find("fmt").presets["tiny"]
    with pytest.raises(ValueError, match=r"`condition_length` \(=2\) must be 1"):
        make_condition(dataclasses.replace(tiny, condition_length=2), 16)


@pytest.mark.parametrize("family", [f for f in FAMILIES if not FAMILIES.find(f).takes_prefix])
def test_a_family_that_reads_no_prefix_refuses_one(family):
    with pytest.raises(ValueError, match=r"`condition_length` \(=2\) must be 1 for [^\n]*\Z"):
        make(family, condition="class-tokens", condition_length=2)
