"""What a model was trained on, as its folder or the settings of its run remember it."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from setar.checkpoint import read_json
from setar.data.base import DATASETS
from setar.data.crops import RESIZES, Resize
from setar.data.images import height_and_width
from setar.files import CONFIG
from setar.pretrained import IMAGE_SIZE, load_tokenizer, read_config, read_newest
from setar.run_folder import CHECKPOINTS, left_out, read_settings
from setar.tokenizers.base import decode_codes


@dataclass(frozen=True)
class Origin:
    """Pictures that a model was trained on."""

    data: str = ""
    """A data set by name or a folder; empty if that is not known."""
    size: tuple[int, int] | None = None
    """(height, width) in pixels at which a folder's pictures were taken, if that is known."""
    resize: Resize = "lanczos"
    """How these were resized."""
    left_out: frozenset[str] = frozenset()
    """Paths below that folder, as ``left-out.txt`` has them, of files that could not be read."""


def origin_of(source: str) -> Origin:
    """The origin of a model, as far as it is known; ValueError if there is no such model.

    A tokenizer's folder may not say it; the run whose checkpoint it is does.
    """
    return read_newest(source, _origin)


def trained_size(source: str) -> tuple[int, int] | None:
    """Height and width in pixels of the pictures that a tokenizer was trained on.

    Args:
        source: a model with a tokenizer, as of `setar.pretrained.locate`.

    Returns:
        What its folder or its run remembers. Those of before version 0.3 may not: then the one size
        that the tokenizer takes, that of the generator beside it, or that of the data set; None if
        nothing says.

    Raises:
        ValueError: there is no such tokenizer.
    """
    if (origin := origin_of(source)).size is not None:
        return origin.size
    tokenizer = load_tokenizer(source)
    if tokenizer.image_size is not None:
        return tokenizer.image_size
    model = read_newest(source, read_config).get("model")
    if isinstance(model, dict) and (grid := _size(model.get("grid"))):
        pictures = decode_codes(tokenizer, torch.zeros(1, math.prod(grid), dtype=torch.int64), grid)
    elif (name := origin.data.partition(":")[0]) in DATASETS:
        pictures = DATASETS.find(name)("train").images[torch.tensor([0])]
    else:
        return None
    return pictures.shape[-2], pictures.shape[-1]


def _origin(folder: Path) -> Origin:
    config, settings, run = read_json(folder / CONFIG), None, folder.parent.parent
    if folder.parent.name == CHECKPOINTS:
        with suppress(ValueError):  # what is asked here is a help, and no reason to stop
            settings = read_settings(run).get("data")
    settings = settings if isinstance(settings, Mapping) else {}
    data = config.get("data") or settings.get("source")
    data, size = data if isinstance(data, str) else "", _size(config.get(IMAGE_SIZE))
    if data.partition(":")[0] not in DATASETS:  # those have their own, whatever the settings say
        size = size or _size(settings.get("image_size"))
    skipped = frozenset(left_out(run)) if settings.get("skip_broken") else frozenset()
    resize = settings.get("resize")
    return Origin(data, size, resize if resize in [*RESIZES] else "lanczos", skipped)


def _size(value: Any) -> tuple[int, int] | None:
    """A size of a JSON file; None if it is none."""
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, list) or not all(type(side) is int for side in sides):
        return None
    try:
        return height_and_width(tuple(sides))
    except ValueError:
        return None
