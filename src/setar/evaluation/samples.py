"""Pictures that a model makes: samples with balanced labels, and reconstructions.

Both are kept as codes, which are small, and decoded when a batch asks for them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from setar.data.images import Images
from setar.evaluation.workers import Work, in_batches
from setar.pipeline import Pipeline
from setar.tokenizers.autoencoder import psnr
from setar.tokenizers.base import Tokenizer, decode_codes, encode_images, to_float


class BalancedSampler:
    """Work (`in_batches`) that samples ``count`` pictures of each class, the classes in turn.

    They are the pictures of ``pipeline(classes, count=count, seed=seed)`` in another order: number
    j of class c has the seed ``seed + c * count + j`` and is picture ``j * classes + c``, so that
    every stretch of them is balanced. Sizes of a random schedule are drawn for each batch.

    Args:
        pipeline: the model.
        count: pictures of each class.
        seed: of the first.
        prompts: what a model of texts is asked for, in the place of the classes.
        options: of `Pipeline.sample_codes`: recipe, guidance, ...
    """

    def __init__(
        self,
        pipeline: Pipeline,
        count: int,
        seed: int,
        prompts: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        self.pipeline, self.count, self.seed, self.options = pipeline, count, seed, options
        self.asked = [*range(len(pipeline.classes))] if prompts is None else prompts

    def __call__(self, items: Tensor) -> tuple[Tensor]:
        """Codes int64 ``[B, N]``, on the CPU, of the pictures with these indices ``[B]``."""
        rounds, labels = items // len(self.asked), items % len(self.asked)
        seeds = self.seed + labels * self.count + rounds
        asked = [self.asked[int(label)] for label in labels]
        codes = self.pipeline.sample_codes(asked, seed=seeds.tolist(), **self.options)
        return (codes.cpu(),)


class Prompt(NamedTuple):
    """What a model of texts is asked for."""

    text: str
    drawing: int
    """The picture of the data set that it is a caption of: held-out ones count on from the training
    ones."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Pictures of a generator, as codes."""

    codes: Tensor
    """int64 ``[n, N]``."""
    labels: Tensor
    """int64 ``[n]``: the class each was asked for, or an index into ``prompts``."""
    count: int
    """Pictures of each class."""
    seed: int
    seconds: float
    """Wall time of sampling, without decoding."""
    prompts: Sequence[Prompt] = ()
    """What a model of texts was asked for; empty: classes."""


def sample(
    open_sampler: Callable[[], Work],
    classes: int,
    count: int,
    seed: int,
    processes: int = 1,
    progress: bool = False,
    prompts: Sequence[Prompt] = (),
) -> Samples:
    """Let a `BalancedSampler` of this count and seed make all its pictures, of classes or prompts.

    ``classes`` is the number of either.
    """
    began = perf_counter()
    batches = in_batches(open_sampler, classes * count, "sampling", processes, progress)
    codes = torch.cat([batch for _, (batch,) in batches if batch is not None])
    labels = torch.arange(classes * count) % classes
    return Samples(codes, labels, count, seed, perf_counter() - began, prompts)


class DecodedImages:
    """Codes int64 ``[n, N]``, decoded to pictures when these are asked for.

    ``decode`` makes codes ``[B, N]`` pictures uint8 ``[B, 3, H, W]``, by `to_uint8`.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], codes: np.ndarray) -> None:
        self.decode, self.codes = decode, torch.from_numpy(codes)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, items: Tensor) -> Tensor:
        """The pictures with these indices ``[B]``: uint8 ``[B, 3, H, W]``."""
        return self.decode(self.codes[items])


def decoded_samples(pipeline: Pipeline, codes: np.ndarray) -> DecodedImages:
    """The pictures of codes that this pipeline has sampled."""
    return DecodedImages(pipeline.decode, codes)


def decoded_by(tokenizer: Tokenizer, codes: np.ndarray, size: tuple[int, int]) -> DecodedImages:
    """The pictures of codes of a tokenizer, for pictures of (height, width) pixels."""
    return DecodedImages(partial(decode_codes, tokenizer, grid=tokenizer.grid(*size)), codes)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Pictures through a tokenizer and back."""

    codes: Tensor
    """int64 ``[n, N]``, one row per picture."""
    psnr: float
    """Mean over the pictures, dB, of bytes."""
    usage: float
    """Share of the codebook that these pictures use."""
    usage_of_scales: dict[str, float]
    """The same for each scale, where there are several, by its name such as 4x4; else empty."""


class Reconstructor:
    """Work (`in_batches`) that encodes pictures and measures what comes back."""

    def __init__(self, tokenizer: Tokenizer, images: Images) -> None:
        self.tokenizer, self.images = tokenizer, images

    def __call__(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Codes int64 ``[B, N]`` and PSNR ``[B]`` of the pictures with these indices ``[B]``."""
        originals = self.images[items]
        codes = encode_images(self.tokenizer, originals)
        decoded = decode_codes(self.tokenizer, codes, self.tokenizer.grid(*originals.shape[-2:]))
        return codes, psnr(to_float(decoded), to_float(originals))


def reconstruct_all(
    open_reconstructor: Callable[[], Work],
    total: int,
    tokenizer: Tokenizer,
    processes: int = 1,
    progress: bool = False,
) -> Reconstruction:
    """Let a `Reconstructor` of this tokenizer treat all ``total`` pictures."""
    batches = in_batches(open_reconstructor, total, "reconstructing", processes, progress)
    codes, quality = zip(*(found for _, found in batches), strict=True)
    joined, of_scales = torch.cat(codes), {}
    if tokenizer.scales is not None:
        parts = joined.split([rows * columns for rows, columns in tokenizer.scales], dim=1)
        for (rows, columns), part in zip(tokenizer.scales, parts, strict=True):
            of_scales[f"{rows}x{columns}"] = len(part.unique()) / tokenizer.vocabulary
    usage = len(joined.unique()) / tokenizer.vocabulary
    return Reconstruction(joined, float(torch.cat(quality).mean()), usage, of_scales)
