"""What every kind of condition promises, alone and as the prefix of a generator."""

import dataclasses

import pytest
import torch

from entries import CONDITIONS, codes_for, make
from random_weights import differ
from setar.models.base import FAMILIES
from setar.models.condition import make_condition
from setar.recipes.recipe import Recipe

LENGTHS = {"class": 1}
"""How many tokens a condition must have; others are tested with three."""

each_condition = pytest.mark.parametrize("name", [*CONDITIONS])
takes_a_prefix = [name for name in FAMILIES if name not in ("var",)]


def config(name, **changes):
    tiny = FAMILIES.find("fmt").presets["tiny"]
    length = LENGTHS.get(name, 3)
    return dataclasses.replace(tiny, condition=name, condition_length=length, **changes)


@each_condition
def test_conditions_become_tokens_and_some_become_none_in_training(name):
    torch.manual_seed(0)
    condition = make_condition(config(name, class_dropout=0.5), 16)
    labels = torch.arange(4).repeat(50)
    null = condition.null(labels)
    assert null.shape == labels.shape
    condition.eval()
    tokens, none = condition.embed(labels), condition.embed(null)
    assert tokens.shape == (200, condition.length, 16)
    assert torch.equal(condition.embed(labels), tokens)
    assert differ(tokens[0], tokens[1])
    condition.train()
    dropped = (condition.embed(labels) == none).all(2).all(1)
    # 200 draws of 1/2: outside of 60..140 once in 10^8.
    assert 60 < int(dropped.sum()) < 140
    condition.drop = 0.0
    assert torch.equal(condition.embed(labels), tokens)


@each_condition
@pytest.mark.parametrize("family", takes_a_prefix)
def test_every_path_reads_the_prefix_alike(name, family):
    length = LENGTHS.get(name, 3)
    model = make(family, condition=name, condition_length=length)
    codes, labels = codes_for(model, 2), torch.tensor([1, 4])
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


@each_condition
def test_a_length_that_it_cannot_have_is_refused(name):
    if name in LENGTHS:
        with pytest.raises(ValueError, match="`condition_length`"):
            make_condition(dataclasses.replace(config(name), condition_length=2), 16)
    with pytest.raises(ValueError, match="`condition_length`"):
        dataclasses.replace(FAMILIES.find("var").presets["tiny"], condition_length=2)
