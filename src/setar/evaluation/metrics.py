"""How good are the pictures: distance of distributions, right class, and copied or not.

Pure functions of features and pictures; nothing here knows a network. All three belong together:
a nearest-neighbour class share rewards memorising, so print it beside the share of the real
pictures (`leave_one_out_class_share`) and beside `near_copies`.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

# Numbers held at once in one block of pictures or similarities: 128 MiB in float64.
BLOCK = 2**24


@dataclass(frozen=True, eq=False)
class GaussianStatistics:
    """The Gaussian fitted to a set of features: all that a Fréchet distance looks at.

    Attributes:
        mean: float64 [d].
        covariance: float64 [d, d], symmetric; with fewer than d + 1 features it is rank-deficient.
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def from_features(cls, features: Tensor) -> Self:
        """Mean and unbiased covariance (divided by n - 1, as FID does) of features [n, d].

        Raises ValueError for fewer than two features, which have no covariance.
        """
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"`features` must be [n, d] with n >= 2, got {list(features.shape)}")
        features = features.double()
        mean = features.mean(dim=0)
        centred = features - mean
        return cls(mean, centred.T @ centred / (len(features) - 1))


def frechet_distance(a: Tensor | GaussianStatistics, b: Tensor | GaussianStatistics) -> float:
    """Squared Fréchet distance of two Gaussians (Heusel et al. 2017, equation 6).

        |mean_a - mean_b|^2 + trace(A + B - 2 (A^1/2 B A^1/2)^1/2)

    a, b: features [n, d] and [m, d], or their statistics. With A = R R^T the last trace is the sum
    of the square roots of the eigenvalues of R^T B R: symmetric and real, and of the rank of A, so
    that fewer features than dimensions are no difficulty. Note that the distance is biased upwards
    for few features: compare only sets of equal size. Raises ValueError where dimensions differ.
    """
    a, b = _statistics(a), _statistics(b)
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"feature dimensions differ: {len(a.mean)} and {len(b.mean)}")
    root = _square_root(a.covariance)
    eigenvalues = torch.linalg.eigvalsh(root.T @ b.covariance @ root)
    overlap = eigenvalues.clamp(min=0).sqrt().sum()
    trace = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    # Rounding can leave -1e-9 for equal sets; a distance is never negative.
    return max(0.0, float((a.mean - b.mean).square().sum() + trace))


@dataclass(frozen=True, eq=False)
class ClassShare:
    """The share of pictures whose nearest reference picture lies in the asked class.

    Attributes:
        over_classes: mean of the classes' shares; every class that occurs counts the same.
        over_images: mean over the pictures; large classes count more.
        per_class: float64 [C], NaN for a class of which no picture was asked.
    """

    over_classes: float
    over_images: float
    per_class: Tensor


def nearest_class_share(
    samples: Tensor,
    sample_labels: Tensor,
    reference: Tensor,
    reference_labels: Tensor,
    centre: bool = True,
) -> ClassShare:
    """Share of samples whose nearest reference feature carries the asked class.

    Nearest by cosine similarity, after the mean of the reference is subtracted from both (with
    `centre`). samples [n, d] and reference [m, d] are features; sample_labels [n] the classes asked
    for, reference_labels [m] the true ones, integers from 0. Of equally near ones one counts.
    Raises ValueError where there is not one label for each feature.
    """
    _check_labels(samples, sample_labels)
    _check_labels(reference, reference_labels)
    samples, reference = _directions(samples, reference, centre)
    block = max(1, BLOCK // len(reference))
    nearest = torch.cat([(chunk @ reference.T).argmax(1) for chunk in samples.split(block)])
    return _class_share(reference_labels[nearest], sample_labels)


def leave_one_out_class_share(reference: Tensor, labels: Tensor, centre: bool = True) -> ClassShare:
    """`nearest_class_share` of real pictures, each against all the others: the figure to match.

    reference: features [m, d], m >= 2; labels: integers [m] from 0.
    Raises ValueError where there is not one label for each feature.
    """
    _check_labels(reference, labels)
    directions, _ = _directions(reference, reference, centre)
    nearest = []
    for rows in torch.arange(len(directions)).split(max(1, BLOCK // len(directions))):
        similarity = directions[rows] @ directions.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf
        nearest.append(similarity.argmax(1))
    return _class_share(labels[torch.cat(nearest)], labels)


@dataclass(frozen=True, eq=False)
class NearCopies:
    """How close samples come to reference pictures.

    Attributes:
        share: share of samples whose distance is at most the threshold.
        nearest: int64 [n], the index of the nearest reference picture.
        distance: float64 [n], root mean square difference to it of values in 0..1.
    """

    share: float
    nearest: Tensor
    distance: Tensor


def near_copies(samples: Tensor, reference: Tensor, threshold: float) -> NearCopies:
    """Share of samples that lie within `threshold` (RMSE of values in 0..1) of a reference picture.

    samples uint8 [n, 3, h, w], reference uint8 [m, 3, h, w]. Distances are exact (whole numbers in
    float64), so an equal picture is at 0. Memory stays bounded: both are walked in blocks. Take the
    threshold from `near_copy_threshold`, and take what a tokenizer loses out of the comparison by
    passing its reconstructions of the training pictures as the reference.
    Raises ValueError where the pictures are not uint8 of one size.
    """
    _check_pictures(samples, reference)
    nearest, distance = _nearest_picture(samples, reference)
    return NearCopies(float((distance <= threshold).double().mean()), nearest, distance)


def near_copy_threshold(pictures: Tensor, quantile: float = 0.05) -> float:
    """The RMSE to the nearest other picture below which only `quantile` of real pictures lie.

    pictures uint8 [m, 3, h, w], m >= 2, without variants of one drawing. Nearer than this, a sample
    is called a near copy: real pictures of different things hardly ever are. The embedded training
    emoji without skin tones give 0.066, about what a tokenizer of 24 dB loses (0.063).
    Raises ValueError where the pictures are not uint8 or fewer than two.
    """
    _check_pictures(pictures, pictures)
    if len(pictures) < 2:
        raise ValueError(f"a threshold needs at least two pictures, got {len(pictures)}")
    _, distance = _nearest_picture(pictures, pictures, leave_one_out=True)
    return float(distance.quantile(quantile))


def _statistics(given: Tensor | GaussianStatistics) -> GaussianStatistics:
    return (
        given if isinstance(given, GaussianStatistics) else GaussianStatistics.from_features(given)
    )


def _square_root(covariance: Tensor) -> Tensor:
    """R [d, rank] with R R^T = covariance; directions without variance are dropped."""
    values, vectors = torch.linalg.eigh(covariance)
    noise = values[-1] * len(values) * torch.finfo(values.dtype).eps
    kept = values > noise
    return vectors[:, kept] * values[kept].sqrt()


def _directions(samples: Tensor, reference: Tensor, centre: bool) -> tuple[Tensor, Tensor]:
    """Both sets as unit vectors in float64, seen from the mean of the reference."""
    samples, reference = samples.double(), reference.double()
    origin = reference.mean(dim=0) if centre else 0.0
    return functional.normalize(samples - origin), functional.normalize(reference - origin)


def _class_share(found: Tensor, asked: Tensor) -> ClassShare:
    """found, asked: integers [n]; the share of equal ones, per class asked."""
    hit = (found == asked).double()
    counts = torch.bincount(asked)
    per_class = torch.bincount(asked, weights=hit) / counts
    return ClassShare(float(per_class.nanmean()), float(hit.mean()), per_class)


def _check_labels(features: Tensor, labels: Tensor) -> None:
    if len(features) != len(labels):
        raise ValueError(f"{len(features)} features need as many labels, got {len(labels)}")


def _check_pictures(samples: Tensor, reference: Tensor) -> None:
    if samples.dtype != torch.uint8 or reference.dtype != torch.uint8:
        raise ValueError(f"pictures must be uint8, got {samples.dtype} and {reference.dtype}")
    if samples.shape[1:] != reference.shape[1:]:
        raise ValueError(f"sizes differ: {list(samples.shape)} and {list(reference.shape)}")


def _nearest_picture(
    samples: Tensor, reference: Tensor, leave_one_out: bool = False
) -> tuple[Tensor, Tensor]:
    """Index [n] of the nearest reference picture (with `leave_one_out` not itself) and RMSE [n]."""
    values = samples[0].numel()
    squared = torch.full((len(samples),), torch.inf, dtype=torch.float64, device=samples.device)
    nearest = torch.zeros(len(samples), dtype=torch.int64, device=samples.device)
    blocks = torch.arange(len(reference)).split(max(1, BLOCK // values))
    for rows in torch.arange(len(samples)).split(max(1, BLOCK // values)):
        for columns in blocks:
            block = _squared_distances(samples[rows], reference[columns])
            if leave_one_out:
                block[rows[:, None] == columns] = torch.inf
            minimum, index = block.min(dim=1)
            closer = minimum < squared[rows]
            squared[rows] = torch.where(closer, minimum, squared[rows])
            nearest[rows] = torch.where(closer, columns[0] + index, nearest[rows])
    return nearest, (squared / values).sqrt() / 255


def _squared_distances(samples: Tensor, reference: Tensor) -> Tensor:
    """[n, m] sums of squared differences of uint8 pictures: whole numbers, exact in float64."""
    samples, reference = samples.flatten(1).double(), reference.flatten(1).double()
    lengths = samples.square().sum(1, keepdim=True) + reference.square().sum(1)
    return lengths - 2 * samples @ reference.T
