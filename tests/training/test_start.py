"""Weights to begin with."""

import torch
from torch import nn

from setar.training.start import begin_with


def test_what_fits_is_taken_and_the_rest_stays():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    weights = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(2), "9.weight": torch.ones(1)}
    assert begin_with(module, weights) == ["0.bias", "1.bias", "1.weight"]
    after = module.state_dict()
    assert after["0.weight"].eq(1).all()
    assert all(torch.equal(after[name], own[name]) for name in own if name != "0.weight")
