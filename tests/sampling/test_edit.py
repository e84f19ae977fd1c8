"""Editing: the plan around what is kept, what a mask frees, and that nothing else has a say."""

from functools import lru_cache
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_weights import differ, random_codes, random_fmt, randomise
from setar.models.decoder_only import DecoderOnlyConfig, DecoderOnlyTransformer
from setar.models.var import VARConfig, VARTransformer, scale_recipe
from setar.recipes.recipe import Recipe
from setar.sampling.edit import check_continuation, edit_plan, free_cells, random_cells
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance
from setar.sampling.logits import draw, probabilities
from setar.sampling.settings import SamplingSettings
from setar.tokenizers.multiscale import MultiScaleConfig, MultiScaleVQ

GRID, TOKENS, VOCABULARY = (4, 4), 16, 24
RECIPES = [
    "ar",
    "raster-3-uniform",
    "random-16-random",
    "random-6-cosine",
    "reversed-roll-5-uniform",
    "halton-7-arccos",
    "locality-4-cosine",
    "next-scale",
]
cells = st.lists(st.booleans(), min_size=TOKENS, max_size=TOKENS).map(torch.tensor)
some_cells = cells.filter(lambda free: free.any())
recipes = st.sampled_from(RECIPES)


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def prepared(text, free, seeds=(1, 2, 3), grid=GRID):
    """Labels, plan and noise of some images."""
    noise, plan = noise_and_plan(Recipe.parse(text), grid, list(seeds), 0, free)
    return torch.arange(len(seeds)), plan, noise


def kept_of(codes, free):
    """Codes with -1 where they are free."""
    return codes.masked_fill(free, -1)


def only(*indices, tokens=TOKENS):
    free = torch.zeros(tokens, dtype=torch.bool)
    free[list(indices)] = True
    return free


# What a mask frees


def test_a_touch_frees_the_finest_cell_and_half_a_coarse_one():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:5, :4] = True  # four fifths of it in the top left quarter
    whole, quarters, fine = free_cells(mask, [(1, 1), (2, 2), (4, 4)]).split([1, 4, 16])
    assert not whole.any()  # 20 of 64 pixels
    assert quarters.tolist() == [True, False, False, False]
    assert fine.view(4, 4).int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
    ]
    mask[:, :4] = True
    assert free_cells(mask, [(1, 1), (2, 2), (4, 4)])[:5].tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_one_pixel_frees_one_cell_of_a_single_scale():
    mask = torch.zeros(6, 12, dtype=torch.bool)
    mask[5, 3] = True
    assert free_cells(mask, [(2, 3)]).tolist() == [False, False, False, True, False, False]


@given(st.data())
@settings(max_examples=40)
def test_free_cells_against_counting_pixels(data):
    """Cells that do not divide the image overlap, as they do in area downsampling."""
    height, width = data.draw(st.sampled_from([(6, 6), (4, 8), (7, 5)]))
    scales = data.draw(st.sampled_from([[(1, 1), (2, 3), (4, 4)], [(3, 2)], [(1, 2), (4, 5)]]))
    pixels = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = torch.tensor(pixels).view(height, width)
    expected = []
    for rows, columns in scales:
        for row in range(rows):
            for column in range(columns):
                top, bottom = row * height // rows, -(-(row + 1) * height // rows)
                left, right = column * width // columns, -(-(column + 1) * width // columns)
                cell = mask[top:bottom, left:right]
                last = (rows, columns) == scales[-1]
                expected.append(cell.any() if last else 2 * cell.sum() >= cell.numel())
    assert free_cells(mask, scales).tolist() == expected


# The plan


def test_the_plan_that_the_module_draws():
    free = torch.tensor([True, True, False, True, True, False])
    plan = edit_plan(Recipe.parse("raster-2-uniform"), (2, 3), free, generators([0]))
    assert plan.order.tolist() == [[2, 5, 0, 1, 3, 4]]
    assert plan.known.tolist() == [[1, 1, 2, 2, 3, 3]]
    assert plan.supervised.tolist() == [[False, False, True, True, True, True]]


@given(recipes, some_cells, st.integers(0, 2**40))
@settings(max_examples=60)
def test_the_plan_covers_the_free_cells_in_the_recipes_order(text, free, seed):
    recipe, count = Recipe.parse(text), int(free.sum())
    plan = edit_plan(recipe, GRID, free, generators([seed, 5]), *generators([seed]))
    whole = recipe.sampling_plan(GRID, generators([seed, 5]), *generators([seed]))
    for order, everywhere in zip(plan.order, whole.order, strict=True):
        assert order[:-count].sort().values.tolist() == (~free).nonzero()[:, 0].tolist()
        assert order[-count:].tolist() == everywhere[free[everywhere]].tolist()
    sizes = plan.sizes if free.all() else plan.sizes[1:]
    assert sum(sizes) == count
    if text != "next-scale":
        sets = count if recipe.sets is None else min(recipe.sets, count)
        assert len(sizes) == sets or (recipe.schedule == "random" and len(sizes) < sets)


@pytest.mark.parametrize(
    ("text", "count", "sizes"),
    [
        ("ar", 5, [1] * 5),
        ("random-4-uniform", 8, [2, 2, 2, 2]),
        ("random-4-uniform", 3, [1, 1, 1]),  # fewer tokens than sets
        ("random-4-cosine", 1, [1]),
        ("raster-16,", 16, [16]),
        ("roll-2,3,4", 9, [2, 3, 4]),
        ("next-scale", 16, [1, 4, 11]),
    ],
)
def test_the_schedule_splits_the_free_cells(text, count, sizes):
    plan = edit_plan(Recipe.parse(text), GRID, torch.arange(TOKENS) < count, generators([3]))
    assert list(plan.sizes) == [TOKENS - count] * (count < TOKENS) + sizes


def test_next_scale_keeps_its_nested_sets():
    free = only(0, 5, 10, 15)  # the cell of scale 1 is 10, those of scale 2 are 5, 7, 13 and 15
    plan = edit_plan(Recipe.parse("next-scale"), GRID, free, generators([3, 4]))
    assert plan.order[:, -4:].tolist() == [[10, 5, 15, 0]] * 2
    assert plan.sizes == (12, 1, 2, 1)


@pytest.mark.parametrize("text", RECIPES)
def test_with_everything_free_it_is_the_recipes_own_plan(text):
    recipe, free = Recipe.parse(text), torch.ones(TOKENS, dtype=torch.bool)
    found = edit_plan(recipe, GRID, free, generators([3, 4]), *generators([9]))
    own = recipe.sampling_plan(GRID, generators([3, 4]), *generators([9]))
    assert torch.equal(found.order, own.order)
    assert torch.equal(found.known, own.known)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("roll-2,3,4", r"`sizes` sum to 9 but must sum to the 4 tokens to be made"),
        ("raster-1,2,1,12", r"sum to 16 but must sum to the 4 tokens to be made"),
        ("raster-17-cosine", r"`sets` .=17. must not exceed the 16 tokens"),
        ("mar", "is for training"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(text, rule):
    with pytest.raises(ValueError, match=rule):
        edit_plan(Recipe.parse(text), GRID, only(0, 1, 2, 3), generators([0]))


# Generating around what is kept: models of any order


@given(recipes, some_cells, st.sampled_from([1.0, 2.5]), st.booleans())
@settings(max_examples=25)
def test_kept_codes_stay_and_free_cells_get_codes(text, free, scale, full):
    labels, plan, noise = prepared(text, free)
    image = random_codes(3, GRID, seed=7)
    attention = SamplingSettings(attention="full" if full else "causal")
    codes = generate(
        random_fmt(), labels, plan, noise, Guidance(scale), attention, None, kept_of(image, free)
    )
    assert torch.equal(codes[:, ~free], image[:, ~free])
    assert codes.min() >= 0
    assert codes.max() < VOCABULARY


@pytest.mark.parametrize("guidance", [Guidance(2.0), Guidance(2.0, interval=(0.5, 0.8))])
@pytest.mark.parametrize("text", RECIPES)
def test_cached_equals_recomputed(text, guidance):
    free = only(0, 1, 4, 5, 6, 11, 15)
    labels, plan, noise = prepared(text, free)
    image = kept_of(random_codes(3, GRID, seed=7), free)
    cached, recomputed = (
        generate(
            random_fmt(), labels, plan, noise, guidance, SamplingSettings(cache=c), None, image
        )
        for c in (True, False)
    )
    assert torch.equal(cached, recomputed)


@pytest.mark.parametrize("text", RECIPES)
def test_what_is_made_is_what_training_finds_likely(text):
    """The kept tokens are the first set of a plan that the training path reads too."""
    model, free = random_fmt(), only(0, 1, 4, 5, 6, 11, 15)
    labels, plan, noise = prepared(text, free)
    image = random_codes(3, GRID, seed=7)
    codes = generate(model, labels, plan, noise, given=kept_of(image, free))
    logits = model(codes, labels, plan)
    drawn = draw(probabilities(logits), noise.gather(1, plan.order))
    made = plan.supervised
    assert torch.equal(drawn[made], codes.gather(1, plan.order)[made])


def test_what_is_kept_matters():
    free = only(0, 1, 4, 5)
    labels, plan, noise = prepared("random-3-cosine", free)
    image, other = (random_codes(3, GRID, seed=seed) for seed in (7, 8))
    first, second = (
        generate(random_fmt(), labels, plan, noise, given=kept_of(codes, free))[:, free]
        for codes in (image, other)
    )
    assert not torch.equal(first, second)


@pytest.mark.parametrize("text", ["random-4-cosine", "next-scale"])
def test_an_edit_is_the_same_alone_and_in_a_batch(text):
    free = only(*range(9))
    image = kept_of(random_codes(1, GRID, seed=7), free)
    labels, plan, noise = prepared(text, free, range(8))
    labels = labels % 5
    together = generate(random_fmt(), labels, plan, noise, Guidance(2.0), given=image.expand(8, -1))
    assert len(together.unique(dim=0)) > 1
    for index in (0, 5, 7):
        _, plan, noise = prepared(text, free, [index])
        alone = generate(
            random_fmt(), labels[index : index + 1], plan, noise, Guidance(2.0), given=image
        )
        assert torch.equal(alone[0], together[index])


def test_with_nothing_kept_it_is_the_usual_image():
    free = torch.ones(TOKENS, dtype=torch.bool)
    for text in RECIPES:
        labels, plan, noise = prepared(text, free)
        empty = torch.full((3, TOKENS), -1)
        edited = generate(random_fmt(), labels, plan, noise, Guidance(2.0), given=empty)
        labels, plan, noise = prepared(text, None)
        assert torch.equal(edited, generate(random_fmt(), labels, plan, noise, Guidance(2.0)))


class Asked:
    """Counts what a model is asked for and what it is told."""

    any_grid = guides = False

    def __init__(self):
        self.asked, self.told = [], []

    def start(self, labels, tokens, attention="causal", cache=True):
        return self

    def null(self, labels):
        return labels

    def predict(self, positions):
        self.asked += positions[0].tolist()
        return torch.zeros(*positions.shape, VOCABULARY)

    def absorb(self, codes, positions):
        self.told += zip(positions[0].tolist(), codes[0].tolist(), strict=True)


def test_a_set_that_is_given_is_told_and_not_asked_for():
    free, model, seen = only(2, 3, 7), Asked(), []
    labels, plan, noise = prepared("raster-2-uniform", free, [1])
    image = random_codes(1, GRID, seed=7)
    codes = generate(model, labels, plan, noise, on_set=seen.append, given=kept_of(image, free))
    assert model.asked == [2, 3, 7]
    kept = (~free).nonzero()[:, 0].tolist()
    assert model.told[:13] == [(cell, image[0, cell].item()) for cell in kept]
    assert model.told[13:] == [(2, codes[0, 2].item())]
    assert [(done.step, done.steps) for done in seen] == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(seen[0].codes, kept_of(image, free))


# Of each image other cells


def test_a_random_share_of_cells_is_drawn_from_each_seed():
    cells = random_cells(TOKENS, 0.3, [3, 4, 3])
    assert cells.sum(1).tolist() == [5, 5, 5]
    assert torch.equal(cells[0], cells[2])
    assert not torch.equal(cells[0], cells[1])
    assert random_cells(TOKENS, 0.001, [3]).sum() == 1
    assert random_cells(TOKENS, 1.0, [3]).all()


def test_chosen_cells_have_noise_as_any_others():
    """Means of 2,000 uniform numbers lie within 0.03 of 0.5 but once in 300,000 times."""
    cells = random_cells(TOKENS, 0.25, range(500))
    noise, _ = noise_and_plan(Recipe.parse("ar"), GRID, list(range(500)), 0)
    assert abs(noise[cells].mean() - 0.5) < 0.03


@pytest.mark.parametrize("text", RECIPES)
def test_a_plan_of_other_cells_is_that_of_each_alone(text):
    free = random_cells(TOKENS, 0.4, [1, 2, 3])
    recipe = Recipe.parse(text)
    plan = edit_plan(recipe, GRID, free, generators([5, 6, 7]), *generators([9]))
    for i in range(3):
        alone = edit_plan(recipe, GRID, free[i], generators([5 + i]), *generators([9]))
        assert torch.equal(plan.order[i], alone.order[0])
        assert torch.equal(plan.known[i], alone.known[0])
        assert torch.equal(free[i, alone.order[0]], plan.supervised[i])


# Decoder-only models


@lru_cache
def decoder_only():
    config = DecoderOnlyConfig(VOCABULARY, classes=5, grid=GRID, width=32, heads=2, layers=2)
    return randomise(DecoderOnlyTransformer(config)).eval().requires_grad_(False)


@pytest.mark.parametrize("cache", [True, False])
def test_a_decoder_only_model_continues_an_image(cache):
    labels, plan, noise = prepared("ar", None)
    setting, guidance = SamplingSettings(cache=cache), Guidance(2.0, interval=(0.5, 1.0))
    own = generate(decoder_only(), labels, plan, noise, guidance, setting)
    free = torch.arange(TOKENS) >= 6
    again = generate(
        decoder_only(), labels, plan, noise, guidance, setting, None, kept_of(own, free)
    )
    assert torch.equal(again, own)
    image = kept_of(random_codes(3, GRID, seed=7), free)
    other = generate(decoder_only(), labels, plan, noise, guidance, setting, None, image)
    assert torch.equal(other[:, :6], image[:, :6])
    assert not torch.equal(other[:, 6:], own[:, 6:])


@pytest.mark.parametrize("indices", [c for n in range(1, 6) for c in combinations(range(5), n)])
def test_only_the_last_cells_are_a_continuation(indices):
    free = torch.zeros(5, dtype=torch.bool)
    free[list(indices)] = True
    try:
        check_continuation(free)
        refused = False
    except ValueError:
        refused = True
    assert refused == (list(indices) != list(range(indices[0], 5)))


@pytest.mark.parametrize("indices", [[0], [0, 15], [5, 6, 7], range(15)])
def test_other_cells_are_not(indices):
    with pytest.raises(ValueError, match=r"\Athis model can only continue .* FMT or a VAR\Z"):
        check_continuation(only(*indices))


# VAR: tokens outside the mask at every scale


SCALES = ((1, 1), (2, 2), (3, 3), (4, 4))
ENDS = [0, 1, 5, 14, 30]


@lru_cache
def var():
    """A VAR whose pyramid is that of a real multi-scale tokenizer, all weights random."""
    shape = {"channels": 8, "multipliers": (1, 1, 2), "blocks": 1, "phis": 2}
    pyramid = MultiScaleVQ(
        MultiScaleConfig(codebook_size=VOCABULARY, codebook_dim=6, scales=SCALES, **shape)
    )
    facts = {"vocabulary": VOCABULARY, "code_dim": 6, "classes": 5, "scales": SCALES}
    config = VARConfig(**facts, width=32, heads=2, layers=2, drop_path=0.0)
    model = VARTransformer(config)
    for part in (randomise(model, 1), randomise(pyramid, 2)):
        part.eval().requires_grad_(False)
    model.attach(pyramid)
    return model


def var_edit(given, seeds=(1, 2, 3), guidance=None, **fields):
    noise, plan = noise_and_plan(scale_recipe(SCALES), (1, 30), list(seeds), 0)
    var().check(plan)
    labels = torch.arange(len(seeds)) % 5
    guidance = guidance or Guidance(2.0)
    settings = SamplingSettings(**fields)
    return generate(var(), labels, plan, noise, guidance, settings, None, given)


def right_half():
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:, 7:] = True
    return free_cells(mask, SCALES)


@given(st.lists(st.booleans(), min_size=30, max_size=30).map(torch.tensor))
@settings(max_examples=15)
def test_var_keeps_the_tokens_outside_at_every_scale(free):
    image = torch.randint(VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(7))
    codes = var_edit(kept_of(image, free))
    assert torch.equal(codes[:, ~free], image[:, ~free])
    assert codes.min() >= 0


def test_var_gives_its_own_image_back():
    """What it would have drawn there may as well be given."""
    own, free = var_edit(None), right_half()
    assert torch.equal(var_edit(kept_of(own, free)), own)


def test_var_cached_equals_recomputed():
    image = torch.randint(VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(7))
    for guidance in (Guidance(2.0), Guidance(1.5, "var"), Guidance(2.0, interval=(0.2, 0.4))):
        given = kept_of(image, right_half())
        assert torch.equal(
            var_edit(given, guidance=guidance), var_edit(given, guidance=guidance, cache=False)
        )


def test_var_inside_sees_what_is_kept_at_the_scales_before():
    free, model = right_half(), var()
    image = torch.randint(VOCABULARY, (1, 30), generator=torch.Generator().manual_seed(7))
    labels, plan = torch.tensor([2]), scale_recipe(SCALES).plan((1, 30))
    logits = model(image, labels, plan)
    for scale in range(3):
        inside_later = free & (torch.arange(30) >= ENDS[scale + 1])
        kept = ~free & (torch.arange(30) >= ENDS[scale]) & (torch.arange(30) < ENDS[scale + 1])
        if not kept.any():  # the coarsest cell is free
            assert scale == 0
            continue
        changed = model(torch.where(kept, (image + 1) % VOCABULARY, image), labels, plan)
        assert differ(changed[:, inside_later], logits[:, inside_later])
        up_to_here = torch.arange(30) < ENDS[scale + 1]
        assert torch.equal(changed[:, up_to_here], logits[:, up_to_here])


def test_var_does_not_look_at_what_was_removed():
    free = right_half()
    assert free[ENDS[3] :].any()
    assert free[:1].any()
    image = torch.randint(VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(7))
    other = torch.where(free, (image + 1) % VOCABULARY, image)
    assert torch.equal(var_edit(kept_of(image, free)), var_edit(kept_of(other, free)))
    kept = torch.where(free, image, (image + 1) % VOCABULARY)
    assert not torch.equal(
        var_edit(kept_of(image, free))[:, free], var_edit(kept_of(kept, free))[:, free]
    )


def test_var_edits_are_the_same_alone_and_in_a_batch():
    image = torch.randint(VOCABULARY, (1, 30), generator=torch.Generator().manual_seed(7))
    given = kept_of(image, right_half())
    together = var_edit(given.expand(6, -1), range(6))
    alone = var_edit(given, [0])
    assert torch.equal(alone[0], together[0])


def test_smoothing_keeps_codes_whole():
    free = right_half()
    image = torch.randint(VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(7))
    soft = var_edit(kept_of(image, free), smoothing=True)
    assert torch.equal(soft[:, ~free].argmax(-1), image[:, ~free])
    assert (soft[:, ~free].max(-1).values == 1).all()
    assert (soft[:, free].max(-1).values < 1).any()
