"""What every family of generators promises."""

import dataclasses
import functools
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from entries import CLASSES, codes_for, make, pipeline, recipes, tokenizer_of
from random_weights import differ
from setar.models.base import FAMILIES, Generator, GeneratorConfig, guided
from setar.pictures.masks import box_mask
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingSettings

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
CASES = [(family, recipe) for family in FAMILIES for recipe in recipes(family)]
family_and_recipe = pytest.mark.parametrize(("family", "recipe"), CASES)
each_family = pytest.mark.parametrize("family", [*FAMILIES])


def plan_of(model, recipe, batch, seed=0):
    """A sampling plan: sizes are shared, orders are each image's own."""
    generators = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
    return Recipe.parse(recipe).sampling_plan(model.config.grid, generators)


def image_of(plan, index):
    """The plan of one image of a batch."""
    one = slice(index, index + 1)
    return dataclasses.replace(
        plan, order=plan.order[one], known=plan.known[one], supervised=plan.supervised[one]
    )


def fed(decoding, codes, plan, asked=lambda step: True):
    """Logits of a decoding that is told the true codes set by set, in output order."""
    logits = []
    for step, (start, stop) in enumerate(plan.slices()):
        positions = plan.order[:, start:stop]
        if asked(step):
            logits.append(decoding.predict(positions))
        decoding.absorb(codes.gather(1, positions), positions)
    return torch.cat(logits, 1)


@family_and_recipe
def test_cached_recomputed_and_forward_agree(family, recipe):
    model = make(family)
    codes, labels, plan = codes_for(model, 3), torch.tensor([0, 3, 5]), plan_of(model, recipe, 3)
    whole = model(codes, labels, plan)
    assert whole.dtype == torch.float32
    assert whole.shape == (*codes.shape, model.config.vocabulary)
    assert differ(whole[0], whole[1])
    assert differ(whole, model(codes, (labels + 1) % 6, plan))
    for cache in (True, False):
        decoding = model.start(labels, codes.shape[1], cache=cache)
        torch.testing.assert_close(fed(decoding, codes, plan), whole, **CLOSE)


ORDERS = ("raster", "reversed-raster", "roll", "fixed-random", "random", "halton")
counted = st.tuples(
    st.sampled_from(ORDERS), st.integers(1, 20), st.sampled_from(["cosine", "uniform", "random"])
)


@st.composite
def any_recipe(draw):
    """A grid, a recipe that fits it, a batch size and a seed."""
    grid = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    tokens = grid[0] * grid[1]
    kind = draw(st.sampled_from(["counted", "counted", "explicit", "next-scale", "ar"]))
    if kind == "counted":
        order, sets, schedule = draw(counted)
        text = f"{order}-{min(sets, tokens)}-{schedule}"
    elif kind == "explicit":
        cuts = draw(st.sets(st.integers(1, tokens - 1))) if tokens > 1 else set()
        sizes = [str(b - a) for a, b in pairwise([0, *sorted(cuts), tokens])]
        text = f"{draw(st.sampled_from(ORDERS))}-" + (",".join(sizes) if cuts else f"{tokens},")
    else:
        text = kind
    return grid, text, draw(st.integers(1, 3)), draw(st.integers(0, 1000))


any_order = [family for family in FAMILIES if FAMILIES.find(family).editing == "kept-first"]
cached_make = functools.cache(make)


@pytest.mark.parametrize("family", any_order)
@settings(max_examples=25)
@given(any_recipe())
def test_every_path_agrees_under_any_recipe(family, case):
    grid, text, batch, seed = case
    recipe, model = Recipe.parse(text), cached_make(family, grid=grid)
    codes, labels = codes_for(model, batch, seed), torch.arange(batch) % 5
    plan, tokens = plan_of(model, text, batch, seed), grid[0] * grid[1]
    whole = model(codes, labels, plan)
    assert differ(whole, model(codes, (labels + 1) % 5, plan), 1e-3)
    for cached in (True, False):
        decoding = model.start(labels, tokens, cache=cached)
        torch.testing.assert_close(fed(decoding, codes, plan), whole, **CLOSE)

    # Training draws the sets of each image for itself, and leaves gaps where a set is empty.
    plan = recipe.plan(grid, batch, torch.Generator().manual_seed(seed))
    whole = model(codes, labels, plan)
    for i in range(batch):
        one = slice(i, i + 1)
        alone = fed(model.start(labels[one], tokens), codes[one], image_of(plan, i))
        torch.testing.assert_close(alone[0], whole[i], **CLOSE)


@family_and_recipe
def test_sets_may_be_absorbed_that_were_not_asked_for(family, recipe):
    model = make(family)
    codes, labels, plan = codes_for(model, 2), torch.tensor([1, 2]), plan_of(model, recipe, 2)
    whole, last = model(codes, labels, plan), plan.steps - 1
    for cache in (True, False):
        decoding = model.start(labels, codes.shape[1], cache=cache)
        logits = fed(decoding, codes, plan, asked=lambda step: step == last)
        torch.testing.assert_close(logits, whole[:, -plan.sizes[-1] :], **CLOSE)


@pytest.mark.parametrize("family", [name for name in FAMILIES if FAMILIES.find(name).guides])
def test_guided_logits_are_those_of_both_halves(family):
    model = make(family)
    codes, labels = codes_for(model, 2), torch.tensor([1, 2])
    plan = plan_of(model, recipes(family)[-1], 2)
    both, twice = torch.cat([labels, model.null(labels)]), torch.cat([plan.order] * 2)
    for cache in (True, False):
        whole, decoding = (model.start(both, codes.shape[1], cache=cache) for _ in range(2))
        for start, stop in plan.slices():
            positions = twice[:, start:stop]
            first, second = whole.predict(positions).chunk(2)
            found = decoding.guided(positions, [3.0])
            assert differ(found, first)
            torch.testing.assert_close(found, second + 3 * (first - second), atol=1e-4, rtol=1e-4)
            each = [1.0 + place for place in range(stop - start)]
            torch.testing.assert_close(
                guided(torch.cat([first, second]), each),
                second + torch.tensor(each)[:, None] * (first - second),
            )
            known = torch.cat([codes, codes]).gather(1, positions)
            for one in (whole, decoding):
                one.absorb(known, positions)


@family_and_recipe
def test_nothing_leaks_from_a_set_to_itself_or_back(family, recipe):
    model = make(family)
    codes, labels, plan = codes_for(model, 2), torch.tensor([1, 2]), plan_of(model, recipe, 2)
    before = model(codes, labels, plan)
    for start, stop in plan.slices():
        positions = plan.order[:, start:stop]
        other = (codes.gather(1, positions) + 1) % model.config.vocabulary
        after = model(codes.scatter(1, positions, other), labels, plan)
        assert torch.equal(after[:, :stop], before[:, :stop])
        if stop < codes.shape[1]:
            assert differ(after[:, stop:], before[:, stop:], 1e-3)


@each_family
def test_images_of_a_batch_do_not_mix(family):
    model = make(family)
    codes, labels = codes_for(model, 3), torch.arange(3)
    plan = plan_of(model, recipes(family)[-1], 3)
    whole = model(codes, labels, plan)
    for i in range(3):
        found = model(codes[i : i + 1], labels[i : i + 1], image_of(plan, i))
        torch.testing.assert_close(found[0], whole[i], **CLOSE)


@family_and_recipe
@pytest.mark.parametrize(
    "guidance", [Guidance(1.0), Guidance(2.0), Guidance(2.0, interval=(0.3, 0.8))]
)
def test_a_seed_gives_the_same_image_alone_and_in_a_batch(family, recipe, guidance):
    model, parsed = make(family), Recipe.parse(recipe)
    noise, plan = noise_and_plan(parsed, model.config.grid, [5, 6, 7], 5)
    labels = torch.tensor([0, 1, 4])
    cached, uncached = (
        generate(model, labels, plan, noise, guidance, SamplingSettings(cache=cache))
        for cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    assert len(cached.unique(dim=0)) == 3
    for i in range(3):
        noise, plan = noise_and_plan(parsed, model.config.grid, [5 + i], 5)
        assert torch.equal(generate(model, labels[i : i + 1], plan, noise, guidance)[0], cached[i])


@each_family
def test_logits_are_float32_also_in_half_precision(family):
    model = make(family)
    codes, labels = codes_for(model, 1), torch.tensor([1])
    plan = plan_of(model, recipes(family)[-1], 1)
    exact = model(codes, labels, plan)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(codes, labels, plan)
        cached = fed(model.start(labels, codes.shape[1]), codes, plan)
    assert rough.dtype == cached.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1 * exact.abs().max()
    torch.testing.assert_close(rough, cached, atol=0.1 * float(exact.abs().max()), rtol=0)


@each_family
def test_conditions_are_dropped_in_training_only(family):
    model = make(family, class_dropout=1.0)
    codes, labels = codes_for(model, 2), torch.tensor([1, 2])
    plan, null = plan_of(model, recipes(family)[-1], 2), model.null(labels)
    assert null.shape == labels.shape
    assert differ(model(codes, labels, plan), model(codes, null, plan))
    model.condition.train()
    torch.testing.assert_close(model(codes, labels, plan), model(codes, null, plan), **CLOSE)


@each_family
def test_training_uses_its_blocks_as_modules_only(family):
    """As sharding needs: outside of a block's call its weights are not there."""
    model = make(family)
    codes, labels = codes_for(model, 2), torch.tensor([1, 2])
    plan, blocks = plan_of(model, recipes(family)[-1], 2), model.transformer_blocks()
    assert len({id(block) for block in blocks}) == len(blocks)
    assert blocks or not any(isinstance(module, nn.ModuleList) for module in model.modules())
    expected, called = model(codes, labels, plan), []
    for block in blocks:
        held = [(parameter, parameter.detach().clone()) for parameter in block.parameters()]

        def fetch(module, *_, held=held):
            called.append(module)
            for parameter, value in held:
                parameter.data.copy_(value)

        def drop(*_, held=held):
            for parameter, _value in held:
                parameter.data.fill_(torch.nan)

        drop()
        block.register_forward_pre_hook(fetch)
        block.register_forward_hook(drop)
    torch.testing.assert_close(model(codes, labels, plan), expected, **CLOSE)
    assert [id(block) for block in called] == [id(block) for block in blocks]


@each_family
def test_attention_that_it_was_not_trained_for_is_refused(family):
    model = make(family)
    for attention in ("fast", "", *{"full", "causal"} - {*model.attentions}):
        with pytest.raises(ValueError, match=r"\A`attention` must be [^\n]*\Z"):
            model.start(torch.tensor([0]), 4, attention=attention)
    tokens = codes_for(model, 1).shape[1]
    for attention in model.attentions:
        model.start(torch.tensor([0]), tokens, attention=attention)


@each_family
def test_a_plan_of_another_grid_is_followed_or_refused(family):
    model, other = make(family), Recipe.parse("ar").plan((7, 3), 2)
    model.check(plan_of(model, model.config.recipe, 2))
    if not model.any_grid:
        with pytest.raises(ValueError, match="the plan is for a grid of"):
            model.check(other)
        return
    model.check(other)
    codes, labels = torch.randint(model.config.vocabulary, (2, 21)), torch.tensor([1, 2])
    whole = model(codes, labels, other)
    for cache in (True, False):
        decoding = model.start(labels, 21, cache=cache, grid=(7, 3))
        torch.testing.assert_close(fed(decoding, codes, other), whole, **CLOSE)


@each_family
def test_training_reaches_every_weight_and_lowers_the_loss(family):
    torch.manual_seed(0)
    model = FAMILIES.find(family)(FAMILIES.find(family).presets["tiny"])
    model.attach(tokenizer_of(family))
    codes, labels = codes_for(model, 4), torch.arange(4)
    plan = plan_of(model, recipes(family)[-1], 4)
    targets, losses = codes.gather(1, plan.order).flatten(), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)  # at which the loss falls smoothly
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(codes, labels, plan).flatten(0, 1), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@each_family
def test_editing_keeps_what_is_outside_the_mask_and_ignores_what_is_under_it(family):
    pipe = pipeline(family, guidance=1.5)
    width, height = pipe.size
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = box_mask(pipe.size, (0, height // 2, width, height))  # every family can make the end
    image = Image.fromarray(pixels)
    made = np.asarray(pipe.edit(image, mask, "dog", seed=3, count=2)[1])
    assert (made[: height // 2] == pixels[: height // 2]).all()
    assert (made[height // 2 :] != pixels[height // 2 :]).any()
    pixels[height // 2 :] = noise.integers(0, 256, (height // 2, width, 3), dtype=np.uint8)
    again = pipe.edit(Image.fromarray(pixels), mask, "dog", seed=3, count=2)[1]
    assert (np.asarray(again) == made).all()


@each_family
def test_editing_elsewhere_is_done_or_refused(family):
    pipe = pipeline(family)
    image = Image.new("RGB", pipe.size, "orange")
    corner = box_mask(pipe.size, (0, 0, pipe.size[0] // 2, pipe.size[1] // 2))
    if pipe.model.editing == "suffix":
        with pytest.raises(ValueError, match=r"\A[^\n]*can only continue[^\n]*\Z"):
            pipe.edit(image, corner, "dog")
    else:
        made = np.asarray(pipe.edit(image, corner, "dog")[0])
        assert (made[pipe.size[1] // 2 :] == (255, 165, 0)).all()


@each_family
def test_a_saved_model_samples_the_same(family, tmp_path):
    pipe = pipeline(family)
    codes = pipe.sample_codes(CLASSES, seed=1)
    pipe.save_pretrained(tmp_path / "model")
    loaded = Pipeline.from_pretrained(tmp_path / "model")
    assert type(loaded.model) is type(pipe.model)
    assert loaded.describe() == pipe.describe()
    assert loaded.describe()["model"]["family"] == family
    assert torch.equal(loaded.sample_codes(CLASSES, seed=1), codes)
    assert {name.split(".")[0] for name in loaded.model.state_dict()} == {
        name.split(".")[0] for name in FAMILIES.find(family)(pipe.model.config).state_dict()
    }


@each_family
def test_compiled_is_the_same_with_the_same_weights(family):
    model, twin = make(family), make(family)
    codes, labels = codes_for(model, 2), torch.tensor([1, 2])
    plan, names = plan_of(model, recipes(family)[-1], 2), [*model.state_dict()]
    model.compile(backend="aot_eager", dynamic=False)
    torch.testing.assert_close(model(codes, labels, plan), twin(codes, labels, plan), **CLOSE)
    assert [*model.state_dict()] == names


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="the default backend needs a C++ compiler")
@pytest.mark.parametrize(
    "family", [name for name in FAMILIES if not FAMILIES.plugin_of(name) and name != "fmt"]
)
def test_compiled_by_the_default_backend(family):
    """The FMT, gradients and all: `test_generator.test_a_compiled_model_learns_the_same`."""
    model, twin = make(family), make(family)
    codes, labels = codes_for(model, 2), torch.tensor([1, 2])
    plan = plan_of(model, recipes(family)[-1], 2)
    model.compile(dynamic=False)
    found = model(codes, labels, plan)
    torch.testing.assert_close(found, twin(codes, labels, plan), atol=1e-4, rtol=1e-4)


@each_family
def test_impossible_shapes_are_refused_in_one_line(family):
    tiny = FAMILIES.find(family).presets["tiny"]
    for name in ("vocabulary", "classes", "width", "heads", "condition_length"):
        for wrong in (0, -1):
            with pytest.raises(ValueError, match=rf"\A[^\n]*`{name}`[^\n]*\Z"):
                dataclasses.replace(tiny, **{name: wrong})
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="class_dropout"):
            dataclasses.replace(tiny, class_dropout=wrong)
    with pytest.raises(ValueError, match=r"unknown condition 'clas'; did you mean 'class'"):
        FAMILIES.find(family)(dataclasses.replace(tiny, condition="clas"))


@each_family
def test_the_shape_follows_tokenizer_and_data(family):
    tiny, tokenizer = FAMILIES.find(family).presets["tiny"], tokenizer_of(family)
    side = 16 if tokenizer.image_size is None else tokenizer.image_size[0]
    fitted = tiny.fitted(tokenizer, {"classes": 7}, tokenizer.grid(side, side))
    assert (fitted.classes, fitted.vocabulary) == (7, tokenizer.vocabulary)
    assert fitted.grid == tokenizer.grid(side, side)
    other = tokenizer_of("fmt" if tokenizer.scales else "var")
    with pytest.raises(ValueError, match=r"\A[^\n]*'var'[^\n]*\Z"):
        tiny.fitted(other, {"classes": 7}, (4, 4))


def test_a_family_that_leaves_a_word_out_says_so_at_once():
    class Silent(Generator):
        Config, presets = GeneratorConfig, {}

    with pytest.raises(ValueError, match="the family Silent must say its `editing`"):
        Silent(GeneratorConfig())

    class Misspelt(Silent):
        editing = "kept_first"

    with pytest.raises(
        ValueError, match="must be one of kept-first, suffix, own, not 'kept_first'"
    ):
        Misspelt(GeneratorConfig())


def test_random_weights_are_random():
    """All tests above would pass for a model whose logits are all 0."""
    for family in FAMILIES:
        model = make(family)
        plan = plan_of(model, model.config.recipe, 1)
        logits = model(codes_for(model, 1), torch.tensor([0]), plan)
        assert logits.std() > 0.1, family
