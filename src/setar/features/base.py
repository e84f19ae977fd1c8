"""What a feature extractor is: pictures in, the three kinds of features that metrics need out.

Metrics take any extractor, and reports name it: "FD-" and its name. Only Inception's Frechet
distance is FID.
"""

from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor
from tqdm.auto import tqdm

from setar.registry import Table


class Features(NamedTuple):
    """What one network sees in a batch of images; float32, on the CPU, without gradients."""

    pooled: Tensor
    """``[B, d]``: what Frechet distances, KID, precision and recall compare."""
    spatial: Tensor | None
    """``[B, s]``: a map with its positions, flattened channels-last, for sFID; None without one."""
    probabilities: Tensor | None
    """``[B, C]``: of the network's classes, for the Inception score; None without classes."""


class FeatureExtractor(Protocol):
    """A frozen network as a measuring instrument."""

    name: str
    """What a report says after "FD-": EffLite0, Inception, digits."""

    @property
    def described(self) -> str:
        """The name, and what else its features depend on."""
        return self.name

    @classmethod
    def make(cls, argument: str, device: str | torch.device) -> Self:
        """The extractor ``name:argument``, such as a file of weights; mostly the argument is empty.

        Raises:
            ValueError: the argument is not what it needs.
            ImportError: its weights are not installed.
        """
        ...

    def __call__(self, images: Tensor) -> Features:
        """Features of uint8 images ``[B, 3, H, W]`` on any device.

        Raises:
            ValueError: the images have another shape or type.
        """
        ...


EXTRACTORS: Table[type[FeatureExtractor]] = Table(
    "feature extractor",
    {
        "efflite0": "setar.features.efficientnet:EfficientNetFeatures",
        "digits": "setar.features.digits:DigitFeatures",
        "inception": "setar.features.inception:InceptionFeatures",
    },
)
"""Feature extractors by the name that ``--features`` and data sets use."""


def make_extractor(text: str, device: str | torch.device = "cpu") -> FeatureExtractor:
    """The extractor that a text names, such as ``efflite0`` or ``inception:FILE``.

    Raises:
        ValueError: there is no such extractor, or it cannot use what follows the colon.
        ImportError: its weights are not installed.
    """
    name, _, argument = text.partition(":")
    return EXTRACTORS.find(name).make(argument, device)


def without_argument(name: str, argument: str) -> None:
    """Raise ValueError if an extractor that needs none was given an argument."""
    if argument:
        raise ValueError(f"the features {name!r} take nothing after them, not {argument[:60]!r}")


def extract_features(
    extractor: FeatureExtractor, images: Tensor, batch: int = 64, progress: bool = False
) -> Features:
    """Features of images uint8 ``[n, 3, H, W]``, ``batch`` at a time; a row for each of them."""
    bar = tqdm(images.split(batch), desc="features", disable=not progress)
    pooled, spatial, probabilities = zip(*map(extractor, bar), strict=True)

    def join(parts: tuple[Tensor | None, ...]) -> Tensor | None:
        found = [part for part in parts if part is not None]
        return torch.cat(found) if found else None

    return Features(torch.cat(pooled), join(spatial), join(probabilities))


def check_images(images: Tensor) -> None:
    """Raise ValueError unless these are uint8 images ``[B, 3, H, W]``."""
    if images.dtype != torch.uint8:
        raise ValueError(f"`images` must be uint8 in 0..255, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"`images` must be [batch, 3, height, width], got {list(images.shape)}")
