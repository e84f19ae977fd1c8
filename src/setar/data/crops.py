"""The centre of a picture at another size, in the ways that the field does it.

lanczos   the largest centre of the shape, resized at once: sharp, and the default
adm       halves by box averages, then bicubic, then the centre: ADM's, and so LlamaGen's and VAR's
"""

from collections.abc import Callable
from typing import Literal

from PIL import Image

Resize = Literal["lanczos", "adm"]
"""Names of `RESIZES`."""


def centre_crop(
    image: Image.Image,
    height: int,
    width: int,
    resampling: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """The largest part of this shape in the middle, resized to ``height`` x ``width`` pixels."""
    across = min(image.width, image.height * width / height)
    down = min(image.height, image.width * height / width)
    left, top = (image.width - across) // 2, (image.height - down) // 2
    box = (left, top, left + across, top + down)
    return image.resize((width, height), resampling, box)


def adm_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """The centre as ADM takes it (Dhariwal and Nichol 2021), and those that follow it.

    The picture is halved by box averages while it stays as large as asked, resized by a bicubic
    filter until it just covers ``height`` x ``width`` pixels, and cropped in the middle.
    """
    while image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(width / image.width, height / image.height)
    covering = (round(image.width * scale), round(image.height * scale))
    image = image.resize(covering, Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


RESIZES: dict[str, Callable[[Image.Image, int, int], Image.Image]] = {
    "lanczos": centre_crop,
    "adm": adm_crop,
}
"""Functions of a picture, height and width in pixels."""


def check_resize(resize: str) -> None:
    """Raise ValueError unless there is a resize of this name."""
    if resize not in RESIZES:
        raise ValueError(f"`resize` (={resize!r:.40}) must be one of {', '.join(RESIZES)}")
