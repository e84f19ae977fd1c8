"""Stages of a training on captioned images: a resolution, a recipe and shapes each (section 4.5).

[[stages]]
steps = 100_000
image_size = 256
max_aspect = 2.0
recipe = "random-16-random"
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from setar.data.base import Dataset
from setar.data.codes import CodeFolder
from setar.data.images import Images
from setar.data.scenes import KINDS, LAYOUTS, Scenes, ScenesConfig
from setar.numbers import as_real, whole
from setar.recipes.recipe import Recipe
from setar.tokenizers.base import Tokenizer
from setar.training.data import DataConfig
from setar.training.loop import BOUNDS, LoopConfig
from setar.training.shapes import WIDEST, aspect_buckets, stride_of
from setar.training.text import BucketExamples, Examples, SceneExamples, Stage, StoredExamples


@dataclass(frozen=True)
class StageConfig:
    """A part of a training; what is left out is as in the rest of the config."""

    steps: int
    """How long it lasts."""
    recipe: Recipe | None = None
    """What is generated when; left out, the recipe of the rest of the config."""
    image_size: int | None = None
    """Side of square crops in pixels; other shapes have about as many pixels."""
    max_aspect: float = 1.0
    """The longer side over the shorter one of the widest shape; 1 crops all images to squares."""
    batch_size: int | None = None
    """Images per step; left out, ``loop.batch_size``."""
    scenes: ScenesConfig | None = None
    """Instead of single images, of captioned square drawings of the size in ``data``. Those in
    ``data`` are for stages that say nothing of scenes, `image_size` or `max_aspect`."""

    def __post_init__(self) -> None:
        whole("steps", self.steps, *BOUNDS["steps"])
        if self.batch_size is not None:
            whole("batch_size", self.batch_size, *BOUNDS["batch_size"])
        if self.image_size is not None:
            whole("image_size", self.image_size, 1, 4096, "no tokenizer has so many tokens")
        aspect = as_real(self.max_aspect)
        if aspect is None or not 1 <= aspect <= WIDEST:
            raise ValueError(f"`max_aspect` (={self.max_aspect}) must be from 1 to {WIDEST:g}")
        if self.scenes is not None and not self.as_elsewhere:
            raise ValueError(
                "a stage has `scenes`, of drawings of `data.image_size`, or an `image_size` or "
                "`max_aspect` of its own, not both"
            )

    @property
    def as_elsewhere(self) -> bool:
        """Whether its images have the size and shape of those of no stage."""
        return self.image_size is None and self.max_aspect == 1

    def buckets(self, size: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes (height, width) in pixels of its images.

        Args:
            size: of the images elsewhere in the config, which counts if the stage has none.
            stride: pixels of a token, down and across.
        """
        if self.as_elsewhere:
            return [size]
        side = self.image_size or min(size)
        if side % max(stride):
            raise ValueError(
                f"`image_size` (={side}) of a stage must be a multiple of the {max(stride)} pixels "
                "of a token"
            )
        return aspect_buckets(side, max(stride), self.max_aspect)


@dataclass(frozen=True)
class StageShapes:
    """What a stage will show, known without its images."""

    config: StageConfig
    first: int
    """The step with which it begins."""
    recipe: Recipe
    batch_size: int
    """Images per step; of scenes, drawings."""
    scenes: ScenesConfig | None
    """What its scenes are; None if it has single images."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width in pixels of each kind of image."""
    grids: tuple[tuple[int, int], ...]
    """Rows and columns of tokens of each."""
    counts: tuple[int, ...]
    """Images of each in a step that has no others."""

    @property
    def longest(self) -> int:
        """Tokens of the largest image."""
        return max(rows * columns for rows, columns in self.grids)


def lay_out(
    configs: Sequence[StageConfig],
    data_config: DataConfig,
    size: tuple[int, int],
    tokenizer: Tokenizer,
    recipe: Recipe,
    loop: LoopConfig,
    processes: int = 1,
) -> list[StageShapes]:
    """What all stages will show.

    Args:
        configs: of the stages, in turn.
        data_config: where the images are from.
        size: height and width in pixels of images of no stage.
        tokenizer: of the codes.
        recipe: of stages that have none of their own.
        loop: says the batch size of stages that have none.
        processes: that each take an equal share of a batch.

    Raises:
        ValueError: a size does not suit the tokenizer or the recipe, or a batch cannot be divided.
    """
    found, first = [], 0
    for number, config in enumerate(configs, 1):
        scenes = config.scenes or (data_config.scenes if config.as_elsewhere else None)
        batch_size, parts = config.batch_size or loop.batch_size, [1]
        if scenes is not None:
            if data_config.of_codes:
                raise ValueError(
                    f"the scenes of stage {number} need pictures; {data_config.source!r} holds "
                    "codes"
                )
            if size[0] != size[1]:
                raise ValueError(f"scenes need square pictures, not {size[0]}x{size[1]}")
            shown = [LAYOUTS[k] for k, share in zip(KINDS, scenes.shares, strict=True) if share]
            sizes = [(size[0] * layout.rows, size[1] * layout.columns) for layout in shown]
            parts = [layout.parts for layout in shown]
        else:
            sizes = config.buckets(size, stride_of(tokenizer, size))
            if sizes != [size]:
                _check_files(data_config)
            parts *= len(sizes)
        for part in parts:
            if batch_size % (part * processes):
                shares = f" x {processes} processes" * (processes > 1)
                raise ValueError(
                    f"`batch_size` (={batch_size}) of stage {number} must be a multiple of "
                    f"{part}{shares}: " + ("drawings of a scene" if part > 1 else "equal shares")
                )
        grids = [tokenizer.grid(*one) for one in sizes]
        own = config.recipe or recipe
        for grid in grids:
            try:
                own.set_count(grid)
            except ValueError as error:
                raise ValueError(f"recipe '{own}' of stage {number}: {error}") from error
        counts = tuple(batch_size // part for part in parts)
        shapes = (tuple(sizes), tuple(grids), counts)
        found.append(StageShapes(config, first, own, batch_size, scenes, *shapes))
        first += config.steps
    return found


def make_stages(
    shapes: Sequence[StageShapes],
    data_config: DataConfig,
    data: Dataset,
    tokenizer: Tokenizer,
    seed: int,
) -> list[Stage]:
    """The stages of a training; each image is encoded when it is first shown.

    Args:
        shapes: what they show.
        data_config: where the images are from.
        data: prepared for training.
        tokenizer: of the codes, on its device.
        seed: of what scenes are made of.

    Raises:
        ValueError: there are too few drawings for scenes.
    """
    stages, drawings = list[Stage](), None
    shapes_once = cache(partial(shapes_of, data.images))  # of millions of files: minutes
    for stage in shapes:
        if stage.scenes is not None:
            # All stages share the drawings, which are in memory.
            drawings = drawings or Scenes(data, stage.scenes, data_config.balance, seed)
            made: Callable[[], Examples] = partial(
                SceneExamples, drawings.shared_as(stage.scenes), tokenizer
            )
        elif data.stored is not None:
            made = _of_codes(stage, data_config, data.stored, seed)
        else:
            made = _of_buckets(stage, data_config, data, shapes_once, tokenizer)
        length = stage.longest if stage.scenes is None and len(stage.sizes) > 1 else 0
        about = (stage.first, stage.config.steps, stage.recipe, stage.batch_size)
        stages.append(Stage(*about, made, length))
    return stages


def _of_buckets(
    stage: StageShapes,
    data_config: DataConfig,
    data: Dataset,
    shapes_once: Callable[[], Tensor],
    tokenizer: Tokenizer,
) -> Callable[[], Examples]:
    size, epoch = data_config.size(data), data_config.epoch(data.labels)

    def cropped(bucket: tuple[int, int]) -> Images:
        return data.images if bucket == size else data.images.at(bucket)  # type: ignore[attr-defined]

    def make() -> Examples:
        shapes = shapes_once() if len(stage.sizes) > 1 else torch.ones(len(data), 2)
        return BucketExamples(data, cropped, shapes, stage.sizes, tokenizer, epoch)

    return make


def _of_codes(
    stage: StageShapes, data_config: DataConfig, folder: CodeFolder, seed: int
) -> Callable[[], Examples]:
    codes = folder.codes("train", stage.sizes)
    assert codes is not None
    pictures = codes.pictures()
    captions, labels = folder.captions("train", pictures), folder.labels("train", pictures)
    epoch = data_config.epoch(labels) if data_config.balance and labels is not None else None
    return lambda: StoredExamples(codes, captions, seed, epoch)


def _check_files(data_config: DataConfig) -> None:
    if not data_config.of_a_folder:
        raise ValueError(
            f"stages of other sizes need image files; {data_config.source!r} has one size"
        )


def shapes_of(images: Images) -> Tensor:
    """Height and width of images before they are cropped, float ``[n, 2]``."""
    with ThreadPoolExecutor() as pool:
        headers = pool.map(images.header, range(len(images)))  # type: ignore[attr-defined]
        return torch.tensor([(height, width) for width, height, _ in headers]).float()
