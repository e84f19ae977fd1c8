"""What figures need to know of a set of pictures, gathered in one pass and in bounded memory.

Each picture is seen once. Means and covariances do not grow with the number of pictures; of the
pooled features, which nearest neighbours and kernels need one by one, at most `KEPT` are kept.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from setar.data.images import Images
from setar.evaluation.distances import (
    GaussianStatistics,
    RunningGaussian,
    RunningInceptionScore,
    Spread,
)
from setar.evaluation.workers import Once, Work, in_batches, resolved
from setar.features.base import FeatureExtractor, Features

KEPT = 50_000
"""Features kept one by one: with Inception's 2048 dimensions, 410 MB."""


@dataclass(frozen=True, eq=False)
class FeatureSummary:
    """A set of pictures as its features show it."""

    features: str
    """Name of the extractor."""
    images: int | None
    """Pictures seen; None where a file of statistics does not say."""
    gaussian: GaussianStatistics
    """Of the pooled features."""
    spatial: GaussianStatistics | None = None
    """Of the spatial features, where the extractor has them."""
    score: Spread | None = None
    """Inception score, where the extractor has classes."""
    pooled: Tensor | None = None
    """Float32 ``[min(images, KEPT), d]``, evenly spaced; None in a file of mere statistics."""
    predicted: Tensor | None = None
    """Int64 ``[images]``, the likeliest class, where the extractor has classes."""


def summarise(
    images: Images | Once[Images],
    extractor: FeatureExtractor | Once[FeatureExtractor],
    progress: bool = False,
    processes: int = 1,
) -> FeatureSummary:
    """Look at all images once.

    Args:
        images: gives uint8 ``[B, 3, H, W]`` for a tensor of B indices; a tensor of pictures does.
        extractor: the network.
        progress: show a bar.
        processes: how many extract the features, which this one adds up; of several, each opens
            images and extractor for itself, so both must be `Once`.

    Raises:
        ValueError: there are fewer than two images.
    """
    total, open_work = len(resolved(images)), Once(_work, images, extractor)
    gaussian, spatial, score = RunningGaussian(), RunningGaussian(), RunningInceptionScore()
    pooled, predicted = [], []
    for items, result in in_batches(open_work, total, "features", processes, progress):
        # Results are of any tensors or None, and come back from other processes as plain tuples.
        batch = Features(*result)  # type: ignore[arg-type]
        gaussian.add(batch.pooled)
        pooled.append(batch.pooled[is_kept(items, total)])
        if batch.spatial is not None:
            spatial.add(batch.spatial)
        if batch.probabilities is not None:
            score.add(batch.probabilities, items)
            predicted.append(batch.probabilities.argmax(dim=1))
    return FeatureSummary(
        resolved(extractor).name,
        gaussian.count,
        gaussian.statistics(),
        spatial.statistics() if spatial.count else None,
        score.score() if predicted else None,
        torch.cat(pooled),
        torch.cat(predicted) if predicted else None,
    )


def _work(images: Images, extractor: FeatureExtractor) -> Work:
    return lambda items: extractor(images[items])


def is_kept(items: Tensor, total: int) -> Tensor:
    """Which of these pictures are among the `KEPT` evenly spaced ones of all, bool ``[B]``."""
    if total <= KEPT:
        return torch.ones_like(items, dtype=torch.bool)
    return (items + 1) * KEPT // total > items * KEPT // total


def save_statistics(summary: FeatureSummary, file: Path) -> None:
    """Write a summary as .npz, under the names that reference files of ADM's evaluator use."""
    arrays: dict[str, Any] = {
        "mu": summary.gaussian.mean.numpy(),
        "sigma": summary.gaussian.covariance.numpy(),
        "features": np.array(summary.features),
    }
    if summary.images is not None:
        arrays["images"] = np.array(summary.images)
    if summary.spatial is not None:
        arrays["mu_s"] = summary.spatial.mean.numpy()
        arrays["sigma_s"] = summary.spatial.covariance.numpy()
    if summary.pooled is not None:
        arrays["pooled"] = summary.pooled.numpy()
    with file.open("wb") as stream:  # an open file, because numpy appends .npz to other names
        np.savez(stream, **arrays)
