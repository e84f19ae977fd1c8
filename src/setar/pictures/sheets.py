"""Many small pictures as one, for people to look at."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

INK, PALE = (32, 33, 36), (120, 124, 130)


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


def labelled_rows(
    rows: Sequence[tuple[str, str, Sequence[Image.Image]]],
    title: str = "",
    side: int = 96,
    columns: Sequence[str] = (),
) -> Image.Image:
    """Rows of pictures, each with a heading and a smaller line at its left.

    Args:
        rows: (heading, detail, pictures) of each row.
        title: above everything.
        side: width of each picture in the result; pictures keep their shape. A row is at least as
            high as its two lines of text.
        columns: a heading for each column, if wanted.
    """
    large = ImageFont.load_default(side * 0.26)
    heading, detail = ImageFont.load_default(side * 0.2), ImageFont.load_default(side * 0.15)
    margin, gap = side // 4, max(2, side // 16)
    labels = [heading.getlength(row[0]) for row in rows] + [detail.getlength(r[1]) for r in rows]
    left = margin + int(max(labels)) + margin
    titled = margin + (int(side * 0.5) if title else 0)
    top = titled + (int(side * 0.25) if columns else 0)
    most = max(len(row[2]) for row in rows)
    height = side * rows[0][2][0].height // rows[0][2][0].width
    width = max(left + most * (side + gap), margin + int(large.getlength(title))) + margin
    pitch = max(height, int(side * 0.42)) + gap
    canvas = Image.new("RGB", (width, top + len(rows) * pitch + margin), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((margin, margin), title, INK, large)
    for column, name in enumerate(columns):
        centre = left + column * (side + gap) + side // 2
        small = ImageFont.load_default(
            min(side * 0.15, side * side * 0.15 / max(1, detail.getlength(name)))
        )
        pen.text((centre, titled), name, PALE, small, anchor="ma")
    for index, (first, second, pictures) in enumerate(rows):
        y = top + index * pitch
        pen.text((margin, y + height // 2), first, INK, heading, anchor="ld")
        pen.text((margin, y + height // 2 + 2), second, PALE, detail, anchor="la")
        for column, picture in enumerate(pictures):
            canvas.paste(enlarge(picture, side), (left + column * (side + gap), y))
    return canvas


def enlarge(picture: Image.Image, side: int) -> Image.Image:
    """The picture at a width of ``side``; smooth, since people read blocks of pixels badly."""
    size = (side, side * picture.height // picture.width)
    return picture.resize(size, Image.Resampling.BICUBIC)


def to_pil(images: Tensor) -> list[Image.Image]:
    """Pictures uint8 ``[B, 3, H, W]`` as PIL images."""
    return [Image.fromarray(np.asarray(image.permute(1, 2, 0).cpu())) for image in images]
