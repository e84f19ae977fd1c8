"""Training on captions: buckets of shapes, batches of several grids, and the loss."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_weights import random_fmt, randomise
from setar.data.base import Dataset
from setar.data.batches import ShuffledBatches
from setar.models.text_condition import NOTHING, PAD, TOKEN, pack
from setar.recipes.clocks import PADDING
from setar.recipes.recipe import Recipe
from setar.tokenizers.base import encode_images
from setar.tokenizers.vqgan import PRESETS, VQGAN
from setar.training.shapes import aspect_buckets, nearest_bucket
from setar.training.text import (
    BucketExamples,
    HeldOutTexts,
    Stage,
    TextObjective,
    conditions,
    text_batch,
    text_loss,
)

LENGTH, DIM = 20, 5


class Texts:
    """States that follow from the words of a text."""

    def encode(self, texts):
        longest, states = max(len(text.split()) or 1 for text in texts), []
        for text in texts:
            words = text.split() or [""]
            rows = [torch.randn(DIM, generator=seeded(sum(map(ord, word)))) for word in words]
            states.append(torch.stack([*[torch.zeros(DIM)] * (longest - len(rows)), *rows]))
        lengths = torch.tensor([len(text.split()) or 1 for text in texts])
        return pack(torch.stack(states), torch.arange(longest) >= longest - lengths[:, None])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def model(**changes):
    shape = {"condition": "text", "condition_length": LENGTH, "condition_dim": DIM}
    return random_fmt(vocabulary=32, positions="sine", **shape, **changes)


@pytest.fixture(scope="module")
def tokenizer():
    return randomise(VQGAN(PRESETS["tiny"])).eval()


SHAPES = torch.tensor([[16, 16], [10, 20], [20, 10], [9, 9], [10, 18], [12, 11]]).float()
BUCKETS = [(16, 16), (12, 20), (20, 12)]
CAPTIONS = [("a cat",), ("a dog", "the dog"), (), ("one",), ("a b c d",), ("x y",)]


def examples(tokenizer, **changes):
    """Six pictures, of the shapes and captions above."""
    images = {
        size: torch.randint(256, (6, 3, *size), generator=seeded()).byte() for size in BUCKETS
    }
    labels = torch.zeros(6, dtype=torch.int64)
    data = Dataset(images[16, 16], labels, ("x",), captions=CAPTIONS)
    return BucketExamples(data, images.__getitem__, SHAPES, BUCKETS, tokenizer, **changes)


# Buckets


@settings(max_examples=60)
@given(st.integers(1, 80), st.sampled_from([4, 8, 16]), st.floats(1, 8))
def test_buckets_have_nearly_equal_areas(rows, stride, most):
    sizes = aspect_buckets(rows * stride, stride, most)
    assert sizes[0] == (rows * stride, rows * stride)
    assert len({*sizes}) == len(sizes)
    assert {size[::-1] for size in sizes} == {*sizes}
    for height, width in sizes:
        assert height % stride == width % stride == 0
        short, long = sorted((height // stride, width // stride))
        assert long <= most * short
        assert 0 <= rows * rows - short * long < short  # not one column more would fit
    wide = [size for size in sizes if size[0] <= size[1]]
    ratios = [width / height for height, width in wide]
    assert ratios == sorted(ratios)
    short = wide[-1][0] // stride - 1  # none that would do is left out
    assert not short or rows * rows // short > most * short


def test_the_nearest_shape_is_that_of_the_ratio():
    buckets = [(4, 4), (2, 8), (8, 2)]
    shapes = torch.tensor([[100, 100], [10, 19], [10, 21], [21, 10], [1, 50], [50, 1]]).float()
    assert nearest_bucket(shapes, buckets).tolist() == [0, 0, 1, 2, 1, 2]


# Examples and batches


def test_images_are_cropped_to_the_bucket_of_their_shape(tokenizer):
    made = examples(tokenizer)
    grids = made.grids(torch.arange(6))
    assert grids == [(4, 4), (3, 5), (5, 3), (4, 4), (3, 5), (4, 4)]
    codes = made.codes(torch.tensor([4, 1, 4]), (3, 5))
    expected = encode_images(tokenizer, made.images[1][torch.tensor([4, 1, 4])])
    assert torch.equal(codes, expected)
    assert not torch.equal(codes[0], codes[1])


def test_an_image_is_encoded_once_while_there_is_room(tokenizer, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "setar.training.text.encode_images",
        lambda tokenizer, images: (
            seen.append(images.items.tolist()) or torch.arange(len(images))[:, None].expand(-1, 15)
        ),
    )
    made = examples(tokenizer, most=20)
    for items in ([1, 4, 1], [4], [1]):
        made.codes(torch.tensor(items), (3, 5))
    assert seen == [[1, 4], [4]]
    assert made.room == 5


def test_captions_are_any_of_those_there_are(tokenizer):
    made, draw = examples(tokenizer), random.Random(0)
    drawn = [made.captions(torch.tensor([1, 2, 0]), draw) for _ in range(40)]
    assert {tuple(texts) for texts in drawn} == {("a dog", "", "a cat"), ("the dog", "", "a cat")}


def test_a_batch_holds_every_item_with_its_own(tokenizer):
    made, items = examples(tokenizer), torch.tensor([1, 0, 4, 2, 3])
    batch = text_batch(made, items, Recipe.parse("random-3-random"), random.Random(0), seeded())
    assert batch.codes.shape == (5, 16)
    order = [1, 4, 0, 3, 2]  # those of a grid together
    assert [text.split()[-1] if text else "" for text in batch.captions] == [
        "dog", "d", "cat", "one", "",
    ]  # fmt: skip
    assert batch.plan.grids is not None
    assert batch.plan.grids.tolist() == [list(made.grids(torch.tensor([i]))[0]) for i in order]
    for row, item in enumerate(order):
        [grid] = made.grids(torch.tensor([item]))
        own = made.codes(torch.tensor([item]), grid)[0]
        assert torch.equal(batch.codes[row, : len(own)], own)
        assert batch.plan.supervised[row].sum() == len(own)
    longer = text_batch(made, items, Recipe.parse("ar"), random.Random(0), length=18)
    assert longer.codes.shape == longer.plan.order.shape == (5, 18)


def loss_of(made, items, recipe, length=0):
    with torch.no_grad():
        batch = text_batch(made, items, Recipe.parse(recipe), random.Random(0), seeded(), length)
        return text_loss(model(), batch, Texts(), torch.device("cpu")).item()


def test_the_loss_of_a_batch_is_the_mean_over_the_tokens_of_each_alone(tokenizer):
    made, items = examples(tokenizer), torch.tensor([4, 0, 2, 3])  # each with one caption or none
    alone = [loss_of(made, item[None], "raster-1-cosine") for item in items]
    assert max(alone) - min(alone) > 0.1
    tokens = [15, 16, 15, 16]
    mean = sum(map(float.__mul__, alone, map(float, tokens))) / sum(tokens)
    assert loss_of(made, items, "raster-1-cosine") == pytest.approx(mean, abs=1e-4)


def test_padding_does_not_change_the_loss(tokenizer):
    made, items = examples(tokenizer), torch.tensor([1, 0, 4, 2, 3])
    losses = [loss_of(made, items, "random-3-random", length) for length in (0, 21)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_texts_are_padded_to_few_lengths_and_none_is_nothing(monkeypatch):
    monkeypatch.setattr("setar.training.text.TRIMMED_TO", 8)
    condition = conditions(model(), Texts(), ["a cat", "", "a b c"])
    assert condition.shape == (3, 8, DIM + 1)
    assert condition[:, -4:, -1].tolist() == [
        [PAD, PAD, TOKEN, TOKEN],
        [PAD, PAD, PAD, NOTHING],
        [PAD, TOKEN, TOKEN, TOKEN],
    ]
    longest = conditions(model(), Texts(), [" ".join("abcdefghijklmnopqr")])
    assert longest.shape[1] == LENGTH  # not 24, which the model has not
    clock = model().condition.clock(condition)
    assert clock[1].tolist() == [PADDING] * 7 + [0]


# Stages


class Counting:
    """Examples that are only numbered."""

    def __init__(self, samples):
        self.samples = samples

    def batches(self, batch_size, seed):
        return ShuffledBatches(self.samples, batch_size, seed)


def staged(made):
    recipe = Recipe.parse("ar")

    def of(name, samples):
        return lambda: made.append(name) or Counting(samples)

    stages = [
        Stage(0, 3, recipe, 4, of("first", 6)),
        Stage(3, 2, recipe, 2, of("second", 100)),
    ]
    return TextObjective(model(), stages, Texts(), 6)


def test_each_stage_counts_from_its_own_beginning():
    made = []
    objective = staged(made)
    batches = objective.batches(99, 7)
    first, second = ShuffledBatches(6, 4, 7), ShuffledBatches(100, 2, 8)
    found = [batches.indices(step) for step in range(6)]
    expected = [first.indices(i) for i in range(3)] + [second.indices(i) for i in range(3)]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert made == ["first", "second"]  # each once, when it begins
    assert [objective.stage_at(step) for step in range(6)] == [0, 0, 0, 1, 1, 1]


def test_a_resumed_training_begins_in_the_middle():
    made = []
    batches = staged(made).batches(99, 7)
    assert torch.equal(batches.indices(4), ShuffledBatches(100, 2, 8).indices(1))
    assert made == ["second"]


def test_the_held_out_loss_is_always_measured_in_the_same_way(tokenizer):
    pictures = torch.randint(256, (6, 3, 16, 16), generator=seeded()).byte()

    def encode(items):
        return encode_images(tokenizer, pictures[items])

    measure = HeldOutTexts(CAPTIONS, encode, (4, 4), Recipe.parse("random-3-random"), Texts())
    assert measure.captions == ["a cat", "a dog", "one", "a b c d", "x y"]
    assert measure.codes.shape == (5, 16)
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        losses.append(measure(model())["heldout_loss"])
    assert losses[0] == losses[1] > 0
    assert measure(model(seed=1))["heldout_loss"] != losses[0]
