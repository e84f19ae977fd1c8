"""How good is a model of the embedded emoji? Figures that always come with the real ones beside.

Class share: of the samples asked for a subgroup, the share whose nearest training emoji, in the
features of an extractor, belongs to it. A model that copies scores high too, so the share of near
copies stands beside it. Distances are Frechet distances in the same features; with the default
extractor, EfficientNet-Lite0, they are "FD-EffLite0".
"""

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from setar.data import emoji
from setar.data.base import Split
from setar.evaluation.distances import GaussianStatistics, frechet_distance
from setar.evaluation.metrics import Evidence, register_metric
from setar.evaluation.neighbours import (
    leave_one_out_class_share,
    near_copies,
    near_copy_threshold,
    nearest_class_share,
)
from setar.evaluation.samples import (
    BalancedSampler,
    Reconstruction,
    Reconstructor,
    reconstruct_all,
    sample,
)
from setar.evaluation.summary import is_kept, summarise
from setar.evaluation.workers import Once
from setar.features.base import FeatureExtractor, extract_features
from setar.features.efficientnet import EfficientNetFeatures
from setar.pipeline import Pipeline
from setar.tokenizers.base import Tokenizer, encode_images

DRAWS = 8
"""Sets of independent draws whose distances are averaged: one alone is off by about 1 %."""


@dataclass(frozen=True)
class TokenizerReport:
    """Reconstruction of emoji that were never trained on."""

    psnr_heldout: float
    """Mean over the held-out images, dB."""
    psnr_train: float
    usage_heldout: float
    """Share of the codebook that the held-out images use."""
    usage_train: float
    usage_of_scales_heldout: dict[str, float]
    """The same for each scale of a multi-scale tokenizer, by its name such as 4x4; else empty."""
    usage_of_scales_train: dict[str, float]
    tokens: int


@dataclass(frozen=True)
class GeneratorReport:
    """Class-conditional samples, ``count`` of each subgroup."""

    images: int
    seconds: float
    """Of sampling, without decoding."""
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
    distance_by_heart: float
    """Of ``count`` reconstructions of each subgroup, drawn independently, the mean of `DRAWS` such
    sets: what a model scores that knows the training emoji by heart."""
    distance_real_balanced: float
    """Of the real emoji behind ``distance_reconstructed_balanced``, untouched."""
    near_copies: float
    """Share of samples nearer than ``copy_threshold`` to a reconstructed training emoji."""
    exact_copies: float
    """Share of samples that equal a reconstructed training emoji in every token."""
    copy_threshold: float
    """Root-mean-square pixel distance (0..1) within which 5 % of the real emoji without skin tone
    have another one."""


@register_metric("emoji-tokenizer", heading="tokenizer")
def tokenizer_figures(evidence: Evidence) -> dict[str, Any]:
    """A `TokenizerReport` of a generator's tokenizer."""
    if evidence.pipeline is None or not _of_emoji(evidence):
        return {}
    report = evaluate_tokenizer(evidence.pipeline.tokenizer, evidence.progress)
    return {name: value for name, value in asdict(report).items() if value != {}}


@register_metric("emoji-samples", heading="generator")
def sample_figures(evidence: Evidence) -> dict[str, Any]:
    """A `GeneratorReport` of a generator's samples."""
    if evidence.pipeline is None or evidence.samples is None or not _of_emoji(evidence):
        return {}
    return asdict(judge(evidence))


def _of_emoji(evidence: Evidence) -> bool:
    """Whether the reference is the training emoji, and the model one of them."""
    return evidence.data is not None and evidence.data.classes == emoji.subgroups()


def evaluate_tokenizer(tokenizer: Tokenizer, progress: bool = False) -> TokenizerReport:
    """Measure a tokenizer on the held-out and on the training emoji."""

    def reconstruct(split: Split) -> Reconstruction:
        images = emoji.load(split).images
        work = Once(Reconstructor, tokenizer, images)
        return reconstruct_all(work, len(images), tokenizer, progress=progress)

    heldout, train = reconstruct("heldout"), reconstruct("train")
    return TokenizerReport(
        psnr_heldout=heldout.psnr,
        psnr_train=train.psnr,
        usage_heldout=heldout.usage,
        usage_train=train.usage,
        usage_of_scales_heldout=heldout.usage_of_scales,
        usage_of_scales_train=train.usage_of_scales,
        tokens=heldout.codes.shape[1],
    )


def evaluate_generator(
    pipeline: Pipeline,
    count: int = 8,
    seed: int = 0,
    progress: bool = True,
    extractor: FeatureExtractor | None = None,
    **options: Any,
) -> tuple[GeneratorReport, Tensor]:
    """Sample ``count`` images of every subgroup and judge them.

    Args:
        pipeline: a model of the 99 emoji subgroups.
        count: images per subgroup.
        seed: of the samples and of the random real emoji they are compared with.
        progress: show bars.
        extractor: whose features to compare; None is EfficientNet-Lite0.
        options: passed to the pipeline: recipe, guidance, ...

    Returns:
        The figures, and the samples uint8 ``[99 count, 3, 32, 32]``, the subgroups in turn.
    """
    if pipeline.classes != emoji.subgroups():
        raise ValueError("this evaluation is for models of the 99 emoji subgroups")
    extractor = extractor or EfficientNetFeatures()
    sampler = BalancedSampler(pipeline, count, seed, **options)
    samples = sample(lambda: sampler, len(pipeline.classes), count, seed, progress=progress)
    made = pipeline.decode(samples.codes)
    seen = summarise(made, extractor, progress)
    real = summarise(emoji.load("train").images, extractor, progress)
    facts = Evidence(seen, real, extractor, progress=progress, pipeline=pipeline, samples=samples)
    return judge(facts), made


def judge(evidence: Evidence) -> GeneratorReport:
    """The figures of samples, ``count`` of each subgroup, beside the training emoji.

    The evidence has pipeline and samples, and of the training emoji all features.
    """
    pipeline, samples, extractor = evidence.pipeline, evidence.samples, evidence.extractor
    made, real = evidence.made, evidence.real
    assert pipeline is not None
    assert samples is not None
    assert made.pooled is not None
    assert real.pooled is not None
    train, heldout = emoji.load("train"), emoji.load("heldout")
    train_codes = encode_images(pipeline.tokenizer, train.images)
    rebuilt = pipeline.decode(train_codes)
    chosen = _random(train.labels, samples.count, samples.seed)

    def pooled(images: Tensor) -> Tensor:
        return extract_features(extractor, images, progress=evidence.progress).pooled

    def distance(features: Tensor) -> float:
        return frechet_distance(GaussianStatistics.from_features(features), real.gaussian)

    everything = torch.cat([real.pooled, pooled(heldout.images)])
    copies = pooled(rebuilt)
    labels = samples.labels[is_kept(torch.arange(len(samples.codes)), len(samples.codes))]
    threshold = near_copy_threshold(train.images[~train.skin_tone])
    known = {tuple(row) for row in train_codes.tolist()}
    exact = sum(tuple(row) in known for row in samples.codes.tolist())
    return GeneratorReport(
        images=len(samples.codes),
        seconds=samples.seconds,
        class_share=nearest_class_share(made.pooled, labels, real.pooled, train.labels),
        class_share_real=leave_one_out_class_share(
            everything, torch.cat([train.labels, heldout.labels])
        ),
        distance=frechet_distance(made.gaussian, real.gaussian),
        distance_reconstructed=distance(copies[chosen.uniform]),
        distance_reconstructed_balanced=distance(copies[chosen.balanced]),
        distance_by_heart=fmean(distance(copies[drawn]) for drawn in chosen.independent),
        distance_real_balanced=distance(real.pooled[chosen.balanced]),
        near_copies=near_copies(pipeline.decode(samples.codes), rebuilt, threshold),
        exact_copies=exact / len(samples.codes),
        copy_threshold=threshold,
    )


class _Chosen(NamedTuple):
    uniform: Tensor
    balanced: Tensor
    independent: list[Tensor]


def _random(labels: Tensor, count: int, seed: int) -> _Chosen:
    """Indices of random training images: of any class, and ``count`` of each class.

    An image comes twice only when there are not enough, or where draws are independent; there are
    `DRAWS` sets of these.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = int(labels.max()) + 1
    total = classes * count
    rounds = -(-total // len(labels))
    shuffled = [torch.randperm(len(labels), generator=generator) for _ in range(rounds)]
    uniform = torch.cat(shuffled)[:total]
    members = [(labels == label).nonzero().flatten() for label in range(classes)]
    balanced = []
    for mine in members:
        draws = -(-count // len(mine))
        mixed = [mine[torch.randperm(len(mine), generator=generator)] for _ in range(draws)]
        balanced.append(torch.cat(mixed)[:count])
    independent = [
        torch.cat([m[torch.randint(len(m), (count,), generator=generator)] for m in members])
        for _ in range(DRAWS)
    ]
    return _Chosen(uniform, torch.cat(balanced), independent)
