"""What `setar evaluate` measures: a generator, a tokenizer, or pictures that lie somewhere."""

import dataclasses
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from setar import checkpoint
from setar.data import digits, emoji
from setar.data.images import Images
from setar.evaluation import digits as digit_figures
from setar.evaluation import emoji as emoji_figures
from setar.evaluation.models import here_or_there, load_pipeline
from setar.evaluation.samples import (
    BalancedSampler,
    Reconstruction,
    Reconstructor,
    Samples,
    decoded_by,
    decoded_samples,
    reconstruct_all,
    sample,
)
from setar.evaluation.sources import DATA_SETS, Pictures, find_pictures, is_model, open_evenly
from setar.evaluation.summary import FeatureSummary
from setar.features.base import FeatureExtractor
from setar.pretrained import load_tokenizer, locate, shipped
from setar.recipes.recipe import Recipe
from setar.tokenizers.base import Tokenizer
from setar.tokenizers.multiscale import MultiScaleVQ

FEWEST, PER_CLASS = 800, 8
"""A generator makes this many pictures or more, and of each class so many, unless told."""
ROUNDING = "clamped, half to even, to uint8 (setar.tokenizers.base.to_uint8)"


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks of `setar evaluate`."""

    source: str
    """A model, a tokenizer, a folder, an .npz file, or a data set with its split."""
    reference: str = ""
    """A data set, a folder or an .npz file; empty for the one a generator was trained on."""
    features: str = ""
    """``efflite0``, ``digits`` or ``inception:FILE``; empty: as the reference asks for."""
    images: int | None = None
    count: int | None = None
    """Pictures of each class of a generator."""
    seed: int = 0
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Changes of a generator's defaults: fields of `Guidance` and `SamplingSettings`, recipe."""
    device: str = "cpu"
    processes: int = 1
    save_samples: Path | None = None
    save_statistics: Path | None = None
    progress: bool = False


class Evidence(NamedTuple):
    """What figures beyond the general ones are drawn from."""

    made: FeatureSummary
    real: FeatureSummary
    reference: str
    extractor: FeatureExtractor


class Subject(Protocol):
    """Something that is measured."""

    own_reference: str
    """The data set it was made for; empty if unknown."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of its pictures in pixels; None if it takes any.

        A reference's pictures are cropped and resized to it.
        """
        ...

    def prepare(self, reference: Pictures) -> Pictures:
        """Make the pictures, which may take long."""
        ...

    def settings(self) -> dict[str, Any]:
        """How they were made."""
        ...

    def sections(self, evidence: Evidence) -> dict[str, dict[str, Any]]:
        """Tables of further figures, by heading."""
        ...


def find_subject(request: Request) -> Subject:
    """The subject that a request names; ValueError if there is none or an option does not fit."""
    source = request.source
    name, _, split = source.partition(":")
    of_pictures = os.path.isdir(source) and not is_model(source) and source not in shipped()
    if (name in DATA_SETS and split) or source.endswith(".npz") or of_pictures:
        return StoredPictures(request)
    if "model" in checkpoint.verify(locate(source), ()):
        return Generator(request)
    return TokenizerAlone(request)


class StoredPictures:
    """A folder, an .npz file or a data set."""

    own_reference = ""

    def __init__(self, request: Request) -> None:
        _refuse_sampling(request, "pictures")
        self.pictures = _some(find_pictures(request.source), request.images)
        self.size = picture_size(self.pictures.images)

    def prepare(self, reference: Pictures) -> Pictures:
        """They are there."""
        return self.pictures

    def settings(self) -> dict[str, Any]:
        """Nothing is done to them."""
        return {"rounding": "as stored"}

    def sections(self, evidence: Evidence) -> dict[str, dict[str, Any]]:
        """None."""
        return {}


class Generator:
    """A model with a tokenizer and classes; its samples are balanced over these."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.load = partial(load_pipeline, request.source, request.device, request.sampling)
        self.pipeline = self.load()
        if self.pipeline.defaults.settings.smoothing:
            raise ValueError(
                "`smoothing` is for looking at pictures, and its mixtures of codes are too many "
                "numbers to keep; measure without it (--no-smoothing)"
            )
        self.steps = Recipe.parse(self.pipeline.defaults.recipe).set_count(self.pipeline.grid)
        self.count = _per_class(request, len(self.pipeline.classes))
        self.samples: Samples | None = None
        width, height = self.pipeline.size
        self.size = (height, width)
        self.own_reference = self._own_reference(self.size)

    def _own_reference(self, size: tuple[int, int]) -> str:
        if self.pipeline.classes == emoji.subgroups():
            return "emoji"
        is_digits = self.pipeline.classes == tuple("0123456789") and size == digits.GRID
        return "digits" if is_digits else ""

    def prepare(self, reference: Pictures) -> Pictures:
        """Sample the codes; they are decoded where they are needed."""
        request, classes = self.request, len(self.pipeline.classes)
        here = (request.processes, self.pipeline, self.load)
        open_sampler = here_or_there(*here, BalancedSampler, self.count, request.seed)
        self.samples = sample(
            open_sampler, classes, self.count, request.seed, request.processes, request.progress
        )
        opener = here_or_there(*here, decoded_samples, self.samples.codes.numpy())
        return Pictures(request.source, opener, self.samples.labels)

    def settings(self) -> dict[str, Any]:
        """All that decides a sample."""
        defaults = self.pipeline.defaults
        return {
            "classes": len(self.pipeline.classes),
            "of each class": self.count,
            "recipe": defaults.recipe,
            "steps": self.steps,
            "guidance": dataclasses.asdict(defaults.guidance),
            **dataclasses.asdict(defaults.settings),
            "seed": self.request.seed,
            "rounding": ROUNDING,
            "device": self.request.device,
        }

    def sections(self, evidence: Evidence) -> dict[str, dict[str, Any]]:
        """What else there is to say of models of the embedded data sets."""
        assert self.samples is not None
        if self.own_reference == "emoji" and evidence.reference == "emoji:train":
            generator = emoji_figures.judge(
                self.pipeline,
                self.samples,
                evidence.made,
                evidence.real,
                evidence.extractor,
                self.request.progress,
            )
            tokenizer = emoji_figures.evaluate_tokenizer(
                self.pipeline.tokenizer, self.request.progress
            )
            return {
                "tokenizer": without_empty(dataclasses.asdict(tokenizer)),
                "generator": dataclasses.asdict(generator),
            }
        if self.own_reference == "digits" and evidence.extractor.name == "digits":
            report = digit_figures.judge(self.samples.labels, evidence.made, evidence.extractor)
            return {"generator": dataclasses.asdict(report)}
        return {}


class TokenizerAlone:
    """A tokenizer without a generator: what it makes of the reference's pictures."""

    own_reference = ""

    def __init__(self, request: Request) -> None:
        _refuse_sampling(request, "a tokenizer")
        self.request = request
        self.load = partial(load_tokenizer, request.source, request.device)
        self.tokenizer: Tokenizer = self.load()  # type: ignore[assignment]
        self.size: tuple[int, int] | None = None
        if isinstance(self.tokenizer, MultiScaleVQ):
            self.size = self.tokenizer.image_size
        self.reconstruction: Reconstruction | None = None

    def prepare(self, reference: Pictures) -> Pictures:
        """Encode the reference's pictures; the codes are decoded where they are needed."""
        request, here = self.request, (self.request.processes, self.tokenizer, self.load)
        originals = _some(reference, request.images)
        self.reconstruction = reconstruct_all(
            here_or_there(*here, Reconstructor, originals.opener(request.processes)),
            len(originals.images),
            self.tokenizer,
            request.processes,
            request.progress,
        )
        size, codes = picture_size(originals.images), self.reconstruction.codes.numpy()
        return Pictures(request.source, here_or_there(*here, decoded_by, codes, size))

    def settings(self) -> dict[str, Any]:
        """How pictures are rounded."""
        return {"rounding": ROUNDING, "device": self.request.device}

    def sections(self, evidence: Evidence) -> dict[str, dict[str, Any]]:
        """PSNR and the codebook's use."""
        assert self.reconstruction is not None
        codes = self.reconstruction.codes
        figures = {
            "psnr": self.reconstruction.psnr,
            "usage": self.reconstruction.usage,
            "usage_of_scales": self.reconstruction.usage_of_scales,
            "tokens": codes.shape[1],
        }
        return {"tokenizer": without_empty(figures)}


def without_empty(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures without those of scales, where there is only one."""
    return {name: value for name, value in figures.items() if value != {}}


def picture_size(images: Images) -> tuple[int, int]:
    """Height and width in pixels of the first picture."""
    height, width = images[torch.tensor([0])].shape[-2:]
    return height, width


def _some(pictures: Pictures, count: int | None) -> Pictures:
    if count is None:
        return pictures
    return Pictures(pictures.name, partial(open_evenly, pictures.open, count))


def _per_class(request: Request, classes: int) -> int:
    if request.images is not None and request.count is not None:
        raise ValueError("give `images` or `count`, not both")
    if request.images is None:
        count = max(PER_CLASS, FEWEST // classes) if request.count is None else request.count
    else:
        count, rest = divmod(request.images, classes)
        if rest:
            near = {max(1, count) * classes, (count + 1) * classes}
            raise ValueError(
                f"`images` (={request.images}) must be a multiple of the {classes} classes, "
                f"so that each comes equally often: {' or '.join(map(str, sorted(near)))}"
            )
    if count < 1 or count * classes < 2:
        raise ValueError(f"{count} images of each of {classes} classes are too few: at least 2")
    return count


def _refuse_sampling(request: Request, what: str) -> None:
    given = [name.replace("scale", "guidance") for name in request.sampling]
    given += ["count"] if request.count is not None else []
    if given:
        raise ValueError(f"`{given[0]}` is for generators; {request.source} is {what}")
    if request.images is not None and request.images < 2:
        raise ValueError(f"`images` (={request.images}) must be at least 2")
