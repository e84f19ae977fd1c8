"""Masks: which part of a picture is made anew, and what is done to picture and mask before.

inpainting      a region and its own class       `box_mask`, or any drawn mask
editing         a region and another class
outpainting     all around a smaller image       `outpaint`
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from setar.data.crops import centre_crop
from setar.data.decoding import to_rgb
from setar.numbers import as_whole
from setar.registry import printable, quoted

GREY, DARK = 225, 185
"""Levels of the stripes that `show_mask` draws."""

MOST_PIXELS = 2**24
"""Of a picture with margins around it; models edit far smaller ones."""

MOST_MARGIN = 4096
"""Pixels by which a mask grows, or over which a seam is blended, at most."""


class Task(NamedTuple):
    """A picture, and what of it is made anew; both of a model's size."""

    image: Image.Image
    """RGB."""
    mask: Image.Image
    """L: 255 where the picture is made anew, else 0."""


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A mask (mode L) of ``size`` (width, height), white in ``box`` (left, top, right, bottom).

    The box is in pixels; its right and bottom edges lie outside of it, as everywhere in Pillow.

    Raises:
        ValueError: the box is no four whole numbers, is empty, or does not lie inside.
    """
    left, top, right, bottom = box = _four("the box", box)
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError(
            f"the box {box} must have left < right and top < bottom, "
            f"inside an image of {_shown(size)} pixels"
        )
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def outpaint(
    image: Image.Image, size: tuple[int, int] | None, margins: tuple[int, int, int, int]
) -> Task:
    """A larger picture around an image: a canvas and the mask of what is to be made.

    The whole image is shrunk (or enlarged) into what the margins leave, in its own proportions and
    in the middle of it.

    Args:
        image: of any size and mode, turned upright if it carries EXIF's tag of that.
        size: (width, height) of the canvas: that of the model. None, for a model of any grid: the
            image keeps its own size, and the margins lie around it.
        margins: pixels of the canvas to make at the left, top, right and bottom.

    Returns:
        The canvas and the mask, both of ``size``.

    Raises:
        ValueError: the image is unreadable, the margins are no four whole numbers, one is negative,
            all are 0, they leave nothing, or the canvas would be too large.
    """
    left, top, right, bottom = margins = _four("the margins", margins)
    image = _readable(image)
    if size is None:
        size = (image.width + left + right, image.height + top + bottom)
        if max(margins) > 0 and size[0] * size[1] > MOST_PIXELS:
            raise ValueError(
                f"with the margins {margins} the picture would have {_shown(size)} pixels, more "
                f"than {MOST_PIXELS}"
            )
    room = (size[0] - left - right, size[1] - top - bottom)
    if min(margins) < 0 or max(margins) == 0 or min(room) < 1:
        raise ValueError(
            f"the margins {margins} must not be negative nor all 0, and leave room for the image "
            f"in {_shown(size)} pixels"
        )
    inner = ImageOps.contain(image, room, Image.Resampling.LANCZOS)
    left += (room[0] - inner.width) // 2
    top += (room[1] - inner.height) // 2
    canvas, mask = Image.new("RGB", size, "white"), Image.new("L", size, 255)
    canvas.paste(inner, (left, top))
    mask.paste(0, (left, top, left + inner.width, top + inner.height))
    return Task(canvas, mask)


def fitted(image: Image.Image, size: tuple[int, int] | None = None) -> Image.Image:
    """An image as RGB, at a model's size as `prepare` brings it there; None: at its own.

    Raises:
        ValueError: the image is unreadable.
    """
    image = _readable(image)
    if size is None or image.size == size:
        return image
    return centre_crop(image, size[1], size[0])


def prepare(image: Image.Image, mask: object, size: tuple[int, int] | None = None) -> Task:
    """Image and mask at a model's size, cropped in the middle and resized as training images are.

    Args:
        image: of any size and mode, turned upright if it carries EXIF's tag of that.
        mask: a PIL image of the same size, turned likewise, of which the lighter half of all levels
            is made anew; or bool ``[height, width]``.
        size: (width, height) of the model. None, for a model of any grid: that of the image.

    Returns:
        Both at this size; a resized pixel is masked if any part of it was.

    Raises:
        ValueError: the image is unreadable, the mask is neither of these, of another size, or
            nothing of it is left.
    """
    image = _readable(image)
    if isinstance(mask, Image.Image):
        drawn = _white(np.asarray(_readable(mask).convert("L")) > 127)
    else:
        array = np.asarray(mask)
        if array.dtype != bool or array.ndim != 2 or not array.size:
            raise ValueError(
                "a mask must be a PIL image or a bool array (height, width), "
                f"not {type(mask).__name__} of {array.dtype} {list(array.shape)}"
            )
        drawn = _white(array)
    if drawn.size != image.size:
        raise ValueError(
            f"the mask has {_shown(drawn.size)} pixels, the image {_shown(image.size)}: "
            "they must be of one size"
        )
    if size is not None and image.size != size:
        width, height = size
        image = fitted(image, size)
        shares = centre_crop(drawn.convert("F"), height, width, Image.Resampling.BOX)
        drawn = _white(np.asarray(shares) > 0)
    if drawn.getbbox() is None:
        raise ValueError("the mask is empty: its white pixels are what is made anew")
    return Task(image, drawn)


def _four(what: str, numbers: Any) -> tuple[int, int, int, int]:
    """Left, top, right and bottom; ValueError unless these are four whole numbers."""
    listed = not isinstance(numbers, str | bytes) and hasattr(numbers, "__len__")
    found = [number for number in map(as_whole, numbers if listed else ()) if number is not None]
    if not listed or not len(numbers) == len(found) == 4:
        raise ValueError(
            f"{what} (={quoted(numbers)}) must be four whole numbers: left, top, right and bottom"
        )
    return found[0], found[1], found[2], found[3]


def _readable(image: Image.Image) -> Image.Image:
    """RGB of an image that may not have been read from its file yet."""
    if not isinstance(image, Image.Image):
        raise ValueError(f"an image must be a PIL image, not {type(image).__name__}")
    try:
        return to_rgb(image)
    except Exception as error:  # a file that is decoded only now raises errors of any class
        raise ValueError(f"cannot read the image: {printable(error)}") from error


def _white(where: np.ndarray) -> Image.Image:
    """A mask (L), 255 where ``where`` ``[height, width]`` is True."""
    return Image.fromarray(np.where(where, 255, 0).astype(np.uint8))


def dilated(mask: Tensor, pixels: int) -> Tensor:
    """A mask, bool ``[H, W]``, grown by so many pixels in every direction, diagonals included."""
    reach = min(pixels, max(mask.shape))
    grown = mask[None, None].float()
    for kernel, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        grown = F.max_pool2d(grown, kernel, stride=1, padding=padding)
    return grown[0, 0] > 0


def grow(task: Task, pixels: int) -> Task:
    """A task whose mask is `dilated`."""
    if not pixels:
        return task
    grown = dilated(torch.from_numpy(np.asarray(task.mask) > 0), pixels)
    return Task(task.image, _white(grown.numpy()))


def seam_mask(mask: Tensor, pixels: int) -> Image.Image:
    """How much of what is made shows at each pixel (L): all inside a mask, and less outside of it.

    It falls evenly over so many pixels around the mask, bool ``[H, W]``. A mask of the pixel at the
    left, and a seam of 3:

        255 191 128 64 0 0
    """
    rings, grown = mask.float(), mask
    for ring in range(pixels):
        if grown.all():  # and so it is in all that follow
            rings += pixels - ring
            break
        grown = dilated(grown, 1)
        rings += grown
    levels = rings.mul(255 / (pixels + 1)).round().to(torch.uint8)
    return Image.fromarray(np.asarray(levels))


def hide(image: Tensor, mask: Tensor) -> Tensor:
    """The image with its kept pixels spread over the masked ones, ring after ring.

    An encoder's tokens depend on pixels far away: of the shipped emoji tokenizer, six in ten tokens
    outside a masked half change with what is under the mask. What is to go must not come back that
    way, so this is encoded instead; being smooth, it puts no edge around what is kept.

    Args:
        image: uint8 ``[3, H, W]``.
        mask: bool ``[H, W]``, True where the image is made anew.

    Returns:
        uint8 ``[3, H, W]``, which does not depend on the masked pixels; black if all are.
    """
    known = (~mask)[None].float()
    pixels = image.float() * known
    while known.any() and not known.all():
        share = F.avg_pool2d(known, 3, stride=1, padding=1)
        mean = F.avg_pool2d(pixels, 3, stride=1, padding=1) / share.clamp_min(1e-6)
        pixels = torch.where((known == 0) & (share > 0), mean, pixels)
        known = (share > 0).float()
    return pixels.round().to(torch.uint8)


def show_mask(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The image with what is to be made hidden under grey stripes; both of one size."""
    rows, columns = np.indices((image.height, image.width))
    stripes = (rows + columns) * 8 // max(image.size) % 2
    levels = np.where(stripes, GREY, DARK).astype(np.uint8)
    return Image.composite(Image.fromarray(levels).convert("RGB"), image, mask)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
