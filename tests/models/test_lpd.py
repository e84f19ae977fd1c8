"""LPD: sizes, the drawing, its cache, prefixes, refusals; the contract tests have the rest."""

import dataclasses
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_weights import differ, random_codes, randomise
from setar.models.lpd import LPD, PRESETS, LPDConfig, sequence_mask
from setar.models.text_condition import pack
from setar.recipes.clocks import PADDING
from setar.recipes.recipe import Recipe

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
VOCABULARY, CLASSES = 24, 5


@lru_cache(maxsize=16)
def random_lpd(grid=(4, 4), **changes):
    """A tiny LPD in evaluation mode, every weight random."""
    config = LPDConfig(VOCABULARY, CLASSES, grid, width=32, heads=2, layers=3)
    model = LPD(dataclasses.replace(config, **changes))
    return randomise(model).eval().requires_grad_(False)


def plan_of(text, grid=(4, 4), batch=2, seed=0):
    generators = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
    return Recipe.parse(text).sampling_plan(grid, generators)


def fed(decoding, codes, plan):
    """Logits of a decoding that is told the true codes set by set, in output order."""
    logits = []
    for start, stop in plan.slices():
        positions = plan.order[:, start:stop]
        logits.append(decoding.predict(positions))
        decoding.absorb(codes.gather(1, positions), positions)
    return torch.cat(logits, 1)


# By hand. Width d, L layers of 12dd + 13d; 1001 class rows, 16384 codes in and out, 257 positions,
# a query, and two norms of 2d: (2 * 16384 + 1001 + 257 + 1 + 4) d.
# L    d 1024: 24 * 12,596,224 + 34,847,744
# XL   d 1280: 36 * 19,677,440 + 43,559,680
# XXL  d 1536: 48 * 28,331,520 + 52,271,616
@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("L", 337_157_120), ("XL", 751_947_520), ("XXL", 1_412_184_576)],
)
def test_parameter_counts_of_the_authors(preset, parameters):
    with torch.device("meta"):
        model = LPD(PRESETS[preset])
    assert sum(p.numel() for p in model.parameters()) == parameters
    published = {"L": 337, "XL": 752, "XXL": 1412}
    assert round(parameters / 1e6) == published[preset]


def test_512_pixels_have_768_positions_more():
    with torch.device("meta"):
        model = LPD(dataclasses.replace(PRESETS["L"], grid=(32, 32)))
    assert sum(p.numel() for p in model.parameters()) == 337_157_120 + 768 * 1024


# The module's own picture.
DRAWN = """
1 . . . . | . . . .
1 1 . . . | . . . .
1 1 1 1 . | . . . .
1 1 1 1 . | . . . .
1 1 1 1 1 | . . . .
1 . . . . | 1 . . .
1 1 . . . | . 1 1 .
1 1 . . . | . 1 1 .
1 1 1 1 . | . . . 1
"""


def drawn(mask):
    rows = [["1" if one else "." for one in row] for row in mask.tolist()]
    return "\n" + "\n".join(" ".join([*row[:5], "|", *row[5:]]) for row in rows) + "\n"


def test_the_mask_is_the_drawing():
    known = torch.tensor([[0, 1, 2, 2, 3]])
    assert drawn(sequence_mask(known, known[:, 1:] - 1)[0, 0]) == DRAWN
    import setar.models.lpd as module

    assert all(f"| {row}" in module.__doc__ for row in DRAWN.split("\n")[1:-1])
    later = sequence_mask(known, known[:, 1:] - 1, start=3)
    assert drawn(later[0, 0]) == "\n" + "\n".join(DRAWN.split("\n")[4:])


def test_padding_is_seen_by_nobody_and_has_something_to_see():
    known = torch.tensor([[PADDING, 0, 1], [-1, 0, 1]])
    mask = sequence_mask(known, torch.tensor([[0]]))[:, 0]
    assert not mask[0, 1:, 0].any()
    assert mask[1, 1:, 0].all()
    assert mask.any(2).all()


def test_what_the_network_reads():
    """Class, tokens and queries, each at its own position, all through one norm."""
    model, codes, labels = random_lpd((2, 3)), random_codes(1, (2, 3)), torch.tensor([4])
    plan = plan_of("raster-1,2,3", (2, 3), 1)
    table = model.positions.weight
    rows = [model.condition.table.weight[4] + table[0]]
    rows += [model.tokens.weight[codes[0, i]] + table[1 + i] for i in range(6)]
    rows += [model.query + table[1 + i] for i in range(6)]
    x = model.input_norm(torch.stack(rows)[None])
    mask = sequence_mask(torch.tensor([[0, *plan.known[0]]]), plan.asks)
    for block in model.blocks:
        x = block(x, mask)
    expected = model.head(model.norm(x[:, 7:]))
    torch.testing.assert_close(model(codes, labels, plan), expected, **CLOSE)


def test_queries_of_a_set_see_each_other_and_no_others():
    """Asked for alone, a token gets other logits than beside others."""
    model, labels = random_lpd(), torch.tensor([1])
    pair, alone = torch.tensor([[3, 9]]), torch.tensor([[3]])
    beside = model.start(labels, 16).predict(pair)[:, :1]
    first = model.start(labels, 16)
    assert differ(beside, first.predict(alone))
    again = model.start(labels, 16)
    again.predict(torch.tensor([[7, 2, 5]]))  # asked, never absorbed: it leaves no trace
    torch.testing.assert_close(again.predict(pair)[:, :1], beside, **CLOSE)


def test_the_cache_holds_the_tokens_and_a_step_of_queries_at_most():
    model, codes, plan = random_lpd(), random_codes(2, (4, 4)), plan_of("random-4-cosine")
    decoding = model.start(torch.tensor([0, 1]), 16)
    known = 1
    for start, stop in plan.slices():
        positions = plan.order[:, start:stop]
        decoding.predict(positions)
        assert {cache.length for cache in decoding.caches} == {known}
        assert {cache.buffer.shape[3] for cache in decoding.caches} == {17}
        decoding.absorb(codes.gather(1, positions), positions)
        known += stop - start
    assert model.start(torch.tensor([0, 1]), 16, cache=False).caches is None


def test_dropout_acts_in_training_only():
    model, codes = random_lpd(dropout=0.5, class_dropout=0.5), random_codes(1, (4, 4))
    plan, labels = plan_of("ar", batch=1), torch.tensor([1])
    assert torch.equal(model(codes, labels, plan), model(codes, labels, plan))
    try:
        model.train()
        assert differ(model(codes, labels, plan), model(codes, labels, plan))
    finally:
        model.eval()


def test_every_weight_has_a_beginning():
    """None is what memory held; the head is not 0, as that of others."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(LPD(PRESETS["tiny"]).state_dict())
    for name, value in models[0].items():
        assert torch.equal(value, models[1][name]), name
        if "bias" not in name:
            assert value.ne(0).any(), name
    assert models[0]["query"].std() == pytest.approx(0.02, rel=0.5)  # of 32 numbers


# A text in the place of the class


@settings(max_examples=12)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    recipe=st.sampled_from(["random-3-cosine", "ar", "next-scale"]),
    seed=st.integers(0, 1000),
)
def test_every_path_reads_padded_texts_alike_and_each_alone(lengths, recipe, seed):
    model = random_lpd((2, 3), condition="text", condition_length=5, condition_dim=8)
    batch, longest = len(lengths), max(lengths)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    texts = pack(torch.randn(batch, longest, 8, generator=generator), mask)
    codes, plan = random_codes(batch, (2, 3), seed=seed), plan_of(recipe, (2, 3), batch, seed)
    conditions = [texts, model.null(texts)]
    logits = [model(codes, condition, plan) for condition in conditions]
    assert differ(*logits)
    for condition, whole in zip(conditions, logits, strict=True):
        for cache in (True, False):
            found = fed(model.start(condition, 6, cache=cache), codes, plan)
            torch.testing.assert_close(found, whole, **CLOSE)
        for i, length in enumerate(lengths):
            one, alone = plan.rows(slice(i, i + 1)), condition[i : i + 1, -length:]
            found = model(codes[i : i + 1], alone, one)
            torch.testing.assert_close(found, whole[i : i + 1], **CLOSE)


# Refusals


def test_masked_training_is_refused():
    model, plan = random_lpd(), Recipe.parse("mar").plan((4, 4), 2)
    for refuse in (model.check, lambda p: model(random_codes(2, (4, 4)), torch.tensor([0, 1]), p)):
        with pytest.raises(ValueError, match=r"\A[^\n]*'masked'[^\n]*needs an FMT\Z"):
            refuse(plan)
    model.check(Recipe.parse("random-2-masked-causal").plan((4, 4), 2))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"layers": 0}, "at least 1"),
        ({"width": 30, "heads": 4}, r"`width` \(=30\) must be a multiple of `heads` \(=4\)"),
        ({"dropout": 1.0}, r"0 <= `dropout` \(=1\.0\) < 1 must hold"),
    ],
)
def test_impossible_shapes_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        LPDConfig(**changes)
    assert "\n" not in str(caught.value)


def test_recipes_follow_the_grid():
    assert (LPDConfig().recipe, LPDConfig().sampling_recipe) == ("random-16-random", "lpd-20-lpd")
    small = LPDConfig(grid=(1, 3))
    for recipe in (small.recipe, small.sampling_recipe):
        Recipe.parse(recipe).plan((1, 3))
