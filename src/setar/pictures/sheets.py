"""Many small pictures as one, for people to look at."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from setar.numbers import whole
from setar.pictures.labels import label
from setar.pictures.memory import in_common, of_rows
from setar.pictures.png import Picture

INK, PALE = (32, 33, 36), (120, 124, 130)
ACROSS = 12
"""Pictures side by side in a sheet: as many as a screen shows."""
MOST_PIXELS = 150_000_000
"""Of a sheet: half a gigabyte of memory, and more than viewers open."""
LONGEST_SIDES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), 65500),
    **{".avif": 32768, ".gif": 65535, ".webp": 16383},
}
"""Pixels along a side that files of these endings can have, and readers read (AVIF)."""


def tile(images: Tensor, columns: int, scale: int = 1, gap: int = 2) -> Tensor:
    """Images uint8 ``[n, 3, h, w]`` in rows of ``columns``, enlarged smoothly, on white.

    ``scale`` 0 enlarges small pictures so that a person can see them, to 48 pixels or more.

    Returns:
        uint8 ``[3, H, W]``.
    """
    scale = scale or max(1, math.ceil(48 / images.shape[-1]))
    if scale > 1:
        images = F.interpolate(images.float(), scale_factor=scale, mode="bicubic")
    images = images.cpu().clamp(0, 255).round().to(torch.uint8)
    count, _, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full(
        (3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8
    )
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def stack(pictures: Sequence[Tensor], gap: int = 12) -> Tensor:
    """Pictures uint8 ``[3, h, w]`` one below the other, on white: uint8 ``[3, H, W]``."""
    width = max(picture.shape[2] for picture in pictures)
    last = len(pictures) - 1
    padded = [
        F.pad(picture, (0, width - picture.shape[2], 0, gap if index < last else 0), value=255)
        for index, picture in enumerate(pictures)
    ]
    return torch.cat(padded, 1)


def grid(
    images: Sequence[Image.Image], columns: int = 0, scale: int = 1, gap: int = 2
) -> Image.Image:
    """Images of one size as one picture, in rows from the left, on white.

    >>> setar.grid(pipe("heart", count=12), columns=4, scale=3).save("hearts.png")

    Args:
        images: at least one; all as large as the first.
        columns: images side by side; 0: as many as make it about square.
        scale: each so many times its size, enlarged smoothly.
        gap: pixels between them.

    Returns:
        An image that remembers what the images have in common, if they were sampled alike.

    Raises:
        ValueError: there are none, their sizes differ, or a number is wrong.
    """
    listed = list(images)
    if not listed or any(not isinstance(image, Image.Image) for image in listed):
        raise ValueError("`images` must be a list of at least one PIL image")
    width, height = listed[0].size
    if odd := [image.size for image in listed if image.size != (width, height)]:
        raise ValueError(
            f"all images must have one size: the first has {width}x{height} pixels (width x "
            f"height), another {odd[0][0]}x{odd[0][1]}"
        )
    columns = whole("columns", columns, 0, MOST_PIXELS) or math.ceil(math.sqrt(len(listed)))
    columns, gap = min(columns, len(listed)), whole("gap", gap, 0, 10_000)
    scale, rows = whole("scale", scale, 1, 10_000), -(-len(listed) // columns)
    across, down = width * scale + gap, height * scale + gap
    check_sheet((columns * across - gap, rows * down - gap))
    canvas = Image.new("RGB", (columns * across - gap, rows * down - gap), "white")
    for index, image in enumerate(listed):
        one = image.convert("RGB")
        large = one if scale == 1 else enlarge(one, width * scale)
        canvas.paste(large, (index % columns * across, index // columns * down))
    shared = in_common([getattr(image, "memory", None) for image in listed])
    return canvas if shared is None else Picture.of(canvas, shared)


def labelled_rows(
    rows: Sequence[tuple[str, str, Sequence[Image.Image]]],
    title: str = "",
    side: int = 96,
    columns: Sequence[str] = (),
    across: int = ACROSS,
) -> Image.Image:
    """Rows of pictures, each with a heading and a smaller line at its left.

    Args:
        rows: (heading, detail, pictures) of each row; text of any script, shortened where it is
            longer than three pictures are wide.
        title: above everything.
        side: width of each picture in the result; pictures keep their shape. A row is at least as
            high as its two lines of text.
        columns: a heading for each column, if wanted; rows are then not wrapped.
        across: pictures side by side at most; more of a row go on below them.

    Returns:
        A sheet that remembers how those of its pictures were sampled that remember it themselves.

    Raises:
        ValueError: the sheet would have more than `MOST_PIXELS` pixels.
    """
    picture = rows[0][2][0].size
    counts = [(heading, detail, len(pictures)) for heading, detail, pictures in rows]
    sheet = _Sheet(counts, picture, title, side, columns, across)
    check_sheet(sheet.size)
    canvas = Image.new("RGB", sheet.size, "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((sheet.margin, sheet.margin), sheet.title.text, INK, sheet.title.font)
    for column, name in enumerate(columns):
        text = label(name, side * 0.15)
        if text.width > side:
            text = label(name, max(1, side * side * 0.15 / text.width), side)
        centre = sheet.left + column * (side + sheet.gap) + side // 2
        pen.text((centre, sheet.titled), text.text, PALE, text.font, anchor="ma")
    for top, (first, second), (_, _, pictures) in zip(sheet.tops, sheet.labels, rows, strict=True):
        middle = top + max(sheet.height, sheet.least) // 2
        top += max(0, sheet.least - sheet.below(len(pictures))) // 2
        pen.text((sheet.margin, middle), first.text, INK, first.font, anchor="ld")
        pen.text((sheet.margin, middle + 2), second.text, PALE, second.font, anchor="la")
        for index, one in enumerate(pictures):
            line, column = divmod(index, sheet.across)
            x, y = sheet.left + column * (side + sheet.gap), top + line * (sheet.height + sheet.gap)
            canvas.paste(enlarge(one, side), (x, y))
    shared = of_rows([pictures for _, _, pictures in rows])
    return canvas if shared is None else Picture.of(canvas, shared)


def sheet_size(
    rows: Sequence[tuple[str, str, int]],
    picture: tuple[int, int],
    title: str = "",
    side: int = 96,
    columns: Sequence[str] = (),
    across: int = ACROSS,
) -> tuple[int, int]:
    """(width, height) of `labelled_rows`, known before there are pictures.

    Args:
        rows: (heading, detail, number of pictures) of each row.
        picture: (width, height) of the pictures.
        title, side, columns, across: as there.
    """
    return _Sheet(rows, picture, title, side, columns, across).size


def check_sheet(size: tuple[int, int], file: Path | None = None) -> None:
    """Raise ValueError if a picture of this (width, height) is too large, for its file's format."""
    width, height = size
    ending = file.suffix.lower() if file is not None else ""
    longest = LONGEST_SIDES.get(ending, MOST_PIXELS)
    if max(size) > longest:
        raise ValueError(
            f"the picture would have {width}x{height} pixels, and {ending} files at most {longest} "
            "a side: draw fewer, or write a .png file"
        )
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"the picture would have {width}x{height} pixels, more than {MOST_PIXELS}: draw fewer"
        )


class _Sheet:
    """Where everything lies in a sheet of labelled rows, in pixels."""

    def __init__(
        self,
        rows: Sequence[tuple[str, str, int]],
        picture: tuple[int, int],
        title: str,
        side: int,
        columns: Sequence[str],
        across: int,
    ) -> None:
        if across < 1:
            raise ValueError(f"`across` (={across}) must be at least 1")
        counts = [count for _, _, count in rows]
        self.across = max(counts) if columns else min(across, max(counts))
        self.margin, self.gap = side // 4, max(2, side // 16)
        self.height, self.least = side * picture[1] // picture[0], int(side * 0.42)
        room = 3 * side
        self.labels = [
            (label(first, side * 0.2, room), label(second, side * 0.15, room))
            for first, second, _ in rows
        ]
        widest = max(one.width for labels in self.labels for one in labels)
        self.left = self.margin + widest + self.margin
        self.title = label(title, side * 0.26, 40 * side)
        pictures = self.left + self.across * (side + self.gap)
        width = max(pictures, self.margin + self.title.width) + self.margin
        self.titled = self.margin + (int(side * 0.5) if title else 0)
        top, self.tops = self.titled + (int(side * 0.25) if columns else 0), list[int]()
        for count in counts:
            self.tops.append(top)
            top += max(self.below(count), self.least) + self.gap
        self.size = (width, top + self.margin)

    def below(self, count: int) -> int:
        """How high so many pictures of a row are."""
        return -(-count // self.across) * (self.height + self.gap) - self.gap


def enlarge(picture: Image.Image, side: int) -> Image.Image:
    """The picture at a width of ``side``; smooth, since people read blocks of pixels badly."""
    size = (side, side * picture.height // picture.width)
    return picture.resize(size, Image.Resampling.BICUBIC)


def to_pil(images: Tensor) -> list[Image.Image]:
    """Pictures uint8 ``[B, 3, H, W]`` as PIL images."""
    return [Image.fromarray(np.asarray(image.permute(1, 2, 0).cpu())) for image in images]
