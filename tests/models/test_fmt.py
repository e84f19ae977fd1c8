"""The Fully Masked Transformer: its sizes, MAR, full attention; the rest is its contract's."""

import dataclasses

import pytest
import torch

from random_weights import differ, random_codes, random_fmt, randomise
from setar.models.fmt import (
    PRESETS,
    CachedDecoding,
    FMTConfig,
    FullDecoding,
    FullyMaskedTransformer,
    RecomputedDecoding,
)
from setar.models.text_condition import pack, padded_to
from setar.recipes.clocks import PADDING, dense_masks
from setar.recipes.padding import join_codes, join_plans
from setar.recipes.recipe import Recipe

CLOSE = {"atol": 1e-5, "rtol": 0.0}
VOCABULARY = 24


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fed(decoding, codes, plan):
    """Logits of a decoding that is told the true codes set by set, in output order."""
    logits = []
    for start, stop in plan.slices():
        positions = plan.order[:, start:stop]
        logits.append(decoding.predict(positions))
        decoding.absorb(codes.gather(1, positions), positions)
    return torch.cat(logits, 1)


# Table 3, each number by hand. Width d, feed-forward width h, L layers of each kind:
#   encoder layer  4dd + 3dh + 2d         decoder layer  8dd + 3dh + 3d
#   1001 class rows, 16384 codes in and out, 256 positions, two last norms: (33770 + 256 - 1) d
# B   d 768,  h 2048: 6 * (7,079,424 + 9,439,488) + 26,132,736
# L   d 1024, h 2816: 12 * (12,847,104 + 17,042,432) + 34,843,648
# XL  d 1280, h 3584: 18 * (20,318,720 + 26,873,600) + 43,554,560
@pytest.mark.parametrize(
    ("preset", "parameters", "paper"),
    [("B", 125_246_208, 125.2), ("L", 393_518_080, 393.5), ("XL", 893_016_320, 892.9)],
)
def test_parameter_counts_of_table_3(preset, parameters, paper):
    with torch.device("meta"):
        model = FullyMaskedTransformer(PRESETS[preset])
    found = sum(p.numel() for p in model.parameters())
    assert found == parameters
    assert found / 1e6 == pytest.approx(paper, abs=0.12)


def test_a_new_model_starts_at_even_odds():
    torch.manual_seed(0)
    model = FullyMaskedTransformer(PRESETS["tiny"])
    plan = Recipe.parse("random-4-cosine").plan((4, 4), 2, seeded())
    codes = random_codes(2, (4, 4))
    assert model(codes, torch.tensor([0, 1]), plan).eq(0).all()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert parameter.eq(1).all()
        elif name != "head.weight":
            # Of at least 160 numbers: the deviation is off by a quarter once in 10^5.
            assert parameter.std().item() == pytest.approx(0.02, rel=0.25), name


def test_start_picks_the_decoding():
    model, labels = random_fmt(), torch.tensor([1])
    assert isinstance(model.start(labels, 16), CachedDecoding)
    assert type(model.start(labels, 16, cache=False)) is RecomputedDecoding
    for cache in (True, False):
        full = model.start(labels, 16, attention="full", cache=cache)
        assert type(full) is FullDecoding


def asked_at(model, plan):
    """Queries of a plan, and their rotations."""
    return model.queries(plan.order), model.rotation(plan.order)


def test_mar_training_opens_the_decoder_and_still_hides_what_is_masked():
    model, codes, labels = random_fmt(), random_codes(4, (4, 4)), torch.arange(4)
    plan = Recipe.parse("mar").plan((4, 4), 4, seeded(3))
    open_logits = model(codes, labels, plan)
    closed = model(codes, labels, dataclasses.replace(plan, decoder_causal=True))
    first = ~plan.supervised
    assert first.sum() > 4
    assert differ(open_logits[first], closed[first])
    everywhere = model.prefixed(model.rotation(plan.order), 1)
    encoder_mask, cross_mask, _ = (mask[:, None] for mask in dense_masks(plan))
    known = model.embed(labels, codes.gather(1, plan.order))
    memory = model.encode(known, everywhere, encoder_mask)
    asked = model.decode(*asked_at(model, plan), memory, everywhere, None, cross_mask)
    unmasked = model.head(asked)
    torch.testing.assert_close(open_logits, unmasked, **CLOSE)

    masked = torch.zeros_like(plan.supervised).scatter(1, plan.order, plan.supervised)
    changed = torch.where(masked, (codes + 1) % VOCABULARY, codes)
    assert torch.equal(model(changed, labels, plan), open_logits)
    changed = torch.where(masked, codes, (codes + 1) % VOCABULARY)
    assert differ(model(changed, labels, plan)[plan.supervised], open_logits[plan.supervised])


def test_full_attention_has_one_clock_and_asks_at_all_unknown_positions():
    model, codes, labels = random_fmt(), random_codes(2, (4, 4)), torch.tensor([1, 2])
    plan = Recipe.parse("random-4-cosine").sampling_plan((4, 4), [seeded(1), seeded(2)])
    found = fed(model.start(labels, 16, attention="full"), codes, plan)
    assert differ(found, model(codes, labels, plan))
    x = model.embed(labels, codes.gather(1, plan.order))
    everywhere = model.prefixed(model.rotation(plan.order), 1)
    for start, stop in plan.slices():
        # All 17 keys and all 16 queries are there. Tokens see the condition and all known tokens,
        # the condition itself alone; queries of unknown tokens see each other and what is known.
        known = torch.arange(17) < 1 + start
        encoder = torch.where(torch.arange(17)[:, None] > 0, known, torch.arange(17) == 0)
        asked = (torch.arange(16) >= start).expand(16, 16) | torch.eye(16).bool()
        memory = model.encode(x, everywhere, (encoder | torch.eye(17).bool())[None, None])
        found_by = (memory, everywhere, asked, known.expand(16, 17))
        logits = model.head(model.decode(*asked_at(model, plan), *found_by))
        torch.testing.assert_close(found[:, start:stop], logits[:, start:stop], **CLOSE)


def test_full_attention_asks_what_masked_training_asked():
    """With one set known, a masked model trained on both parts gives what it gave in training.

    Of `mar` the queries of the known part are left out, which are the decoder's alone to see; of a
    model without them (nothing known) sampling is training.
    """
    model, codes, labels = random_fmt(), random_codes(3, (4, 4)), torch.arange(3)
    plan = Recipe.parse("random-2-masked").plan((4, 4), 3, seeded(3))
    nothing = dataclasses.replace(plan, known=torch.full_like(plan.known, 2))
    trained = model(codes, labels, nothing)
    full = model.start(labels, 16, attention="full")
    torch.testing.assert_close(full.predict(plan.order), trained, **CLOSE)
    # A part of them, in any order, has the same logits: the others were asked too.
    some = plan.order[:, [7, 2, 11]]
    torch.testing.assert_close(full.predict(some), trained[:, [7, 2, 11]], **CLOSE)


def test_dropout_needs_training():
    model, codes = random_fmt(dropout=0.5, class_dropout=0.5), random_codes(1, (4, 4))
    plan, labels = Recipe.parse("ar").plan((4, 4)), torch.tensor([1])
    assert torch.equal(model(codes, labels, plan), model(codes, labels, plan))
    try:
        model.train()
        assert differ(model(codes, labels, plan), model(codes, labels, plan))
    finally:
        model.eval()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"width": 0}, "at least 1"),
        ({"grid": (4, 0)}, "at least 1"),
        ({"decoder_layers": 0}, "at least 1"),
        ({"width": 772, "heads": 12}, r"`width` \(=772\) must be a multiple of 4 x `heads` \(=12"),
        ({"dropout": 1.0}, r"0 <= `dropout` \(=1\.0\) < 1 must hold"),
        ({"class_dropout": -0.1}, r"0 <= `class_dropout` \(=-0\.1\) <= 1 must hold"),
        ({"class_dropout": float("nan")}, r"0 <= `class_dropout` \(=nan\) <= 1 must hold"),
    ],
)
def test_impossible_shapes_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        FMTConfig(**changes)
    assert "\n" not in str(caught.value)


# Texts and any grid


LENGTH, DIM = 6, 5
LONGEST = 4
"""Tokens of the longest of `prompts`."""


def text_fmt(seed=0, **changes):
    shape = {"condition": "text", "condition_length": LENGTH, "condition_dim": DIM}
    return random_fmt(seed=seed, positions="sine", **shape, **changes)


def prompts(count=3):
    """Texts of 4, 2 and 3 tokens, padded to 4."""
    states = torch.randn(count, LONGEST, DIM, generator=seeded(7))
    lengths = torch.tensor([4, 2, 3])[:count, None]
    return pack(states, torch.arange(LONGEST) >= LONGEST - lengths)


def trimmed(condition):
    """One text without its padding."""
    return condition[:, (condition[0, :, -1] == 0).sum() :]


def test_a_text_matters_and_its_padding_does_not():
    model, codes, texts = text_fmt(), random_codes(1, (4, 4)).expand(3, -1), prompts()
    plan = Recipe.parse("random-4-random").plan((4, 4), 1, seeded())
    plan = join_plans([plan] * 3)
    logits = model(codes, texts, plan)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert differ(logits[first], logits[second])
    torch.testing.assert_close(model(codes, padded_to(texts, LENGTH), plan), logits, **CLOSE)
    for index in range(3):
        one = dataclasses.replace(
            plan, order=plan.order[:1], known=plan.known[:1], supervised=plan.supervised[:1]
        )
        alone = model(codes[:1], trimmed(texts[index : index + 1]), one)
        torch.testing.assert_close(alone[0], logits[index], **CLOSE)


@pytest.mark.parametrize("recipe", ["random-4-cosine", "ar", "next-scale", "roll-5-uniform"])
@pytest.mark.parametrize("grid", [(4, 4), (2, 5)])
def test_after_texts_cached_is_uncached_is_training(recipe, grid):
    model, texts, count = text_fmt(), prompts(), grid[0] * grid[1]
    texts = torch.cat([texts, model.null(texts)])
    codes = random_codes(6, grid)
    plan = Recipe.parse(recipe).sampling_plan(grid, [seeded(i) for i in range(6)])
    trained = model(codes, texts, plan)
    assert differ(trained[:3], trained[3:])
    cached = fed(model.start(texts, count, grid=grid), codes, plan)
    plain = fed(model.start(texts, count, cache=False, grid=grid), codes, plan)
    torch.testing.assert_close(cached, plain, **CLOSE)
    torch.testing.assert_close(cached, trained, **CLOSE)
    short = fed(model.start(trimmed(texts[1:2]), count, grid=grid), codes[1:2], one_of(plan, 1))
    torch.testing.assert_close(short[0], cached[1], **CLOSE)


def one_of(plan, index):
    """The plan of one image of several."""
    own = slice(index, index + 1)
    return dataclasses.replace(
        plan, order=plan.order[own], known=plan.known[own], supervised=plan.supervised[own]
    )


def test_images_of_several_shapes_are_what_each_is_alone():
    model, texts, grids = text_fmt(), prompts(), [(2, 3), (4, 4), (3, 2)]
    recipe = Recipe.parse("random-3-cosine")
    plans = [recipe.sampling_plan(grid, [seeded(i)]) for i, grid in enumerate(grids)]
    codes = [random_codes(1, grid, seed=i) for i, grid in enumerate(grids)]
    for least in (0, 20):
        joined, padded = join_plans(plans, least), join_codes(codes, least)
        logits = model(padded, texts, joined)
        assert differ(logits[0, :6], logits[2, :6])
        noise = torch.where(joined.known == PADDING, 1, 0).to(padded)
        torch.testing.assert_close(
            model(padded + noise, texts, joined)[joined.supervised],
            logits[joined.supervised],
            **CLOSE,
        )
        for index, (grid, plan, own) in enumerate(zip(grids, plans, codes, strict=True)):
            count = grid[0] * grid[1]
            text = texts[index : index + 1]
            alone = model(own, text, plan)
            torch.testing.assert_close(logits[index, :count], alone[0], **CLOSE)
            cached = fed(model.start(text, count, grid=grid), own, plan)
            torch.testing.assert_close(logits[index, :count], cached[0], **CLOSE)


def test_two_grids_of_as_many_tokens_are_not_one():
    model, texts, codes = text_fmt(), prompts(1), random_codes(1, (2, 6))
    wide, high = (Recipe.parse("ar").plan(grid) for grid in ((2, 6), (6, 2)))
    assert differ(model(codes, texts, wide), model(codes, texts, high))


def test_padding_of_an_image_gives_no_gradient():
    model = randomise(FullyMaskedTransformer(text_fmt().config)).train()
    plans = [Recipe.parse("random-2-random").plan(grid, 1, seeded()) for grid in ((1, 2), (3, 3))]
    plan, codes = join_plans(plans), join_codes([random_codes(1, (1, 2)), random_codes(1, (3, 3))])
    codes[0, 2:] = VOCABULARY - 1
    codes[codes == VOCABULARY - 1] = 0
    codes[0, 2:] = VOCABULARY - 1
    model(codes, prompts(2), plan)[plan.supervised].square().sum().backward()
    gradient = model.tokens.weight.grad
    assert gradient[VOCABULARY - 1].eq(0).all()
    assert gradient[codes[1, plan.order[1, 0]]].ne(0).any()


def test_learned_positions_have_one_grid():
    model, texts = random_fmt(condition="text", condition_length=4, condition_dim=DIM), prompts(1)
    assert not model.any_grid
    with pytest.raises(ValueError, match=r"for a grid of \(2, 5\), not \(4, 4\)"):
        model.start(texts, 10, grid=(2, 5))
    with pytest.raises(ValueError, match="`positions` must be 'learned' or 'sine'"):
        FMTConfig(positions="cosine")
