from fractions import Fraction

import numpy as np
import pytest
import torch

from setar.evaluation import neighbours
from setar.evaluation.neighbours import (
    leave_one_out_class_share,
    near_copies,
    near_copy_threshold,
    nearest_class_share,
    precision_recall,
    squared_radii,
)


def gray(*values: int) -> torch.Tensor:
    """Flat 4x4 pictures of the given values."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)


def line(*values: float) -> torch.Tensor:
    """Features of one dimension."""
    return torch.tensor(values)[:, None]


def test_radii_by_hand():
    assert squared_radii(line(0, 1, 2, 3, 10), 3).tolist() == [9, 4, 4, 9, 81]
    assert squared_radii(line(0, 1, 2, 3, 10), 1).tolist() == [1, 1, 1, 1, 49]


def test_a_copy_of_a_picture_is_a_neighbour_but_the_picture_itself_is_not():
    assert squared_radii(line(5, 5, 7), 1).tolist() == [0, 0, 4]


def test_precision_and_recall_by_hand():
    # Spheres around 0, 1, 2, 3, 10 with radii 3, 2, 2, 3, 9: -3..6 and 1..19, borders included.
    reference = line(0, 1, 2, 3, 10)
    assert precision_recall(line(-3, -3.5, 4, 6.5, 19, 19.5), reference).precision == 4 / 6
    # Spheres around 1 to 5 with radii 3, 2, 2, 2, 3: -2 to 8.
    found = precision_recall(line(1, 2, 3, 4, 5), line(0, 8, 10, 20, 100))
    assert found == (1.0, 2 / 5)


def test_the_two_sides_are_not_confused():
    wide, narrow = line(0, 12, 24, 36, 48), line(16, 17, 18, 19, 20)
    assert precision_recall(narrow, wide) == (1.0, 0.0)
    assert precision_recall(wide, narrow) == (0.0, 1.0)


def definition(samples, reference, k):
    """ADM's evaluator in a few lines: the k-th smallest distance after the one to itself."""

    def distances(a, b):
        return ((a[:, None] - b[None]) ** 2).sum(-1)

    radii, sample_radii = (
        np.partition(distances(side, side), k, axis=1)[:, k] for side in (reference, samples)
    )
    across = distances(samples, reference)
    precision = (across <= radii).any(axis=1).mean()
    return precision, (across <= sample_radii[:, None]).any(axis=0).mean()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("block", [50, 2**24])
def test_precision_and_recall_are_as_defined_in_any_blocks(monkeypatch, k, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    noise = np.random.default_rng(0)
    samples, reference = noise.normal(1, 1, (30, 4)), noise.normal(0, 1, (40, 4))
    found = precision_recall(torch.tensor(samples), torch.tensor(reference), k)
    assert found == pytest.approx(definition(samples, reference, k))
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1


def exactly(samples, reference, k=3):
    """The definition in whole numbers of any size, for features that are multiples of 2**-60."""
    samples, reference = (
        [[int(Fraction(float(value)) * 2**60) for value in row] for row in side]
        for side in (samples, reference)
    )

    def squared(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    def radii(side):
        return [sorted(squared(one, other) for other in side)[k] for one in side]

    def share(inner, outer, reach):
        hits = [
            any(squared(one, o) <= r for o, r in zip(outer, reach, strict=True)) for one in inner
        ]
        return sum(hits) / len(hits)

    return (
        share(samples, reference, radii(reference)),
        share(reference, samples, radii(samples)),
    )


@pytest.mark.parametrize(
    "scale", [1, 0.1, 1 / 3, 1e3], ids=["integers", "tenths", "thirds", "thousands"]
)
@pytest.mark.parametrize("dimensions", [1, 4, 64])
@pytest.mark.parametrize("shift", [0, 100])
def test_features_on_the_border_are_inside(scale, dimensions, shift):
    """Integers have many equal distances; float32 breaks some of them, and then they are none."""
    noise = np.random.default_rng(0)
    levels = 3 if dimensions < 64 else 2
    sets = [noise.integers(0, levels, (count, dimensions)) + shift for count in (60, 45)]
    features = [torch.from_numpy((side * np.float32(scale)).astype(np.float32)) for side in sets]
    assert precision_recall(*features) == exactly(*features)


def test_many_equal_distances_of_integers():
    noise = np.random.default_rng(0)
    sides = [torch.from_numpy(noise.integers(0, 3, (count, 4))) for count in (200, 150)]
    assert precision_recall(*sides) == (1.0, 1.0)


def test_pictures_again_are_all_inside():
    """Samples that are the reference's own pictures lie on borders, and twins have no radius."""
    features = torch.randn(50, 128, generator=torch.Generator().manual_seed(0)) * 30 + 5
    features = torch.cat([features, features[:10], features[:10], features[:10], features[:10]])
    assert precision_recall(features, features) == (1.0, 1.0)
    twins, others = features[:1].expand(9, -1), features[20:]
    assert precision_recall(twins, torch.cat([twins, others])).precision == 1.0
    assert precision_recall(twins + 1e-3, twins) == (0.0, 0.0), "near is not equal"


def test_what_is_just_outside_is_outside():
    reference = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]], dtype=torch.float64)
    for beyond, share in ((0.0, 1.0), (1e-9, 0.0)):
        samples = torch.full((5, 1), -3 - beyond, dtype=torch.float64)
        assert precision_recall(samples, reference).precision == share


def test_far_features_lose_no_digits():
    noise = np.random.default_rng(0)
    samples, reference = noise.normal(1, 1, (30, 4)), noise.normal(0, 1, (40, 4))
    near = precision_recall(torch.tensor(samples), torch.tensor(reference))
    far = precision_recall(torch.tensor(samples + 1e6), torch.tensor(reference + 1e6))
    assert far == near


def test_precision_refuses_what_has_no_neighbours():
    with pytest.raises(ValueError, match="neighbour number 3 needs more than 3 features, got 3"):
        precision_recall(line(1, 2, 3), line(1, 2, 3, 4))
    with pytest.raises(ValueError, match="feature dimensions differ: 2 and 1"):
        precision_recall(torch.zeros(5, 2), line(1, 2, 3, 4))


def test_class_share_by_hand():
    reference = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # mean: 0
    samples = torch.tensor([[5.0, 1.0], [2.0, 1.0], [0.1, 0.2], [-3.0, 1.0]])  # nearest: 0 0 1 2
    asked, labels = torch.tensor([0, 0, 0, 3]), torch.tensor([0, 1, 3, 4])
    # 2 of 3 right of class 0, 1 of 1 of class 3; the classes that nobody asked for do not count.
    share = nearest_class_share(samples, asked, reference, labels)
    assert share == pytest.approx((2 / 3 + 1) / 2)


def test_class_share_looks_from_the_mean_of_the_reference():
    reference, labels = torch.tensor([[4.0, 3.0], [4.0, 1.0]]), torch.tensor([0, 1])
    sample = torch.tensor([[1.0, 1.0]])
    # Its slope is nearer to the first's, but it lies below the mean (4, 2) as the second does.
    assert nearest_class_share(sample, torch.tensor([1]), reference, labels) == 1
    assert nearest_class_share(sample, torch.tensor([0]), reference, labels) == 0


def test_leave_one_out_never_finds_the_picture_itself(monkeypatch):
    around = torch.tensor([[3.0, 1.0], [3.0, -1.0], [-1.0, 2.0], [-2.0, -1.0], [-3.0, -1.0]])
    reference = around + torch.tensor([5.0, 5.0])  # the mean: `around` sums to 0
    labels = torch.tensor([0, 0, 1, 1, 2])
    # At 18, -18, 117, 207 and 198 degrees around it. Nearest others: 0-1, 1-0, 2-4, 3-4, 4-3.
    whole = leave_one_out_class_share(reference, labels)
    assert whole == pytest.approx((1 + 0 + 0) / 3)
    monkeypatch.setattr(neighbours, "BLOCK", 10)  # two rows, two rows, one row
    assert leave_one_out_class_share(reference, labels) == whole


def test_class_share_refuses_missing_labels():
    with pytest.raises(ValueError, match="2 features need as many labels, got 1"):
        leave_one_out_class_share(torch.eye(2), torch.tensor([0]))


def test_near_copies_by_hand():
    samples, reference = gray(10, 99, 250), gray(0, 100, 255, 100)
    expected = torch.tensor([10, 1, 5], dtype=torch.float64) / 255
    distance = neighbours._nearest_picture(samples, reference)
    assert torch.allclose(distance, expected, rtol=1e-12)
    assert near_copies(samples, reference, threshold=0.02) == pytest.approx(2 / 3)


def test_near_copies_finds_equal_pictures_at_exactly_zero_in_any_blocks(monkeypatch):
    pictures = torch.randint(256, (9, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    pictures = pictures.byte()
    samples = pictures[[4, 0, 8, 3]].clone()
    samples[3, 0, 0, 0] ^= 255
    whole = neighbours._nearest_picture(samples, pictures)
    others = neighbours._nearest_picture(pictures, pictures, leave_one_out=True)
    changed = abs(int(samples[3, 0, 0, 0]) - int(pictures[3, 0, 0, 0])) / 255
    assert whole[:3].tolist() == [0, 0, 0]
    assert whole[3] == pytest.approx(changed / pictures[0].numel() ** 0.5)
    assert near_copies(samples, pictures, threshold=0.0) == pytest.approx(3 / 4)
    monkeypatch.setattr(neighbours, "BLOCK", 2 * pictures[0].numel())  # two pictures by two
    assert torch.equal(neighbours._nearest_picture(samples, pictures), whole)
    assert torch.equal(neighbours._nearest_picture(pictures, pictures, leave_one_out=True), others)
    assert near_copies(samples, pictures, threshold=0.0) == pytest.approx(3 / 4)


def test_near_copy_threshold_is_a_quantile_of_distances_to_another_picture():
    pictures = gray(0, 51, 255)  # nearest others at 51, 51 and 204, of 255
    assert near_copy_threshold(pictures, quantile=0.5) == pytest.approx(0.2)
    assert near_copy_threshold(pictures, quantile=1.0) == pytest.approx(0.8)
    assert near_copies(pictures, pictures, threshold=0.1) == 1


def test_near_copies_refuses_other_pictures():
    with pytest.raises(ValueError, match=r"uint8, got torch\.float32"):
        near_copies(gray(1).float(), gray(1), 0.1)
    with pytest.raises(ValueError, match="sizes differ"):
        near_copies(gray(1)[..., :2], gray(1), 0.1)
    with pytest.raises(ValueError, match="at least two pictures, got 1"):
        near_copy_threshold(gray(1))
