"""Attention against an explicit softmax; masks, caches and positions are obeyed."""

import math

import pytest
import torch
from torch.nn import functional

from random_weights import differ, randomise
from setar.layers.attention import (
    CosineAttention,
    CrossAttention,
    KeysValues,
    KVCache,
    QueryAttention,
    SelfAttention,
    attend,
)
from setar.layers.rope import rotate, rotation

WIDTH, HEADS = 16, 2
HEAD_DIM = WIDTH // HEADS


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def where(*places):
    """Rotations of one image's (row, column) places."""
    rows, columns = torch.tensor(places).T[:, None]
    return rotation(rows, columns, HEAD_DIM)


FOUR = [(0, 0), (0, 1), (2, 0), (3, 5)]


@pytest.fixture(scope="module")
def attention():
    return randomise(SelfAttention(WIDTH, HEADS)).requires_grad_(False)


@pytest.fixture(scope="module")
def cross():
    return randomise(CrossAttention(WIDTH, HEADS)).requires_grad_(False)


def explicit(query, key, value, query_where, key_where, mask):
    """Multi-head attention of projected ``[B, L, width]`` written out, head by head."""
    mixed = []
    for head in range(HEADS):
        part = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        q = rotate(query[:, None, :, part], query_where)[:, 0]
        k = rotate(key[:, None, :, part], key_where)[:, 0]
        scores = (q @ k.mT / HEAD_DIM**0.5).masked_fill(~mask, float("-inf"))
        mixed.append(scores.softmax(-1) @ value[:, :, part])
    return torch.cat(mixed, -1)


def test_self_attention_written_out(attention):
    x, mask = random(2, 4, WIDTH), torch.ones(4, 4).tril().bool()
    query, key, value = (x @ weight.T for weight in attention.qkv.weight.chunk(3))
    expected = explicit(query, key, value, where(*FOUR), where(*FOUR), mask)
    expected = expected @ attention.output.weight.T
    torch.testing.assert_close(attention(x, where(*FOUR), mask), expected, atol=1e-5, rtol=0)


def test_cross_attention_written_out(cross):
    x, memory = random(2, 3, WIDTH), random(2, 4, WIDTH, seed=1)
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]]).bool()
    expected = explicit(
        x @ cross.query.weight.T,
        memory @ cross.key.weight.T,
        memory @ cross.value.weight.T,
        where(*FOUR[1:]),
        where(*FOUR),
        mask,
    )
    remembered = cross.remember(memory, where(*FOUR))
    found = cross(x, where(*FOUR[1:]), remembered, mask)
    torch.testing.assert_close(found, expected @ cross.output.weight.T, atol=1e-5, rtol=0)


def test_shared_keys_and_values_are_those_of_a_cross_attention_after_a_norm(cross):
    shared, asking = KeysValues(WIDTH, HEADS), QueryAttention(WIDTH, HEADS)
    randomise(shared).requires_grad_(False)
    norm, weights = {"norm.weight": shared.norm.weight}, cross.state_dict()
    asking.load_state_dict({name: weights[name] for name in asking.state_dict()})
    shared.load_state_dict({name: {**norm, **weights}[name] for name in shared.state_dict()})
    x, memory = random(2, 3, WIDTH), random(2, 4, WIDTH, seed=1)
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]]).bool()
    found = asking(x, where(*FOUR[1:]), shared(memory, where(*FOUR)), mask)
    remembered = cross.remember(shared.norm(memory), where(*FOUR))
    assert torch.equal(found, cross(x, where(*FOUR[1:]), remembered, mask))
    assert differ(found, cross(x, where(*FOUR[1:]), cross.remember(memory, where(*FOUR)), mask))


def test_no_mask_is_everything_visible(attention):
    x = random(2, 4, WIDTH)
    everything = torch.ones(4, 4).bool()
    torch.testing.assert_close(attention(x, where(*FOUR)), attention(x, where(*FOUR), everything))


def test_a_hidden_token_has_no_influence_and_a_visible_one_has(attention):
    x, changed = random(1, 4, WIDTH), random(1, 4, WIDTH)
    changed[:, 2] += 3
    mask = torch.ones(1, 1, 4, 4).tril().bool()
    before, after = attention(x, where(*FOUR), mask), attention(changed, where(*FOUR), mask)
    assert torch.equal(before[:, :2], after[:, :2])
    assert differ(before[:, 2], after[:, 2])
    assert differ(before[:, 3], after[:, 3])


def test_masks_may_differ_between_images(attention):
    x = random(2, 4, WIDTH)
    masks = torch.stack([torch.ones(4, 4).tril(), torch.eye(4)]).bool()[:, None]
    found = attention(x, where(*FOUR), masks)
    for image in range(2):
        alone = attention(x[image : image + 1], where(*FOUR), masks[image : image + 1])
        torch.testing.assert_close(found[image], alone[0], atol=1e-6, rtol=0)


def test_positions_may_differ_between_images(attention):
    x = random(1, 4, WIDTH).repeat(2, 1, 1)
    both = torch.cat([where(*FOUR), where(*reversed(FOUR))])
    found = attention(x, both)
    assert differ(found[0], found[1])
    for image in range(2):
        alone = attention(x[:1], both[image : image + 1])
        torch.testing.assert_close(found[image], alone[0], atol=1e-6, rtol=0)


def test_order_is_a_matter_of_positions_alone(attention):
    x, shuffle = random(1, 4, WIDTH), torch.tensor([2, 0, 3, 1])
    straight = attention(x, where(*FOUR))
    shuffled = attention(x[:, shuffle], where(*FOUR)[:, :, shuffle])
    torch.testing.assert_close(shuffled, straight[:, shuffle], atol=1e-6, rtol=0)


def test_a_cache_stands_for_the_tokens_before(attention):
    x, cache = random(2, 4, WIDTH), KVCache(2, HEADS, 4, HEAD_DIM, like=torch.empty(0))
    clocks = torch.tensor([0, 1, 1, 2])
    whole = attention(x, where(*FOUR), clocks[None, :] <= clocks[:, None])
    parts = [
        attention(x[:, start:stop], where(*FOUR)[:, :, start:stop], cache=cache)
        for start, stop in ((0, 1), (1, 3), (3, 4))
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=0)
    assert cache.length == 4


def test_a_cache_gives_back_what_it_got_without_copying():
    cache = KVCache(1, HEADS, 5, HEAD_DIM, like=torch.empty(0))
    keys, values = random(1, HEADS, 3, HEAD_DIM), random(1, HEADS, 3, HEAD_DIM, seed=1)
    cache.append(keys[:, :, :1], values[:, :, :1])
    cache.append(keys[:, :, 1:], values[:, :, 1:])
    assert torch.equal(cache.view()[0], keys)
    assert torch.equal(cache.view()[1], values)
    assert cache.view()[0].data_ptr() == cache.buffer.data_ptr()


def fused(query, key, value, mask=None, scale=None):
    """What torch's kernel makes of the same."""
    return functional.scaled_dot_product_attention(query, key, value, mask, scale=scale)


@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("masked", [False, True])
def test_one_query_is_answered_as_by_the_fused_kernel(masked, scale, products, monkeypatch):
    if products:  # of as few keys as these too
        monkeypatch.setattr("setar.layers.attention.MANY", 1)
    query, key, value = random(3, 4, 1, 8), random(3, 4, 9, 8, seed=1), random(3, 4, 9, 8, seed=2)
    mask = (random(3, 1, 1, 9, seed=3) > 0).index_fill(3, torch.tensor([4]), True)
    arguments = query, key, value, mask if masked else None, scale
    torch.testing.assert_close(attend(*arguments), fused(*arguments), atol=1e-6, rtol=0)
    assert differ(attend(query, key, value, mask), attend(query, key, value, None))


@pytest.mark.parametrize("queries", [1, 2, 20])
@pytest.mark.parametrize("masked", [False, True])
def test_a_cache_in_bfloat16_is_read_as_it_is(queries, masked):
    query, cache = random(3, 4, queries, 8), KVCache(3, 4, 40, 8, torch.empty(0).bfloat16())
    key, value = random(3, 4, 30, 8, seed=1), random(3, 4, 30, 8, seed=2)
    cache.append(key, value)
    mask = (random(3, 1, 1, 30, seed=3) > 0).index_fill(3, torch.tensor([4]), True)
    arguments = query, *cache.view(), mask if masked else None
    found = attend(*arguments)
    assert found.dtype == torch.float32
    expected = fused(query, key, value, mask if masked else None)
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 0.01  # bfloat16 has 8 bits
    alone = attend(query[1:2], *(part[1:2] for part in cache.view()), mask[1:2] if masked else None)
    assert torch.equal(alone[0], found[1])


def test_a_full_cache_refuses_more():
    cache = KVCache(1, HEADS, 2, HEAD_DIM, like=torch.empty(0))
    with pytest.raises(RuntimeError):
        cache.append(random(1, HEADS, 3, HEAD_DIM), random(1, HEADS, 3, HEAD_DIM))


def cosine(l2_norm=True):
    module = randomise(CosineAttention(WIDTH, HEADS, l2_norm)).requires_grad_(False)
    if l2_norm:
        module.log_scale.copy_(torch.tensor([0.7, 9.0]))
    return module


@pytest.mark.parametrize("l2_norm", [True, False])
def test_cosine_attention_written_out(l2_norm):
    """The second head's scale, e**9, counts as 100; without norms, scores are over 4 sqrt d."""
    attention, x, mask = cosine(l2_norm), random(2, 4, WIDTH), torch.ones(4, 4).tril().bool()
    query, key, value = (x @ weight.T for weight in attention.qkv.weight.chunk(3))
    query, value, mixed = query + attention.query_bias, value + attention.value_bias, []
    for head, scale in enumerate([math.exp(0.7), 100.0]):
        part = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        q, k = query[..., part], key[..., part]
        if l2_norm:
            scores = (
                scale * (q / q.norm(dim=-1, keepdim=True)) @ (k / k.norm(dim=-1, keepdim=True)).mT
            )
        else:
            scores = q @ k.mT / (4 * HEAD_DIM**0.5)
        scores = scores.masked_fill(~mask, float("-inf"))
        mixed.append(scores.softmax(-1) @ value[..., part])
    expected = attention.output(torch.cat(mixed, -1))
    torch.testing.assert_close(attention(x, mask), expected, atol=1e-5, rtol=1e-5)


def test_cosine_attention_with_a_cache():
    attention, x, mask = cosine(), random(1, 4, WIDTH), torch.ones(4, 4).tril().bool()
    cache = KVCache(1, HEADS, 4, HEAD_DIM, x)
    parts = [attention(part, cache=cache) for part in x.split(1, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), attention(x, mask), atol=1e-5, rtol=1e-5)


def test_cosine_attention_begins_with_a_scale_of_four():
    assert CosineAttention(WIDTH, HEADS).log_scale.exp().tolist() == pytest.approx([4, 4])
    assert CosineAttention(WIDTH, HEADS, l2_norm=False).log_scale is None


def test_attention_on_a_cpu_is_float32_under_autocast():
    """The fused kernel's bfloat16 backward pass is several times slower there."""
    layer = CosineAttention(16, 2)
    seen = []
    layer.output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(torch.randn(1, 4, 16))
    assert seen == [torch.float32]
    assert result.dtype == torch.bfloat16
