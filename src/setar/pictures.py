"""Many small pictures as one, for people to look at."""

import torch
from torch import Tensor


def tile(images: Tensor, columns: int, scale: int = 1, gap: int = 2) -> Tensor:
    """Images uint8 ``[n, 3, h, w]`` in rows of ``columns``, enlarged without blur, on white.

    Returns:
        uint8 ``[3, H, W]``.
    """
    images = images.cpu().repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    count, _, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full(
        (3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8
    )
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return canvas
