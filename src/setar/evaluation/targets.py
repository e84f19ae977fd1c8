"""What `setar evaluate` measures: a generator, a tokenizer, or pictures that lie somewhere."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from setar.config import table
from setar.data.base import DATASETS, Dataset
from setar.data.crops import Resize
from setar.data.images import Images
from setar.evaluation.samples import (
    BalancedSampler,
    Prompt,
    Reconstructor,
    decoded_by,
    decoded_samples,
    reconstruct_all,
    sample,
)
from setar.evaluation.sources import EvenlySpaced, Pictures, find_pictures
from setar.evaluation.summary import KEPT
from setar.evaluation.workers import Once
from setar.origin import Origin, origin_of
from setar.pipeline import Pipeline, load_for_sampling
from setar.pretrained import load_tokenizer, read_config, read_newest, shipped
from setar.run_folder import is_model

FEWEST, PER_CLASS = 800, 8
"""A generator makes this many pictures or more, and of each class so many, unless told."""
PROMPTS, PER_PROMPT = 300, 4
"""A model of texts is asked for so many held-out and as many training pictures, so often each."""
MOST = 10_000_000
"""Pictures that a generator makes for one evaluation; the field asks for 50,000."""
ROUNDING = "clamped, half to even, to uint8 (setar.tokenizers.base.to_uint8)"


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks of `setar evaluate`."""

    source: str
    """A model, a tokenizer, a folder, an .npz file, or a data set with its split."""
    reference: str = ""
    """A data set, a folder or an .npz file; empty for the one a model was trained on."""
    features: str = ""
    """An extractor, such as ``efflite0`` or ``inception:FILE``; empty: as the reference asks."""
    size: tuple[int, int] | None = None
    """(height, width) in pixels to which the pictures of folders are cropped and resized; None: the
    size of a model, or pictures as they are."""
    images: int | None = None
    count: int | None = None
    """Pictures of each class or prompt of a generator."""
    prompts: int | None = None
    """Captions of held-out pictures that a model of texts is asked for, and as many of training
    ones; None: `PROMPTS`, or as many as there are."""
    clip: str = ""
    """A model of pictures and texts, of `setar.text.ImageTextScorer`, that scores the samples of a
    model of texts; empty: none."""
    seed: int = 0
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Changes of a generator's defaults, see `SamplingDefaults.changed`."""
    metrics: tuple[str, ...] = ()
    """Names of `METRICS`, beside the general ones and those of the reference."""
    resize: Resize | None = None
    """How centre crops of a folder's pictures are made, of `setar.data.crops.RESIZES`; None: as a
    model's own pictures were, or ``lanczos``."""
    device: str = "cpu"
    precision: str | None = None
    """Of a generator's products; see `Pipeline.from_pretrained`."""
    processes: int = 1
    save_samples: Path | None = None
    save_statistics: Path | None = None
    progress: bool = False


class Target:
    """Something that is measured."""

    own_reference: str = ""
    """The data set it was trained on; empty if that is not known."""
    origin: Origin = Origin()
    """What its run says of that."""
    report: tuple[str, ...] = ()
    """Metrics of `METRICS` that are measured beside the general ones."""
    size: tuple[int, int] | None
    """Height and width in pixels of its pictures, to which those of a reference are cropped and
    resized; None if it takes any."""

    def data(self, reference: Pictures) -> Dataset | None:
        """The data set whose training split is the reference, if what it reports may be said."""
        return reference.data if reference.training else None

    def resize(self, request: Request) -> Resize:
        """How the pictures of folders are resized."""
        return request.resize or self.origin.resize

    def left_out(self, reference: str) -> frozenset[str]:
        """Files of a reference that could not be read when it was trained on."""
        return self.origin.left_out if reference == self.origin.data else frozenset()

    def prepare(self, reference: Pictures) -> Pictures:
        """Make the pictures, which may take long."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """How they were made."""
        raise NotImplementedError

    def evidence(self) -> dict[str, Any]:
        """What more there is to say of them: fields of `setar.evaluation.metrics.Evidence`."""
        return {}


def find_target(request: Request) -> Target:
    """The target that a request names; ValueError if there is none or an option does not fit."""
    source = request.source
    name, _, split = source.partition(":")
    of_pictures = os.path.isdir(source) and not is_model(source) and source not in shipped()
    if (split and name in DATASETS) or source.endswith(".npz") or of_pictures:
        return StoredPictures(request)
    if "model" in read_newest(source, read_config):
        how = (request.device, request.sampling, request.precision)
        load = Once(load_for_sampling, source, *how)
        return GENERATORS[load().reads](request, load)
    return TokenizerTarget(request)


class StoredPictures(Target):
    """A folder, an .npz file or a data set."""

    def __init__(self, request: Request) -> None:
        _refuse_sampling(request, "pictures")
        found = find_pictures(request.source, request.size, self.resize(request))
        self.pictures = _some(found, request.images)
        self.size = request.size or picture_size(self.pictures.images)

    def prepare(self, reference: Pictures) -> Pictures:
        """They are there."""
        return self.pictures

    def settings(self) -> dict[str, Any]:
        """Nothing is done to them."""
        return {"rounding": "as stored"}


class GeneratorTarget(Target):
    """A model with a tokenizer and classes; its samples are balanced over these."""

    def __init__(self, request: Request, load: Once[Pipeline]) -> None:
        self.request, self.load, self.pipeline = request, load, load()
        if self.pipeline.defaults.settings.smoothing:
            raise ValueError(
                "`smoothing` is for looking at pictures, and its mixtures of codes are too many "
                "numbers to keep; measure without it (--no-smoothing)"
            )
        self.steps = self.pipeline.defaults.recipe.set_count(self.pipeline.grid)
        width, height = self.pipeline.size
        self.size = request.size or (height, width)
        self.own_reference, self.origin = self.pipeline.data, origin_of(request.source)
        self.plan()

    def plan(self) -> None:
        """Decide how many pictures there will be of each class; errors are those of the request."""
        _refuse_texts(self.request, f"{self.request.source} makes classes")
        self.count = _per_class(self.request, len(self.pipeline.classes))

    def data(self, reference: Pictures) -> Dataset | None:
        """What a data set reports is about models of its classes."""
        data = super().data(reference)
        return data if data is not None and data.classes == self.pipeline.classes else None

    def prepare(self, reference: Pictures) -> Pictures:
        """Sample the codes; they are decoded where they are needed."""
        return self._sampled(len(self.pipeline.classes))

    def _sampled(self, classes: int, prompts: Sequence[Prompt] = ()) -> Pictures:
        request, texts = self.request, [prompt.text for prompt in prompts]
        open_sampler = Once(BalancedSampler, self.load, self.count, request.seed, texts or None)
        self.samples = sample(
            open_sampler,
            classes,
            self.count,
            request.seed,
            request.processes,
            request.progress,
            prompts,
        )
        opener = Once(decoded_samples, self.load, self.samples.codes.numpy())
        return Pictures(request.source, opener, self.samples.labels)

    def asked(self) -> dict[str, Any]:
        """Of what, and how many, samples there are."""
        return {"classes": len(self.pipeline.classes), "of each class": self.count}

    def settings(self) -> dict[str, Any]:
        """All that decides a sample."""
        defaults = self.pipeline.defaults
        return {
            **self.asked(),
            "recipe": str(defaults.recipe),
            "steps": self.steps,
            "guidance": dataclasses.asdict(defaults.guidance),
            **table(defaults.settings),
            "seed": self.request.seed,
            "rounding": ROUNDING,
            "device": self.request.device,
        }

    def evidence(self) -> dict[str, Any]:
        """Model and samples."""
        return {"pipeline": self.pipeline, "samples": self.samples}


class TextTarget(GeneratorTarget):
    """A model that reads texts: it is asked for pictures of a data set by their captions.

    The prompts are captions of held-out pictures, as many as the request says, and of as many
    training ones; which, does not depend on the seed.
    """

    report = ("text-heldout", "text-train", "text-styles", "text-scenes", "text-edits")

    def plan(self) -> None:
        """Decide how many pictures there will be of each prompt."""
        request = self.request
        if request.images is not None:
            raise ValueError("`images` is for models of classes; give `prompts` and `count`")
        self.prompts = PROMPTS if request.prompts is None else request.prompts
        self.count = PER_PROMPT if request.count is None else request.count
        if self.prompts < 1 or self.count < 1:
            raise ValueError(f"`prompts` (={self.prompts}) and `count` must be at least 1")
        if 2 * self.prompts * self.count > KEPT:
            raise ValueError(
                f"twice {self.prompts} prompts with {self.count} images each are more than {KEPT}, "
                "whose features are too many to keep"
            )
        self.scorer = None
        if request.clip:
            from setar.text import ImageTextScorer

            self.scorer = ImageTextScorer(request.clip, request.device)
            self.report = (*self.report, "clip-score")

    def data(self, reference: Pictures) -> Dataset | None:
        """What has the captions; of a file of statistics, what the model was trained on."""
        if reference.name.endswith(".npz") and self.pipeline.data:
            own = self.pipeline.data
            found = find_pictures(own, self.size, self.origin.resize, self.left_out(own))
        else:
            found = reference
        data = found.data if found.training else None
        if data is None or not any(data.captions):
            raise ValueError(
                f"{found.name} has no captions to ask for: name pictures that have some with "
                "--reference"
            )
        self.chosen = chosen_prompts(data, self.prompts)
        return data

    def prepare(self, reference: Pictures) -> Pictures:
        """Sample the codes of all prompts."""
        return self._sampled(len(self.chosen), self.chosen)

    def asked(self) -> dict[str, Any]:
        """How many prompts, and samples of each."""
        found = {"prompts": len(self.chosen), "of each prompt": self.count}
        return {**found, **({"CLIP": self.request.clip} if self.request.clip else {})}

    def evidence(self) -> dict[str, Any]:
        """Model and samples, and what compares them with texts."""
        return {**super().evidence(), "scorer": self.scorer}


def chosen_prompts(data: Dataset, most: int) -> list[Prompt]:
    """The first captions of up to ``most`` held-out pictures, then of as many training ones.

    A data set of several captions of a picture has the fullest one first, as `setar.data.styles`.
    """
    prompts, first = [], len(data)
    for captions, offset in ((data.heldout_captions, first), (data.captions, 0)):
        generator = torch.Generator().manual_seed(0)
        order: list[int] = torch.randperm(len(captions), generator=generator).tolist()
        found = [index for index in order if captions[index]]
        prompts += [Prompt(captions[index][0], offset + index) for index in found[:most]]
    return prompts


class TokenizerTarget(Target):
    """A tokenizer without a generator: what it makes of the reference's pictures.

    Without a reference, those that it was trained on, or held-out ones of a built-in data set.
    """

    def __init__(self, request: Request) -> None:
        _refuse_sampling(request, "a tokenizer")
        self.request = request
        self.load = Once(load_tokenizer, request.source, request.device)
        self.tokenizer = self.load()
        self.size, self.origin = (
            request.size or self.tokenizer.image_size,
            origin_of(request.source),
        )
        origin = self.origin
        if origin.data and not request.reference:
            built_in = origin.data in DATASETS  # has pictures that were never trained on
            self.own_reference = f"{origin.data}:heldout" if built_in else origin.data
            self.size = self.size or origin.size

    def prepare(self, reference: Pictures) -> Pictures:
        """Encode the reference's pictures; the codes are decoded where they are needed."""
        request, originals = self.request, _some(reference, self.request.images)
        self.reconstruction = reconstruct_all(
            Once(Reconstructor, self.load, originals.open),
            len(originals.images),
            self.tokenizer,
            request.processes,
            request.progress,
        )
        size, codes = picture_size(originals.images), self.reconstruction.codes.numpy()
        return Pictures(request.source, Once(decoded_by, self.load, codes, size))

    def settings(self) -> dict[str, Any]:
        """How pictures are rounded."""
        return {"rounding": ROUNDING, "device": self.request.device}

    def evidence(self) -> dict[str, Any]:
        """PSNR and the codebook's use."""
        return {"reconstruction": self.reconstruction}


GENERATORS = {"class": GeneratorTarget, "text": TextTarget}
"""By what a model reads."""


def picture_size(images: Images) -> tuple[int, int]:
    """Height and width in pixels of the first picture."""
    height, width = images[torch.tensor([0])].shape[-2:]
    return height, width


def _some(pictures: Pictures, count: int | None) -> Pictures:
    if count is None:
        return pictures
    return Pictures(pictures.name, Once(EvenlySpaced, pictures.open, count))


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
    if count * classes > MOST:
        raise ValueError(
            f"{count} images of each of {classes} classes are more than {MOST}, whose codes would "
            "need gigabytes of memory"
        )
    return count


def _refuse_texts(request: Request, why: str) -> None:
    for name in ("prompts", "clip"):
        if getattr(request, name):
            raise ValueError(f"`{name}` is for models of texts; {why}")


def _refuse_sampling(request: Request, what: str) -> None:
    _refuse_texts(request, f"{request.source} is {what}")
    given = [name.replace("scale", "guidance") for name in request.sampling]
    given += ["count"] if request.count is not None else []
    given += ["precision"] if request.precision is not None else []
    if given:
        raise ValueError(f"`{given[0]}` is for generators; {request.source} is {what}")
    if request.images is not None and request.images < 2:
        raise ValueError(f"`images` (={request.images}) must be at least 2")
