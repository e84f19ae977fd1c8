"""Metrics: figures of some pictures beside a reference, by name.

frechet             Frechet distance of the pooled features; FID with Inception's
spatial-frechet     the same of the spatial features; sFID
inception-score     of the network's classes
kernel              kernel distance; KID
precision-recall    how much looks real, how much of the real ones is covered
reconstruction      of a tokenizer: PSNR and use of the codebook
emoji-..., digits-  what is special to the embedded data sets
text-...            of models of texts, trained on drawings that have a name and a style
clip-score          how well pictures and prompts agree, as a model of both sees it

A new metric is one decorated function, and a line in `METRICS` if it has a file of its own::

    @register_metric("sharpness")
    def sharpness(evidence):
        return {"sharpness": ...}

The general ones are always measured; a data set names those of its `Dataset.report`, and
``setar evaluate --metrics`` others.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from setar.data.base import Dataset
from setar.data.images import Images
from setar.evaluation.distances import (
    SUBSET_SIZE,
    SUBSETS,
    Spread,
    frechet_distance,
    kernel_distance,
)
from setar.evaluation.neighbours import NEIGHBOURS, precision_recall
from setar.evaluation.samples import Reconstruction, Samples
from setar.evaluation.summary import FeatureSummary, summarise
from setar.features.base import FeatureExtractor
from setar.moved import moved
from setar.pipeline import Pipeline
from setar.registry import Table

Scorer = Callable[[Tensor, Sequence[str]], Tensor]
"""Takes pictures uint8 ``[n, 3, H, W]`` and a text of each; gives a number ``[n]``, -1 to 1."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a metric may look at; what there is not is None."""

    made: FeatureSummary
    """The pictures that are measured, as the extractor sees them."""
    real: FeatureSummary
    """The reference."""
    extractor: FeatureExtractor
    seed: int = 0
    """Of whatever is drawn."""
    progress: bool = False
    """Whether to show bars."""
    images: Images | None = None
    """The pictures themselves."""
    data: Dataset | None = None
    """The data set that the reference is the training split of."""
    pipeline: Pipeline | None = None
    """The model that made the pictures."""
    samples: Samples | None = None
    """How it made them."""
    reconstruction: Reconstruction | None = None
    """What a tokenizer made of the reference."""
    scorer: Scorer | None = None
    """Says how well pictures and texts agree."""


class Metric(NamedTuple):
    """A registered metric."""

    function: Callable[[Evidence], Mapping[str, Any]]
    """Figures by name; none where they cannot be had."""
    heading: str
    """The table in which they are shown."""


METRICS: Table[Metric] = Table(
    "metric",
    {
        "emoji-tokenizer": "setar.evaluation.emoji:tokenizer_figures",
        "emoji-samples": "setar.evaluation.emoji:sample_figures",
        "digits-read": "setar.evaluation.digits:digits_read",
        "text-heldout": "setar.evaluation.text:heldout_figures",
        "text-train": "setar.evaluation.text:train_figures",
        "text-styles": "setar.evaluation.text:style_figures",
        "text-scenes": "setar.evaluation.text:scene_figures",
        "text-edits": "setar.evaluation.text:edit_figures",
        "clip-score": "setar.evaluation.text:clip_score",
    },
    of=Metric,
)
"""Every metric by its name; those of other files need a line here."""

GENERAL = (
    "frechet",
    "spatial-frechet",
    "inception-score",
    "kernel",
    "precision-recall",
    "reconstruction",
)
"""What is always measured."""

_Function = TypeVar("_Function", bound=Callable[[Evidence], Mapping[str, Any]])


def register_metric(name: str, heading: str = "figures") -> Callable[[_Function], _Function]:
    """Decorator: make ``function(evidence)``, which returns figures by name, a metric."""

    if heading == "settings":
        raise ValueError("the heading 'settings' is taken by what figures depend on")

    def register(function: _Function) -> _Function:
        METRICS.add(name, Metric(function, heading))
        return function

    return register


def measure(evidence: Evidence, metrics: Sequence[str] = GENERAL) -> dict[str, dict[str, Any]]:
    """Tables of figures by heading; ValueError if there is no metric of a name."""
    tables: dict[str, dict[str, Any]] = {}
    found = [(name, METRICS.find(name)) for name in dict.fromkeys(metrics)]
    for name, metric in found:
        given = metric.function(evidence)
        if not isinstance(given, Mapping):
            raise ValueError(f"the metric {name!r} must give figures by name, not {given!r:.60}")
        for figure, value in given.items():
            figures = tables.setdefault(metric.heading, {})
            if figure in figures:
                raise ValueError(f"the metric {name!r} gives {figure!r}, which is there already")
            try:
                json.dumps({figure: value})
            except TypeError as error:
                kind = type(value).__name__
                reason = f"the metric {name!r} gives a {kind} as {figure!r}: it must be a number"
                raise ValueError(reason) from error
            figures[figure] = value
    return tables


def evaluate(
    images: Images | FeatureSummary,
    reference: Images | FeatureSummary,
    extractor: FeatureExtractor,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Compare pictures with a reference: the general figures by the names of the field.

    A reference that serves several times is best summarised once, with `summarise`. Pictures and
    reference may differ in size, since the extractor resizes both; say so beside the figures. Fewer
    pictures make every figure but the kernel distance worse: compare equal numbers only.

    Args:
        images: the pictures; uint8 ``[n, 3, H, W]``, anything that gives such for indices
            (`setar.data.images.Images`), or their summary.
        reference: the same of real pictures.
        extractor: the network in whose features they are compared.
        seed: of the kernel distance's random subsets.
        progress: show bars.

    Raises:
        ValueError: there are fewer than two pictures, or a summary is of other features.
    """

    def summary(given: Images | FeatureSummary) -> FeatureSummary:
        if not isinstance(given, FeatureSummary):
            return summarise(given, extractor, progress)
        if given.features != extractor.name:
            name = given.features
            raise ValueError(f"a summary of {name} features is no use for {extractor.name}")
        return given

    evidence = Evidence(summary(images), summary(reference), extractor, seed, progress)
    return measure(evidence)["figures"]


def settings_of(evidence: Evidence) -> dict[str, Any]:
    """What the general figures depend on beside pictures and features."""
    made, real = evidence.made.pooled, evidence.real.pooled
    if made is None or real is None:
        return {}
    size = min(SUBSET_SIZE, len(made), len(real))
    settings = {"neighbours": NEIGHBOURS, "subsets": SUBSETS, "subset size": size}
    return {**settings, "subset seed": evidence.seed}


def _named(evidence: Evidence, of_inception: str, else_: str, value: Any) -> dict[str, float]:
    """A figure under the name of the field: FID only with Inception, else such as FD-EffLite0."""
    features = evidence.extractor.name
    name, ending = (of_inception, "") if features == "Inception" else (else_, f"-{features}")
    if isinstance(value, Spread):
        return {f"{name}{ending}": value.mean, f"{name}{ending} spread": value.deviation}
    return {f"{name}{ending}": value}


@register_metric("frechet")
def _frechet(evidence: Evidence) -> dict[str, float]:
    made, real = evidence.made.gaussian, evidence.real.gaussian
    return _named(evidence, "FID", "FD", frechet_distance(made, real))


@register_metric("spatial-frechet")
def _spatial_frechet(evidence: Evidence) -> dict[str, float]:
    made, real = evidence.made.spatial, evidence.real.spatial
    if made is None or real is None:
        return {}
    return _named(evidence, "sFID", "sFD", frechet_distance(made, real))


@register_metric("inception-score")
def _inception_score(evidence: Evidence) -> dict[str, float]:
    score = evidence.made.score
    return {} if score is None else _named(evidence, "IS", "IS", score)


@register_metric("kernel")
def _kernel(evidence: Evidence) -> dict[str, float]:
    made, real = evidence.made.pooled, evidence.real.pooled
    if made is None or real is None:
        return {}
    return _named(evidence, "KID", "KD", kernel_distance(made, real, seed=evidence.seed))


@register_metric("precision-recall")
def _precision_recall(evidence: Evidence) -> dict[str, float]:
    made, real = evidence.made.pooled, evidence.real.pooled
    if made is None or real is None or min(len(made), len(real)) <= NEIGHBOURS:
        return {}
    precision, recall = precision_recall(made, real, progress=evidence.progress)
    return {
        **_named(evidence, "precision", "precision", precision),
        **_named(evidence, "recall", "recall", recall),
    }


@register_metric("reconstruction", heading="tokenizer")
def _reconstruction(evidence: Evidence) -> dict[str, Any]:
    found = evidence.reconstruction
    if found is None:
        return {}
    of_scales = {"usage_of_scales": found.usage_of_scales} if found.usage_of_scales else {}
    tokens = found.codes.shape[1]
    return {"psnr": found.psnr, "usage": found.usage, **of_scales, "tokens": tokens}


__getattr__ = moved(__name__, {"GaussianStatistics": "setar.evaluation.distances"})
