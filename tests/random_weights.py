"""Models with every weight random.

A new FMT has a zero head and gains of one: all its logits are 0, and every test that two paths
agree would pass without a reason.
"""

from functools import lru_cache

import torch
from torch import nn

from setar.models.fmt import FMTConfig, FullyMaskedTransformer


def randomise(module, seed=0):
    """Give every parameter a random value: norm gains in 0.5..1.5, the others of unit effect."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator)
            if isinstance(part, nn.Linear | nn.Conv2d):
                noise /= part.weight[0].numel() ** 0.5
            elif not isinstance(part, nn.Embedding):
                noise = 0.5 + torch.rand(parameter.shape, generator=generator)
            parameter.data.copy_(noise)
    return module


@lru_cache(maxsize=32)
def random_fmt(grid=(4, 4), seed=0, vocabulary=24, **changes):
    """A tiny FMT in evaluation mode, the same object for the same arguments."""
    shape = {"width": 32, "heads": 2, "encoder_layers": 2, "decoder_layers": 2, "classes": 5}
    config = FMTConfig(vocabulary=vocabulary, grid=grid, **{**shape, **changes})
    return randomise(FullyMaskedTransformer(config), seed).eval().requires_grad_(False)


def random_codes(batch, grid, vocabulary=24, seed=0):
    """Codes int64 ``[batch, N]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (batch, grid[0] * grid[1]), generator=generator)


def differ(first, second, by=1e-2):
    """Whether two logits are clearly not the same."""
    return (first - second).abs().max().item() > by
