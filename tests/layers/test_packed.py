"""Packed linear layers against the plain ones."""

import copy
import io

import pytest
import torch
from torch import nn

from random_weights import differ, randomise
from setar.layers import packed
from setar.layers.packed import PackedFloat, PackedInt8, pack
from setar.layers.steady import SteadyLinear


def layer(inputs=48, outputs=20, bias=True, seed=0):
    return randomise(nn.Linear(inputs, outputs, bias), seed).requires_grad_(False)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    """Layers of any size are packed."""
    monkeypatch.setattr(packed, "LEAST", 1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(48,), (3, 48), (2, 40, 48), (0, 48)])
def test_float32_is_the_same_product(bias, shape):
    plain = layer(bias=bias)
    found = pack(copy.deepcopy(plain), "float32")
    assert isinstance(found, PackedFloat)
    x = random(*shape)
    torch.testing.assert_close(found(x), plain(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(48,), (3, 48), (2, 40, 48), (0, 48)])
def test_int8_is_nearly_the_same_product(bias, shape):
    plain = layer(bias=bias)
    found = pack(copy.deepcopy(plain), "int8")
    x = random(*shape)
    assert found(x).shape == plain(x).shape
    if x.numel():
        error = (found(x) - plain(x)).square().mean().sqrt() / plain(x).square().mean().sqrt()
        assert 0 < error < 0.04


def explicit(plain, x, levels):
    """Rounding of rows and of output channels, then a product of whole numbers."""
    scale = plain.weight.abs().amax(1, keepdim=True) / 127
    largest = x.abs().amax(-1, keepdim=True)
    whole = (x / largest * levels).round().double()
    sums = whole @ (plain.weight / scale).round().double().T
    return (sums * (largest / levels) * scale.T + plain.bias).float()


def test_int8_written_out():
    plain, x = layer(), random(7, 48)
    found = pack(copy.deepcopy(plain), "int8")
    torch.testing.assert_close(found(x), explicit(plain, x, found.levels), atol=1e-4, rtol=0)


def test_rows_of_an_int8_product_do_not_depend_on_each_other():
    found, x = pack(layer(), "int8"), random(40, 48)
    x[3] *= 1000
    whole = found(x)
    for row in (0, 3, 39):
        assert torch.equal(found(x[row : row + 1])[0], whole[row])
    assert differ(whole[0], whole[3])


def test_int8_of_rows_without_numbers_and_of_the_largest_sums():
    plain = layer(bias=False)
    plain.weight.fill_(0.1)
    found = pack(plain, "int8")
    assert torch.equal(found(torch.zeros(2, 48)), torch.zeros(2, 20))
    torch.testing.assert_close(found(torch.ones(2, 48)), torch.full((2, 20), 4.8))
    assert not found(torch.full((1, 48), torch.nan)).isfinite().any()


@pytest.mark.parametrize("packing", ["float32", "int8"])
def test_state_dicts_copies_and_files(packing):
    first, second = pack(layer(), packing), pack(layer(seed=1), packing)
    x = random(5, 48)
    assert differ(first(x), second(x))
    state = first.state_dict()
    second.load_state_dict(state)
    assert torch.equal(first(x), second(x))
    assert torch.equal(copy.deepcopy(first)(x), first(x))
    stream = io.BytesIO()
    torch.save(first, stream)
    stream.seek(0)
    assert torch.equal(torch.load(stream, weights_only=False)(x), first(x))
    with pytest.raises(RuntimeError, match="weight"):
        second.load_state_dict({"bias": state["bias"]})
    with pytest.raises(RuntimeError, match="shape"):
        second.load_state_dict({**state, "weight": state["weight"][:3]})
    with pytest.raises(RuntimeError, match="more"):
        second.load_state_dict({**state, "more": state["weight"]})


def test_the_state_of_float32_is_that_of_the_plain_layer():
    plain = layer()
    state = pack(copy.deepcopy(plain), "float32").state_dict()
    assert state.keys() == plain.state_dict().keys()
    assert torch.equal(state["weight"], plain.weight)


def test_bytes():
    assert pack(layer(), "float32").bytes == 4 * 48 * 20
    assert pack(layer(), "int8").bytes == 48 * 20 + 4 * 20


def test_moved_layers_are_ordinary_ones():
    plain, x = layer(), random(3, 48)
    found = pack(copy.deepcopy(plain), "float32").to(torch.float64)
    torch.testing.assert_close(found(x.double()), plain.double()(x.double()))
    with pytest.raises(ValueError, match="int8"):
        pack(layer(), "int8").to(torch.bfloat16)


def test_gradients_of_inputs_flow_through_float32():
    plain, x = layer(), random(3, 48).requires_grad_()
    found = pack(copy.deepcopy(plain), "float32")
    found(x).sum().backward()
    torch.testing.assert_close(x.grad, plain.weight.sum(0).expand(3, -1))


def test_what_is_packed(monkeypatch):
    def parts():
        return nn.ModuleList([layer(48, 20), layer(48, 21), SteadyLinear(48, 30), nn.LayerNorm(4)])

    monkeypatch.setattr(packed, "LEAST", 48 * 21)
    kinds = [type(part) for part in pack(parts(), "float32")]
    assert kinds == [nn.Linear, PackedFloat, SteadyLinear, nn.LayerNorm]
    kinds = [type(part) for part in pack(parts(), "int8")]
    assert kinds == [PackedInt8, PackedInt8, PackedInt8, nn.LayerNorm]
