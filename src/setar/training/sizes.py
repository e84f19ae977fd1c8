"""The size of the pictures that a tokenizer was trained on, which a generator's then have too."""

import math
from pathlib import Path

import torch

from setar.data.base import DATASETS
from setar.data.images import height_and_width
from setar.pretrained import IMAGE_SIZE, load_tokenizer, locate, read_config
from setar.run_folder import CHECKPOINTS, read_settings
from setar.tokenizers.base import decode_codes


def trained_size(source: str) -> tuple[int, int] | None:
    """Height and width in pixels of the pictures that a tokenizer is for.

    Args:
        source: a model with a tokenizer, as of `setar.pretrained.locate`.

    Returns:
        What its folder remembers. Those of before version 0.3 do not: then the one size that the
        tokenizer takes, that of the generator beside it, or that of its run; None if nothing says.

    Raises:
        ValueError: there is no such tokenizer.
    """
    folder = locate(source)
    config = read_config(folder)
    if (size := _read_size(config.get(IMAGE_SIZE))) is not None:
        return size
    tokenizer = load_tokenizer(folder)
    if tokenizer.image_size is not None:
        return tokenizer.image_size
    model = config.get("model")
    if isinstance(model, dict) and (grid := _read_size(model.get("grid"))) is not None:
        codes = torch.zeros(1, math.prod(grid), dtype=torch.int64)
        height, width = decode_codes(tokenizer, codes, grid).shape[-2:]
        return height, width
    return _size_of_run(folder.parent.parent) if folder.parent.name == CHECKPOINTS else None


def _size_of_run(folder: Path) -> tuple[int, int] | None:
    """The size of the pictures of a run, if its settings say it."""
    try:
        data = read_settings(folder)["data"]
        name = str(data["source"]).partition(":")[0]
        if name not in DATASETS:
            return _read_size(data["image_size"])
        height, width = DATASETS.find(name)("train").images[torch.tensor([0])].shape[-2:]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return height, width


def _read_size(value: object) -> tuple[int, int] | None:
    """A size of a JSON file; None if it is none."""
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, list) or not all(type(side) is int for side in sides):
        return None
    try:
        return height_and_width(tuple(sides))
    except ValueError:
        return None
