"""Llama blocks: widths, normalisation before each part, residuals, dropout, no biases; AdaLN."""

import pytest
import torch

from random_weights import randomise
from setar.layers.attention import KVCache
from setar.layers.blocks import (
    AdaLNBlock,
    DecoderBlock,
    DropPath,
    EncoderBlock,
    QueryBlock,
    SwiGLU,
    swiglu_width,
)
from setar.layers.rope import rotation

WIDTH, HEADS = 16, 2


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def where(tokens):
    return rotation(torch.arange(tokens)[None], torch.arange(tokens)[None] % 2, WIDTH // HEADS)


def block(kind, dropout=0.0):
    return randomise(kind(WIDTH, HEADS, dropout)).requires_grad_(False)


# By hand: 8/3 of the width, then up to the next multiple of 256 (1024 -> 2730.7 -> 2816).
@pytest.mark.parametrize(
    ("width", "hidden"), [(768, 2048), (1024, 2816), (1280, 3584), (96, 256), (97, 512), (32, 256)]
)
def test_hidden_width(width, hidden):
    assert swiglu_width(width) == hidden


def test_swiglu_by_hand():
    layer = randomise(SwiGLU(WIDTH, 0.0)).requires_grad_(False)
    x = random(3, WIDTH)
    gate, up = x @ layer.gate.weight.T, x @ layer.up.weight.T
    expected = (gate * gate.sigmoid() * up) @ layer.down.weight.T
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("remembered", [0, 3])
def test_only_the_last_tokens_ask_and_all_are_keys(remembered):
    layer, x, tokens = block(EncoderBlock), random(2, 5, WIDTH), 5 + remembered
    mask = torch.ones(tokens, tokens).tril().bool()[remembered:][None, None]

    def run(last):
        cache = KVCache(2, HEADS, tokens, WIDTH // HEADS, x)
        if remembered:
            layer(random(2, 3, WIDTH, seed=1), where(3), None, cache)
        return layer(x, where(5), mask, cache, last), cache.view()

    (whole, keys_values), (end, same) = run(None), run(2)
    assert end.shape == (2, 2, WIDTH)
    torch.testing.assert_close(end, whole[:, -2:])
    torch.testing.assert_close(same, keys_values)
    torch.testing.assert_close(layer(x, where(5), last=2), layer(x, where(5))[:, -2:])


def test_encoder_block_by_hand():
    layer, x = block(EncoderBlock), random(2, 3, WIDTH)
    attended = x + layer.attention(layer.attention_norm(x), where(3))
    expected = attended + layer.feed_forward(layer.feed_forward_norm(attended))
    torch.testing.assert_close(layer(x, where(3)), expected)


def test_decoder_block_by_hand():
    layer, x = block(DecoderBlock), random(2, 3, WIDTH)
    keys_values = layer.cross_attention.remember(random(2, 5, WIDTH, seed=1), where(5))
    self_mask, cross_mask = torch.ones(3, 3).tril().bool(), torch.ones(3, 5).tril().bool()
    y = x + layer.attention(layer.attention_norm(x), where(3), self_mask)
    y = y + layer.cross_attention(layer.cross_attention_norm(y), where(3), keys_values, cross_mask)
    expected = y + layer.feed_forward(layer.feed_forward_norm(y))
    torch.testing.assert_close(layer(x, where(3), keys_values, self_mask, cross_mask), expected)


def test_query_block_by_hand():
    layer, x = block(QueryBlock), random(2, 3, WIDTH)
    keys_values = (random(2, HEADS, 5, 8, seed=1), random(2, HEADS, 5, 8, seed=2))
    mask = torch.ones(3, 5).tril().bool()
    y = x + layer.attention(layer.attention_norm(x), where(3), keys_values, mask)
    expected = y + layer.feed_forward(layer.feed_forward_norm(y))
    torch.testing.assert_close(layer(x, where(3), keys_values, mask), expected)


@pytest.mark.parametrize("kind", [EncoderBlock, DecoderBlock, QueryBlock])
def test_there_are_no_biases(kind):
    assert not [name for name, _ in block(kind).named_parameters() if "bias" in name]


def test_dropout_acts_in_training_only_and_on_every_branch():
    layer, x = block(EncoderBlock, dropout=0.5), random(1, 3, WIDTH)
    assert torch.equal(layer.eval()(x, where(3)), block(EncoderBlock).eval()(x, where(3)))
    layer.train()
    torch.manual_seed(0)
    assert not torch.equal(layer(x, where(3)), layer.eval()(x, where(3)))
    # Nothing but the residual is left when everything else is dropped.
    for dropout in (m for m in layer.train().modules() if isinstance(m, torch.nn.Dropout)):
        dropout.p = 1.0
    assert torch.equal(layer(x, where(3)), x)


def test_everything_dropped_leaves_a_query_block_its_residual():
    layer, x = block(QueryBlock, dropout=0.5).train(), random(1, 3, WIDTH)
    for dropout in (m for m in layer.modules() if isinstance(m, torch.nn.Dropout)):
        dropout.p = 1.0
    keys_values = (random(1, HEADS, 5, 8, seed=1), random(1, HEADS, 5, 8, seed=2))
    assert torch.equal(layer(x, where(3), keys_values), x)


def test_everything_dropped_leaves_a_decoder_block_its_residual():
    layer, x = block(DecoderBlock, dropout=0.5).train(), random(1, 3, WIDTH)
    for dropout in (m for m in layer.modules() if isinstance(m, torch.nn.Dropout)):
        dropout.p = 1.0
    keys_values = layer.cross_attention.remember(random(1, 5, WIDTH), where(5))
    assert torch.equal(layer(x, where(3), keys_values), x)


def test_gates_of_zero_close_an_adaln_block():
    """Each gate alone opens its own branch; `tests/models/test_var.py` writes a block out."""
    module, x = randomise(AdaLNBlock(WIDTH, HEADS, False, 0.0)), random(2, 3, WIDTH)
    modulation = random(2, 1, 6 * WIDTH)
    modulation[..., : 2 * WIDTH] = 0
    assert torch.equal(module(x, modulation), x)
    first, second = modulation.clone(), modulation.clone()
    first[..., :WIDTH] = 1
    second[..., WIDTH : 2 * WIDTH] = 1
    changes = [module(x, opened) - x for opened in (first, second)]
    assert all(change.abs().amin() > 0 for change in changes)
    assert not torch.allclose(*changes)


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    """2000 images, dropped with probability 1/4: 1500 +- 19 stay (five deviations: 1e-6)."""
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(2000, 2, 3)
    kept = drop(x)
    values = kept.flatten(1)
    assert (values == values[:, :1]).all()
    assert values.unique().tolist() == pytest.approx([0, 4 / 3])
    assert abs((values[:, 0] > 0).sum().item() - 1500) < 97
    assert torch.equal(drop.eval()(x), x)
    assert torch.equal(DropPath(0.0)(x), x)
