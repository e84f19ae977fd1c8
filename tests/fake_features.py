"""A feature extractor without a network, as fast as a projection."""

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from setar.features.base import FeatureExtractor, Features


class FakeFeatures(FeatureExtractor):
    """Fixed projections of the pixels, seen as 4x4: 12 pooled features, 5 spatial, 3 classes."""

    def __init__(self, name: str = "Fake", spatial: bool = True, classes: bool = True) -> None:
        self.name, self.spatial, self.classes = name, spatial, classes

    @classmethod
    def make(cls, argument: str, device: str | torch.device) -> Self:
        """The extractor of this name, on any device."""
        return cls(argument or "Fake")

    def __call__(self, images: Tensor) -> Features:
        small = functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1)
        generator = torch.Generator().manual_seed(0)
        pooled, spatial, logits = (
            small @ torch.randn(48, width, generator=generator) for width in (12, 5, 3)
        )
        return Features(
            pooled, spatial if self.spatial else None, logits.softmax(1) if self.classes else None
        )


def random_pictures(
    count: int, side: int = 4, seed: int = 0, low: int = 0, high: int = 256
) -> Tensor:
    """Noise, uint8 ``[count, 3, side, side]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, side, side), generator=generator).byte()
