"""What one request may ask of the studio: it answers many people, and none may take it all."""

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from setar.data.decoding import opened_as, to_rgb
from setar.files import open_regular
from setar.numbers import as_real, whole
from setar.pipeline import Pipeline
from setar.registry import quoted

MOST_PICTURES = 16
"""Pictures of a request."""
MOST_RECIPES = 6
"""Recipes side by side."""
MOST_CELLS = 32 * 32
"""Tokens of a picture: 128x128 pixels of the shipped models."""
MOST_TOKENS = 8192
"""Tokens of all pictures of a request."""
MOST_LETTERS = 1000
"""Of a prompt, a class name or a recipe."""
MOST_BYTES = 10 * 2**20
"""Of a file that is uploaded."""
MOST_PIXELS = 2**24
"""Of a picture that is uploaded: 4096x4096, more than phones take unless they are asked to."""
MOST_WAITING = 64
"""Requests in the queue; who comes after them is told to try again."""
MOST_GUIDANCE = 100.0
"""Of a scale; pictures fall apart above 10."""
MOST_AROUND = 90
"""Percent of a result that is made around a picture, along a side."""
MOST_SEED = 2**53 - 1
"""Larger whole numbers a browser cannot write exactly."""


def number(value: Any) -> Any:
    """A number as a page sends it: 3.0 is the whole number 3, and NaN is none at all."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def typed(value: Any) -> Any:
    """The number of a field that numbers are typed into, as `number` has it; None of an empty one.

    What reads as no number stays what it is, and is refused by name where it is used.
    """
    if not isinstance(value, str):
        return number(value)
    try:
        return number(float(value)) if value.strip() else None
    except ValueError:
        return value


def count_of(value: Any) -> int:
    """How many pictures; ValueError unless it is from 1 to `MOST_PICTURES`."""
    return whole("count", number(value), 1, MOST_PICTURES, "others want to draw too")


def seed_of(value: Any) -> int:
    """The seed of the first picture; ValueError unless a browser can write it."""
    return whole("seed", number(value), 0, MOST_SEED - MOST_PICTURES, "a browser writes no larger")


def text_of(name: str, value: Any) -> str:
    """A text on one line, without spaces at its ends; none at all is an empty one.

    Raises:
        ValueError: it is no text, or longer than `MOST_LETTERS`.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` (={quoted(value)}) must be text")
    if len(value) > MOST_LETTERS:
        raise ValueError(
            f"`{name}` has {len(value)} characters; it must have at most {MOST_LETTERS}"
        )
    return " ".join(value.split())


def guidance_of(value: Any) -> float | None:
    """A scale of guidance, None where the model's own is meant; ValueError if it is no such."""
    value = typed(value)
    if value is None:
        return None
    found = as_real(value)
    if found is None or not 0 <= found <= MOST_GUIDANCE:
        raise ValueError(
            f"`guidance` (={quoted(value)}) must be a number from 0 to {MOST_GUIDANCE:g}"
        )
    return found


def size_of(pipe: Pipeline, value: Any) -> tuple[int, int]:
    """(height, width) in pixels of a text such as ``64x128``; empty: the model's own.

    Raises:
        ValueError: it reads otherwise, the model makes no such pictures, or they have more than
            `MOST_CELLS` tokens.
    """
    text = text_of("size", value).lower().replace("×", "x")
    width, height = pipe.size
    if text:
        found = re.fullmatch(r"(\d{1,5})\s*x\s*(\d{1,5})", text, re.ASCII)
        if found is None:
            raise ValueError(f"`size` (={quoted(text)}) must be height x width such as 64x128")
        height, width = map(int, found.groups())
    rows, columns = pipe.grid_of((height, width))
    own = (width, height) == pipe.size
    if not own and rows * columns > MOST_CELLS:
        raise ValueError(
            f"a picture of {height}x{width} pixels has {rows}x{columns} tokens, more than "
            f"{MOST_CELLS}: choose a smaller size"
        )
    return height, width


def check_work(pipe: Pipeline, size: tuple[int, int], count: int) -> None:
    """ValueError if so many pictures of (height, width) have more than `MOST_TOKENS` tokens."""
    rows, columns = pipe.grid_of(size)
    if count > 1 and count * rows * columns > MOST_TOKENS:
        raise ValueError(
            f"{count} pictures of {rows * columns} tokens are more than {MOST_TOKENS} tokens: "
            f"ask for at most {max(1, MOST_TOKENS // (rows * columns))}"
        )


def recipes_of(value: Any) -> list[str]:
    """Recipes, one a line; ValueError unless there are from 1 to `MOST_RECIPES`."""
    if not isinstance(value, str) or len(value) > MOST_RECIPES * MOST_LETTERS:
        raise ValueError(f"`recipes` must be at most {MOST_RECIPES} recipes, one a line")
    found = [text_of("recipe", line) for line in value.splitlines() if line.strip()]
    if not 1 <= len(found) <= MOST_RECIPES:
        raise ValueError(
            f"`recipes` must be from 1 to {MOST_RECIPES} recipes, one a line, not {len(found)}"
        )
    return found


def margins_of(values: Sequence[Any], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixels at the left, top, right and bottom of (height, width), given in percent of it.

    Raises:
        ValueError: one is no whole number from 0 to `MOST_AROUND`, or two of a side are more.
    """
    left, top, right, bottom = (
        whole(f"the margin at the {side}", number(value), 0, MOST_AROUND, "the picture needs room")
        for side, value in zip(("left", "top", "right", "bottom"), values, strict=True)
    )
    if max(left + right, top + bottom) > MOST_AROUND:
        raise ValueError(
            f"the margins {left} + {right} and {top} + {bottom} percent must each be at most "
            f"{MOST_AROUND}: the picture needs room"
        )
    height, width = size
    return tuple(  # type: ignore[return-value]
        round(share * side / 100)
        for share, side in zip((left, top, right, bottom), (width, height) * 2, strict=True)
    )


def read_picture(file: Any, mode: str = "RGB") -> Image.Image:
    """An uploaded picture, a file or its bytes, in RGB as a viewer shows it, or ``RGBA`` as it is.

    Raises:
        ValueError: there is none, it is larger than `MOST_BYTES` or `MOST_PIXELS`, of a format
            that is not read, or damaged.
    """
    if not isinstance(file, str | Path | bytes) or not file:
        raise ValueError("choose a picture first")
    length = len(file) if isinstance(file, bytes) else Path(file).stat().st_size
    if length > MOST_BYTES:
        raise ValueError(f"the picture's file must have at most {MOST_BYTES // 2**20} MiB")
    source: bytes | Path = file if isinstance(file, bytes) else Path(file)

    def start() -> BinaryIO:
        return BytesIO(source) if isinstance(source, bytes) else open_regular(source)

    with opened_as("that was uploaded", start) as image:  # where it lies here is nobody's business
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"it has {image.width}x{image.height} pixels, more than {MOST_PIXELS}")
        return to_rgb(image) if mode == "RGB" else image.convert(mode)
