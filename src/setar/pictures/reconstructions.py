"""What a tokenizer makes of pictures, for people to look at."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from setar.pictures.sheets import labelled_rows, stack, tile, to_pil
from setar.tokenizers.autoencoder import psnr
from setar.tokenizers.base import (
    BATCH,
    Tokenizer,
    decode_codes,
    device_of,
    encode_images,
    to_float,
    to_uint8,
)

LONGEST = 24
"""Letters of a picture's name that are shown."""


@torch.inference_mode()
def stages(tokenizer: Tokenizer, images: Tensor) -> list[Tensor]:
    """Pictures uint8 ``[n, 3, H, W]`` through a tokenizer and back, coarse to fine.

    Returns:
        Pictures like ``images`` on the CPU, from the first 1, 2, ... scales of a tokenizer of
        several scales; of others one reconstruction. The last is the whole reconstruction.

    Raises:
        ValueError: the tokenizer cannot encode, or has no grid for pictures of this size.
    """
    grid = tokenizer.grid(*images.shape[-2:])
    parts = []
    for batch in images.split(BATCH):
        codes = encode_images(tokenizer, batch).to(device_of(tokenizer))
        parts.append([to_uint8(stage).cpu() for stage in tokenizer.stages(codes, grid)])
    return [torch.cat(stage) for stage in zip(*parts, strict=True)]


def reconstruction_sheet(
    tokenizer: Tokenizer, images: Tensor, names: Sequence[str], title: str = ""
) -> tuple[Image.Image, float]:
    """One labelled picture: a row per image with its stages, then the original.

    Args:
        tokenizer: in evaluation mode.
        images: uint8 ``[n, 3, H, W]``.
        names: of the images; each stands beside its row with the PSNR of the reconstruction.
        title: above everything, with the mean PSNR.

    Returns:
        The picture, and the mean PSNR of the reconstructions in dB. Above each column stands the
        mean PSNR of its stage.

    Raises:
        ValueError: as `stages`.
    """
    made = stages(tokenizer, images)
    quality = [psnr(to_float(stage), to_float(images)) for stage in made]
    pictures = zip(*(to_pil(stage) for stage in [*made, images]), strict=True)
    described = zip(names, quality[-1].tolist(), pictures, strict=True)
    rows = [(name[:LONGEST], f"{decibels:.1f} dB", row) for name, decibels, row in described]
    means = [stage.mean().item() for stage in quality]
    scales = [f"{rows}x{columns}" for rows, columns in tokenizer.scales or ()] or ["decoded"]
    headings = zip(scales, means, strict=True)
    columns = [*(f"{name}, {mean:.1f} dB" for name, mean in headings), "original"]
    side = max(96, images.shape[-1])
    return labelled_rows(rows, f"{title} · {means[-1]:.1f} dB", side, columns), means[-1]


def reconstruction_rows(tokenizer: Tokenizer, images: Tensor, columns: int = 16) -> Tensor:
    """Rows of originals, uint8 ``[n, 3, H, W]``, each above the row of their reconstructions.

    Only full rows are shown; fewer images than ``columns`` make one shorter row. Of a tokenizer of
    several scales, a row for each of four images follows: scale by scale, then the original.
    """
    columns = min(columns, len(images))
    originals = images[: len(images) // columns * columns]
    grid = tokenizer.grid(*images.shape[-2:])
    decoded = decode_codes(tokenizer, encode_images(tokenizer, originals), grid)
    pairs = zip(originals.split(columns), decoded.split(columns), strict=True)
    picture = tile(torch.cat([half for pair in pairs for half in pair]), columns, scale=0)
    if tokenizer.scales is None:
        return picture
    rows = min(4, len(images))
    chosen = images[torch.arange(rows) * len(images) // rows]
    shown = torch.stack([*stages(tokenizer, chosen), chosen], 1)
    return stack([picture, tile(shown.flatten(0, 1), shown.shape[1], scale=0)])
