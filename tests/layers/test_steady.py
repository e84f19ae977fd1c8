import pytest
import torch

from setar.layers.steady import ROWS, SteadyLinear


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(0)
    layer = SteadyLinear(128, 384).requires_grad_(False)
    layer.weight.normal_(std=0.1, generator=generator)
    layer.bias.normal_(generator=generator)
    return layer


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_number_of_rows(layer):
    rows = torch.randn(200, 128, generator=torch.Generator().manual_seed(1))
    whole = layer(rows)
    # That the kernels for many rows agree is measured, for processors of this kind alone.
    measured = torch.backends.mkl.is_available()
    tolerance = {"atol": 0, "rtol": 0} if measured else {"atol": 1e-5, "rtol": 1e-5}
    for count in (*range(1, 40), 63, 64, 65, 199):
        torch.testing.assert_close(layer(rows[:count]), whole[:count], **tolerance)


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 2), (2, 0, 3), (ROWS - 1,), (ROWS,), (2, ROWS)])
def test_it_is_a_linear_layer(layer, shape):
    rows = torch.randn(*shape, 128)
    expected = torch.nn.functional.linear(rows, layer.weight, layer.bias)
    with torch.inference_mode():
        found = layer(rows)
    assert found.shape == (*shape, 384)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    rows.requires_grad_()
    layer(rows).sum().backward()
    assert rows.grad is not None
    assert rows.grad.shape == rows.shape
