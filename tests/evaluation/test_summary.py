import pytest
import torch

from fake_features import FakeFeatures, random_pictures
from setar.evaluation import summary as module
from setar.evaluation.distances import GaussianStatistics, RunningInceptionScore
from setar.evaluation.sources import load_statistics
from setar.evaluation.summary import save_statistics, summarise
from setar.evaluation.workers import BATCH

COUNT = BATCH + 30


@pytest.fixture(scope="module")
def pictures():
    return random_pictures(COUNT)


def test_a_summary_is_of_all_pictures(pictures):
    found, features = summarise(pictures, FakeFeatures()), FakeFeatures()(pictures)
    assert (found.features, found.images) == ("Fake", COUNT)
    assert torch.allclose(found.pooled, features.pooled, atol=1e-5)
    for gaussian, kind in ((found.gaussian, features.pooled), (found.spatial, features.spatial)):
        whole = GaussianStatistics.from_features(kind)
        assert torch.allclose(gaussian.mean, whole.mean, atol=1e-5)
        assert torch.allclose(gaussian.covariance, whole.covariance, atol=1e-5)
    score = RunningInceptionScore()
    score.add(features.probabilities, torch.arange(COUNT))
    assert found.score == pytest.approx(score.score(), rel=1e-5)
    assert torch.equal(found.predicted, features.probabilities.argmax(1))


def test_pictures_are_seen_one_batch_at_a_time(pictures):
    sizes = []

    class Counted(FakeFeatures):
        def __call__(self, images):
            sizes.append(len(images))
            return super().__call__(images)

    summarise(pictures, Counted())
    assert sizes == [BATCH, 30]


def test_what_an_extractor_lacks_is_none(pictures):
    found = summarise(pictures, FakeFeatures(spatial=False, classes=False))
    assert found.spatial is found.score is found.predicted is None


@pytest.mark.parametrize("kept", [1, 7, COUNT - 1, COUNT, COUNT + 1])
def test_only_so_many_features_are_kept_one_by_one(pictures, monkeypatch, kept):
    monkeypatch.setattr(module, "KEPT", kept)
    found, every = summarise(pictures, FakeFeatures()), FakeFeatures()(pictures).pooled
    assert len(found.pooled) == min(kept, COUNT)
    assert found.images == COUNT
    places = (found.pooled[:, None] - every).square().sum(-1).argmin(1)
    assert (places.diff() > 0).all()
    gaps = torch.cat([places, torch.tensor([COUNT])]).diff()
    assert gaps.max() <= -(-COUNT // kept), "evenly spaced"


@pytest.mark.parametrize("count", [0, 1])
def test_two_pictures_at_least(count):
    with pytest.raises(ValueError, match=f"at least 2 pictures, got {count}"):
        summarise(random_pictures(count), FakeFeatures())


def test_statistics_survive_a_file(pictures, tmp_path):
    found = summarise(pictures, FakeFeatures())
    save_statistics(found, tmp_path / "a.statistics")
    read = load_statistics(tmp_path / "a.statistics", "Fake")
    assert (read.features, read.images) == ("Fake", COUNT)
    assert torch.equal(read.pooled, found.pooled)
    for name in ("gaussian", "spatial"):
        assert torch.equal(getattr(read, name).mean, getattr(found, name).mean)
        assert torch.equal(getattr(read, name).covariance, getattr(found, name).covariance)
    assert load_statistics(tmp_path / "a.statistics", "Inception") is None
