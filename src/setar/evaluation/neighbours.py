"""Figures of nearest neighbours: precision and recall, right class, and copied or not.

Pure functions of features and pictures; nothing here knows a network. A nearest-neighbour class
share rewards memorising, so print it beside the share of the real pictures
(`leave_one_out_class_share`) and beside `near_copies`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from setar.evaluation.distances import check_finite

# Numbers held at once in one block of pictures or similarities: 128 MiB in float64.
BLOCK = 2**24
NEIGHBOURS = 3
"""The neighbour whose distance is the radius of a manifold's spheres, as in ADM's evaluator."""


class PrecisionRecall(NamedTuple):
    """How much of the samples looks real, and how much of the real ones is covered."""

    precision: float
    """Share of samples within the manifold of the reference."""
    recall: float
    """Share of the reference within the manifold of the samples."""


def precision_recall(
    samples: Tensor, reference: Tensor, k: int = NEIGHBOURS, progress: bool = False
) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, equations 1 to 3).

    The manifold of a set is the union of spheres around its features, each with the distance to
    its k-th nearest other feature as radius; a feature on the border is inside, also where rounding
    moves it a little. The definition is that of ADM's evaluator, in float64 where that one takes
    float16.

    Args:
        samples: features [n, d].
        reference: features [m, d].
        k: the neighbour that sets the radius; the feature itself does not count.
        progress: show bars.

    Raises ValueError where a set has no k-th neighbour, dimensions differ or values are not finite.
    """
    if samples.shape[1] != reference.shape[1]:
        raise ValueError(f"feature dimensions differ: {samples.shape[1]} and {reference.shape[1]}")
    samples, reference = check_finite(samples), check_finite(reference)
    centre = reference.double().mean(dim=0)  # distances of numbers near 0 lose fewer digits
    samples, reference = samples.double() - centre, reference.double() - centre
    sample_reach, reach = (
        _reach(side, squared_radii(side, k, progress)) for side in (samples, reference)
    )
    real_enough = torch.zeros(len(samples), dtype=torch.bool)
    covered = torch.zeros(len(reference), dtype=torch.bool)
    for rows in _blocks(samples, reference, progress):
        distances = _squared_distances(samples[rows], reference)
        real_enough[rows] = (distances <= reach).any(dim=1)
        covered |= (distances <= sample_reach[rows, None]).any(dim=0)
    return PrecisionRecall(float(real_enough.double().mean()), float(covered.double().mean()))


def squared_radii(features: Tensor, k: int, progress: bool = False) -> Tensor:
    """Squared distance [n] of features [n, d] to their k-th nearest other one.

    Raises ValueError where there are not k others, or values are not finite.
    """
    check_finite(features)
    if not 1 <= k < len(features):
        raise ValueError(
            f"a neighbour number {k} needs more than {k} features, got {len(features)}"
        )
    found = []
    for rows in _blocks(features, features, progress):
        distances = _squared_distances(features[rows], features)
        distances[torch.arange(len(rows)), rows] = torch.inf
        found.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(found)


def _reach(features: Tensor, radii: Tensor) -> Tensor:
    """Squared radii [n] around features [n, d], and what rounding can add to a squared distance.

    A feature on the border has a squared length of at most twice that of the centre and of the
    radius together; the error of a distance between two is within d roundings of their squared
    lengths. Of real features, about one in a million millions lies so near to a border by chance.
    """
    unit = 8 * features.shape[1] * torch.finfo(torch.float64).eps
    return radii + unit * (features.square().sum(dim=1) + radii)


def nearest_class_share(
    samples: Tensor, sample_labels: Tensor, reference: Tensor, reference_labels: Tensor
) -> float:
    """Share of samples whose nearest reference feature carries the asked class: mean over classes.

    Nearest by cosine similarity, after the mean of the reference is subtracted from both. samples
    [n, d] and reference [m, d] are features; sample_labels [n] the classes asked for,
    reference_labels [m] the true ones, integers from 0. Of equally near ones one counts, and every
    class that occurs counts the same.
    Raises ValueError where there is not one label for each feature.
    """
    _check_labels(samples, sample_labels)
    _check_labels(reference, reference_labels)
    origin = reference.double().mean(dim=0)
    samples, reference = _directions(samples, origin), _directions(reference, origin)
    blocks = _blocks(samples, reference)
    nearest = torch.cat([(samples[rows] @ reference.T).argmax(1) for rows in blocks])
    return _class_share(reference_labels[nearest], sample_labels)


def leave_one_out_class_share(reference: Tensor, labels: Tensor) -> float:
    """`nearest_class_share` of real pictures, each against all the others: the figure to match.

    reference: features [m, d], m >= 2; labels: integers [m] from 0.
    Raises ValueError where there is not one label for each feature.
    """
    _check_labels(reference, labels)
    directions = _directions(reference, reference.double().mean(dim=0))
    nearest = []
    for rows in _blocks(directions, directions):
        similarity = directions[rows] @ directions.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf
        nearest.append(similarity.argmax(1))
    return _class_share(labels[torch.cat(nearest)], labels)


def near_copies(samples: Tensor, reference: Tensor, threshold: float) -> float:
    """Share of samples that lie within `threshold` (RMSE of values in 0..1) of a reference picture.

    samples uint8 [n, 3, h, w], reference uint8 [m, 3, h, w]. Distances are exact (whole numbers in
    float64), so an equal picture is at 0. Memory stays bounded: both are walked in blocks. Take the
    threshold from `near_copy_threshold`, and take what a tokenizer loses out of the comparison by
    passing its reconstructions of the training pictures as the reference.
    Raises ValueError where the pictures are not uint8 of one size.
    """
    _check_pictures(samples, reference)
    distance = _nearest_picture(samples, reference)
    return float((distance <= threshold).double().mean())


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
    return float(_nearest_picture(pictures, pictures, leave_one_out=True).quantile(quantile))


def _directions(features: Tensor, origin: Tensor) -> Tensor:
    """Features as unit vectors in float64, seen from an origin; ValueError unless finite."""
    return functional.normalize(check_finite(features.double() - origin))


def _class_share(found: Tensor, asked: Tensor) -> float:
    """found, asked: integers [n]; the mean over the classes asked of their share of equal ones."""
    hits = torch.bincount(asked, weights=(found == asked).double())
    return float((hits / torch.bincount(asked)).nanmean())


def _check_labels(features: Tensor, labels: Tensor) -> None:
    if len(features) != len(labels):
        raise ValueError(f"{len(features)} features need as many labels, got {len(labels)}")


def _check_pictures(samples: Tensor, reference: Tensor) -> None:
    if samples.dtype != torch.uint8 or reference.dtype != torch.uint8:
        raise ValueError(f"pictures must be uint8, got {samples.dtype} and {reference.dtype}")
    if samples.shape[1:] != reference.shape[1:]:
        raise ValueError(f"sizes differ: {list(samples.shape)} and {list(reference.shape)}")


def _nearest_picture(samples: Tensor, reference: Tensor, leave_one_out: bool = False) -> Tensor:
    """RMSE [n] to the nearest reference picture, with `leave_one_out` not to itself."""
    values = samples[0].numel()
    squared = torch.full((len(samples),), torch.inf, dtype=torch.float64, device=samples.device)
    blocks = torch.arange(len(reference)).split(max(1, BLOCK // values))
    for rows in torch.arange(len(samples)).split(max(1, BLOCK // values)):
        for columns in blocks:
            block = _squared_distances(samples[rows], reference[columns])
            if leave_one_out:
                block[rows[:, None] == columns] = torch.inf
            squared[rows] = torch.minimum(squared[rows], block.amin(dim=1))
    return (squared / values).sqrt() / 255


def _squared_distances(samples: Tensor, reference: Tensor) -> Tensor:
    """[n, m] sums of squared differences; of uint8 pictures whole numbers, exact in float64."""
    samples, reference = samples.flatten(1).double(), reference.flatten(1).double()
    lengths = samples.square().sum(1, keepdim=True) + reference.square().sum(1)
    return (lengths - 2 * samples @ reference.T).clamp_min(0)


def _blocks(rows: Tensor, columns: Tensor, progress: bool = False) -> Iterable[Tensor]:
    """Indices of the rows in blocks whose distances to all columns fit into `BLOCK`."""
    blocks = torch.arange(len(rows)).split(max(1, BLOCK // len(columns)))
    return tqdm(blocks, "neighbours", leave=False, disable=not progress)
