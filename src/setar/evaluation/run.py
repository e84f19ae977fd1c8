"""One evaluation from request to figures: what `setar evaluate` does, without printing."""

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setar.durable import replacing
from setar.evaluation.metrics import GENERAL, METRICS, Evidence, measure, settings_of
from setar.evaluation.sources import (
    NpzImages,
    Pictures,
    find_pictures,
    holds_pictures,
    load_statistics,
    save_pictures,
)
from setar.evaluation.summary import FeatureSummary, save_statistics, summarise
from setar.evaluation.targets import Request, Target, find_target, picture_size
from setar.evaluation.workers import Once
from setar.features.base import FeatureExtractor, make_extractor

DESCRIBED = {"lanczos": "Lanczos", "adm": "ADM"}
"""Resizes as the settings name them."""


def run(request: Request) -> dict[str, dict[str, Any]]:
    """Do what is asked.

    Returns:
        Tables by heading: first ``settings``, all that the figures depend on; then ``figures``
        under the names of the field; then what is special to the subject.

    Raises:
        ValueError: something of the request is wrong; most of it is found before the long work.
    """
    for name in request.metrics:
        METRICS.find(name)
    target = find_target(request)
    reference = _reference(request, target)
    data = target.data(reference)
    features = request.features or (reference.data.features if reference.data else "efflite0")
    open_extractor = Once(make_extractor, features, request.device)
    extractor = open_extractor()
    real = _reference_summary(request, reference, open_extractor)
    if request.save_statistics:
        with _whole(request.save_statistics) as draft:
            save_statistics(real, draft)
    pictures = target.prepare(reference)
    if request.save_samples:
        with _whole(request.save_samples) as draft:
            save_pictures(pictures.images, draft, pictures.labels, request.progress)
        # They are read from there from now on.
        opener = Once(NpzImages, request.save_samples)
        pictures = Pictures(pictures.name, opener, pictures.labels)
    made = summarise(pictures.open, open_extractor, request.progress, request.processes)
    found = target.evidence()
    evidence = Evidence(
        made, real, extractor, request.seed, request.progress, pictures.images, data, **found
    )
    metrics = [*GENERAL, *(data.report if data else ()), *target.report, *request.metrics]
    tables = measure(evidence, metrics)
    settings = {
        "pictures": request.source,
        "N": made.images,
        **target.settings(),
        "reference": reference.name,
        "reference N": real.images,
        **_sizes(pictures, reference, target.resize(request) if target.size else ""),
        "features": extractor.described,
        **settings_of(evidence),
    }
    return {"settings": settings, **tables}


def _reference(request: Request, target: Target) -> Pictures:
    """What is compared with: the reference of the request, or what a model was trained on."""
    text = request.reference or target.own_reference
    if not text:
        raise ValueError(f"{request.source} has no data set of its own: name one with --reference")
    if request.size and not (os.path.isdir(request.source) or os.path.isdir(text)):
        raise ValueError(f"`size` is for folders of pictures; {text} has a size of its own")
    try:
        return find_pictures(text, target.size, target.resize(request), target.left_out(text))
    except ValueError as error:
        if request.reference:
            raise
        hint = "name those or other pictures with --reference"
        if Path(text).name == "styles" and not os.path.exists(text):
            hint = (
                f"setar data styles --out {text} makes them; or say with --reference where they are"
            )
        raise ValueError(
            f"{request.source} was trained on {text}, which is not here ({error}): {hint}"
        ) from error


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A draft beside a file, which takes its place once it is complete; OSError of a full disk."""
    try:
        with replacing(file) as draft:
            yield draft
    except OSError as error:
        raise OSError(f"cannot write {file}: {error.strerror or error}") from error


def _sizes(pictures: Pictures, reference: Pictures, resize: str) -> dict[str, str]:
    """Sizes in pixels (width x height), and what was done where they are not the same."""
    size, reference_size = _size(pictures), _size(reference)
    sizes = {"size": size, "reference size": reference_size}
    if resize and os.path.isdir(reference.name):
        how = DESCRIBED[resize]
        return {**sizes, "resizing": f"reference: centre crops, {how} to {reference_size}"}
    if "unknown" in (size, reference_size) or size == reference_size:
        return sizes
    return {**sizes, "resizing": "pictures and reference differ; the features' network resizes"}


def _size(pictures: Pictures) -> str:
    file = Path(pictures.name)
    if file.suffix == ".npz" and not holds_pictures(file):
        return "unknown"
    height, width = picture_size(pictures.images)
    return f"{width}x{height}"


def _reference_summary(
    request: Request, pictures: Pictures, open_extractor: Once[FeatureExtractor]
) -> FeatureSummary:
    """Precomputed statistics of a file come first, as in ADM's evaluator."""
    file, name, known = Path(pictures.name), open_extractor().name, None
    if file.suffix == ".npz":
        known = load_statistics(file, name)
        if not holds_pictures(file):
            if known is None:
                raise ValueError(f"{file} holds neither pictures nor statistics of {name} features")
            return known
    seen = summarise(pictures.open, open_extractor, request.progress, request.processes)
    if known is None:
        return seen
    return dataclasses.replace(
        seen, images=known.images, gaussian=known.gaussian, spatial=known.spatial
    )
