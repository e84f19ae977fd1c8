import math

import pytest
import torch

from setar.evaluation import metrics
from setar.evaluation.metrics import (
    GaussianStatistics,
    frechet_distance,
    leave_one_out_class_share,
    near_copies,
    near_copy_threshold,
    nearest_class_share,
)


def random_features(count: int, dimensions: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, dimensions, generator=generator, dtype=torch.float64)
    return noise @ mix + seed


def diagonal(mean: list[float], deviations: list[float]) -> GaussianStatistics:
    covariance = torch.diag(torch.tensor(deviations, dtype=torch.float64).square())
    return GaussianStatistics(torch.tensor(mean, dtype=torch.float64), covariance)


def gray(*values: int) -> torch.Tensor:
    """Flat 4x4 pictures of the given values."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)


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


def test_class_share_by_hand():
    reference = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    samples = torch.tensor([[5.0, 1.0], [2.0, 1.0], [0.1, 0.2], [-3.0, 1.0]])  # nearest: 0 0 1 2
    asked = torch.tensor([0, 0, 0, 3])
    share = nearest_class_share(samples, asked, reference, torch.tensor([0, 1, 3]), centre=False)
    assert share.over_images == pytest.approx(3 / 4)
    assert share.over_classes == pytest.approx((2 / 3 + 1) / 2)
    assert share.per_class.isnan().tolist() == [False, True, True, False]
    assert share.per_class[0] == pytest.approx(2 / 3)


def test_class_share_looks_from_the_mean_of_the_reference():
    reference, labels = torch.tensor([[4.0, 1.0], [4.0, 3.0]]), torch.tensor([0, 1])
    sample, asked = torch.tensor([[1.0, 1.0]]), torch.tensor([0])
    # Its slope is that of the second, but it lies below the mean (4, 2) as the first does.
    assert nearest_class_share(sample, asked, reference, labels, centre=False).over_images == 0
    assert nearest_class_share(sample, asked, reference, labels).over_images == 1


def test_leave_one_out_never_finds_the_picture_itself(monkeypatch):
    reference = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.3], [-1.0, -0.2], [-2.0, 0.1]])
    labels = torch.tensor([0, 0, 1, 1, 2])
    # Nearest others: 0-1, 1-0, 2-4, 3-4, 4-3.
    whole = leave_one_out_class_share(reference, labels, centre=False)
    assert whole.over_images == pytest.approx(2 / 5)
    assert whole.over_classes == pytest.approx(1 / 3)
    monkeypatch.setattr(metrics, "BLOCK", 10)
    blocks = leave_one_out_class_share(reference, labels, centre=False)
    assert torch.equal(whole.per_class, blocks.per_class)


def test_class_share_refuses_missing_labels():
    with pytest.raises(ValueError, match="2 features need as many labels, got 1"):
        leave_one_out_class_share(torch.eye(2), torch.tensor([0]))


def test_near_copies_by_hand():
    found = near_copies(gray(10, 99, 250), gray(0, 100, 255, 100), threshold=0.02)
    assert found.nearest.tolist() == [0, 1, 2]
    expected = torch.tensor([10, 1, 5], dtype=torch.float64) / 255
    assert torch.allclose(found.distance, expected, rtol=1e-12)
    assert found.share == pytest.approx(2 / 3)


def test_near_copies_finds_equal_pictures_at_exactly_zero_in_any_blocks(monkeypatch):
    pictures = torch.randint(256, (9, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    pictures = pictures.byte()
    samples = pictures[[4, 0, 8, 3]].clone()
    samples[3, 0, 0, 0] ^= 255
    whole = near_copies(samples, pictures, threshold=0.0)
    assert whole.share == pytest.approx(3 / 4)
    assert whole.nearest.tolist() == [4, 0, 8, 3]
    monkeypatch.setattr(metrics, "BLOCK", 2 * pictures[0].numel())
    blocks = near_copies(samples, pictures, threshold=0.0)
    assert torch.equal(whole.distance, blocks.distance)
    assert torch.equal(whole.nearest, blocks.nearest)


def test_near_copy_threshold_is_a_quantile_of_distances_to_another_picture():
    pictures = gray(0, 51, 255)  # nearest others at 51, 51 and 204, of 255
    assert near_copy_threshold(pictures, quantile=0.5) == pytest.approx(0.2)
    assert near_copy_threshold(pictures, quantile=1.0) == pytest.approx(0.8)
    assert near_copies(pictures, pictures, threshold=0.1).share == 1


def test_near_copies_refuses_other_pictures():
    with pytest.raises(ValueError, match=r"uint8, got torch\.float32"):
        near_copies(gray(1).float(), gray(1), 0.1)
    with pytest.raises(ValueError, match="sizes differ"):
        near_copies(gray(1)[..., :2], gray(1), 0.1)
    with pytest.raises(ValueError, match="at least two pictures, got 1"):
        near_copy_threshold(gray(1))
