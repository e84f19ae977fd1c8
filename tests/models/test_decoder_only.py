"""The decoder-only baseline: sizes, leaks, refusals, and one set of logits along every path."""

import dataclasses
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from random_weights import differ, random_codes, randomise
from setar.layers.rope import rotation
from setar.models.decoder_only import (
    PRESETS,
    CachedDecoding,
    DecoderOnlyConfig,
    DecoderOnlyTransformer,
    RecomputedDecoding,
)
from setar.models.text_condition import pack
from setar.recipes.recipe import Recipe
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance

CLOSE = {"atol": 1e-5, "rtol": 0.0}
VOCABULARY, CLASSES = 24, 5
AR = Recipe.parse("ar")
RASTER_ONLY = r"\A[^\n]*one token at a time in raster order[^\n]*\Z"


@lru_cache(maxsize=16)
def random_gpt(grid=(4, 4), **changes):
    """A tiny decoder-only model in evaluation mode, every weight random."""
    config = DecoderOnlyConfig(VOCABULARY, CLASSES, grid, width=32, heads=2, layers=3)
    model = DecoderOnlyTransformer(dataclasses.replace(config, **changes))
    return randomise(model).eval().requires_grad_(False)


def fed(decoding, codes):
    """Logits of a decoding that is told the true codes one by one."""
    logits = []
    for position in range(codes.shape[1]):
        here = torch.full((len(codes), 1), position)
        logits.append(decoding.predict(here))
        decoding.absorb(codes[:, position : position + 1], here)
    return torch.cat(logits, 1)


def at(position, batch=2):
    return torch.full((batch, 1), position)


# By hand. Width d, feed-forward width h, L layers of 4dd + 3dh + 2d; 1001 class rows, 16384 codes
# in and out, one last norm: (2 * 16384 + 1001 + 1) d.
# B   d 768,  h 2048: 12 * 7,079,424 + 25,935,360
# L   d 1024, h 2816: 24 * 12,847,104 + 34,580,480
# XL  d 1280, h 3584: 36 * 20,318,720 + 43,225,600
@pytest.mark.parametrize(
    ("preset", "parameters", "published"),
    [("B", 110_888_448, 111), ("L", 342_910_976, 343), ("XL", 774_699_520, 775)],
)
def test_parameter_counts_of_llamagen(preset, parameters, published):
    with torch.device("meta"):
        model = DecoderOnlyTransformer(PRESETS[preset])
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert round(parameters / 1e6) == published


def test_a_new_model_starts_at_even_odds():
    torch.manual_seed(0)
    model = DecoderOnlyTransformer(PRESETS["tiny"])
    assert model(random_codes(2, (4, 4)), torch.tensor([0, 1]), AR.plan((4, 4), 2)).eq(0).all()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert parameter.eq(1).all()
        elif name != "head.weight":
            # Of at least 192 numbers: the deviation is off by a quarter once in 10^6.
            assert parameter.std().item() == pytest.approx(0.02, rel=0.25), name


@settings(max_examples=12)
@given(
    grid=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    batch=st.integers(1, 3),
    class_rotation=st.sampled_from(["identity", "zero"]),
    seed=st.integers(0, 1000),
)
def test_every_path_gives_the_same_logits_however_the_class_is_rotated(
    grid, batch, class_rotation, seed
):
    model = random_gpt(grid, class_rotation=class_rotation)
    codes, labels = random_codes(batch, grid, seed=seed), torch.arange(batch) % CLASSES
    tokens = codes.shape[1]
    whole = model(codes, labels, AR.plan(grid, batch))
    assert whole.shape == (batch, tokens, VOCABULARY)
    assert differ(whole, model(codes, (labels + 1) % CLASSES, AR.plan(grid, batch)))
    for cache in (True, False):
        decoding = model.start(labels, tokens, cache=cache)
        torch.testing.assert_close(fed(decoding, codes), whole, **CLOSE)


def test_the_sequence_by_hand():
    """The class, then the codes at their rows and columns, each seeing what came before it."""
    model, codes, labels = random_gpt((2, 3)), random_codes(2, (2, 3)), torch.tensor([4, 1])
    x = torch.cat([model.condition.table.weight[labels][:, None], model.tokens(codes[:, :5])], 1)
    rows, columns = torch.tensor([[0, 0, 0, 0, 1, 1]]), torch.tensor([[0, 0, 1, 2, 0, 1]])
    where = rotation(rows, columns, 16)
    where[:, :, 0] = 0  # LlamaGen does not rotate the class in: its query and key are 0
    for block in model.blocks:
        x = block(x, where, torch.ones(6, 6).tril().bool())
    logits = model(codes, labels, AR.plan((2, 3), 2))
    torch.testing.assert_close(logits, model.head(model.norm(x)), **CLOSE)


@pytest.mark.parametrize("class_rotation", ["identity", "zero"])
def test_keys_of_the_class_token(class_rotation):
    """Its query has only itself to see, so its key is all that the option changes."""
    decoding = random_gpt(class_rotation=class_rotation).start(torch.tensor([1]), 16)
    decoding.absorb(torch.tensor([[3]]), at(0, 1))
    for cache in decoding.caches:
        keys, values = cache.view()
        assert keys[:, :, 0].any() == (class_rotation == "identity")
        assert keys[:, :, 1].any()
        assert values[:, :, 0].any()


def test_the_rotation_of_the_class_matters():
    codes, labels, plan = random_codes(1, (4, 4)), torch.tensor([2]), AR.plan((4, 4))
    identity, zero = (
        random_gpt(class_rotation=name)(codes, labels, plan) for name in ("identity", "zero")
    )
    torch.testing.assert_close(identity[:, 0], zero[:, 0], **CLOSE)  # it sees only itself
    assert differ(identity[:, 1:], zero[:, 1:])


def test_start_picks_the_decoding():
    model, labels = random_gpt(), torch.tensor([1])
    assert isinstance(model.start(labels, 16), CachedDecoding)
    assert isinstance(model.start(labels, 16, cache=False), RecomputedDecoding)


def test_dropout_acts_in_training_only_and_on_tokens_too():
    model, codes = random_gpt(dropout=0.5, class_dropout=0.5), random_codes(1, (4, 4))
    plan, labels = AR.plan((4, 4)), torch.tensor([1])
    assert torch.equal(model(codes, labels, plan), model(codes, labels, plan))
    places = [name for name, part in model.named_modules() if isinstance(part, nn.Dropout)]
    assert len(places) == 1 + 2 * 3  # tokens; attention and feed-forward of each layer
    try:
        model.train()
        torch.manual_seed(0)
        assert differ(model(codes, labels, plan), model(codes, labels, plan))
        assert model.embed(None, codes).eq(0).float().mean() > 0.3
    finally:
        model.eval()


# A text in the place of the class


def random_text_gpt(**changes):
    """The same with texts of at most 6 tokens of 8 numbers."""
    text = {"condition": "text", "condition_length": 6, "condition_dim": 8}
    return random_gpt(**{"grid": (2, 3), "condition_projection": "mlp", **text, **changes})


def random_texts(lengths, longest=None, seed=0):
    """A text condition ``[B, longest, 9]`` of texts of so many tokens, padded on the left."""
    longest = longest or max(lengths)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    return pack(torch.randn(len(lengths), longest, 8, generator=generator), mask)


@settings(max_examples=12)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    class_rotation=st.sampled_from(["identity", "zero"]),
    seed=st.integers(0, 1000),
)
def test_every_path_reads_padded_texts_alike_and_each_alone(lengths, class_rotation, seed):
    model, batch = random_text_gpt(class_rotation=class_rotation), len(lengths)
    codes, texts = random_codes(batch, (2, 3), seed=seed), random_texts(lengths, seed=seed)
    conditions = [texts, model.null(texts)]
    logits = [model(codes, condition, AR.plan((2, 3), batch)) for condition in conditions]
    assert differ(*logits)
    for condition, whole in zip(conditions, logits, strict=True):
        for cache in (True, False):
            found = fed(model.start(condition, 6, cache=cache), codes)
            torch.testing.assert_close(found, whole, **CLOSE)
        for i, length in enumerate(lengths):
            alone = condition[i : i + 1, -length:]
            found = model(codes[i : i + 1], alone, AR.plan((2, 3), 1))
            torch.testing.assert_close(found, whole[i : i + 1], **CLOSE)
            found = fed(model.start(alone, 6), codes[i : i + 1])
            torch.testing.assert_close(found, whole[i : i + 1], **CLOSE)


@pytest.mark.parametrize("cache", [True, False])
def test_what_lies_in_padding_is_never_seen(cache):
    model, codes = random_text_gpt(), random_codes(2, (2, 3))
    texts = random_texts([2, 5])
    dirty = texts.clone()
    dirty[0, :3, :-1] = 7.0  # under the marker of padding
    seen = [fed(model.start(text, 6, cache=cache), codes) for text in (texts, dirty)]
    torch.testing.assert_close(*seen, **CLOSE)
    dirty[0, :3, -1] = 1.0  # which is all that hides it
    assert differ(seen[0][0], fed(model.start(dirty, 6, cache=cache), codes)[0])


def test_masks_are_kept_only_where_there_is_padding():
    model = random_text_gpt()
    assert model.start(random_texts([3, 3]), 6).seen is None
    assert random_gpt().start(torch.tensor([0, 1]), 16).seen is None
    seen = model.start(random_texts([1, 3]), 6).seen
    assert seen.shape == (2, 1, 1, 3 + 6)
    assert seen[0, 0, 0].tolist() == [False] * 2 + [True] * 7
    assert seen[1].all()


@pytest.mark.parametrize("class_rotation", ["identity", "zero"])
def test_keys_of_every_token_of_a_text(class_rotation):
    decoding = random_text_gpt(class_rotation=class_rotation).start(random_texts([4]), 6)
    decoding.absorb(torch.tensor([[3]]), at(0, 1))
    for cache in decoding.caches:
        keys, values = cache.view()
        assert keys.shape[2] == 5
        assert keys[:, :, :4].ne(0).any(3).all() == (class_rotation == "identity")
        assert keys[:, :, :4].any() == (class_rotation == "identity")
        assert keys[:, :, 4].any()
        assert values.ne(0).any(3).all()


def test_the_same_image_in_any_batch_of_texts_and_with_guidance():
    model, texts = random_text_gpt(), random_texts([1, 4, 6])
    noise, plan = noise_and_plan(AR, (2, 3), [5, 6, 7], 5)
    for guidance in (Guidance(1.0), Guidance(3.0), Guidance(3.0, interval=(0.3, 0.8))):
        codes = generate(model, texts, plan, noise, guidance)
        assert len(codes.unique(dim=0)) == 3
        for i, length in enumerate([1, 4, 6]):
            noise_1, plan_1 = noise_and_plan(AR, (2, 3), [5 + i], 5)
            alone = generate(model, texts[i : i + 1, -length:], plan_1, noise_1, guidance)
            assert torch.equal(alone[0], codes[i])


# Refusals


@pytest.mark.parametrize(
    "recipe",
    ["reversed-raster-N-uniform", "random-16-random", "raster-15-cosine", "mar", "next-scale"],
)
def test_other_orders_and_sets_are_refused_in_training(recipe):
    codes, labels = random_codes(2, (4, 4)), torch.tensor([0, 1])
    plan = Recipe.parse(recipe).plan((4, 4), 2, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=RASTER_ONLY):
        random_gpt()(codes, labels, plan)


def test_one_wrong_image_spoils_a_batch():
    plan = AR.plan((4, 4), 2)
    assert random_gpt()(random_codes(2, (4, 4)), torch.tensor([0, 1]), plan).shape == (2, 16, 24)
    plan.order[1, :2] = torch.tensor([1, 0])
    with pytest.raises(ValueError, match=RASTER_ONLY):
        random_gpt()(random_codes(2, (4, 4)), torch.tensor([0, 1]), plan)


@pytest.mark.parametrize("cache", [True, False])
def test_other_positions_than_the_next_are_refused(cache):
    decoding = random_gpt().start(torch.tensor([0, 1]), 16, cache=cache)
    code = torch.tensor([[3], [4]])
    wrong = [at(1), torch.tensor([[0], [1]]), torch.tensor([[0, 1]] * 2), at(0).expand(2, 2)]
    for positions in wrong:
        with pytest.raises(ValueError, match=RASTER_ONLY):
            decoding.predict(positions)
        with pytest.raises(ValueError, match=RASTER_ONLY):
            decoding.absorb(code.expand_as(positions), positions)
    decoding.absorb(code, at(0))
    with pytest.raises(ValueError, match=RASTER_ONLY):
        decoding.predict(at(0))
    assert decoding.predict(at(1)).shape == (2, 1, VOCABULARY)


@pytest.mark.parametrize("recipe", ["random-16-cosine", "raster-4-uniform", "roll-N-uniform"])
def test_other_recipes_are_refused_in_sampling(recipe):
    noise, plan = noise_and_plan(Recipe.parse(recipe), (4, 4), [0], 0)
    with pytest.raises(ValueError, match=RASTER_ONLY):
        generate(random_gpt(), torch.tensor([0]), plan, noise)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"width": 0}, "at least 1"),
        ({"grid": (4, 0)}, "at least 1"),
        ({"layers": 0}, "at least 1"),
        ({"width": 772, "heads": 12}, r"`width` \(=772\) must be a multiple of 4 x `heads` \(=12"),
        ({"dropout": 1.0}, r"0 <= `dropout` \(=1\.0\) < 1 must hold"),
        ({"class_dropout": float("nan")}, r"0 <= `class_dropout` \(=nan\) <= 1 must hold"),
        ({"class_rotation": "none"}, "must be 'identity' or 'zero', not 'none'"),
    ],
)
def test_impossible_shapes_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        DecoderOnlyConfig(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cache", [True, False])
def test_other_grids_are_refused_in_sampling(cache):
    model, labels = random_gpt(), torch.tensor([0])
    with pytest.raises(ValueError, match=r"\A[^\n]*a grid of \(2, 8\), not \(4, 4\)\Z"):
        model.start(labels, 16, cache=cache, grid=(2, 8))
    same = model.start(labels, 16, cache=cache, grid=(4, 4)).predict(at(0, 1))
    assert torch.equal(same, model.start(labels, 16, cache=cache).predict(at(0, 1)))
