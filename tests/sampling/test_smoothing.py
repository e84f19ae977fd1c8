"""Gumbel smoothing: its formula, its noise, and a VAR that is sampled with mixtures of codes."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from random_weights import random_fmt, randomise
from setar.models.var import PRESETS, VARTransformer, scale_recipe
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings
from setar.sampling.smoothing import draw_soft, gumbel_noise
from setar.tokenizers.multiscale import PRESETS as TOKENIZERS
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig

WIDE = ((1, 2), (2, 3), (2, 4))
SMOOTH = SamplingSettings(smoothing=True)


@pytest.fixture(scope="module")
def tokenizer():
    config = dataclasses.replace(TOKENIZERS["tiny"], scales=WIDE, phis=2)
    return randomise(MultiScaleVQ(config)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def var(tokenizer):
    model = VARTransformer(dataclasses.replace(PRESETS["tiny"], scales=WIDE))
    model.attach(tokenizer)
    return randomise(model).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pipe(var, tokenizer):
    defaults = SamplingDefaults(scale_recipe(WIDE), Guidance(1.5, "var"))
    return Pipeline(var, tokenizer, list("abcde"), defaults)


def sampled(var, settings=SMOOTH, seeds=(5, 6, 7), guidance=None, on_set=None):
    noise, plan = noise_and_plan(scale_recipe(WIDE), var.config.grid, list(seeds), 0)
    labels = torch.arange(len(seeds)) % 5
    return generate(var, labels, plan, noise, guidance, settings, on_set)


# One token


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.27), (0.5, 0.14175), (1.0, 0.0135)])
def test_the_formula(progress, tau):
    logits, uniform = torch.randn(2, 3, 8), torch.rand(2, 3)
    noisy = logits * (1 + progress) + gumbel_noise(uniform, 8)
    expected = torch.softmax(noisy / tau, -1)
    found = draw_soft(logits.softmax(-1), uniform, progress)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)  # 1 / tau enlarges rounding
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3))


def test_a_filtered_code_gets_no_part():
    probs = torch.tensor([[[0.5, 0.0, 0.5, 0.0]]]).expand(1, 50, 4)
    mixtures = draw_soft(probs, torch.rand(1, 50), 0.0)
    assert mixtures[..., [1, 3]].eq(0).all()
    assert mixtures.isfinite().all()
    assert ((mixtures > 0.01) & (mixtures < 0.99)).any(), "and the others are mixed"


def test_mixtures_become_sharper_from_scale_to_scale():
    probs, uniform = torch.full((4, 64, 16), 1 / 16), torch.rand(4, 64)
    largest = [draw_soft(probs, uniform, r).amax(-1).mean().item() for r in (0.0, 0.5, 1.0)]
    assert largest == sorted(largest)
    assert largest[0] < 0.9 < 0.97 < largest[2] < 1


def test_the_noise_is_gumbels_and_each_images_own():
    uniform = torch.rand(8, 40)
    noise = gumbel_noise(uniform, 500)
    assert torch.equal(gumbel_noise(uniform[3:4], 500)[0], noise[3])
    assert len(noise.flatten(1).unique(dim=0)) == 8
    # Mean 0.5772 and standard deviation 1.2825, over 160,000 numbers: 6 sigma is 0.02.
    assert abs(noise.mean() - 0.5772) < 0.02
    assert abs(noise.std() - math.pi / 6**0.5) < 0.03


# A whole image


def test_soft_codes_that_are_one_hot_are_the_codes(tokenizer):
    codes = torch.randint(32, (3, tokenizer.tokens), generator=torch.Generator().manual_seed(1))
    soft = F.one_hot(codes, 32).float()
    assert torch.equal(tokenizer.next_inputs(soft), tokenizer.next_inputs(codes))
    assert torch.equal(tokenizer.decode(soft), tokenizer.decode(codes))
    sums = zip(tokenizer.codebook.sums(soft), tokenizer.codebook.sums(codes), strict=True)
    assert all(torch.equal(a, b) for a, b in sums)


def test_a_mixture_is_the_mean_of_vectors(tokenizer):
    mixture = torch.zeros(1, 2, 32)
    mixture[0, 0, [3, 7]] = torch.tensor([0.25, 0.75])
    table = tokenizer.codebook.weight
    found = tokenizer.codebook.vectors(mixture)[0]
    torch.testing.assert_close(found[0], 0.25 * table[3] + 0.75 * table[7])
    assert found[1].eq(0).all()


@pytest.mark.parametrize("shape", [(2, 16), (2, 15, 32), (2, 16, 32, 1)])
def test_soft_codes_of_a_wrong_shape_are_refused(tokenizer, shape):
    with pytest.raises(ValueError, match=r"\(images, 16\) for 3 scales"):
        tokenizer.decode(torch.zeros(shape))


@pytest.mark.parametrize("cache", [True, False])
def test_where_nothing_is_left_to_chance_smooth_is_hard(var, tokenizer, cache):
    """At temperature 0 a mixture has one part: the same inputs and the same images, bit for bit."""
    hard = sampled(var, SamplingSettings(temperature=0.0, cache=cache))
    soft = sampled(var, SamplingSettings(temperature=0.0, cache=cache, smoothing=True))
    assert torch.equal(soft, F.one_hot(hard, 32).float())
    assert torch.equal(tokenizer.decode(soft), tokenizer.decode(hard))


@pytest.mark.parametrize(
    "guidance", [None, Guidance(1.5, "var"), Guidance(2.0, interval=(0.2, 0.7))], ids=str
)
def test_an_image_is_the_same_alone_and_in_a_batch(var, guidance):
    together = sampled(var, guidance=guidance)
    assert together.shape == (3, 16, 32)
    torch.testing.assert_close(together.sum(-1), torch.ones(3, 16))
    assert len(together.flatten(1).unique(dim=0)) == 3
    alone = sampled(var, seeds=[5], guidance=guidance)
    torch.testing.assert_close(alone[0], together[0], atol=1e-4, rtol=0)
    uncached = sampled(var, SamplingSettings(smoothing=True, cache=False), guidance=guidance)
    torch.testing.assert_close(uncached, together, atol=1e-4, rtol=0)


def test_the_next_scale_reads_the_mixture(var, tokenizer):
    """Written out: the logits of each scale follow from the mixtures of those before."""
    noise, plan = noise_and_plan(scale_recipe(WIDE), var.config.grid, [5], 0)
    mixtures = sampled(var, seeds=[5])
    logits = var.predict_maps(tokenizer.next_inputs(mixtures), torch.tensor([0]))
    for scale, (start, stop) in enumerate(plan.slices()):
        probs = logits[:, start:stop].softmax(-1)
        expected = draw_soft(probs, noise[:, start:stop], scale / 2)
        torch.testing.assert_close(mixtures[:, start:stop], expected, atol=1e-3, rtol=0)


def test_codes_come_scale_by_scale(var):
    seen = []
    final = sampled(var, on_set=lambda done: seen.append(done.codes))
    for codes, end in zip(seen, var.config.ends, strict=True):
        assert torch.equal(codes[:, :end], final[:, :end])
        assert codes[:, end:].eq(-1).all()


def test_a_pipeline_draws_smooth_pictures(pipe):
    seen = []
    plain = pipe(["a", "b"], seed=3)
    smooth = pipe(["a", "b"], seed=3, smoothing=True, on_set=lambda p: seen.append(p.images()))
    assert smooth[0].size == (16, 8)
    assert all(a.tobytes() != b.tobytes() for a, b in zip(plain, smooth, strict=True))
    assert [image.tobytes() for image in seen[-1]] == [image.tobytes() for image in smooth]
    assert pipe("b", seed=4, smoothing=True)[0].tobytes() == smooth[1].tobytes()
    assert [image.tobytes() for image in pipe(["a", "b"], seed=3)] == [p.tobytes() for p in plain]


def test_models_of_one_scale_refuse_it():
    model, levels = random_fmt(), PixelLevels(PixelLevelsConfig(24))
    with pytest.raises(ValueError, match=r"needs a VAR .* not a FullyMaskedTransformer\Z"):
        Pipeline(model, levels, list("abcde"))("a", recipe="ar", smoothing=True)
    with pytest.raises(ValueError, match="needs a VAR"):
        Pipeline(
            model, levels, list("abcde"), SamplingDefaults(Recipe.parse("ar"), settings=SMOOTH)
        )
