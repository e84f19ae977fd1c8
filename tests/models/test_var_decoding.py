"""A VAR with its pyramid: cached against uncached, the sampling loop, training, refusals."""

import pytest
import torch

from random_weights import differ
from setar.models.var import VARConfig, VARTransformer, scale_recipe
from setar.models.var_decoding import CachedDecoding
from setar.recipes.recipe import Recipe
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance
from setar.tokenizers.multiscale import PRESETS, MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig
from tiny_var import (
    CLASSES,
    SCALES,
    SQUARE,
    VOCABULARY,
    WIDE,
    FakePyramid,
    random_codes,
    random_generator,
    random_var,
    scale_plan,
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


def test_guidance_moves_later_scales_only():
    """In VAR's dialect the first scale is drawn from the plain model."""
    generator, labels = random_generator(), torch.arange(CLASSES)
    noise, plan = noise_and_plan(scale_recipe(SQUARE), (1, 14), range(CLASSES), 0)
    plain, guided = (
        generate(generator, labels, plan, noise, Guidance(scale, "var")) for scale in (0.0, 4.0)
    )
    assert torch.equal(plain[:, :1], guided[:, :1])
    assert (plain != guided).any(1).all()


def test_the_weights_of_the_tokenizer_stay_its_own():
    tokenizer = MultiScaleVQ(PRESETS["tiny"])
    config = VARConfig(vocabulary=32, code_dim=8, scales=tokenizer.scales, width=32, heads=2)
    model = VARTransformer(config)
    before, parameters = set(model.state_dict()), list(model.parameters())
    model.attach(tokenizer)
    assert set(model.state_dict()) == before
    assert len(list(model.parameters())) == len(parameters)
    assert model.pyramid is tokenizer


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


def test_codes_are_read_only_through_a_pyramid():
    model, codes, labels = random_var(), random_codes(1, SQUARE), torch.tensor([0])
    with pytest.raises(ValueError, match="call `attach` first"):
        model(codes, labels, scale_plan(SQUARE))
    for cache in (True, False):
        with pytest.raises(ValueError, match="call `attach` first"):
            model.start(labels, 14, cache=cache)
    with pytest.raises(ValueError, match="a VAR needs a multi-scale tokenizer"):
        model.attach(PixelLevels(PixelLevelsConfig()))


def test_a_pyramid_of_other_scales_is_refused():
    with pytest.raises(ValueError, match=r"the tokenizer has the scales .*, the model "):
        random_var().attach(FakePyramid(WIDE))
