"""Root-mean-square normalisation, as PyTorch has it and as it is made in inference on a CPU."""

import pytest
import torch
from torch import nn

from setar.layers.norm import RMSNorm


@pytest.mark.parametrize("training", [True, False])
def test_by_hand(training):
    norm = RMSNorm(4)
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    x = torch.tensor([3e-3, 4e-3, 0.0, 0.0])  # mean square 6.25e-6, so that eps 1e-5 counts
    expected = x * norm.weight / (6.25e-6 + 1e-5) ** 0.5
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-4, 1.0, 1e4, 1e18])
@pytest.mark.parametrize("shape", [(12,), (0, 3, 12), (2, 5, 12), (2, 40, 12)])
def test_inference_is_as_training(size, shape):
    norm = RMSNorm(12)
    nn.init.normal_(norm.weight)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * size
    before = x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(
            norm(x), norm.weight * nn.functional.rms_norm(x, (12,), eps=1e-5)
        )
        torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_stay(dtype):
    with torch.inference_mode():
        assert RMSNorm(12).to(dtype)(torch.ones(2, 12, dtype=dtype)).dtype == dtype
