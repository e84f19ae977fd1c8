"""The formulas of cost, against what torch counts of a real sampling."""

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from random_weights import random_fmt
from setar.bench.cost import step_costs, total
from setar.bench.sampling import cache_bytes
from setar.recipes.recipe import Recipe
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance

CONFIG = random_fmt((4, 4), encoder_layers=3, decoder_layers=2).config


@pytest.mark.parametrize("recipe", ["ar", "random-5-cosine", "raster-7,5,4", "raster-1-uniform"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_operations_are_those_that_torch_counts(recipe, scale):
    model = random_fmt((4, 4), encoder_layers=3, decoder_layers=2)
    noise, plan = noise_and_plan(Recipe.parse(recipe), (4, 4), range(3), 0)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        generate(model, torch.arange(3), plan, noise, Guidance(scale))
    expected = total(step_costs(CONFIG, plan.sizes, 3, guided=scale != 1))
    counts = counter.get_flop_counts()["Global"]
    found = {str(name): count for name, count in counts.items()}
    attention = sum(count for name, count in found.items() if "bmm" in name)
    assert attention == expected.attention
    assert sum(found.values()) == expected.operations


def test_all_weights_of_products_are_read_once_a_step():
    model = random_fmt((4, 4), encoder_layers=3, decoder_layers=2)
    blocks = [*model.transformer_blocks(), model.head]
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.ndim == 2)
    start, first, last = step_costs(CONFIG, [3, 13], 5)
    assert first.weights == weights
    assert start.weights + last.weights == weights  # the last set is not absorbed


def test_what_is_written_to_caches_is_what_they_hold():
    model = random_fmt((4, 4), encoder_layers=3, decoder_layers=2)
    held = cache_bytes(model.start(torch.arange(5), 16)) // 4
    sizes = [4, 4, 8]
    costs = step_costs(CONFIG, sizes, 5, guided=False)
    width, layers = CONFIG.width, (3, 2)
    known = [0, 4, 8]
    read = [layers[0]] + [
        layers[1] * (c + n) + layers[1] * (1 + c) + (layers[0] * (1 + c + n) if n != 8 else 0)
        for c, n in zip(known, sizes, strict=True)
    ]
    written = sum(cost.caches for cost in costs) - 2 * 5 * width * sum(read)
    last = 2 * 5 * width * 8 * (layers[0] + layers[1])  # of encoder and across, never absorbed
    assert written == held - last


def test_a_wider_batch_reads_the_weights_once():
    one, many = (total(step_costs(CONFIG, [8, 8], images)) for images in (1, 4))
    assert many.weights == one.weights
    assert many.operations == 4 * one.operations
    assert many.caches == 4 * one.caches
    assert many.bytes(2) == 2 * (many.weights + many.caches)
    larger = dataclasses.replace(CONFIG, vocabulary=2 * CONFIG.vocabulary)
    assert total(step_costs(larger, [8, 8], 1)).attention == one.attention
