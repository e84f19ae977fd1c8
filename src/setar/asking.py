"""What callers ask a pipeline with, checked: an error is one line with the rule and the value."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, SupportsIndex

from setar.files import is_text
from setar.models.base import MAX_CLASSES
from setar.numbers import as_whole
from setar.registry import quoted

MAX_IMAGES = 2**20
"""The most images of one call, about a million: their codes are all held in memory."""

MAX_NAME = 255
"""The most characters of a class name: as many as a folder's may have."""

RULES = {"class": "a class is a name or a whole number", "text": "a prompt is text"}
"""What a model is asked with, by what it reads."""

Ask = str | SupportsIndex | tuple[Any, Any, float]
"""One class or text; or (first, second, share), what lies so far on the way between two."""


def check_names(names: Any) -> None:
    """ValueError unless these are class names: texts that can be printed on one line."""
    if not isinstance(names, Sequence) or isinstance(names, str | bytes):
        raise ValueError(f"`classes` must be a list of names, not {quoted(names)}")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"`classes` must be from 1 to {MAX_CLASSES} names, not {len(names)}")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"`classes` must be a list of names; {quoted(name)} is none")
        if not 1 <= len(name) <= MAX_NAME:
            raise ValueError(
                f"a class name must have from 1 to {MAX_NAME} characters, not {len(name)}"
            )
        if not is_text(name):
            raise ValueError(f"the class name {quoted(name)} holds a character that is no text")


def listed(value: Any, rule: str) -> list[Any]:
    """One thing, or several, as a list; ValueError with the rule if it is neither."""
    if isinstance(value, str) or as_whole(value) is not None:
        return [value]
    if isinstance(value, Iterable) and not isinstance(value, bytes) and getattr(value, "ndim", 1):
        found = list(islice(value, MAX_IMAGES + 1))
        if len(found) <= MAX_IMAGES:
            return found
        raise ValueError(f"a call makes at most {MAX_IMAGES} images, all held in memory")
    raise ValueError(f"{rule}, not {type(value).__name__}")


def seeds_of(seed: Any, images: int) -> list[int]:
    """A seed for each image."""
    if (first := as_whole(seed)) is not None:
        seeds = range(first, first + images)
    else:
        seeds = listed(seed, "a seed is a whole number, or there is one for each image")
    if len(seeds) != images:
        raise ValueError(f"{len(seeds)} seeds for {images} images; give one seed or one per image")
    found = [as_whole(value) for value in seeds]
    for value, number in zip(seeds, found, strict=True):
        if number is None or not 0 <= number < 2**63:
            raise ValueError(
                f"a seed (={quoted(value)}) must be a whole number from 0 to 2**63 - 1"
            )
    return [number for number in found if number is not None]


def sides(size: Any) -> tuple[int, int]:
    """A size that is asked for; ValueError unless it is (height, width)."""
    sides = [as_whole(side) or 0 for side in listed(size, "a size is (height, width)")]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"`size` (={quoted(size)}) must be (height, width) in pixels")
    return sides[0], sides[1]


def check_multiples(size: tuple[int, int], stride: tuple[int, int]) -> None:
    """ValueError unless whole tokens cover a size, (height, width), with the nearest that do."""
    if not any(side % step for side, step in zip(size, stride, strict=True)):
        return
    below = [max(side // step, 1) * step for side, step in zip(size, stride, strict=True)]
    above = [-(-side // step) * step for side, step in zip(size, stride, strict=True)]
    near = dict.fromkeys(f"{height}x{width}" for height, width in (below, above))
    steps = str(stride[0]) if stride[0] == stride[1] else f"{stride[0]} and {stride[1]}"
    raise ValueError(
        f"`size` (={size[0]}x{size[1]}, height x width) must be multiples of {steps} pixels, the "
        f"tokenizer's stride: {' or '.join(near)}"
    )
