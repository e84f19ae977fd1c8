"""Sampling an FMT in fixed shapes: the same codes, and as many compilations as shapes."""

import copy
import gc
import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

from random_weights import differ, random_codes, random_fmt
from setar.models.base import FAMILIES
from setar.models.fmt_fixed import FixedDecoding, bucket
from setar.recipes.recipe import Recipe
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance

GRID, TOKENS = (4, 4), 16


def fixed(counter, **changes):
    """A model that samples in fixed shapes, and the same that does not."""
    model = random_fmt(GRID, **changes)
    return copy.deepcopy(model).compile_sampling(backend=counter), model


def test_buckets():
    assert [bucket(size) for size in (1, 2, 3, 4, 5, 16, 17)] == [1, 2, 4, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("recipe", "positions"),
    [("raster-7,5,4", "learned"), ("random-5-random", "learned"), ("ar", "sine")],
)
def test_the_logits_are_those_of_ordinary_decoding(recipe, positions):
    model, plain = fixed("eager", positions=positions)
    seeds = [torch.Generator().manual_seed(i) for i in range(2)]
    plan = Recipe.parse(recipe).sampling_plan(GRID, seeds)
    codes, labels = random_codes(2, GRID), torch.tensor([1, 3])
    with torch.inference_mode():
        masked = plain(codes, labels, plan)
        assert differ(masked[0], masked[1])
        decoding = model.start(labels, TOKENS)
        assert isinstance(decoding, FixedDecoding)
        for start, stop in plan.slices():
            where = plan.order[:, start:stop]
            found = decoding.predict(where)
            torch.testing.assert_close(found, masked[:, start:stop], atol=1e-4, rtol=1e-4)
            decoding.absorb(codes.gather(1, where), where)


@pytest.mark.parametrize("guidance", [Guidance(2.0), Guidance(2.0, interval=(0.3, 0.7))])
def test_the_codes_are_the_same_and_nothing_is_compiled_twice(guidance):
    """Sets of 1 to 9 tokens come in five sizes, and so do all recipes of such sets together."""
    torch._dynamo.reset()
    counter = CompileCounter()
    model, plain = fixed(counter)
    labels, shapes = torch.tensor([0, 1, 2]), set()
    for seed, recipe in enumerate(["ar", "random-5-random", "random-4-random", "raster-7,5,4"]):
        noise, plan = noise_and_plan(Recipe.parse(recipe), GRID, range(seed, seed + 3), seed)
        made = [generate(each, labels, plan, noise, guidance) for each in (model, plain)]
        assert torch.equal(*made), recipe
        shapes |= {bucket(stop - start) for start, stop in plan.slices()}
    assert len(shapes) >= 4
    # Asking and absorbing; with guidance in an interval only, batches of one size as well.
    assert counter.frame_count <= 2 * len(shapes)


def test_padded_texts():
    changes = {"condition": "text", "condition_length": 6, "condition_dim": 8}
    model, plain = fixed("eager", **changes)
    texts = plain.condition.example(3)
    texts[1, :2, -1] = 0  # padding
    noise, plan = noise_and_plan(Recipe.parse("random-5-cosine"), GRID, range(3), 0)
    made = [generate(each, texts, plan, noise, Guidance(1.5)) for each in (model, plain)]
    assert torch.equal(*made)


def test_buffers_are_used_again_but_not_by_two_at_once():
    model, _ = fixed("eager")
    labels = torch.tensor([0, 1])
    first, second = model.start(labels, TOKENS), model.start(labels, TOKENS)
    assert first.buffers is not second.buffers
    taken = first.buffers
    taken.encoder[0][1].fill_(torch.nan)  # which a batch leaves whose numbers ran over
    del first
    gc.collect()
    third = model.start(labels, TOKENS)
    assert third.buffers is taken
    with torch.inference_mode():
        assert third.predict(torch.tensor([[3], [5]])).isfinite().all()


def test_other_ways_of_sampling_stay_as_they_are():
    model, _ = fixed("eager")
    for how in ({"attention": "full"}, {"cache": False}):
        assert not isinstance(model.start(torch.tensor([0]), TOKENS, **how), FixedDecoding)


def test_what_cannot_be_compiled_says_so():
    arpg = FAMILIES.find("arpg")
    with pytest.raises(ValueError, match="of an FMT is"):
        arpg(arpg.presets["tiny"]).compile_sampling()
    with pytest.raises(ValueError, match="laid out in int8"):
        copy.deepcopy(random_fmt()).pack("int8").compile_sampling()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="the default backend needs a C++ compiler")
def test_compiled_by_the_default_backend():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("inductor")
    model, plain = fixed(counter)
    noise, plan = noise_and_plan(Recipe.parse("raster-7,5,4"), GRID, range(2), 0)
    made = [
        generate(each, torch.tensor([0, 1]), plan, noise, Guidance(2.0)) for each in (model, plain)
    ]
    assert torch.equal(*made)
    assert counter.frame_count == 3  # the last set, of 4, is asked for and not absorbed
