import pytest
import torch

from fake_features import FakeFeatures
from setar.data import digits
from setar.evaluation.digits import digits_read
from setar.evaluation.metrics import METRICS, Evidence
from setar.evaluation.samples import Samples
from setar.evaluation.summary import summarise
from setar.features.digits import DigitFeatures


def evidence(labels, made, extractor):
    """Pictures asked for as ``labels``; their codes and the reference do not matter here."""
    codes = torch.zeros(len(labels), 64).long()
    samples = Samples(codes, labels, count=1, seed=0, seconds=0.0)
    return Evidence(made, made, extractor, samples=samples, data=digits.load("train"))


def test_samples_are_read_by_the_classifier():
    train, extractor = digits.load("train"), DigitFeatures()
    labels, made = train.labels[:200], summarise(train.images[:200], extractor)
    report = digits_read(evidence(labels, made, extractor))
    assert list(report) == ["class_accuracy", "class_accuracy_real"]
    assert report["class_accuracy"] > 0.95
    wrong = digits_read(evidence((labels + 1) % 10, made, extractor))
    assert wrong["class_accuracy"] < 0.05
    assert wrong["class_accuracy_real"] == report["class_accuracy_real"]
    assert 0.9 < report["class_accuracy_real"] < 1


def test_features_without_classes_cannot_read():
    extractor = FakeFeatures("digits", classes=False)
    made = summarise(digits.load("train").images[:9], extractor)
    with pytest.raises(ValueError, match="digits features come without a classifier"):
        digits_read(evidence(torch.zeros(9), made, extractor))


def test_there_is_nothing_to_read_without_samples_or_with_other_features():
    images = digits.load("train").images[:9]
    made = summarise(images, DigitFeatures())
    assert digits_read(Evidence(made, made, DigitFeatures())) == {}
    other = summarise(images, FakeFeatures())
    assert digits_read(evidence(torch.zeros(9), other, FakeFeatures())) == {}


def test_it_is_what_the_data_set_reports():
    [name] = digits.load("train").report
    assert METRICS.find(name).function is digits_read
    assert METRICS.find(name).heading == "generator"
