"""Tests of `setar.evaluation.emoji`, with a projection instead of the network's features."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from fake_features import FakeFeatures
from grey_patches import GreyPatches
from random_weights import random_fmt
from setar.data import emoji
from setar.evaluation import emoji as evaluation
from setar.evaluation.distances import frechet_distance
from setar.evaluation.metrics import METRICS, Evidence, measure
from setar.evaluation.neighbours import (
    leave_one_out_class_share,
    near_copies,
    nearest_class_share,
)
from setar.evaluation.samples import BalancedSampler, sample
from setar.evaluation.summary import summarise
from setar.pipeline import Pipeline
from setar.tokenizers.base import encode_images, to_uint8

LEVELS = GreyPatches.vocabulary


def projected(images):
    """Cheap features [n, 12]."""
    return FakeFeatures()(images).pooled


@pytest.fixture(scope="module")
def pipeline():
    model = random_fmt(grid=(8, 8), vocabulary=LEVELS, classes=99)
    return Pipeline(model, GreyPatches(), emoji.subgroups())


@pytest.fixture(scope="module")
def report(pipeline):
    return evaluation.evaluate_generator(
        pipeline,
        count=2,
        seed=5,
        progress=False,
        extractor=FakeFeatures(),
        recipe="random-4-cosine",
        guidance=1.0,
    )


def test_the_figures_are_as_defined(pipeline, report):
    figures, samples = report
    train, every = emoji.load("train"), emoji.load("all")
    codes = pipeline.sample_codes(
        list(emoji.subgroups()), count=2, seed=5, recipe="random-4-cosine", guidance=1.0
    )
    in_turn = codes.unflatten(0, (99, 2)).transpose(0, 1).flatten(0, 1)
    assert torch.equal(samples, pipeline.decode(in_turn))
    assert figures.images == len(samples) == 198
    made, real = projected(samples), projected(train.images)
    assert figures.distance == pytest.approx(frechet_distance(made, real))
    share = nearest_class_share(made, torch.arange(99).repeat(2), real, train.labels)
    assert figures.class_share == share
    left_out = leave_one_out_class_share(projected(every.images), every.labels)
    assert figures.class_share_real == left_out
    rebuilt = pipeline.decode(encode_images(pipeline.tokenizer, train.images))
    assert figures.near_copies == near_copies(samples, rebuilt, figures.copy_threshold)
    assert figures.copy_threshold == pytest.approx(0.066, abs=0.001)
    assert figures.seconds > 0


def test_noise_is_no_copy_and_far_from_real_emoji(report):
    figures, _ = report
    assert figures.exact_copies == 0
    assert figures.distance > 2 * figures.distance_reconstructed_balanced
    assert 0 < figures.distance_real_balanced < figures.distance_reconstructed_balanced
    assert figures.distance_reconstructed > 0
    assert figures.distance_by_heart > figures.distance_reconstructed_balanced


def test_copies_are_seen_as_copies(pipeline, monkeypatch):
    train = emoji.load("train")
    first = torch.stack([(train.labels == c).nonzero()[0, 0] for c in range(99)])
    codes = encode_images(pipeline.tokenizer, train.images[first]).clone()
    codes[40:] = torch.randint(LEVELS, (59, 64), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(pipeline, "sample_codes", lambda classes, **_: codes[classes])
    figures, _ = evaluation.evaluate_generator(
        pipeline, count=1, progress=False, extractor=FakeFeatures()
    )
    assert figures.exact_copies == 40 / 99
    assert figures.near_copies == 40 / 99


@pytest.mark.parametrize("count", [1, 8, 60])
def test_the_real_emoji_beside_the_samples(count):
    labels = emoji.load("train").labels
    chosen = evaluation._random(labels, count, seed=0)
    assert len(chosen.uniform) == len(chosen.balanced) == 99 * count
    assert (labels[chosen.balanced].bincount() == count).all()
    assert len({tuple(drawn.tolist()) for drawn in chosen.independent}) == evaluation.DRAWS > 1
    for drawn in chosen.independent:
        assert (labels[drawn].bincount() == count).all()
        assert len(drawn.unique()) < 0.9 * min(99 * count, len(labels)) or count == 1
    assert torch.equal(chosen.balanced, evaluation._random(labels, count, seed=0).balanced)
    assert not torch.equal(chosen.balanced, evaluation._random(labels, count, seed=1).balanced)
    most = -(-99 * count // len(labels))
    assert chosen.uniform.bincount().max() == most, "an image comes twice only if it must"
    sizes = labels.bincount()
    times = chosen.balanced.bincount(minlength=len(labels))
    assert (times <= -(-count // sizes[labels])).all()


def test_the_tokenizer_report_by_hand():
    figures = evaluation.evaluate_tokenizer(GreyPatches())
    images = emoji.load("heldout").images
    tokenizer = GreyPatches()
    codes = encode_images(tokenizer, images)
    rebuilt = to_uint8(tokenizer.decode(codes, (8, 8)))
    error = ((rebuilt.double() - images) / 255).square().flatten(1).mean(1)
    assert figures.psnr_heldout == pytest.approx((-10 * error.log10()).mean().item(), abs=1e-3)
    assert figures.usage_heldout == len(set(codes.flatten().tolist())) / LEVELS
    assert 0 < figures.usage_heldout <= figures.usage_train <= 1
    assert figures.tokens == 64


def test_both_reports_are_metrics_of_the_data_set(pipeline, report):
    figures, pictures = report
    extractor = FakeFeatures()
    sampler = BalancedSampler(pipeline, 2, 5, recipe="random-4-cosine", guidance=1.0)
    made, real = (summarise(images, extractor) for images in (pictures, emoji.load("train").images))
    samples, data = sample(lambda: sampler, 99, 2, 5), emoji.load("train")
    evidence = Evidence(made, real, extractor, data=data, pipeline=pipeline, samples=samples)
    tables = measure(evidence, data.report)
    assert list(tables) == ["tokenizer", "generator"]
    assert {**tables["generator"], "seconds": figures.seconds} == asdict(figures)
    tokenizer = asdict(evaluation.evaluate_tokenizer(pipeline.tokenizer))
    assert tables["tokenizer"] == {k: v for k, v in tokenizer.items() if "of_scales" not in k}


def test_beside_another_reference_there_is_no_report(pipeline):
    made = summarise(emoji.load("heldout").images, FakeFeatures())
    evidence = Evidence(made, made, FakeFeatures(), pipeline=pipeline)
    for name in emoji.load("train").report:
        assert METRICS.find(name).function(evidence) == {}


def test_pictures_without_a_model_have_no_report():
    made = summarise(emoji.load("heldout").images, FakeFeatures())
    evidence = Evidence(made, made, FakeFeatures())
    for name in emoji.load("train").report:
        assert METRICS.find(name).function(evidence) == {}


def test_only_models_of_the_subgroups_are_judged():
    other = SimpleNamespace(classes=("cat", "dog"))
    with pytest.raises(ValueError, match="99 emoji subgroups"):
        evaluation.evaluate_generator(other)
