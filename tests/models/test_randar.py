"""RandAR: sizes, what a set sees, and the cache against the sequence written out."""

import dataclasses
import re
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from random_weights import differ, random_codes, randomise
from setar.layers.rope import rotation
from setar.models import randar
from setar.models.randar import (
    PRESETS,
    CachedDecoding,
    RandARConfig,
    RandARTransformer,
    RecomputedDecoding,
    asking_mask,
    sequence_clock,
)
from setar.models.text_condition import pack
from setar.recipes.clocks import visible
from setar.recipes.recipe import Recipe, SetPlan
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingSettings

CLOSE = {"atol": 1e-5, "rtol": 0.0}
VOCABULARY, CLASSES = 24, 5


@lru_cache(maxsize=16)
def random_randar(grid=(4, 4), **changes):
    """A tiny RandAR in evaluation mode, every weight random."""
    config = RandARConfig(VOCABULARY, CLASSES, grid, width=32, heads=2, layers=3)
    model = RandARTransformer(dataclasses.replace(config, **changes))
    return randomise(model).eval().requires_grad_(False)


def plan_of(text, grid, batch=1, seed=0):
    generators = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
    return Recipe.parse(text).sampling_plan(grid, generators)


# By hand: those of LlamaGen's GPT of the same size, and one vector of the width.
# B   d 768,  h 2048: 12 * 7,079,424 + 25,935,360 + 768
# L   d 1024, h 2816: 24 * 12,847,104 + 34,580,480 + 1024
# XL  d 1280, h 3584: 36 * 20,318,720 + 43,225,600 + 1280
@pytest.mark.parametrize(
    ("preset", "parameters", "published"),
    [("B", 110_889_216, None), ("L", 342_912_000, "0.3B"), ("XL", 774_700_800, "0.7B")],
)
def test_parameter_counts(preset, parameters, published):
    with torch.device("meta"):
        model = RandARTransformer(PRESETS[preset])
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert published in (None, f"{parameters // 10**8 / 10}B")


def test_a_new_model_starts_at_even_odds():
    torch.manual_seed(0)
    model = RandARTransformer(PRESETS["tiny"])
    plan = plan_of("random-4-cosine", (4, 4), 2)
    assert model(random_codes(2, (4, 4)), torch.tensor([0, 1]), plan).eq(0).all()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert parameter.eq(1).all()
        elif name not in ("head.weight", "query.weight"):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.25), name
    # Of 32 numbers: half or twice the deviation once in 10^6.
    assert 0.01 < model.query.weight.std() < 0.04


def test_recipes_follow_the_grid():
    assert PRESETS["L"].recipe == "random-N-uniform"
    assert PRESETS["L"].sampling_recipe == "random-88-randar"
    assert PRESETS["tiny"].sampling_recipe == "random-16-randar"


# What a set sees


def drawn_in_the_docstring():
    """The rows of the matrix in the module's docstring, as booleans."""
    rows = re.findall(r"^    [cqta]\d? +([1. ]+)$", randar.__doc__, re.MULTILINE)
    return [[mark == "1" for mark in row.split()] for row in rows]


def test_the_drawing():
    plan = Recipe.parse("raster-1,2,1").plan((2, 2), 2)
    places = sequence_clock(torch.zeros(1, 1, dtype=torch.int64), 8)
    mask = asking_mask(plan, places, visible(places, places))
    drawn = drawn_in_the_docstring()
    assert len(drawn) == 1 + 3 * 4
    assert mask.tolist() == [drawn, drawn]


def test_the_drawing_of_empty_sets_and_of_a_text():
    """Clocks that are skipped do not matter, and padding is seen by none but itself."""
    model = random_randar((1, 3), condition="text", condition_length=2, condition_dim=8)
    clock = model.condition.clock(random_texts([1, 2]))
    places = sequence_clock(clock, 6)
    known = torch.tensor([[2, 5, 5], [1, 1, 9]])
    plan = SetPlan((1, 3), torch.arange(3).expand(2, 3), known, known > 0)
    mask = asking_mask(plan, places, visible(places, places))
    assert mask[0, -3:].int().tolist() == [
        [0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0],
        [0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1],
    ]
    assert mask[1, -3:].int().tolist() == [
        [1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1],
    ]


def sequence_by_hand(model, label, positions, codes, asked):
    """Logits of queries ``asked`` after tokens at ``positions``, of one image, causally."""
    heads, head_dim, columns = 2, 16, model.config.grid[1]

    def rotated(vector, where):
        """Each head turned by its position, pair by pair, with sines and cosines."""
        row, column, out = where // columns, where % columns, vector.clone().view(heads, head_dim)
        for pair in range(head_dim // 2):
            angle = (row if pair < 4 else column) * 10000.0 ** -(pair % 4 / 4)
            cos, sin = torch.tensor(float(angle)).cos(), torch.tensor(float(angle)).sin()
            a, b = vector.view(heads, head_dim)[:, 2 * pair : 2 * pair + 2].unbind(1)
            out[:, 2 * pair], out[:, 2 * pair + 1] = a * cos - b * sin, a * sin + b * cos
        return out.flatten()

    query = model.query.weight[0]
    x, where = [model.condition.table.weight[label]], [0]
    for position, code in zip(positions, codes, strict=True):
        x += [rotated(query, position), model.tokens.weight[code]]
        where += [position, position]
    x += [rotated(query, position) for position in asked]
    places = torch.tensor([[*where, *asked]])
    angles = rotation(places // columns, places % columns, head_dim)
    angles[:, :, 0] = 0
    x = torch.stack(x)[None]
    for block in model.blocks:
        x = block(x, angles, torch.ones(x.shape[1], x.shape[1]).tril().bool())
    return model.head(model.norm(x))[0, -len(asked) :]


@pytest.mark.parametrize("recipe", ["random-N-uniform", "random-1,3,2", "raster-6,", "roll-2,4"])
def test_the_sequence_by_hand(recipe):
    """A step is tokens in turn after their queries, then the queries of the set, and a triangle."""
    model, codes, labels = random_randar((2, 3)), random_codes(2, (2, 3)), torch.tensor([4, 1])
    plan = plan_of(recipe, (2, 3), 2)
    logits = model(codes, labels, plan)
    for i in range(2):
        order = plan.order[i].tolist()
        for start, stop in plan.slices():
            before = order[:start]
            hand = sequence_by_hand(model, labels[i], before, codes[i, before], order[start:stop])
            torch.testing.assert_close(logits[i, start:stop], hand, **CLOSE)


@pytest.mark.parametrize("cache", [True, False])
def test_queries_of_a_set_see_those_before_them_and_tokens_are_read_one_by_one(cache):
    model, label = random_randar(), torch.tensor([2])

    def asked(order, codes, next_set):
        decoding = model.start(label, 16, cache=cache)
        decoding.absorb(torch.tensor([codes]), torch.tensor([order]))
        return decoding.predict(torch.tensor([next_set]))[0]

    plain = asked([3, 5], [7, 8], [0, 1, 2])
    torch.testing.assert_close(asked([3, 5], [7, 8], [0, 1, 9])[:2], plain[:2], **CLOSE)
    assert differ(asked([3, 5], [7, 8], [0, 9, 2])[2], plain[2])  # the query before it matters
    torch.testing.assert_close(asked([3, 5], [7, 8], [0])[0], plain[0], **CLOSE)
    # The order inside a set matters to what comes after it: it is no set to its reader.
    assert differ(asked([5, 3], [8, 7], [0, 1, 2]), plain)


@settings(max_examples=10)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_the_cache_after_sets_is_that_after_single_tokens(sizes, seed):
    """However a prefix was made, what follows it is the same."""
    tokens = sum(sizes)
    grid, label = (1, tokens + 1), torch.tensor([1, 3])
    model, codes = random_randar(grid), random_codes(2, grid, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(tokens + 1, generator=generator) for _ in range(2)])
    found = []
    for parts in (sizes, [1] * tokens, [tokens]):
        decoding = model.start(label, tokens + 1)
        for positions in order[:, :tokens].split(parts, 1):
            if seed % 2:
                decoding.predict(positions)
            decoding.absorb(codes.gather(1, positions), positions)
        found.append(decoding.predict(order[:, tokens:]))
    torch.testing.assert_close(found[1], found[0], **CLOSE)
    torch.testing.assert_close(found[2], found[0], **CLOSE)
    assert differ(found[0][0], found[0][1])


@pytest.mark.parametrize("cache", [True, False])
def test_asking_twice_changes_nothing(cache):
    model, codes, labels = random_randar(), random_codes(2, (4, 4)), torch.tensor([0, 3])
    order = plan_of("random-N-uniform", (4, 4), 2).order
    decoding, twice = (model.start(labels, 16, cache=cache) for _ in range(2))
    for positions in order.split([2, 3, 4, 7], 1):
        twice.predict(order[:, :5])  # of anything, before
        first = twice.predict(positions)
        torch.testing.assert_close(twice.predict(positions), first, **CLOSE)
        torch.testing.assert_close(decoding.predict(positions), first, **CLOSE)
        for one in (decoding, twice):
            one.absorb(codes.gather(1, positions), positions)


def test_slots_of_the_cache():
    """Two for each token that is read, the first query of a set among them; others are free."""
    decoding = random_randar().start(torch.tensor([0, 3]), 16)
    assert all(cache.buffer.shape == (2, 2, 2, 1 + 2 * 16, 16) for cache in decoding.caches)
    positions = torch.tensor([[4, 2, 7], [1, 9, 3]])
    decoding.predict(positions)
    assert (decoding.known, decoding.caches[0].length) == (1, 1 + 3)
    decoding.absorb(torch.zeros_like(positions), positions)
    assert decoding.known == 1 + 1
    decoding.predict(torch.tensor([[0, 5], [0, 5]]))
    assert (decoding.known, decoding.caches[0].length) == (1 + 2 * 3, 1 + 2 * 3 + 2)


def test_start_picks_the_decoding():
    model, labels = random_randar(), torch.tensor([1])
    assert isinstance(model.start(labels, 16), CachedDecoding)
    assert isinstance(model.start(labels, 16, cache=False), RecomputedDecoding)


def test_dropout_acts_in_training_only_on_tokens_and_not_on_queries():
    model, codes = random_randar(dropout=0.5, class_dropout=0.5), random_codes(1, (4, 4))
    plan, labels = plan_of("random-4-cosine", (4, 4)), torch.tensor([1])
    assert torch.equal(model(codes, labels, plan), model(codes, labels, plan))
    places = [name for name, part in model.named_modules() if isinstance(part, nn.Dropout)]
    assert len(places) == 1 + 2 * 3  # tokens; attention and feed-forward of each layer
    try:
        model.train()
        torch.manual_seed(0)
        assert differ(model(codes, labels, plan), model(codes, labels, plan))
        x = model.pairs(codes, plan.order)[0]
        assert x[:, 1::2].eq(0).float().mean() > 0.3
        assert x[:, ::2].ne(0).all()
    finally:
        model.eval()


# Texts


def random_texts(lengths, seed=0):
    """A text condition ``[B, longest, 9]`` of texts of so many tokens, padded on the left."""
    longest, generator = max(lengths), torch.Generator().manual_seed(seed)
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    return pack(torch.randn(len(lengths), longest, 8, generator=generator), mask)


@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    recipe=st.sampled_from(["random-N-uniform", "random-3-cosine"]),
)
def test_padded_texts_are_read_alike_along_every_path_and_alone(lengths, recipe):
    text = {"condition": "text", "condition_length": 4, "condition_dim": 8}
    model, batch = random_randar((2, 3), **text), len(lengths)
    codes, texts = random_codes(batch, (2, 3)), random_texts(lengths)
    plan = plan_of(recipe, (2, 3), batch)
    whole = model(codes, texts, plan)
    assert whole.isfinite().all()
    for i, length in enumerate(lengths):
        found = model(codes[i : i + 1], texts[i : i + 1, -length:], plan.rows(slice(i, i + 1)))
        torch.testing.assert_close(found, whole[i : i + 1], **CLOSE)
    for cache in (True, False):
        decoding, logits = model.start(texts, 6, cache=cache), []
        for start, stop in plan.slices():
            positions = plan.order[:, start:stop]
            logits.append(decoding.predict(positions))
            decoding.absorb(codes.gather(1, positions), positions)
        torch.testing.assert_close(torch.cat(logits, 1), whole, **CLOSE)


# Sampling, and refusals


@pytest.mark.parametrize("recipe", ["random-6-randar", "locality-5-cosine", "ar"])
def test_the_same_codes_with_cache_and_without_under_their_guidance(recipe):
    noise, plan = noise_and_plan(Recipe.parse(recipe), (4, 4), [5, 6, 7], 5)
    labels, model = torch.tensor([0, 1, 4]), random_randar()
    for guidance in (Guidance(3.0, "linear"), Guidance(3.0, interval=(0.3, 0.8))):
        cached, recomputed = (
            generate(model, labels, plan, noise, guidance, SamplingSettings(cache=cache))
            for cache in (True, False)
        )
        assert torch.equal(cached, recomputed)
        assert len(cached.unique(dim=0)) == 3


@pytest.mark.parametrize("recipe", ["mar", "random-2-masked"])
def test_recipes_that_unmask_queries_are_refused(recipe):
    plan = Recipe.parse(recipe).plan((4, 4), 1, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"\Aa RandAR reads its sequence from the front[^\n]*\Z"):
        random_randar()(random_codes(1, (4, 4)), torch.tensor([0]), plan)
    causal = Recipe.parse("random-2-masked-causal").plan((4, 4), 1, torch.Generator())
    logits = random_randar()(random_codes(1, (4, 4)), torch.tensor([0]), causal)
    assert logits.shape == (1, 16, VOCABULARY)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"layers": 0}, "at least 1"),
        ({"width": 772, "heads": 12}, r"`width` \(=772\) must be a multiple of 4 x `heads` \(=12"),
    ],
)
def test_impossible_shapes_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        RandARConfig(**changes)
    assert "\n" not in str(caught.value)
