"""The views of a picture that are encoded: its centre, its mirror image, crops around the centre.

crop        the centre
crop+flip   the centre and its mirror image: what later systems train on
ten-crop    of a picture a tenth larger the four corners, the centre, and their mirror images:
            LlamaGen's
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CENTRE, MIRRORED = "centre", "mirrored "


@dataclass(frozen=True)
class Views:
    """Which views of a picture there are."""

    names: tuple[str, ...]
    enlarged: float
    """Sides of the centre crop that they are cut from, over those of the views."""
    cut: Callable[[Tensor, int, int], list[Tensor]]
    """From pictures ``[B, 3, H, W]``, height and width of a view to its ``[B, 3, h, w]`` each."""

    @property
    def upright(self) -> tuple[int, ...]:
        """Those that are no mirror images, in which left and right are as captions say."""
        return tuple(i for i, name in enumerate(self.names) if not name.startswith(MIRRORED))

    def source(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the centre crop from which views of a size are cut."""
        return int(height * self.enlarged), int(width * self.enlarged)

    def of(self, images: Tensor, height: int, width: int) -> Tensor:
        """Views uint8 ``[B, views, 3, height, width]`` of pictures ``[B, 3, H, W]``."""
        return torch.stack(self.cut(images, height, width), dim=1)


def _crop(images: Tensor, height: int, width: int) -> list[Tensor]:
    return [images]


def _crop_and_flip(images: Tensor, height: int, width: int) -> list[Tensor]:
    return [images, images.flip(-1)]


def _ten_crop(images: Tensor, height: int, width: int) -> list[Tensor]:
    down, across = images.shape[-2] - height, images.shape[-1] - width
    places = [(0, 0), (0, across), (down, 0), (down, across), (round(down / 2), round(across / 2))]
    crops = [images[..., top : top + height, left : left + width] for top, left in places]
    return [*crops, *(crop.flip(-1) for crop in crops)]


_FIVE = ("top left", "top right", "bottom left", "bottom right", CENTRE)
_TEN = (*_FIVE, *(MIRRORED + name for name in _FIVE))

VIEWS = {
    "crop": Views((CENTRE,), 1.0, _crop),
    "crop+flip": Views((CENTRE, MIRRORED + CENTRE), 1.0, _crop_and_flip),
    "ten-crop": Views(_TEN, 1.1, _ten_crop),
}
"""By the names that ``setar encode --views`` takes."""


def find_views(name: str) -> Views:
    """The views of this name; ValueError if there are none."""
    if name not in VIEWS:
        raise ValueError(f"`views` (={name!r:.40}) must be one of {', '.join(VIEWS)}")
    return VIEWS[name]
