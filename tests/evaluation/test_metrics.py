import dataclasses

import pytest
import torch

from fake_features import FakeFeatures, random_pictures
from setar.evaluation.distances import frechet_distance, kernel_distance
from setar.evaluation.metrics import (
    GENERAL,
    METRICS,
    Evidence,
    evaluate,
    measure,
    register_metric,
    settings_of,
)
from setar.evaluation.neighbours import precision_recall
from setar.evaluation.samples import Reconstruction
from setar.evaluation.summary import summarise


@pytest.fixture(scope="module")
def samples():
    return random_pictures(70, seed=1, high=200)


@pytest.fixture(scope="module")
def reference():
    return random_pictures(90, seed=2)


@pytest.fixture
def evidence(samples, reference):
    extractor = FakeFeatures()
    made, real = (summarise(images, extractor) for images in (samples, reference))
    return Evidence(made, real, extractor, seed=3, images=samples)


def test_every_figure_is_as_defined(samples, reference, evidence):
    figures = evaluate(samples, reference, FakeFeatures(), seed=3)
    made, real = FakeFeatures()(samples), FakeFeatures()(reference)
    assert figures["FD-Fake"] == pytest.approx(frechet_distance(made.pooled, real.pooled))
    assert figures["sFD-Fake"] == pytest.approx(frechet_distance(made.spatial, real.spatial))
    score = summarise(samples, FakeFeatures()).score
    assert (figures["IS-Fake"], figures["IS-Fake spread"]) == score
    kernel = kernel_distance(made.pooled, real.pooled, seed=3)
    assert (figures["KD-Fake"], figures["KD-Fake spread"]) == pytest.approx(kernel)
    neighbours = precision_recall(made.pooled, real.pooled)
    assert (figures["precision-Fake"], figures["recall-Fake"]) == pytest.approx(neighbours)
    assert settings_of(evidence) == {
        "neighbours": 3, "subsets": 100, "subset size": 70, "subset seed": 3,
    }  # fmt: skip


def test_a_summary_serves_as_well_as_the_pictures(samples, reference):
    extractor = FakeFeatures()
    whole = evaluate(samples, reference, extractor)
    real = summarise(reference, extractor)
    assert evaluate(samples, real, extractor) == whole
    assert evaluate(summarise(samples, extractor), real, extractor) == whole


def test_better_pictures_are_nearer(reference):
    def distance(high):
        pictures = random_pictures(90, seed=5, high=high)
        return evaluate(pictures, reference, FakeFeatures())["FD-Fake"]

    assert distance(256) < distance(220) < distance(150)


def test_only_inception_gives_the_names_of_the_field(samples, reference):
    figures = evaluate(samples, reference, FakeFeatures("Inception"))
    assert list(figures) == [
        "FID", "sFID", "IS", "IS spread", "KID", "KID spread", "precision", "recall",
    ]  # fmt: skip
    others = evaluate(samples, reference, FakeFeatures("EffLite0"))
    assert list(others) == [
        "FD-EffLite0", "sFD-EffLite0", "IS-EffLite0", "IS-EffLite0 spread", "KD-EffLite0",
        "KD-EffLite0 spread", "precision-EffLite0", "recall-EffLite0",
    ]  # fmt: skip
    assert list(others.values()) == list(figures.values())


def test_figures_that_cannot_be_had_are_not_named(samples, reference):
    extractor = FakeFeatures("Inception", spatial=False, classes=False)
    assert list(evaluate(samples, reference, extractor)) == [
        "FID", "KID", "KID spread", "precision", "recall",
    ]  # fmt: skip
    few = evaluate(samples[:3], reference, FakeFeatures("Inception"))
    assert list(few) == ["FID", "sFID", "IS", "IS spread", "KID", "KID spread"]


def test_statistics_alone_give_distances_and_the_score(samples, reference):
    extractor = FakeFeatures("Inception")
    whole = evaluate(samples, reference, extractor)
    statistics = dataclasses.replace(summarise(reference, extractor), pooled=None, images=None)
    figures = evaluate(samples, statistics, extractor)
    assert list(figures) == ["FID", "sFID", "IS", "IS spread"]
    assert figures["FID"] == whole["FID"]
    assert settings_of(Evidence(summarise(samples, extractor), statistics, extractor)) == {}


def test_a_summary_of_other_features_is_refused(samples, reference):
    other = summarise(reference, FakeFeatures("EffLite0"))
    with pytest.raises(ValueError, match="EffLite0 features is no use for Inception"):
        evaluate(samples, other, FakeFeatures("Inception"))


def test_pictures_of_other_sizes_are_the_extractors_business(samples):
    large = torch.nn.functional.interpolate(samples, scale_factor=2)
    assert evaluate(large, samples, FakeFeatures())["FD-Fake"] < 1e-6


# The table of metrics


def test_a_reconstruction_is_measured_under_its_own_heading(evidence):
    assert list(measure(evidence)) == ["figures"]
    one_scale = Reconstruction(torch.zeros(9, 16).long(), 20.0, 0.5, {})
    found = measure(dataclasses.replace(evidence, reconstruction=one_scale))
    assert list(found) == ["figures", "tokenizer"]
    assert found["tokenizer"] == {"psnr": 20.0, "usage": 0.5, "tokens": 16}
    several = dataclasses.replace(one_scale, usage_of_scales={"1x1": 0.25, "2x2": 1.0})
    found = measure(dataclasses.replace(evidence, reconstruction=several))
    assert found["tokenizer"]["usage_of_scales"] == {"1x1": 0.25, "2x2": 1.0}


def test_a_metric_of_ones_own(evidence, monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    asked = []

    @register_metric("brightness", heading="light")
    def brightness(given):
        asked.append(given)
        return {"mean": given.images.double().mean().item(), "seed": given.seed}

    @register_metric("nothing")
    def nothing(given):
        return {}

    mean = evidence.images.double().mean().item()
    found = measure(evidence, ["brightness", "nothing", "brightness"])
    assert found == {"light": {"mean": mean, "seed": 3}}
    assert asked == [evidence], "named twice, measured once"
    assert list(measure(evidence, [*GENERAL, "brightness"])) == ["figures", "light"]
    assert "brightness" not in GENERAL


def test_all_names_are_checked_before_anything_is_measured(evidence, monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    register_metric("slow")(lambda _: pytest.fail("too late"))
    with pytest.raises(ValueError, match=r"unknown metric 'frechett'; did you mean 'frechet'\?"):
        measure(evidence, ["slow", "frechett"])
