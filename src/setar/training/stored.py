"""Codes and features of training images, as an objective asks for them: by item and step.

kept(codes)       tensors in memory
Stored(codes)     shards on disk (`setar.data.codes`): each step draws a view of each image
features_of(...)  features of stored codes, where none were kept
"""

from collections.abc import Callable

import torch
from torch import Tensor

from setar import checkpoint
from setar.data.batches import choices
from setar.data.codes import CodeFolder, Codes
from setar.registry import printable
from setar.tokenizers.base import TOKENIZERS, Tokenizer, device_of
from setar.training.encoding import codebook_of
from setar.training.identity import flat

Draw = Callable[[Tensor, int], Tensor]
"""Items int64 ``[B]`` and the step to their codes int64 ``[B, N]``, or features float32
``[B, C, rows, columns]``."""

VIEWS = 1
"""Of the random numbers that follow from a seed: those that choose views."""


def kept(values: Tensor) -> Draw:
    """Those of ``[n, ...]`` in memory, the same at every step."""
    return lambda items, step: values[items]


class Stored:
    """Codes on disk; which view of an image a step shows follows from seed, step and image.

    Args:
        codes: of all images.
        seed: of the training.
        upright: show no mirror images, in which left and right are not as captions say.
    """

    def __init__(self, codes: Codes, seed: int, upright: bool = False) -> None:
        names = range(len(codes.views.names))
        self.stored, self.seed = codes, seed
        self.views = torch.tensor(codes.views.upright if upright else list(names))

    def codes(self, items: Tensor, step: int) -> Tensor:
        """Codes int64 ``[B, N]`` of images on one grid."""
        return self.stored.codes(items, self._views(items, step))

    def features(self, items: Tensor, step: int) -> Tensor:
        """Features float32 ``[B, C, rows, columns]`` of the same views."""
        return self.stored.features(items, self._views(items, step))

    def _views(self, items: Tensor, step: int) -> Tensor:
        return self.views[choices(items, len(self.views), self.seed, VIEWS, step)]


def features_of(draw: Draw, tokenizer: Tokenizer, grid: tuple[int, int]) -> Draw:
    """Features that the codes of ``draw`` stand for: the sum of their vectors.

    Those of the image itself, which the codes only come near, are what ``setar encode --features``
    keeps.
    """
    quantizer, device = tokenizer.quantizer, device_of(tokenizer)
    assert quantizer is not None

    @torch.inference_mode()
    def features(items: Tensor, step: int) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            return quantizer.decode(draw(items, step).to(device), grid).float()

    return lambda items, step: features(items, step).clone()


def check_tokenizer(folder: CodeFolder, tokenizer: Tokenizer, name: str) -> None:
    """Raise ValueError unless codes mean to a tokenizer what they did to the one that made them.

    Its decoder may be another one: only shape and codebook are compared.
    """
    made, entry = folder.encoding.tokenizer, checkpoint.describe(tokenizer, TOKENIZERS)
    was, is_ = flat(made.entry), flat(entry)
    differing = [key for key in {**was, **is_} if was.get(key) != is_.get(key)]
    if differing:
        key = differing[0]
        difference = f"its {key} is {is_.get(key)!r:.40}, not {was.get(key)!r:.40}"
    elif codebook_of(tokenizer) != made.codebook:
        difference = "its codebook is another one"
    else:
        return
    raise ValueError(
        f"the codes of {printable(folder.folder)} were made by the tokenizer {made.source!r}, and "
        f"{name!r} does not read them: {difference}"
    )
