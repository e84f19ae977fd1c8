"""How good is a model of the embedded emoji? Figures that always come with the real ones beside.

Class share: of the samples asked for a subgroup, the share whose nearest training emoji, in
features of EfficientNet-Lite0, belongs to it. A model that copies scores high too, so the share of
near copies stands beside it. Distances are Frechet distances in the same features, "FD-EffLite0".
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from setar.data import emoji
from setar.evaluation.metrics import (
    GaussianStatistics,
    frechet_distance,
    leave_one_out_class_share,
    near_copies,
    near_copy_threshold,
    nearest_class_share,
)
from setar.features import extract
from setar.pipeline import Pipeline
from setar.tokenizers.autoencoder import psnr
from setar.tokenizers.base import Tokenizer, decode_codes, encode_images, to_float


@dataclass(frozen=True)
class TokenizerReport:
    """Reconstruction of emoji that were never trained on."""

    psnr_heldout: float
    """Mean over the held-out images, dB."""
    psnr_train: float
    usage_heldout: float
    """Share of the codebook that the held-out images use."""
    usage_train: float
    tokens: int


@dataclass(frozen=True)
class GeneratorReport:
    """Class-conditional samples, ``count`` of each subgroup."""

    images: int
    seconds: float
    class_share: float
    """Mean over subgroups."""
    class_share_real: float
    """The same for the real emoji, each against all others."""
    distance: float
    """FD-EffLite0 of the samples to the training emoji."""
    distance_reconstructed: float
    """Of as many random training emoji, as the tokenizer reconstructs them."""
    distance_reconstructed_balanced: float
    """Of as many, ``count`` random ones of each subgroup: the classes of the samples."""
    distance_real_balanced: float
    """Of the same emoji untouched: what a perfect model would score."""
    near_copies: float
    """Share of samples nearer than ``copy_threshold`` to a reconstructed training emoji."""
    exact_copies: float
    """Share of samples that equal a reconstructed training emoji in every token."""
    copy_threshold: float
    """Root-mean-square pixel distance (0..1) within which 5 % of the real emoji without skin tone
    have another one."""


def evaluate_tokenizer(tokenizer: Tokenizer) -> TokenizerReport:
    """Measure a tokenizer on the held-out and on the training emoji."""
    figures: dict[str, Any] = {}
    for split in ("heldout", "train"):
        images = emoji.load(split).images
        codes = encode_images(tokenizer, images)
        decoded = decode_codes(tokenizer, codes, tokenizer.grid(*images.shape[-2:]))
        figures[f"psnr_{split}"] = psnr(to_float(decoded), to_float(images)).mean().item()
        figures[f"usage_{split}"] = len(codes.unique()) / tokenizer.vocabulary
        figures["tokens"] = codes.shape[1]
    return TokenizerReport(**figures)


def evaluate_generator(
    pipeline: Pipeline, count: int = 8, seed: int = 0, progress: bool = True, **options: Any
) -> tuple[GeneratorReport, Tensor]:
    """Sample ``count`` images of every subgroup and judge them.

    Args:
        pipeline: a model of the 99 emoji subgroups.
        count: images per subgroup.
        seed: of the samples and of the random real emoji they are compared with.
        progress: show bars.
        options: passed to the pipeline: recipe, guidance, ...

    Returns:
        The figures, and the samples uint8 ``[99 count, 3, 32, 32]``.
    """
    if pipeline.classes != emoji.subgroups():
        raise ValueError("this evaluation is for models of the 99 emoji subgroups")
    train, heldout = emoji.load("train"), emoji.load("heldout")
    began = perf_counter()
    codes = pipeline.sample_codes(list(emoji.subgroups()), count=count, seed=seed, **options)
    samples = pipeline.decode(codes)
    seconds = perf_counter() - began
    train_codes = encode_images(pipeline.tokenizer, train.images)
    rebuilt = pipeline.decode(train_codes)
    chosen = _random(train.labels, count, seed)
    asked = torch.arange(len(emoji.subgroups())).repeat_interleave(count)
    real, made = extract(train.images, progress=progress), extract(samples, progress=progress)
    everything = torch.cat([real, extract(heldout.images)])
    statistics = GaussianStatistics.from_features(real)

    def distance(features: Tensor) -> float:
        return frechet_distance(features, statistics)

    threshold = near_copy_threshold(train.images[~train.skin_tone])
    copies = near_copies(samples, rebuilt, threshold)
    report = GeneratorReport(
        images=len(samples),
        seconds=seconds,
        class_share=nearest_class_share(made, asked, real, train.labels).over_classes,
        class_share_real=leave_one_out_class_share(
            everything, torch.cat([train.labels, heldout.labels])
        ).over_classes,
        distance=distance(made),
        distance_reconstructed=distance(extract(rebuilt[chosen.uniform])),
        distance_reconstructed_balanced=distance(extract(rebuilt[chosen.balanced])),
        distance_real_balanced=distance(real[chosen.balanced]),
        near_copies=copies.share,
        exact_copies=_exact(codes.cpu(), train_codes),
        copy_threshold=threshold,
    )
    return report, samples


@dataclass(frozen=True)
class _Chosen:
    uniform: Tensor
    balanced: Tensor


def _random(labels: Tensor, count: int, seed: int) -> _Chosen:
    """Indices of random training images: of any class, and ``count`` of each class.

    An image comes twice only when there are not enough.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = int(labels.max()) + 1
    total = classes * count
    rounds = -(-total // len(labels))
    shuffled = [torch.randperm(len(labels), generator=generator) for _ in range(rounds)]
    uniform = torch.cat(shuffled)[:total]
    balanced = []
    for label in range(classes):
        members = (labels == label).nonzero().flatten()
        draws = -(-count // len(members))
        mixed = [members[torch.randperm(len(members), generator=generator)] for _ in range(draws)]
        balanced.append(torch.cat(mixed)[:count])
    return _Chosen(uniform, torch.cat(balanced))


def _exact(codes: Tensor, train_codes: Tensor) -> float:
    known = {tuple(row) for row in train_codes.tolist()}
    return sum(tuple(row) in known for row in codes.tolist()) / len(codes)
