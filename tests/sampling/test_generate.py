"""The sampling loop: what it asks of a model, and that its images follow from the seeds alone."""

import dataclasses

import pytest
import torch

from random_weights import random_codes, random_fmt
from setar.recipes.recipe import Recipe
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance, Progress
from setar.sampling.logits import probabilities
from setar.sampling.settings import SamplingSettings

GRID, TOKENS = (4, 4), 16
RECIPES = [
    "ar",
    "next-scale",
    "raster-1,2,1,12",
    "roll-16,",
    "reversed-raster-5-uniform",
    "reversed-roll-7-cosine",
    "fixed-random-12-random",
    "random-16-random",
    "random-4-cosine",
]
CLASSES, VOCABULARY = 5, 7


class FakeModel:
    """Logits follow from label, position and everything absorbed; every call is written down."""

    any_grid = guides = False

    def __init__(self):
        self.started, self.predicted, self.absorbed = [], [], []

    def start(self, labels, tokens, attention="causal", cache=True):
        self.started.append((labels.tolist(), tokens, attention, cache))
        return FakeDecoding(self, labels)

    def null(self, labels):
        return torch.full_like(labels, CLASSES)

    def unguided_steps(self):
        """The positions of every prediction for "no class"."""
        return [positions for labels, positions in self.predicted if CLASSES in labels]


class FakeDecoding:
    """One batch; it remembers a sum over the codes and positions of each image."""

    def __init__(self, model, labels):
        self.model, self.labels = model, labels
        self.memory = torch.zeros(len(labels), dtype=torch.int64)

    def predict(self, positions):
        self.model.predicted.append((self.labels.tolist(), positions.tolist()))
        state = 31 * self.labels[:, None] + 7 * positions + self.memory[:, None]
        return 2 * torch.sin(state[..., None].double() * torch.arange(1, VOCABULARY + 1))

    def absorb(self, codes, positions):
        self.model.absorbed.append((self.labels.tolist(), positions.tolist()))
        self.memory += ((codes + 1) * (positions + 3)).sum(1)


def prepared(text, seeds=(1, 2, 3), schedule_seed=0):
    """Labels, plan and noise of some images."""
    noise, plan = noise_and_plan(Recipe.parse(text), GRID, list(seeds), schedule_seed)
    return torch.arange(len(seeds)) % CLASSES, plan, noise


def drawn(chances, uniform):
    """The first code whose cumulated probability exceeds ``uniform``."""
    cumulated = 0.0
    for code, chance in enumerate(chances):
        cumulated += chance
        if cumulated > uniform:
            return code
    raise AssertionError


def explicit(model, labels, plan, noise, guidance, chances=probabilities):
    """One image after another, both passes always computed, each token drawn by itself."""
    result = torch.full_like(plan.order, -1)
    for image in range(len(labels)):
        label = labels[image : image + 1]
        conditional = model.start(label, TOKENS)
        unconditional = model.start(model.null(label), TOKENS)
        for step, (start, stop) in enumerate(plan.slices(), 1):
            positions = plan.order[image : image + 1, start:stop]
            c, u = conditional.predict(positions), unconditional.predict(positions)
            scale = guidance.at(Progress(start, stop - start, TOKENS, step, plan.steps))
            if guidance.schedule == "linear-token":
                done = torch.arange(start, stop).double() / TOKENS
                low, high = guidance.interval
                acts = (low <= done) & (done <= high)
                scale = (1 + (guidance.scale - 1) * done * acts)[:, None]
            rows = chances(u + scale * (c - u))[0].tolist()
            for row, position in zip(rows, positions[0].tolist(), strict=True):
                result[image, position] = drawn(row, noise[image, position].item())
            codes = result[image : image + 1].gather(1, positions)
            conditional.absorb(codes, positions)
            unconditional.absorb(codes, positions)
    return result


GUIDANCES = [
    Guidance(1.0),
    Guidance(0.0),
    Guidance(2.5),
    Guidance(2.5, "linear"),
    Guidance(2.5, "linear-after"),
    Guidance(2.5, "linear-token"),
    Guidance(2.5, "linear-token", interval=(0.2, 0.6)),
    Guidance(2.5, "power-cosine"),
    Guidance(1.5, "var"),
    Guidance(1.0, "var"),
    Guidance(2.5, interval=(0.25, 0.75)),
    Guidance(2.5, "linear", interval=(0.5, 1.0)),
    Guidance(2.5, interval=(0.0, 0.3)),
    Guidance(2.5, interval=(0.0, 0.0)),
]


@pytest.mark.parametrize("text", ["random-8-cosine", "ar", "random-12-random"])
@pytest.mark.parametrize("guidance", GUIDANCES, ids=str)
def test_equals_the_loop_written_out(text, guidance):
    labels, plan, noise = prepared(text)
    found = generate(FakeModel(), labels, plan, noise, guidance)
    assert torch.equal(found, explicit(FakeModel(), labels, plan, noise, guidance))


def test_the_fake_model_tells_images_and_guidances_apart():
    labels, plan, noise = prepared("random-8-cosine", seeds=(1, 1, 1))
    results = [generate(FakeModel(), labels, plan, noise, g) for g in GUIDANCES]
    assert len({tuple(codes.flatten().tolist()) for codes in results}) == len(GUIDANCES)
    assert len({tuple(image) for image in results[0].tolist()}) == 3


@pytest.mark.parametrize("guidance", GUIDANCES, ids=str)
@pytest.mark.parametrize("cache", [True, False])
def test_a_real_model_equals_the_loop_written_out(guidance, cache):
    labels, plan, noise = prepared("random-6-cosine")
    settings = SamplingSettings(cache=cache)
    found = generate(random_fmt(), labels, plan, noise, guidance, settings)
    assert torch.equal(found, explicit(random_fmt(), labels, plan, noise, guidance))


@pytest.mark.parametrize("text", RECIPES)
def test_every_position_is_filled_once_and_the_cache_changes_nothing(text):
    labels, plan, noise = prepared(text)
    filters = {"temperature": 1.1, "top_k": 20, "top_p": 0.95, "min_p": 0.01}
    cached = generate(random_fmt(), labels, plan, noise, Guidance(2.0), SamplingSettings(**filters))
    plain = generate(
        random_fmt(), labels, plan, noise, Guidance(2.0), SamplingSettings(**filters, cache=False)
    )
    assert torch.equal(cached, plain)
    assert cached.dtype == torch.int64
    assert cached.min() >= 0
    assert cached.max() < 24
    assert len({tuple(image) for image in cached.tolist()}) == 3

    model = FakeModel()
    generate(model, labels, plan, noise)
    for image in range(3):
        asked = [p for _, positions in model.predicted for p in positions[image]]
        assert sorted(asked) == list(range(TOKENS))
        assert asked == plan.order[image].tolist()


@pytest.mark.parametrize("guidance", [Guidance(1.0), Guidance(2.0), Guidance(2.0, "linear")])
def test_full_attention_depends_on_known_tokens_only(guidance):
    labels, plan, noise = prepared("random-6-cosine")
    settings = SamplingSettings(attention="full")
    full = generate(random_fmt(), labels, plan, noise, guidance, settings)
    causal = generate(random_fmt(), labels, plan, noise, guidance)
    assert not torch.equal(full, causal)
    # Nothing is known before the first set, so it does not matter how the rest is split.
    other = prepared(f"random-{plan.sizes[0]},{TOKENS - plan.sizes[0]}")[1]
    other = dataclasses.replace(plan, known=other.known)
    again = generate(random_fmt(), labels, other, noise, guidance, settings)
    at_first = plan.order[:, : plan.sizes[0]]
    assert torch.equal(full.gather(1, at_first), again.gather(1, at_first))
    assert not torch.equal(full, again)
    model = FakeModel()
    generate(model, labels, plan, noise, guidance, settings)
    assert {call[2] for call in model.started} == {"full"}


def test_guidance_one_never_starts_an_unconditional_pass():
    labels, plan, noise = prepared("random-6-cosine")
    for guidance in (
        None,
        Guidance(1.0),
        Guidance(1.0, "linear"),
        Guidance(1.0, interval=(0, 0.5)),
    ):
        model = FakeModel()
        generate(model, labels, plan, noise, guidance)
        assert model.started == [([0, 1, 2], TOKENS, "causal", True)]
        assert len(model.predicted) == 6


def test_constant_guidance_is_one_batch():
    labels, plan, noise = prepared("random-6-cosine")
    model = FakeModel()
    generate(model, labels, plan, noise, Guidance(2.0))
    assert [call[0] for call in model.started] == [[0, 1, 2, 5, 5, 5]]
    assert len(model.predicted) == 6
    for _, positions in model.predicted:
        assert positions[:3] == positions[3:]


def test_outside_its_interval_guidance_computes_nothing():
    labels, plan, noise = prepared("raster-8-uniform", seeds=(1,))
    cases = {
        (0.25, 0.75): [[4, 5], [6, 7], [8, 9], [10, 11], [12, 13]],
        (0.0, 0.2): [[0, 1], [2, 3]],
        (0.9, 1.0): [],
        (0.8, 1.0): [[14, 15]],
    }
    for interval, expected in cases.items():
        model = FakeModel()
        generate(model, labels, plan, noise, Guidance(2.0, interval=interval))
        assert [positions[0] for positions in model.unguided_steps()] == expected
        assert len(model.predicted) == 8 + len(expected)


def test_a_scale_of_one_inside_an_interval_computes_nothing_either():
    labels, plan, noise = prepared("raster-8-uniform", seeds=(1,))
    model = FakeModel()
    generate(model, labels, plan, noise, Guidance(2.0, "linear", interval=(0.0, 0.2)))
    assert [positions[0] for positions in model.unguided_steps()] == [[2, 3]]


@pytest.mark.parametrize("schedule", ["constant", "linear", "linear-after", "power-cosine"])
def test_guidance_in_one_batch_equals_guidance_in_two(schedule):
    labels, plan, noise = prepared("random-6-cosine")
    joint, separate = Guidance(2.0, schedule), Guidance(2.0, schedule, interval=(0.0, 0.999))
    for model in (FakeModel(), random_fmt()):
        expected = generate(model, labels, plan, noise, joint)
        assert torch.equal(generate(model, labels, plan, noise, separate), expected)
        assert not torch.equal(generate(model, labels, plan, noise), expected)


def test_empty_sets_cost_nothing():
    steps = set()
    for seed in range(10):
        labels, plan, noise = prepared("random-16-random", schedule_seed=seed)
        model = FakeModel()
        generate(model, labels, plan, noise)
        assert len(model.predicted) == plan.steps < 16
        assert all(positions[0] for _, positions in model.predicted)
        steps.add(plan.steps)
    assert len(steps) > 1


def test_the_last_set_is_not_absorbed():
    labels, plan, noise = prepared("raster-4-uniform")
    model = FakeModel()
    generate(model, labels, plan, noise)
    assert len(model.predicted) == 4
    assert len(model.absorbed) == 3


@pytest.mark.parametrize("text", ["random-6-cosine", "random-9-random", "ar", "roll-16,"])
def test_on_set_sees_the_image_grow(text):
    labels, plan, noise = prepared(text)
    seen = []
    codes = generate(FakeModel(), labels, plan, noise, Guidance(2.0), on_set=seen.append)
    assert [done.step for done in seen] == list(range(1, plan.steps + 1))
    assert {done.steps for done in seen} == {plan.steps}
    for done, (_, stop) in zip(seen, plan.slices(), strict=True):
        known = torch.zeros(3, TOKENS, dtype=torch.bool).scatter(1, plan.order[:, :stop], True)
        assert torch.equal(done.codes, codes.where(known, torch.tensor(-1)))


def test_noise_belongs_to_the_seed_and_the_position():
    noise, _ = noise_and_plan(Recipe.parse("ar"), GRID, [4, 5, 4], 0)
    assert noise.shape == (3, TOKENS)
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert noise.min() >= 0
    assert noise.max() < 1
    for text in RECIPES:
        again, _ = noise_and_plan(Recipe.parse(text), GRID, [9, 4], 3)
        assert torch.equal(again[1], noise[0])


def test_only_the_sizes_of_a_random_schedule_depend_on_its_seed():
    recipe = Recipe.parse("random-8-random")
    (noise, plan), (other_noise, other) = (
        noise_and_plan(recipe, GRID, [4, 5], seed) for seed in (0, 1)
    )
    assert torch.equal(noise, other_noise)
    assert torch.equal(plan.order, other.order)
    assert plan.sizes != other.sizes


def test_an_image_is_the_same_alone_and_in_a_batch():
    labels, plan, noise = prepared("random-6-cosine", seeds=range(16))
    together = generate(random_fmt(), labels, plan, noise, Guidance(2.0))
    for image in (0, 7, 15):
        _, plan, noise = prepared("random-6-cosine", seeds=[image])
        alone = generate(random_fmt(), labels[image : image + 1], plan, noise, Guidance(2.0))
        assert torch.equal(alone[0], together[image])


def test_without_context_the_recipe_does_not_matter():
    class Flat(FakeModel):
        """Every code is as likely as any other, whatever is known."""

        def start(self, labels, tokens, attention="causal", cache=True):
            decoding = super().start(labels, tokens)
            decoding.predict = lambda positions: torch.zeros(*positions.shape, 8)
            return decoding

    for text in RECIPES:
        labels, plan, noise = prepared(text)
        codes = generate(Flat(), labels, plan, noise, Guidance(3.0))
        assert torch.equal(codes, (noise * 8).floor().long())


def test_samples_follow_the_models_distribution():
    first = torch.tensor([0.5, 0.3, 0.2])
    second = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]])

    class Markov:
        """Two tokens: whichever comes second depends on the first."""

        any_grid = guides = False

        def start(self, labels, tokens, attention="causal", cache=True):
            self.chances = first.expand(len(labels), 3)
            return self

        def null(self, labels):
            return labels

        def predict(self, positions):
            return self.chances.log()[:, None]

        def absorb(self, codes, positions):
            self.chances = second[codes[:, 0]]

    images = 4000
    noise, plan = noise_and_plan(Recipe.parse("random-2-uniform"), (1, 2), range(images), 0)
    codes = generate(Markov(), torch.zeros(images, dtype=torch.int64), plan, noise)
    ordered = codes.gather(1, plan.order)
    cells = plan.order[:, 0] * 9 + ordered[:, 0] * 3 + ordered[:, 1]
    expected = images * (first[:, None] * second).flatten().repeat(2) / 2
    distance = (cells.bincount(minlength=18) - expected).square() / expected
    # Chi-square with 17 degrees of freedom exceeds 60.1 once in a million times.
    assert distance.sum() < 60.1


def test_codes_can_be_drawn_again_from_a_generated_image():
    """What was generated is what the training path finds likely: the same logits, end to end."""
    model, codes = random_fmt(), random_codes(1, GRID)
    labels, plan, noise = prepared("random-6-cosine", seeds=[3])
    codes = generate(model, labels, plan, noise)
    rows = probabilities(model(codes, labels, plan))[0].tolist()
    for row, position in zip(rows, plan.order[0].tolist(), strict=True):
        assert codes[0, position] == drawn(row, noise[0, position].item())
