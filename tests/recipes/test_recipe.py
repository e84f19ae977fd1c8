"""Recipes: the notation there and back, refusals that teach, plans."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setar.recipes.orders import ORDERS, register_order
from setar.recipes.recipe import MAX_TEXT, Recipe
from setar.recipes.schedules import SCHEDULES, register_schedule, uniform


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


names = st.sampled_from(sorted(ORDERS))
numbered = st.tuples(
    names,
    st.one_of(st.just("N"), st.integers(1, 2**20).map(str)),
    st.sampled_from(sorted(name for name in SCHEDULES if not SCHEDULES.find(name).masking)),
).map("-".join)
listed = st.tuples(names, st.lists(st.integers(1, 999), min_size=2, max_size=9)).map(
    lambda case: f"{case[0]}-{','.join(map(str, case[1]))}"
)
single = st.tuples(names, st.integers(1, 999)).map(lambda case: f"{case[0]}-{case[1]},")
masking = sorted(name for name in SCHEDULES if SCHEDULES.find(name).masking)
masked = st.tuples(names, st.sampled_from(masking)).map("-2-".join)
texts = st.one_of(numbered, listed, single, masked, st.just("next-scale"))


@settings(max_examples=100)
@given(texts)
def test_text_comes_back_unchanged(text):
    recipe = Recipe.parse(text)
    assert str(recipe) == text
    assert Recipe.parse(str(recipe)) == recipe


def test_fields():
    assert Recipe.parse("reversed-raster-8-cosine") == Recipe("reversed-raster", "cosine", 8)
    assert Recipe.parse("raster-N-uniform") == Recipe("raster", "uniform", None)
    assert Recipe.parse("raster-1,2,1") == Recipe("raster", "explicit", sizes=(1, 2, 1))
    assert Recipe.parse("next-scale") == Recipe("next-scale", "own")
    assert Recipe.parse("next-scale-8-cosine") == Recipe("next-scale", "cosine", 8)
    assert Recipe.parse("random-2-masked-causal") == Recipe("random", "masked-causal", 2)
    assert Recipe.parse("locality-8-arccos") == Recipe("locality", "arccos", 8)


def test_short_names():
    assert str(Recipe.parse("ar")) == "raster-N-uniform"
    assert str(Recipe.parse("mar")) == "random-2-masked"


pieces = st.sampled_from(
    [
        *ORDERS,
        *SCHEDULES,
        "own",
        "explicit",
        "N",
        "-",
        "--",
        ",",
        "0",
        "1",
        "16",
        "９",
        "²",
        "1.5",
        "\n",
    ]
)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(pieces, max_size=8).map("".join)))
def test_any_text_gives_a_recipe_or_one_line(text):
    try:
        recipe = Recipe.parse(text)
    except ValueError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        assert len(message) < 500
    else:
        assert Recipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "1 to 4096 characters"),
        ("raster-" + "1," * 5000, "1 to 4096 characters"),
        (None, "must be text"),
        ("rastr-8-cosine", r"\Aunknown order 'rastr'; did you mean 'raster'\?\Z"),
        (" raster-8-cosine", r"unknown order ' raster'; did you mean 'raster'"),
        ("Raster-8-cosine", r"unknown order 'Raster'; did you mean 'raster'"),
        ("raster-8-cosin", r"\Aunknown schedule 'cosin'; did you mean 'cosine'\?\Z"),
        ("raster-8-cosine\n", r"unknown schedule 'cosine\\n'; did you mean 'cosine'"),
        ("raster", "order 'raster' has no set sizes of its own: write order-sets-schedule"),
        ("next-scal", "did you mean 'next-scale'.*write order-sets-schedule"),
        ("raster-cosine", "write order-sets-schedule"),
        ("raster-16", "must name its schedule"),
        ("raster-0-cosine", r"`sets` \(='0'\) must be a whole number from 1"),
        ("raster--8-cosine", r"`sets` \(='-8'\) must be a whole number from 1"),
        ("raster-1.5-cosine", r"`sets` \(='1.5'\) must be a whole number from 1"),
        ("raster-08-cosine", r"`sets` \(='08'\) .* no leading zeros"),
        ("raster-99999999999999999999-cosine", r"`sets` \(='9{20}'\) must be"),
        (f"raster-{'9' * 4000}-cosine", r"`sets` \(='9{50,60}\.\.\.\) must be"),
        ("raster-1048577-cosine", r"`sets` \(=1048577\) must be"),
        ("raster-１６-cosine", r"`sets` \(='\\uff11\\uff16'\) must be"),
        ("raster-1,,2", r"`sizes` \(=''\) must be"),
        ("raster-1,0", r"`sizes` \(='0'\) must be"),
        ("raster-1,2,", r"`sizes` \(=''\) must be"),
        ("raster-1,2-cosine", "must end after its set sizes"),
        ("random-16-masked", r"`sets` \(=16\) must be 2"),
        ("random-N-masked", r"`sets` \(=N\) must be 2"),
        ("random-3-masked-both", r"`sets` \(=3\) must be 2 with the schedule 'masked-both'"),
        ("random-2-masked-caus", "did you mean 'masked-causal'"),
        ("raster-8-own", "no set sizes of its own"),
        ("next-scale-8-own", r"`sets` \(=8\) has no use"),
        ("raster-8-explicit", "`sizes` must be given"),
    ],
)
def test_refusals_teach(text, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        Recipe.parse(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"order": "raster", "schedule": "cosine", "sets": True},
        {"order": "raster", "schedule": "cosine", "sets": 2.0},
        {"order": "raster", "schedule": "cosine", "sets": 2, "sizes": (1, 1)},
        {"order": "raster", "schedule": "explicit", "sizes": ()},
        {"order": "raster", "schedule": "explicit", "sizes": [1, 2]},
        {"order": "raster", "schedule": "explicit", "sizes": (1,) * MAX_TEXT},
        {"order": ["raster"], "schedule": "cosine", "sets": 2},
    ],
)
def test_fields_are_checked_too(fields):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("raster-70-cosine", r"`sets` \(=70\) must not exceed the 64 tokens of an 8x8 grid"),
        ("random-70-random", r"`sets` \(=70\) must not exceed the 64 tokens"),
        ("raster-1,2,1", "`sizes` sum to 4 but must sum to the 64 tokens of an 8x8 grid"),
    ],
)
def test_a_recipe_must_fit_the_grid(text, rule):
    recipe = Recipe.parse(text)
    for attempt in (
        lambda: recipe.plan((8, 8)),
        lambda: recipe.sampling_plan((8, 8), [seeded()]),
        lambda: recipe.set_count((8, 8)),
    ):
        with pytest.raises(ValueError, match=rule):
            attempt()


@pytest.mark.parametrize(
    ("text", "count"),
    [("ar", 12), ("mar", 2), ("next-scale", 3), ("raster-5-cosine", 5), ("raster-6,6", 2)],
)
def test_set_count(text, count):
    assert Recipe.parse(text).set_count((3, 4)) == count


def test_bad_batches_and_generators_are_refused():
    recipe = Recipe.parse("random-4-random")
    for batch in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="`batch`"):
            recipe.plan((2, 2), batch)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`generators`"):
        recipe.sampling_plan((2, 2), [])


@settings(max_examples=80)
@given(
    names,
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 99),
    st.integers(0, 2**40),
)
def test_plans_hold_their_invariants(order, schedule, height, width, sets, seed):
    tokens = height * width
    masking = SCHEDULES.find(schedule).masking
    sets = 2 if masking else min(sets, tokens)
    if sets > tokens:
        return
    recipe = Recipe(order, schedule, sets)
    plans = [recipe.plan((height, width), 2, seeded(seed))]
    if not masking:
        generators = [seeded(seed), seeded(seed + 1)]
        plans.append(recipe.sampling_plan((height, width), generators, seeded(seed)))
    for plan in plans:
        assert plan.order.sort(dim=-1).values.tolist() == [list(range(tokens))] * 2
        assert plan.known.shape == plan.supervised.shape == (2, tokens)
        assert (plan.known.diff(dim=-1) >= 0).all()
        assert plan.known.min() >= 1
        assert plan.known.max() <= sets
        assert torch.equal(plan.asks, plan.known - 1)
    for sampling in plans[1:]:
        assert sampling.known.unique().tolist() == list(range(1, sampling.steps + 1))
        assert sum(sampling.sizes) == tokens


def test_clocks_of_the_designs_example():
    plan = Recipe.parse("raster-1,2,1").plan((2, 2), batch=2)
    assert plan.known.tolist() == [[1, 2, 2, 3]] * 2
    assert plan.asks.tolist() == [[0, 1, 1, 2]] * 2
    assert plan.sizes == (1, 2, 1)
    assert plan.steps == 3
    assert list(plan.slices()) == [(0, 1), (1, 3), (3, 4)]
    assert plan.supervised.all()
    assert plan.decoder_causal


def test_raster_256_cosine_is_ar():
    ar = Recipe.parse("ar").plan((16, 16))
    cosine = Recipe.parse("raster-256-cosine").plan((16, 16))
    assert cosine.known.tolist() == ar.known.tolist() == [list(range(1, 257))]
    assert torch.equal(cosine.order, ar.order)


def test_next_scale_brings_its_sizes():
    assert Recipe.parse("next-scale").plan((8, 8), 2).sizes == (1, 4, 16, 43)
    assert Recipe.parse("next-scale-8-cosine").plan((8, 8)).steps == 8


def test_mar_learns_the_second_set_with_an_open_decoder():
    plan = Recipe.parse("mar").plan((16, 16), 50, seeded())
    assert not plan.decoder_causal
    assert torch.equal(plan.supervised, plan.known == 2)
    hidden = plan.supervised.sum(-1)
    assert hidden.min() >= 180  # ceil(0.7 * 256)
    assert hidden.unique().numel() > 10  # each image its own


@pytest.mark.parametrize(
    ("schedule", "first", "causal"),
    [
        ("masked", False, False),
        ("masked-causal", False, True),
        ("masked-both", True, True),
        ("random", True, True),
    ],
)
def test_table_6_varies_the_loss_and_the_decoder_mask(schedule, first, causal):
    plan = Recipe("random", schedule, 2).plan((8, 8), 20, seeded())
    assert plan.decoder_causal == causal
    assert plan.supervised[plan.known == 2].all()
    assert (plan.known == 1).any()
    assert plan.supervised[plan.known == 1].all() == first


@pytest.fixture
def _taken_back(monkeypatch):
    """Orders and schedules of a test's own are forgotten after it."""
    for kinds in (ORDERS, SCHEDULES):
        monkeypatch.setattr(kinds, "_entries", dict(kinds._entries))


@pytest.mark.usefixtures("_taken_back")
def test_a_schedules_two_properties_are_independent():
    register_schedule("test-open", decoder_causal=False)(uniform)
    register_schedule("test-late", first_supervised=False)(uniform)
    for make in (lambda recipe: recipe.plan((2, 3)), lambda r: r.sampling_plan((2, 3), [None])):
        opened = make(Recipe("raster", "test-open", 3))
        late = make(Recipe("raster", "test-late", 3))
        assert (opened.decoder_causal, late.decoder_causal) == (False, True)
        assert opened.supervised.all()
        assert late.supervised.tolist() == [[False, False, True, True, True, True]]


def test_mar_details_can_be_overridden():
    plan = Recipe.parse("mar").plan((4, 4), generator=seeded())
    ablated = dataclasses.replace(
        plan, decoder_causal=True, supervised=torch.ones_like(plan.supervised)
    )
    assert ablated.decoder_causal
    assert ablated.supervised.all()
    assert torch.equal(ablated.known, plan.known)


def test_training_images_differ_in_order_and_sizes():
    plan = Recipe.parse("random-16-random").plan((16, 16), 2, seeded())
    assert not torch.equal(plan.order[0], plan.order[1])
    assert not torch.equal(plan.known[0], plan.known[1])
    with pytest.raises(ValueError, match="different set sizes"):
        _ = plan.sizes


def test_an_empty_set_leaves_a_gap_in_training_and_none_in_sampling():
    recipe = Recipe.parse("raster-4-random")
    training = recipe.plan((2, 2), 50, seeded())
    assert any(image.unique().numel() < int(image.max()) for image in training.known)
    for seed in range(20):
        plan = recipe.sampling_plan((2, 2), [seeded()], seeded(seed))
        assert plan.known.unique().tolist() == list(range(1, plan.steps + 1))


@pytest.mark.parametrize("text", ["random-16-random", "locality-16-random"])
def test_a_sampled_image_does_not_depend_on_its_batch(text):
    recipe = Recipe.parse(text)
    together = recipe.sampling_plan((8, 8), [seeded(seed) for seed in range(4)], seeded(9))
    alone = recipe.sampling_plan((8, 8), [seeded(2)], seeded(9))
    assert torch.equal(together.order[2], alone.order[0])
    assert torch.equal(together.known[2], alone.known[0])
    assert not torch.equal(together.order[2], together.order[1])
    assert (together.known == together.known[0]).all()


def test_training_images_follow_their_own_sizes():
    plan = Recipe.parse("locality-6-random").plan((4, 4), 8, seeded())
    assert (plan.known != plan.known[:1]).any()
    for image, known in enumerate(plan.known):
        sizes = known.bincount(minlength=7)[1:]  # of sets 1..6, empty ones included
        generator = seeded()
        torch.randint(0, 17, (8, 5), generator=generator)  # the schedule's cuts come first
        orders = ORDERS.find("locality").draw((4, 4), 8, generator, sizes[None])
        assert torch.equal(orders[image], plan.order[image])


@pytest.mark.parametrize("text", ["random-16-random", "locality-16-random"])
def test_same_generator_same_plan(text):
    recipe = Recipe.parse(text)
    first, again, other = (recipe.plan((8, 8), 3, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.order, again.order)
    assert torch.equal(first.known, again.known)
    assert not torch.equal(first.order, other.order)
    assert not torch.equal(first.known, other.known)


def test_a_plan_moves_between_devices():
    plan = Recipe.parse("mar").plan((2, 2)).to("meta")
    assert plan.order.is_meta
    assert plan.known.is_meta
    assert plan.supervised.is_meta
    assert not plan.decoder_causal


@pytest.mark.usefixtures("_taken_back")
def test_an_order_of_ones_own_with_sizes_is_a_recipe():
    @register_order("test-halves", sizes=lambda height, width: (1, height * width - 1))
    def halves(height, width):
        return torch.arange(height * width)

    assert Recipe.parse("test-halves").plan((2, 3)).sizes == (1, 5)
    with pytest.raises(ValueError, match="own sizes of order 'test-halves'"):
        Recipe.parse("test-halves").plan((1, 1))


@pytest.mark.usefixtures("_taken_back")
def test_an_order_of_ones_own_that_uses_its_own_sizes():
    @register_order("test-turned", uses_sizes=True, sizes=lambda height, width: (2, width - 2))
    def turned(height, width, sizes, generators):
        return torch.arange(height * width).roll(-int(sizes[0, 0])).repeat(len(generators), 1)

    plan = Recipe.parse("test-turned").sampling_plan((1, 5), [seeded()] * 3)
    assert plan.sizes == (2, 3)
    assert plan.order.tolist() == [[2, 3, 4, 0, 1]] * 3


@pytest.mark.parametrize("text", ["mar", "random-2-masked-causal", "raster-2-masked-both"])
def test_a_masked_recipe_is_not_sampled(text):
    with pytest.raises(ValueError, match="for training; sample a masked model with full attention"):
        Recipe.parse(text).sampling_plan((4, 4), [seeded()])


@pytest.mark.parametrize(
    ("recipe", "alone"),
    [("random-N-uniform", True), ("raster-16-random", False), ("raster-1,14,1", False)],
)
def test_whether_sets_hold_one_token_is_known_wherever_the_plan_is(recipe, alone):
    plan = Recipe.parse(recipe).plan((4, 4), 2, torch.Generator().manual_seed(0))
    assert plan.one_by_one is alone
    assert plan.to("meta").one_by_one is alone
    assert plan.rows(slice(0, 1)).one_by_one is alone
    skipped = dataclasses.replace(plan, known=torch.arange(16).expand(2, 16) * 3 + 1)
    assert skipped.one_by_one  # and not what the plan before it was
