"""A VAR with its pyramid: cached against uncached, the sampling loop, training, refusals."""

import math

import pytest
import torch
from torch.nn import functional as F

from random_weights import differ
from setar.models.next_scale import CachedDecoding, VARGenerator
from setar.models.var import VARConfig, VARTransformer, scale_plan, scale_recipe
from setar.recipes.recipe import Recipe
from setar.sampling.generate import SamplingSettings, generate, noise_and_plan
from setar.sampling.guidance import Guidance
from tiny_var import (
    CLASSES,
    DIM,
    SCALES,
    SQUARE,
    VOCABULARY,
    WIDE,
    FakePyramid,
    random_codes,
    random_generator,
    random_var,
)


def fed(decoding, codes, scales):
    """Logits of all scales, each scale absorbed after it was predicted."""
    logits = []
    for start, stop in scale_plan(scales).slices():
        positions = torch.arange(start, stop).expand(len(codes), -1)
        logits.append(decoding.predict(positions))
        decoding.absorb(codes[:, start:stop], positions)
    return torch.cat(logits, 1)


@pytest.mark.parametrize("changes", [{}, {"shared_adaln": True}, {"l2_norm": False}], ids=str)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("cache", [True, False])
def test_decoding_agrees_with_teacher_forcing(scales, cache, changes):
    generator, codes = random_generator(scales, **changes), random_codes(2, scales)
    labels = torch.tensor([1, CLASSES])
    forced = generator(codes, labels, scale_plan(scales, 2))
    assert differ(forced[0], forced[1])
    decoded = fed(generator.start(labels, codes.shape[1], cache=cache), codes, scales)
    torch.testing.assert_close(decoded, forced, atol=1e-5, rtol=1e-5)


def test_the_cache_is_filled_once_and_each_token_is_read_once(monkeypatch):
    generator, codes = random_generator(), random_codes(2, SQUARE)
    read, lengths = VARTransformer.read, []

    def counted(self, x, *args, **kwargs):
        lengths.append(x.shape[1])
        return read(self, x, *args, **kwargs)

    monkeypatch.setattr(VARTransformer, "read", counted)
    decoding = generator.start(torch.tensor([0, 1]), 14)
    assert isinstance(decoding, CachedDecoding)
    buffers = [cache.buffer for cache in decoding.caches]
    fed(decoding, codes, SQUARE)
    assert lengths == [1, 4, 9]
    for cache, buffer in zip(decoding.caches, buffers, strict=True):
        assert cache.buffer is buffer
        assert cache.length == buffer.shape[3] == 14


@pytest.mark.parametrize("cache", [True, False])
def test_scales_may_be_absorbed_that_were_not_asked_for(cache):
    generator, codes, labels = random_generator(), random_codes(1, SQUARE), torch.tensor([2])
    decoding, plan = generator.start(labels, 14, cache=cache), scale_plan(SQUARE)
    (_, first), (_, second), (_, last) = plan.slices()
    decoding.absorb(codes[:, :first], torch.arange(first)[None])
    decoding.absorb(codes[:, first:second], torch.arange(first, second)[None])
    asked = decoding.predict(torch.arange(second, last)[None])
    torch.testing.assert_close(asked, generator(codes, labels, plan)[:, second:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance", [Guidance(1.0), Guidance(1.5, "var")], ids=str)
@pytest.mark.parametrize("scales", [SQUARE, WIDE])
def test_the_sampling_loop_serves_it_as_any_other_model(scales, guidance):
    generator, labels = random_generator(scales), torch.tensor([0, 1, 4])
    recipe = scale_recipe(scales)
    noise, plan = noise_and_plan(recipe, generator.config.grid, [5, 6, 7], 5)
    generator.check(plan)
    seen = []
    cached, uncached = (
        generate(
            generator,
            labels,
            plan,
            noise,
            guidance,
            SamplingSettings(cache=cache),
            lambda done: seen.append((done.codes >= 0).sum(1).tolist()),
        )
        for cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    assert len(cached.unique(dim=0)) == 3
    ends = list(generator.config.ends)
    assert seen == [[end] * 3 for end in ends] * 2  # a call after each scale
    alone = generate(generator, labels[1:2], plan_of(recipe, generator), noise[1:2], guidance)
    assert torch.equal(alone, cached[1:2])


def plan_of(recipe, generator):
    return recipe.sampling_plan(generator.config.grid, [torch.Generator()])


def test_guidance_moves_later_scales_only():
    """In VAR's dialect the first scale is drawn from the plain model."""
    generator, labels = random_generator(), torch.arange(CLASSES)
    noise, plan = noise_and_plan(scale_recipe(SQUARE), (1, 14), range(CLASSES), 0)
    plain, guided = (
        generate(generator, labels, plan, noise, Guidance(scale, "var")) for scale in (0.0, 4.0)
    )
    assert torch.equal(plain[:, :1], guided[:, :1])
    assert (plain != guided).any(1).all()


def test_logits_are_float32_also_in_half_precision():
    generator, codes, labels = random_generator(), random_codes(1, SQUARE), torch.tensor([1])
    exact = generator(codes, labels, scale_plan(SQUARE))
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator(codes, labels, scale_plan(SQUARE))
        cached = fed(generator.start(labels, 14), codes, SQUARE)
    assert rough.dtype == cached.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.3
    torch.testing.assert_close(rough, cached, atol=0.3, rtol=0)


def test_training_lowers_the_loss_and_reaches_every_weight():
    """Five images by heart: from ln 24 to less than a third of it."""
    torch.manual_seed(0)
    config = VARConfig(
        VOCABULARY, DIM, CLASSES, SQUARE, width=32, heads=2, layers=2, class_dropout=0, drop_path=0
    )
    model = VARTransformer(config)
    generator, plan = VARGenerator(model, FakePyramid(SQUARE)), scale_plan(SQUARE, CLASSES)
    codes, labels = random_codes(CLASSES, SQUARE), torch.arange(CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(generator(codes, labels, plan).flatten(0, 1), codes.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=0.02)
    assert losses[-1] < 1.0
    assert all(parameter.grad is not None for parameter in model.parameters())


# Refusals


@pytest.mark.parametrize("recipe", ["ar", "raster-4,1,9", "raster-14,", "reversed-raster-1,4,9"])
def test_other_recipes_are_refused(recipe):
    generator, plan = random_generator(), Recipe.parse(recipe).plan((1, 14))
    rule = r"a whole scale at a time.*\(here the recipe raster-1,4,9\)"
    with pytest.raises(ValueError, match=rule):
        generator(random_codes(1, SQUARE), torch.tensor([0]), plan)
    noise = torch.rand(1, 14)
    with pytest.raises(ValueError, match=rule):
        generate(generator, torch.tensor([0]), plan, noise)


def test_other_grids_are_refused():
    plan = Recipe.parse("raster-1,4,9").plan((2, 7))
    with pytest.raises(ValueError, match=r"for a grid of \(2, 7\), not the \(1, 14\)"):
        random_generator().check(plan)


@pytest.mark.parametrize("cache", [True, False])
def test_other_positions_than_the_next_scale_are_refused(cache):
    decoding = random_generator().start(torch.tensor([0, 1]), 14, cache=cache)
    first = torch.zeros(2, 1, dtype=torch.int64)
    decoding.absorb(first, first)
    scale = torch.arange(1, 5)
    wrong = [
        scale[:3].expand(2, 3),
        torch.arange(1, 6).expand(2, 5),
        scale.flip(0).expand(2, 4),
        torch.stack([scale, scale + 1]),
        first,
    ]
    for positions in wrong:
        with pytest.raises(ValueError, match="a whole scale at a time"):
            decoding.predict(positions)
        with pytest.raises(ValueError, match="a whole scale at a time"):
            decoding.absorb(torch.zeros_like(positions), positions)
    assert decoding.predict(scale.expand(2, 4)).shape == (2, 4, VOCABULARY)
    decoding.absorb(torch.zeros(2, 4, dtype=torch.int64), scale.expand(2, 4))
    last = torch.arange(5, 14).expand(2, 9)
    decoding.absorb(torch.zeros_like(last), last)
    with pytest.raises(ValueError, match="a whole scale at a time"):
        decoding.predict(torch.empty(2, 0, dtype=torch.int64))


@pytest.mark.parametrize("attention", ["full", "fast"])
def test_other_attention_is_refused(attention):
    with pytest.raises(ValueError, match=rf"\A`attention` must be 'causal'.*not '{attention}'"):
        random_generator().start(torch.tensor([0]), 14, attention=attention)


def test_a_pyramid_of_other_scales_is_refused():
    with pytest.raises(ValueError, match=r"the tokenizer has the scales .*, the model "):
        VARGenerator(random_var(), FakePyramid(WIDE))
