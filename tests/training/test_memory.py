"""What a training holds in memory."""

import pytest
import torch

from setar.models.fmt import PRESETS, FullyMaskedTransformer
from setar.training.memory import held
from setar.training.optim import OptimizerConfig


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        return FullyMaskedTransformer(PRESETS["B"])


def test_of_one_process(model):
    count = sum(p.numel() for p in model.parameters())
    parts = held(model, OptimizerConfig())
    assert parts == {
        "weights": 4 * count,
        "gradients": 4 * count,
        "optimiser": 8 * count,
        "averaged weights": 4 * count,
    }
    muon = held(model, OptimizerConfig(name="muon"))["optimiser"]
    assert 4 * count < muon < 6 * count


@pytest.mark.parametrize("shards", [2, 3, 8])
def test_of_several_that_share_it(model, shards):
    alone, shared = held(model, OptimizerConfig()), held(model, OptimizerConfig(), shards)
    for name, amount in alone.items():
        assert amount / shards <= shared[name] < 1.01 * amount / shards + 4e5
    block = max(sum(p.numel() for p in b.parameters()) for b in model.transformer_blocks())
    root = 4 * sum(p.numel() for p in model.parameters()) - 4 * sum(
        p.numel() for b in model.transformer_blocks() for p in b.parameters()
    )
    assert 8 * block + root < shared["gathered"] < sum(alone.values())
