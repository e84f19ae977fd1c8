"""Plain blocks: by hand, with a cache, and how they begin."""

import torch
from torch import nn
from torch.nn import functional as F

from random_weights import differ, randomise
from setar.layers.attention import KVCache
from setar.layers.vit import PlainAttention, PlainBlock, initialise_plain

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def block():
    return randomise(PlainBlock(16, 2, 0.5)).eval().requires_grad_(False)


def test_a_block_by_hand():
    made, x = block(), torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    state = made.state_dict()

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    query, key, value = linear(norm(x, "attention_norm"), "attention.qkv").chunk(3, -1)
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 8**0.5
        heads.append(scores.softmax(-1) @ value[..., part])
    after = x + linear(torch.cat(heads, -1), "attention.output")
    hidden = F.gelu(linear(norm(after, "feed_forward_norm"), "feed_forward.0"))
    expected = after + linear(hidden, "feed_forward.3")
    torch.testing.assert_close(made(x), expected, **CLOSE)
    assert differ(made(x), x)


def test_a_cache_is_the_rows_that_came_before():
    made, x = block(), torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))
    clock = torch.tensor([0, 0, 1, 1, 1, 2])
    mask = (clock[None] <= clock[:, None])[None, None]
    whole, cache, parts = made(x, mask), KVCache(2, 2, 6, 8, x), []
    for start, stop in ((0, 2), (2, 5), (5, 6)):
        parts.append(made(x[:, start:stop], None, cache))
    torch.testing.assert_close(torch.cat(parts, 1), whole, **CLOSE)
    assert differ(made(x), whole)
    torch.testing.assert_close(made(x, mask, last=2), whole[:, -2:], **CLOSE)
    torch.testing.assert_close(made(x, last=2), made(x)[:, -2:], **CLOSE)


def test_dropout_acts_in_training_only():
    made, x = block(), torch.ones(1, 3, 16)
    assert torch.equal(made(x), made(x))
    made.train()
    assert differ(made(x), made(x))


def test_how_weights_begin():
    torch.manual_seed(0)
    made = nn.Sequential(PlainAttention(64, 2), nn.Embedding(50, 64), nn.LayerNorm(64))
    made.apply(initialise_plain)
    attention, table, norm = made
    assert isinstance(attention, PlainAttention)
    # Uniform in +-sqrt(6 / (in + out)), of which 12288 numbers come within 1% of the end.
    bound = (6 / (64 + 192)) ** 0.5
    assert 0.99 * bound < attention.qkv.weight.abs().max() <= bound
    assert not attention.qkv.bias.any()
    assert 0.018 < table.weight.std() < 0.022
    assert norm.weight.eq(1).all()
