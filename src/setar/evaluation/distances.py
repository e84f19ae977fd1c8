"""Distances and scores of whole sets of features: Frechet distance, KID, Inception score.

Pure functions of features, float ``[n, d]``; nothing here knows a network. What is named after
Inception (FID, KID, IS) is only so called when the features are Inception's.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

CHUNK = 5000
"""Pictures in one chunk of an Inception score, as in ADM's evaluator."""
SUBSETS, SUBSET_SIZE = 100, 1000
"""Random subsets whose kernel distances are averaged, and the pictures in each."""
ROUNDING = 1e-4
"""How far a covariance that others computed may be off, of what is largest: many use float32."""


class Spread(NamedTuple):
    """A figure that is the mean of several, and their standard deviation."""

    mean: float
    deviation: float


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
        features = check_finite(features).double()
        mean = features.mean(dim=0)
        centred = features - mean
        return cls(mean, centred.T @ centred / (len(features) - 1))


class RunningGaussian:
    """`GaussianStatistics` of features that come in batches, in memory that does not grow.

    Float64 throughout, and centred on the mean of each batch, so that many features lose no digits
    (Chan, Golub and LeVeque 1979, equation 2.1).

    Attributes:
        count: features seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._scatter = torch.zeros((), dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in features [n, d], n >= 1; ValueError where they are not finite."""
        features = check_finite(features).double()
        mean, total = features.mean(dim=0), self.count + len(features)
        centred, difference = features - mean, mean - self._mean
        between = torch.outer(difference, difference) * (self.count * len(features) / total)
        self._scatter = self._scatter + centred.T @ centred + between
        self._mean = self._mean + difference * (len(features) / total)
        self.count = total

    def statistics(self) -> GaussianStatistics:
        """Mean and unbiased covariance; ValueError before the second feature."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 pictures, got {self.count}")
        return GaussianStatistics(self._mean, self._scatter / (self.count - 1))


def frechet_distance(a: Tensor | GaussianStatistics, b: Tensor | GaussianStatistics) -> float:
    """Squared Fréchet distance of two Gaussians (Heusel et al. 2017, equation 6).

        |mean_a - mean_b|^2 + trace(A + B - 2 (A^1/2 B A^1/2)^1/2)

    a, b: features [n, d] and [m, d], or their statistics. With A = R R^T the last trace is the sum
    of the square roots of the eigenvalues of R^T B R: symmetric and real, and of the rank of A, so
    that fewer features than dimensions are no difficulty. Note that the distance is biased upwards
    for few features: compare only sets of equal size. Statistics that are not finite are at the
    distance NaN. Raises ValueError where shapes do not fit, features are not finite, or values are
    too large for a distance.
    """
    a, b = _statistics(a), _statistics(b)
    _check_dimensions(len(a.mean), len(b.mean))
    if not all(part.isfinite().all() for one in (a, b) for part in (one.mean, one.covariance)):
        return math.nan  # never 0, the best of all
    values, vectors = torch.linalg.eigh(a.covariance)
    noise = values[-1] * len(values) * torch.finfo(values.dtype).eps
    kept = values > noise  # directions without variance are dropped
    root = vectors[:, kept] * values[kept].sqrt()
    product = check_finite(root.T @ b.covariance @ root, "the distance")
    eigenvalues = torch.linalg.eigvalsh(product)
    overlap = eigenvalues.clamp(min=0).sqrt().sum()
    trace = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    distance = check_finite((a.mean - b.mean).square().sum() + trace, "the distance")
    return max(0.0, float(distance))  # rounding can leave -1e-9 for equal sets


class RunningInceptionScore:
    """The Inception score (Salimans et al. 2016, section 4) of class probabilities in batches.

    As in ADM's evaluator: exp of the mean Kullback-Leibler divergence of the pictures' class
    distributions p from their mean q, for each chunk of 5,000 pictures in their given order, then
    the mean over chunks. Of a chunk, the sums of p log p and of p are enough.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, tuple[Tensor, float, int]] = {}

    def add(self, probabilities: Tensor, items: Tensor) -> None:
        """Take in probabilities [B, C] of the pictures with these indices [B], in any order."""
        probabilities = check_finite(probabilities, "probabilities").double()
        for chunk in (items // CHUNK).unique().tolist():
            part = probabilities[items // CHUNK == chunk]
            whole, negentropy, count = self._chunks.get(chunk, (torch.zeros(()), 0.0, 0))
            negentropy += float(torch.xlogy(part, part).sum())
            self._chunks[chunk] = (whole + part.sum(dim=0), negentropy, count + len(part))

    def score(self) -> Spread:
        """Mean and (population) standard deviation over chunks; ValueError without pictures."""
        if not self._chunks:
            raise ValueError("an Inception score needs at least one picture")
        scores = []
        for whole, negentropy, count in self._chunks.values():
            mean = whole / count  # exp(mean(sum p log p) - sum q log q) is exp(mean(KL(p, q)))
            scores.append(float((negentropy / count - torch.xlogy(mean, mean).sum()).exp()))
        return _spread(scores)


def kernel_distance(
    samples: Tensor,
    reference: Tensor,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> Spread:
    """Squared maximum mean discrepancy, unbiased, with the kernel (x.y / d + 1)^3.

    KID (Binkowski et al. 2018, section 4) where the features are Inception's. Unlike a Frechet
    distance it is not biased for few pictures, and can come out below zero.

    Args:
        samples: features [n, d], n >= 2.
        reference: features [m, d], m >= 2.
        subsets: random subsets, drawn without replacement, to average over.
        subset_size: pictures of each side in a subset; at most as many as the smaller side has.
        seed: of the subsets.

    Returns:
        Mean and (population) standard deviation over subsets; the latter only says how much the
        subsets differ, and is 0 when they cannot.

    Raises ValueError for fewer than two features, other dimensions, or values that are not finite.
    """
    size = min(subset_size, len(samples), len(reference))
    if size < 2:
        raise ValueError("a kernel distance needs at least 2 pictures of each side")
    _check_dimensions(samples.shape[1], reference.shape[1])
    samples, reference = check_finite(samples), check_finite(reference)
    if size == len(samples) == len(reference):
        subsets = 1  # every subset is the whole
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(subsets):
        real = reference[torch.randperm(len(reference), generator=generator)[:size]]
        made = samples[torch.randperm(len(samples), generator=generator)[:size]]
        found.append(_unbiased_discrepancy(made, real))
    return _spread(found)


def _spread(figures: list[float]) -> Spread:
    values = check_finite(torch.tensor(figures, dtype=torch.float64), "the figure")
    return Spread(float(values.mean()), float(values.std(correction=0)))


def _unbiased_discrepancy(a: Tensor, b: Tensor) -> float:
    """a, b: [m, d]; the estimator of Gretton et al. 2012, equation 3, but with all pairs across."""
    size = len(a)
    within = (_sum_of_pairs(a) + _sum_of_pairs(b)) / (size * (size - 1))
    return float(within - 2 * _kernel(a, b).sum(dtype=torch.float64) / size**2)


def _sum_of_pairs(features: Tensor) -> Tensor:
    """Sum of the kernel over pairs of different features, in float64: it is large."""
    kernel = _kernel(features, features)
    return kernel.sum(dtype=torch.float64) - kernel.diagonal().sum(dtype=torch.float64)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def check_finite(values: Tensor, what: str = "features") -> Tensor:
    """The values themselves; ValueError if one is not finite, since no figure of them means much.

    Comparisons with NaN are all False, so it would pass for the best distance, and for a copy of
    nothing.
    """
    if not torch.isfinite(values).all():
        raise ValueError(f"{what} must be finite: NaN or infinity has no distance to anything")
    return values


def check_covariance(statistics: GaussianStatistics, what: str) -> None:
    """Raise ValueError unless a covariance, as far as rounding goes, can be one."""
    matrix = statistics.covariance
    if float((matrix - matrix.T).abs().max()) > ROUNDING * float(matrix.abs().max()):
        raise ValueError(f"{what} is no covariance: it is not symmetric")
    eigenvalues = torch.linalg.eigvalsh(matrix)
    if float(eigenvalues[0]) < -ROUNDING * float(eigenvalues.abs().max()):
        raise ValueError(f"{what} is no covariance: it has negative eigenvalues")


def _check_dimensions(a: int, b: int) -> None:
    if a != b:
        raise ValueError(f"feature dimensions differ: {a} and {b}")


def _statistics(given: Tensor | GaussianStatistics) -> GaussianStatistics:
    if isinstance(given, Tensor):
        return GaussianStatistics.from_features(given)
    shape, size = given.covariance.shape, given.mean.numel()
    if given.mean.shape != (size,) or shape != (size, size) or not size:
        found = f"{list(given.mean.shape)} and {list(shape)}"
        raise ValueError(f"mean and covariance must be [d] and [d, d], not {found}")
    return given
