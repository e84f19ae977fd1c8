"""Stages of a training on captioned images: a resolution, a recipe and shapes each (section 4.5).

[[stages]]
steps = 100_000
image_size = 256
max_aspect = 2.0
recipe = "random-16-random"
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from setar.data.base import Dataset
from setar.data.images import Images
from setar.data.scenes import Scenes, ScenesConfig
from setar.numbers import as_real, whole
from setar.recipes.recipe import Recipe
from setar.tokenizers.base import Tokenizer
from setar.training.data import DataConfig
from setar.training.loop import BOUNDS, LoopConfig
from setar.training.text import BucketExamples, Examples, SceneExamples, Stage, aspect_buckets

WIDEST = 8.0
"""The largest `max_aspect`: a strip of tokens shows hardly anything."""


@dataclass(frozen=True)
class StageConfig:
    """A part of a training; what is left out is as in the rest of the config."""

    steps: int
    recipe: Recipe | None = None
    image_size: int | None = None
    """Side of square crops in pixels; other shapes have about as many pixels."""
    max_aspect: float = 1.0
    """The longer side over the shorter one of the widest shape; 1 crops all images to squares."""
    batch_size: int | None = None
    scenes: ScenesConfig | None = None
    """Instead of single images, of captioned square drawings."""

    def __post_init__(self) -> None:
        whole("steps", self.steps, *BOUNDS["steps"])
        if self.batch_size is not None:
            whole("batch_size", self.batch_size, *BOUNDS["batch_size"])
        if self.image_size is not None:
            whole("image_size", self.image_size, 1, 4096, "no tokenizer has so many tokens")
        aspect = as_real(self.max_aspect)
        if aspect is None or not 1 <= aspect <= WIDEST:
            raise ValueError(f"`max_aspect` (={self.max_aspect}) must be from 1 to {WIDEST:g}")

    def buckets(self, size: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes (height, width) in pixels of its images.

        Args:
            size: of the images elsewhere in the config, which counts if the stage has none.
            stride: pixels of a token, down and across.
        """
        if self.image_size is None and self.max_aspect == 1:
            return [size]
        side = self.image_size or min(size)
        if side % max(stride):
            raise ValueError(
                f"`image_size` (={side}) of a stage must be a multiple of the {max(stride)} pixels "
                "of a token"
            )
        return aspect_buckets(side, max(stride), self.max_aspect)


def make_stages(
    configs: Sequence[StageConfig],
    data_config: DataConfig,
    data: Dataset,
    tokenizer: Tokenizer,
    recipe: Recipe,
    loop: LoopConfig,
    speak: bool = False,
) -> list[Stage]:
    """The stages of a training; each encodes its images when it begins.

    Args:
        configs: of the stages, in turn.
        data_config: where the images are from.
        data: prepared for training.
        tokenizer: of the codes, on its device.
        recipe: of stages that have none of their own.
        loop: says the batch size of stages that have none, and the seed.
        speak: show bars on a terminal.

    Raises:
        ValueError: a size does not suit the tokenizer, or a batch cannot be divided.
    """
    stages, first, bar = [], 0, speak and sys.stderr.isatty()
    for config in configs:
        shown = config.scenes or (data_config.scenes if config.image_size is None else None)
        if shown is not None:
            made = _of_scenes(replace(data_config, scenes=shown), data, tokenizer, loop.seed)
        else:
            made = _of_buckets(config, data_config, data, tokenizer, bar)
        batch_size = config.batch_size or loop.batch_size
        stages.append(Stage(first, config.steps, config.recipe or recipe, batch_size, made))
        first += config.steps
    return stages


def _of_scenes(
    data_config: DataConfig, data: Dataset, tokenizer: Tokenizer, seed: int
) -> Callable[[], Examples]:
    def make() -> Examples:
        scenes = data_config.as_scenes(data, seed)
        assert isinstance(scenes, Scenes)
        return SceneExamples(scenes, tokenizer)

    return make


def _of_buckets(
    config: StageConfig, data_config: DataConfig, data: Dataset, tokenizer: Tokenizer, bar: bool
) -> Callable[[], Examples]:
    size = data_config.size(data)
    buckets = config.buckets(size, stride_of(tokenizer, size))
    for bucket in buckets:
        tokenizer.grid(*bucket)
    if len(buckets) > 1 or buckets[0] != size:
        _check_files(data_config)

    def cropped(bucket: tuple[int, int]) -> Images:
        return data.images if bucket == size else data.images.at(bucket)  # type: ignore[attr-defined]

    def make() -> Examples:
        shapes = shapes_of(data.images) if len(buckets) > 1 else torch.ones(len(data), 2)
        return BucketExamples(data, cropped, shapes, buckets, tokenizer, bar)

    return make


def _check_files(data_config: DataConfig) -> None:
    if not data_config.of_a_folder:
        raise ValueError(
            f"stages of other sizes need image files; {data_config.source!r} has one size"
        )


def stride_of(tokenizer: Tokenizer, size: tuple[int, int]) -> tuple[int, int]:
    """Pixels of a token, down and across, of images of ``size`` (height, width)."""
    rows, columns = tokenizer.grid(*size)
    return size[0] // rows, size[1] // columns


def shapes_of(images: Images) -> Tensor:
    """Height and width of images before they are cropped, float ``[n, 2]``."""
    headers = (images.header(item) for item in range(len(images)))  # type: ignore[attr-defined]
    return torch.tensor([(height, width) for width, height, _ in headers], dtype=torch.float32)
