"""Two kinds of things more: a feature extractor and a condition."""

import torch
from torch import Tensor, nn

from setar.features.base import EXTRACTORS, FeatureExtractor, Features
from setar.models.base import GeneratorConfig
from setar.models.condition import CONDITIONS, Condition


@EXTRACTORS.register("thumbnails")
class Thumbnails(FeatureExtractor):
    """Pictures shrunk to 4x4 pixels: no network, but colours and layout."""

    name = "thumbnails"

    @classmethod
    def make(cls, argument, device):
        return cls()

    def __call__(self, images: Tensor):
        small = nn.functional.adaptive_avg_pool2d(images.float().cpu() / 255, 4)
        return Features(small.flatten(1), None, None)


@CONDITIONS.register("class-tokens")
class ClassTokens(Condition):
    """A class as several tokens (`condition_length`), like the buffer of MAR (arXiv 2406.11838)."""

    def __init__(self, config: GeneratorConfig, width: int):
        super().__init__(config, width)
        self.classes = config.classes
        self.table = nn.Embedding(config.classes + 1, self.length * width)

    def example(self, count: int):
        return torch.arange(count) % self.classes

    def embed(self, condition: Tensor):
        return self.table(self.dropped(condition)).unflatten(1, (self.length, self.width))

    def null(self, condition: Tensor):
        return torch.full_like(condition, self.classes)
