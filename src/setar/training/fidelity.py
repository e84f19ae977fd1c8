"""The Frechet distance on the way: how near what the model makes is to what it is trained on.

It is the figure of `setar evaluate`, of fewer pictures (which makes it larger): it tells how a run
goes, and is to be compared with itself alone.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from setar.data.base import Dataset, chosen, spread
from setar.evaluation.distances import GaussianStatistics
from setar.evaluation.metrics import Evidence, measure
from setar.evaluation.samples import BalancedSampler
from setar.evaluation.summary import FeatureSummary
from setar.features.base import FeatureExtractor, make_extractor
from setar.pipeline import Pipeline
from setar.tokenizers.base import Tokenizer, decode_codes, encode_images
from setar.training.distributed import Processes

REFERENCE = 10_000
"""Training pictures that are compared with, at most, from all over the classes."""

BATCH = 64

Made = Callable[[Tensor], Tensor]
"""Pictures uint8 ``[B, 3, H, W]`` by their numbers ``[B]``."""


class Fidelity:
    """Measures a network that makes pictures; each process makes its share.

    Args:
        maker: from the network to what it makes.
        count: pictures that it makes.
        data: what it is trained on.
        processes: that train together.
        device: of the features.

    Raises:
        ValueError: there are fewer than two pictures.
        ImportError: what sees the features is not installed.
    """

    def __init__(
        self,
        maker: Callable[[Any], Made],
        count: int,
        data: Dataset,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.maker, self.count, self.processes = maker, count, processes
        self.extractor: FeatureExtractor = make_extractor(data.features or "efflite0", device)
        self.reference = chosen(data, spread(data.labels, REFERENCE))
        if min(count, len(self.reference)) < 2:
            raise ValueError("`loop.fd_every` needs at least two pictures")

    @torch.inference_mode()
    def __call__(self, module: nn.Module) -> Mapping[str, float]:
        """The distance under the name of the field, such as ``FD-EffLite0``."""
        made = self._summary(self.maker(module), self.count)
        evidence = Evidence(made, self._real, self.extractor)
        return measure(evidence, ["frechet"])["figures"]

    @cached_property
    def _real(self) -> FeatureSummary:
        return self._summary(self.reference.images.__getitem__, len(self.reference))

    def _summary(self, pictures: Made, count: int) -> FeatureSummary:
        """Each process looks at every so manieth picture."""
        own = torch.arange(self.processes.index, count, self.processes.count)
        found = [self.extractor(pictures(items)).pooled.cpu() for items in own.split(BATCH)]
        features = torch.cat(self.processes.everyones(torch.cat(found)))
        statistics = GaussianStatistics.from_features(features)
        return FeatureSummary(self.extractor.name, count, statistics)


def samples_of(pipe: Pipeline, count: int, prompts: Sequence[str] = ()) -> Made:
    """What a generator makes of its classes in turn, or of these texts."""
    asked = len(prompts or pipe.classes)
    sampler = BalancedSampler(pipe, -(-count // asked), 0, prompts or None)
    return lambda items: pipe.decode(sampler(items)[0])


def reconstructions_of(tokenizer: Tokenizer, data: Dataset) -> Made:
    """What a tokenizer makes of pictures."""

    def made(items: Tensor) -> Tensor:
        images = data.images[items]
        codes = encode_images(tokenizer, images)
        return decode_codes(tokenizer, codes, tokenizer.grid(*images.shape[-2:]))

    return made
