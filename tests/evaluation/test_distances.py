import math

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from setar.evaluation import distances
from setar.evaluation.distances import (
    GaussianStatistics,
    RunningGaussian,
    RunningInceptionScore,
    frechet_distance,
    kernel_distance,
)
from setar.evaluation.neighbours import (
    leave_one_out_class_share,
    nearest_class_share,
    precision_recall,
    squared_radii,
)


def random_features(count: int, dimensions: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, dimensions, generator=generator, dtype=torch.float64)
    return noise @ mix + seed


def diagonal(mean: list[float], deviations: list[float]) -> GaussianStatistics:
    covariance = torch.diag(torch.tensor(deviations, dtype=torch.float64).square())
    return GaussianStatistics(torch.tensor(mean, dtype=torch.float64), covariance)


def test_statistics_are_mean_and_unbiased_covariance():
    features = random_features(20, 3, seed=1)
    statistics = GaussianStatistics.from_features(features.float())
    assert statistics.mean.dtype == torch.float64
    assert torch.allclose(statistics.mean, features.mean(0), atol=1e-5)
    assert torch.allclose(statistics.covariance, features.T.cov(), atol=1e-4)


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    # |m1 - m2|^2 + sum (s1 - s2)^2 = 9 + 16 + (1-2)^2 + (3-0)^2
    a, b = diagonal([0, 4], [1, 3]), diagonal([3, 0], [2, 0])
    assert frechet_distance(a, b) == pytest.approx(35.0, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(35.0, rel=1e-12)


def test_frechet_distance_does_not_assume_that_covariances_commute():
    # For 2x2 matrices trace((AB)^1/2) = sqrt(trace(AB) + 2 sqrt(det(AB))).
    a = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    b = torch.tensor([[4.0, -1.5], [-1.5, 1.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    overlap = math.sqrt((a @ b).trace() + 2 * math.sqrt(a.det() * b.det()))
    distance = frechet_distance(GaussianStatistics(zero, a), GaussianStatistics(zero, b))
    assert distance == pytest.approx(float(a.trace() + b.trace()) - 2 * overlap, rel=1e-12)


@pytest.mark.parametrize("count", [5, 60])  # 5 features of 12 dimensions: rank-deficient
def test_frechet_distance_is_zero_for_equal_sets(count):
    features = random_features(count, 12, seed=1)
    scale = float(features.var(0).sum())
    assert 0 <= frechet_distance(features, features) < 1e-6 * scale


@pytest.mark.parametrize("count", [5, 60])
def test_frechet_distance_is_symmetric_and_rotation_invariant(count):
    a, b = random_features(count, 12, seed=1), random_features(count + 3, 12, seed=2)
    distance = frechet_distance(a, b)
    rotation = torch.linalg.qr(random_features(12, 12, seed=3)).Q
    assert distance > 1
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-7)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(distance, rel=1e-7)


def test_frechet_distance_accepts_statistics_for_features():
    a, b = random_features(30, 4, seed=1), random_features(40, 4, seed=2)
    statistics = GaussianStatistics.from_features(b)
    assert frechet_distance(a, statistics) == frechet_distance(a, b)


def test_frechet_distance_refuses_unlike_or_single_features():
    with pytest.raises(ValueError, match="feature dimensions differ: 4 and 5"):
        frechet_distance(random_features(9, 4, seed=1), random_features(9, 5, seed=1))
    with pytest.raises(ValueError, match="n >= 2"):
        frechet_distance(torch.zeros(1, 4), torch.zeros(3, 4))


class Given(torch.nn.Module):
    """torchmetrics calls a network for features; these are the features already."""

    num_features = 12

    def forward(self, features):
        return features


@pytest.mark.parametrize("counts", [(40, 60), (7, 9)])  # 7 features of 12 dimensions: singular
@pytest.mark.filterwarnings("ignore:Metric `Fr.chet")
def test_frechet_distance_is_that_of_torchmetrics(counts):
    a, b = random_features(counts[0], 12, seed=1), random_features(counts[1], 12, seed=2)
    oracle = FrechetInceptionDistance(Given(), input_img_size=(12,))
    oracle.update(a, real=False)
    oracle.update(b, real=True)
    assert frechet_distance(a, b) == pytest.approx(float(oracle.compute()), rel=1e-4)


# Statistics of batches


def running(*batches: torch.Tensor) -> RunningGaussian:
    gaussian = RunningGaussian()
    for batch in batches:
        gaussian.add(batch)
    return gaussian


@pytest.mark.parametrize("size", [1, 4, 9, 30])
def test_statistics_of_batches_are_those_of_the_whole(size):
    features = random_features(30, 5, seed=1)
    whole = GaussianStatistics.from_features(features)
    parts = running(*features.split(size))
    assert parts.count == 30
    assert torch.allclose(parts.statistics().mean, whole.mean, rtol=1e-12)
    assert torch.allclose(parts.statistics().covariance, whole.covariance, rtol=1e-12)


def test_a_large_mean_costs_no_digits():
    features = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64) + 1e8
    assert running(*features.split(2)).statistics().covariance.item() == pytest.approx(5 / 3)


def test_float32_features_are_added_in_float64():
    features = torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) + 1000
    parts = running(*features.split(3)).statistics()
    assert torch.allclose(parts.covariance, features.double().T.cov(), rtol=1e-10)


def test_one_picture_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 pictures, got 1"):
        running(torch.zeros(1, 3)).statistics()


# Inception score


def score(probabilities, batch=100):
    found = RunningInceptionScore()
    for items in torch.arange(len(probabilities)).split(batch):
        found.add(torch.tensor(probabilities, dtype=torch.float64)[items], items)
    return found.score()


def test_inception_scores_by_hand():
    assert score([[1.0, 0.0], [0.0, 1.0]]) == pytest.approx((2.0, 0.0))
    assert score([[0.3, 0.7], [0.3, 0.7]]) == pytest.approx((1.0, 0.0))
    # q = (3/4, 1/4): exp((ln 4/3 + 1/2 ln 2/3 + 1/2 ln 2) / 2) = (16/9 * 4/3)^(1/4)
    assert score([[1.0, 0.0], [0.5, 0.5]]).mean == pytest.approx((64 / 27) ** 0.25)


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_inception_scores_are_averaged_over_unshuffled_chunks(monkeypatch, batch):
    monkeypatch.setattr(distances, "CHUNK", 2)
    found = score([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], batch)
    assert found == pytest.approx((1.5, 0.5))


def test_an_inception_score_is_exp_of_the_mean_divergence():
    p = torch.rand(60, 7, generator=torch.Generator().manual_seed(0)).softmax(1).double()
    divergence = (p * (p.log() - p.mean(0).log())).sum(1).mean()
    assert score(p.tolist(), 13).mean == pytest.approx(float(divergence.exp()), rel=1e-12)


def test_no_pictures_have_no_score():
    with pytest.raises(ValueError, match="at least one picture"):
        RunningInceptionScore().score()


# Kernel distance


@pytest.mark.parametrize("size", [30, 12])
@pytest.mark.filterwarnings("ignore:Metric `Kernel")
def test_kernel_distance_is_that_of_torchmetrics(size):
    a, b = random_features(40, 12, seed=1), random_features(30, 12, seed=2)
    oracle = KernelInceptionDistance(Given(), subsets=20, subset_size=size)
    oracle.update(a, real=False)
    oracle.update(b, real=True)
    torch.manual_seed(5)
    mean, deviation = (float(value) for value in oracle.compute())
    found = kernel_distance(a, b, subsets=20, subset_size=size, seed=5)
    assert found.mean == pytest.approx(mean, rel=1e-4)
    assert found.deviation == pytest.approx(deviation, rel=1e-4)
    assert found.deviation > 0


def test_kernel_distance_by_hand():
    # k(x, y) = (x y + 1)^3: k(0, 1) = 1 within a, k(1, 2) = 27 within b, across 1, 1, 8, 27.
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    assert kernel_distance(a, b) == pytest.approx((1 + 27 - 2 * 37 / 4, 0.0))


def test_equal_sets_of_all_pictures_need_one_subset(monkeypatch):
    a, b = random_features(9, 3, seed=1), random_features(9, 3, seed=2)
    calls = []
    monkeypatch.setattr(distances, "_unbiased_discrepancy", lambda *_: calls.append(1) or 7.0)
    assert kernel_distance(a, b) == (7.0, 0.0)
    assert len(calls) == 1
    kernel_distance(a, b, subset_size=8)
    assert len(calls) == 1 + distances.SUBSETS


def test_float32_features_lose_no_figures():
    a, b = random_features(300, 12, seed=1), random_features(300, 12, seed=1) + 0.1
    exact = kernel_distance(a, b, subset_size=100).mean
    assert kernel_distance(a.float(), b.float(), subset_size=100).mean == pytest.approx(exact, 1e-3)


def test_kernel_distance_refuses_unlike_or_single_features():
    with pytest.raises(ValueError, match="feature dimensions differ: 4 and 5"):
        kernel_distance(torch.zeros(9, 4), torch.zeros(9, 5))
    with pytest.raises(ValueError, match="at least 2 pictures of each side"):
        kernel_distance(torch.zeros(1, 4), torch.zeros(9, 4))


# What is not finite


BAD = [torch.nan, torch.inf, -torch.inf]


@pytest.mark.parametrize("bad", BAD)
def test_statistics_that_are_not_finite_are_at_no_distance(bad):
    eye, zeros = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    good = GaussianStatistics(zeros, eye)
    mean = GaussianStatistics(torch.tensor([0, bad, 1], dtype=torch.float64), eye)
    covariance = GaussianStatistics(zeros, eye * bad)
    for broken in (mean, covariance):
        for pair in ((good, broken), (broken, good), (broken, broken)):
            assert math.isnan(frechet_distance(*pair))


def test_statistics_must_fit():
    eye, zeros = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for shapes in ((zeros, torch.eye(2)), (zeros[:, None], eye), (zeros[:0], eye[:0, :0])):
        with pytest.raises(ValueError, match=r"must be \[d\] and \[d, d\]"):
            frechet_distance(GaussianStatistics(zeros, eye), GaussianStatistics(*shapes))


@pytest.mark.parametrize("bad", BAD)
def test_no_figure_of_features_that_are_not_finite(bad):
    good = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    broken, labels = good.clone(), torch.arange(20) % 4
    broken[7, 1] = bad
    figures = [
        lambda a, b: frechet_distance(a, b),
        lambda a, b: kernel_distance(a, b),
        lambda a, b: precision_recall(a, b),
        lambda a, b: nearest_class_share(a, labels, b, labels),
        lambda a, b: leave_one_out_class_share(torch.cat([a, b]), torch.cat([labels, labels])),
        lambda a, b: squared_radii(torch.cat([a, b]), 3),
        lambda a, b: [RunningGaussian().add(side) for side in (a, b)],
        lambda a, b: [RunningInceptionScore().add(side, torch.arange(20)) for side in (a, b)],
    ]
    for figure in figures:
        figure(good, good)
        for pair in ((broken, good), (good, broken)):
            with pytest.raises(ValueError, match=r"\A[^\n]+ must be finite[^\n]+\Z"):
                figure(*pair)


def test_distances_too_large_for_numbers_are_refused():
    zeros = torch.zeros(2, dtype=torch.float64)
    large = torch.eye(2, dtype=torch.float64) * 1e200
    for a, b in (
        (GaussianStatistics(zeros, large), GaussianStatistics(zeros, large)),
        (
            GaussianStatistics(zeros + 1e200, large / 1e200),
            GaussianStatistics(zeros, large / 1e200),
        ),
    ):
        with pytest.raises(ValueError, match="the distance must be finite"):
            frechet_distance(a, b)
    features = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)) * 1e30
    with pytest.raises(ValueError, match="the figure must be finite"):
        kernel_distance(features, features)
