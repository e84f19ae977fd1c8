"""Texts as a condition: markers, padding, the learned nothing."""

import pytest
import torch
from torch import nn

from random_weights import randomise
from setar.layers.norm import RMSNorm
from setar.models.base import GeneratorConfig
from setar.models.text_condition import NOTHING, PAD, TOKEN, TextCondition, pack, padded_to
from setar.recipes.clocks import PADDING

LENGTH, DIM, WIDTH = 5, 6, 8


def condition(drop=0.0, **changes):
    shape = {"condition_length": LENGTH, "condition_dim": DIM, **changes}
    config = GeneratorConfig(condition="text", class_dropout=drop, **shape)
    return randomise(TextCondition(config, WIDTH)).eval().requires_grad_(False)


def test_packed_states_say_which_are_tokens():
    states = torch.randn(2, 3, DIM)
    packed = pack(states, torch.tensor([[0, 1, 1], [1, 1, 1]]))
    assert packed.shape == (2, 3, DIM + 1)
    assert packed[..., -1].tolist() == [[PAD, TOKEN, TOKEN], [TOKEN] * 3]
    assert packed[0, 0].eq(0).all()
    assert torch.equal(packed[1, :, :-1], states[1])


def test_texts_end_at_clock_zero_whatever_their_length():
    packed = pack(torch.randn(2, 3, DIM), torch.tensor([[0, 1, 1], [1, 1, 1]]))
    assert condition().clock(packed).tolist() == [[PADDING, -1, 0], [-2, -1, 0]]
    assert condition().clock(padded_to(packed, 4)).tolist() == [
        [PADDING, PADDING, -1, 0],
        [PADDING, -2, -1, 0],
    ]


def test_nothing_is_as_long_as_the_text_and_keeps_its_padding():
    module, packed = condition(), condition().example(4)
    null = module.null(packed)
    assert null[..., :-1].eq(0).all()
    assert torch.equal(null[..., -1] == NOTHING, packed[..., -1] == TOKEN)
    assert torch.equal(module.clock(null), module.clock(packed))
    assert torch.equal(module.null(null), null)


def test_the_learned_nothing_stands_at_the_right_end():
    module = condition()
    packed = pack(torch.randn(1, 2, DIM), torch.ones(1, 2))
    embedded = module.embed(module.null(packed))
    torch.testing.assert_close(embedded, module.project(module.nothing[None, -2:]))
    assert (embedded - module.embed(packed)).abs().max() > 0.1
    assert (embedded[:, 0] - embedded[:, 1]).abs().max() > 0.1


def test_a_trimmed_text_is_what_it_was():
    module = condition()
    states = torch.randn(2, 2, DIM)
    packed = torch.cat(
        [pack(states, torch.ones(2, 2)), module.null(pack(states, torch.ones(2, 2)))]
    )
    full = padded_to(packed, LENGTH)
    torch.testing.assert_close(module.embed(full)[:, -2:], module.embed(packed))
    short, long = module.alike(packed, full)
    assert torch.equal(short, full)
    assert torch.equal(long, full)


def test_in_training_some_texts_are_dropped_whole():
    module = condition(drop=0.25).train()
    packed = pack(torch.randn(1, 3, DIM), torch.tensor([[0, 1, 1]])).expand(400, -1, -1)
    torch.manual_seed(0)
    none = module.eval().embed(module.null(packed[:1]))
    kept = module.embed(packed[:1])
    embedded = module.train().embed(packed)
    gone = torch.isclose(embedded, none, atol=1e-5).flatten(1).all(1)
    assert torch.isclose(embedded[~gone], kept, atol=1e-5).all()
    # Of 400, 100 +- 35: four standard deviations, off once in 16,000 seeds.
    assert 65 < gone.sum() < 135
    assert torch.isclose(module.eval().embed(packed), kept, atol=1e-5).all()
    assert packed[..., -1].min() == PAD


def test_projections():
    linear, mlp = condition().project, condition(condition_projection="mlp").project
    assert [type(part) for part in linear] == [RMSNorm, nn.Linear]
    states = torch.randn(2, 3, DIM)
    assert torch.allclose(linear(9 * states), linear(states), atol=1e-4)  # whatever their size
    first, _, last = mlp
    assert first.bias is None
    assert last.bias is None
    hidden = nn.functional.gelu(first(states), approximate="tanh")
    torch.testing.assert_close(mlp(states), last(hidden))


def test_what_is_no_text():
    module = condition()
    for shape in [(2, 3, DIM), (2, LENGTH + 1, DIM + 1), (3, DIM + 1)]:
        with pytest.raises(ValueError, match=rf"must be \[B, T, {DIM} \+ 1\] with T of at most 5"):
            module.embed(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"`condition_dim` \(=0\) must be the numbers of a token"):
        condition(condition_dim=0)
    with pytest.raises(ValueError, match="`condition_projection` must be 'linear' or 'mlp'"):
        condition(condition_projection="conv")
