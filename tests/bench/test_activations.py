"""The formula of what a backward pass keeps, against what autograd keeps."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from setar.bench.activations import Activations
from setar.models.fmt import FMTConfig, FullyMaskedTransformer
from setar.recipes.recipe import Recipe
from setar.training.distributed import Engine

SHAPE = FMTConfig(
    vocabulary=64, classes=5, width=32, heads=4, encoder_layers=1, decoder_layers=1, dropout=0.1
)


def kept(of: Activations) -> int:
    """Bytes of all storages that autograd keeps of a step's forward pass, but weights."""
    model = FullyMaskedTransformer(of.config).train()
    Engine(checkpointing=of.checkpointing).prepare(model)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage  # which keeps it, so that no other comes to its place
        return tensor

    plan = Recipe.parse("random-4-random").plan(of.config.grid, of.images)
    codes = torch.zeros(of.images, of.tokens, dtype=torch.int64)
    way = nullcontext() if of.fused else sdpa_kernel(SDPBackend.MATH)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept), way:
        logits = model(codes, torch.zeros(of.images, dtype=torch.int64), plan)
        F.cross_entropy(logits.flatten(0, 1), codes.flatten())
    return sum(part.nbytes() for place, part in found.items() if place not in weights)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_layers_keep_what_the_formula_says(fused, dropout, checkpointing):
    """One more of each kind keeps exactly so much more."""

    def of(**changes):
        shape = dataclasses.replace(SHAPE, grid=(4, 5), dropout=dropout, **changes)
        return Activations(shape, 3, fused, checkpointing)

    for word in ("encoder_layers", "decoder_layers"):
        one, two = of(), of(**{word: 2})
        assert kept(two) - kept(one) == two.kept() - one.kept() > 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_all_of_it(checkpointing):
    """What the formula leaves out is small: indices, rotations, masks and dropped embeddings."""
    shape = dataclasses.replace(SHAPE, grid=(8, 8), vocabulary=1024, width=64, dropout=0.0)
    of = Activations(shape, 2, checkpointing=checkpointing)
    assert of.kept() == pytest.approx(kept(of), rel=0.1)
    assert of.peak() > of.kept()
