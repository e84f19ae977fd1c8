"""The Fully Masked Transformer: sizes, leaks, and one set of logits along every path."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_weights import differ, random_codes, random_fmt
from setar.models.fmt import (
    PRESETS,
    CachedDecoding,
    FMTConfig,
    FullyMaskedTransformer,
    RecomputedDecoding,
)
from setar.recipes.clocks import dense_masks
from setar.recipes.recipe import Recipe

ORDERS = ("raster", "reversed-raster", "roll", "reversed-roll", "fixed-random", "random")
CLOSE = {"atol": 1e-5, "rtol": 0.0}
VOCABULARY = 24


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def image(plan, index):
    """The plan of one image of a batch."""
    part = slice(index, index + 1)
    return dataclasses.replace(
        plan, order=plan.order[part], known=plan.known[part], supervised=plan.supervised[part]
    )


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


counted = st.tuples(
    st.sampled_from(ORDERS), st.integers(1, 20), st.sampled_from(["cosine", "uniform", "random"])
)


@st.composite
def cases(draw):
    """A grid, a recipe that fits it, a batch size and a seed."""
    grid = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    tokens = grid[0] * grid[1]
    kind = draw(st.sampled_from(["counted", "counted", "explicit", "next-scale", "ar"]))
    if kind == "counted":
        order, sets, schedule = draw(counted)
        text = f"{order}-{min(sets, tokens)}-{schedule}"
    elif kind == "explicit":
        cuts = draw(st.sets(st.integers(1, tokens - 1))) if tokens > 1 else set()
        edges = [0, *sorted(cuts), tokens]
        sizes = [str(b - a) for a, b in pairwise(edges)]
        text = f"{draw(st.sampled_from(ORDERS))}-" + (",".join(sizes) if cuts else f"{tokens},")
    else:
        text = kind
    return grid, text, draw(st.integers(1, 3)), draw(st.integers(0, 1000))


@settings(deadline=None, max_examples=25)
@given(cases())
def test_every_path_gives_the_same_logits(case):
    grid, text, batch, seed = case
    recipe, model = Recipe.parse(text), random_fmt(grid)
    codes, labels = random_codes(batch, grid, seed=seed), torch.arange(batch) % 5

    plan = recipe.sampling_plan(grid, [seeded(seed + i) for i in range(batch)], seeded(seed))
    whole = model(codes, labels, plan)
    assert whole.shape == (batch, grid[0] * grid[1], VOCABULARY)
    assert differ(whole, model(codes, (labels + 1) % 5, plan))
    tokens = grid[0] * grid[1]
    for decoding in (
        CachedDecoding(model, labels, tokens),
        RecomputedDecoding(model, labels, causal=True),
    ):
        torch.testing.assert_close(fed(decoding, codes, plan), whole, **CLOSE)

    # Training draws the sets of each image for itself, and leaves gaps where a set is empty.
    plan = recipe.plan(grid, batch, seeded(seed))
    whole = model(codes, labels, plan)
    for i in range(batch):
        decoding = model.start(labels[i : i + 1], tokens)
        alone = fed(decoding, codes[i : i + 1], image(plan, i))
        torch.testing.assert_close(alone[0], whole[i], **CLOSE)


def test_start_picks_the_decoding():
    model, labels = random_fmt(), torch.tensor([1])
    assert isinstance(model.start(labels, 16), CachedDecoding)
    plain = model.start(labels, 16, cache=False)
    assert isinstance(plain, RecomputedDecoding)
    assert plain.causal
    for cache in (True, False):
        full = model.start(labels, 16, attention="full", cache=cache)
        assert isinstance(full, RecomputedDecoding)
        assert not full.causal


@pytest.mark.parametrize("cache", [True, False])
def test_the_first_set_depends_on_the_class(cache):
    model, corner = random_fmt(), torch.zeros(5, 1, dtype=torch.int64)
    logits = model.start(torch.arange(5), 16, cache=cache).predict(corner)
    assert (
        min((logits[a] - logits[b]).abs().max().item() for a in range(5) for b in range(a)) > 0.05
    )


def test_a_set_that_was_not_asked_for_is_caught_up_with():
    model, codes = random_fmt(), random_codes(2, (4, 4))
    plan = Recipe.parse("random-6-cosine").sampling_plan((4, 4), [seeded(1), seeded(2)])
    labels = torch.tensor([1, 2])
    whole = model(codes, labels, plan)
    for asked in ([3, 5], [0, 4], []):
        decoding = model.start(labels, 16)
        for step, (start, stop) in enumerate(plan.slices()):
            positions = plan.order[:, start:stop]
            if step in asked:
                expected = whole[:, start:stop]
                torch.testing.assert_close(decoding.predict(positions), expected, **CLOSE)
            decoding.absorb(codes.gather(1, positions), positions)


@pytest.mark.parametrize(
    "text", ["random-5-cosine", "roll-4-uniform", "next-scale", "raster-1,2,1,12", "ar"]
)
def test_nothing_leaks_from_a_set_to_itself_or_back(text):
    model, codes = random_fmt(), random_codes(2, (4, 4))
    plan = Recipe.parse(text).sampling_plan((4, 4), [seeded(1), seeded(2)])
    labels = torch.tensor([1, 2])
    before = model(codes, labels, plan)
    sets = list(plan.slices())
    for start, stop in sets:
        changed = codes.scatter(
            1,
            plan.order[:, start:stop],
            (codes.gather(1, plan.order[:, start:stop]) + 1) % VOCABULARY,
        )
        after = model(changed, labels, plan)
        assert torch.equal(after[:, :stop], before[:, :stop])
        for later, (first, last) in enumerate(sets):
            if first >= stop:
                assert differ(after[0, first:last], before[0, first:last], 1e-3), later
                assert differ(after[1, first:last], before[1, first:last], 1e-3), later


def test_images_of_a_batch_do_not_mix():
    model, codes = random_fmt(), random_codes(3, (4, 4))
    plan, labels = Recipe.parse("random-5-random").plan((4, 4), 3, seeded()), torch.arange(3)
    whole = model(codes, labels, plan)
    assert differ(whole[0], whole[1])
    for i in range(3):
        alone = model(codes[i : i + 1], labels[i : i + 1], image(plan, i))
        torch.testing.assert_close(alone[0], whole[i], **CLOSE)


def test_mar_training_opens_the_decoder_and_still_hides_what_is_masked():
    model, codes, labels = random_fmt(), random_codes(4, (4, 4)), torch.arange(4)
    plan = Recipe.parse("mar").plan((4, 4), 4, seeded(3))
    open_logits = model(codes, labels, plan)
    closed = model(codes, labels, dataclasses.replace(plan, decoder_causal=True))
    first = ~plan.supervised
    assert first.sum() > 4
    assert differ(open_logits[first], closed[first])
    everywhere = model._after_origin(model._rotation(plan.order))
    encoder_mask, cross_mask, _ = (mask[:, None] for mask in dense_masks(plan))
    known = model.embed(labels, codes.gather(1, plan.order))
    memory = model.encode(known, everywhere, encoder_mask)
    unmasked = model.decode(plan.order, memory, everywhere, None, cross_mask)
    torch.testing.assert_close(open_logits, unmasked, **CLOSE)

    masked = torch.zeros_like(plan.supervised).scatter(1, plan.order, plan.supervised)
    changed = torch.where(masked, (codes + 1) % VOCABULARY, codes)
    assert torch.equal(model(changed, labels, plan), open_logits)
    changed = torch.where(masked, codes, (codes + 1) % VOCABULARY)
    assert differ(model(changed, labels, plan)[plan.supervised], open_logits[plan.supervised])


def test_full_attention_is_the_clockless_model_over_known_tokens():
    model, codes, labels = random_fmt(), random_codes(2, (4, 4)), torch.tensor([1, 2])
    plan = Recipe.parse("random-4-cosine").sampling_plan((4, 4), [seeded(1), seeded(2)])
    found = fed(model.start(labels, 16, attention="full"), codes, plan)
    assert differ(found, model(codes, labels, plan))
    x = model.embed(labels, codes.gather(1, plan.order))
    everywhere = model._after_origin(model._rotation(plan.order))
    for start, stop in plan.slices():
        # All 17 keys and all 16 queries are there; everyone sees all that is known and no more.
        known = (torch.arange(17) < 1 + start).expand(1, 1, 17, 17)
        asked = (torch.arange(16) >= start) & (torch.arange(16) < stop)
        memory = model.encode(x, everywhere, known | torch.eye(17).bool())
        logits = model.decode(
            plan.order, memory, everywhere, asked | torch.eye(16).bool(), known[:, :, :16]
        )
        torch.testing.assert_close(found[:, start:stop], logits[:, start:stop], **CLOSE)


def test_dropout_needs_training():
    model, codes = random_fmt(dropout=0.5, class_dropout=0.5), random_codes(1, (4, 4))
    plan, labels = Recipe.parse("ar").plan((4, 4)), torch.tensor([1])
    assert torch.equal(model(codes, labels, plan), model(codes, labels, plan))
    try:
        model.train()
        assert differ(model(codes, labels, plan), model(codes, labels, plan))
    finally:
        model.eval()


def test_logits_are_float32_also_in_half_precision():
    model, codes, labels = random_fmt(), random_codes(1, (4, 4)), torch.tensor([1])
    plan = Recipe.parse("raster-4-cosine").plan((4, 4))
    exact = model(codes, labels, plan)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(codes, labels, plan)
        cached = fed(model.start(labels, 16), codes, plan)
    assert rough.dtype == cached.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.3
    torch.testing.assert_close(rough, cached, atol=0.3, rtol=0)


def test_null_labels():
    assert random_fmt().null(torch.tensor([0, 4])).tolist() == [5, 5]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"width": 0}, "at least 1"),
        ({"grid": (4, 0)}, "at least 1"),
        ({"decoder_layers": 0}, "at least 1"),
        ({"width": 772, "heads": 12}, r"`width` \(=772\) must be a multiple of 4 x `heads` \(=12"),
        ({"dropout": 1.0}, "`dropout` < 1"),
        ({"class_dropout": -0.1}, "`class_dropout` <= 1"),
        ({"class_dropout": float("nan")}, "`class_dropout` <= 1"),
    ],
)
def test_impossible_shapes_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        FMTConfig(**changes)
    assert "\n" not in str(caught.value)


def test_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="`attention` must be 'causal' or 'full', not 'fast'"):
        random_fmt().start(torch.tensor([0]), 16, attention="fast")
