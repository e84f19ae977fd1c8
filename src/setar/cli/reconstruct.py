"""``setar reconstruct``: pictures through a tokenizer and back, as one labelled picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from setar.cli import options
from setar.cli.files import prepare_picture

if TYPE_CHECKING:
    from torch import Tensor


def reconstruct(
    model: options.Model = "emoji",
    pictures: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, .npz files, or e.g. digits:heldout; default: emoji."),
    ] = None,
    count: Annotated[
        int, typer.Option(help="Pictures of each folder or data set, evenly spread.")
    ] = 8,
    size: Annotated[
        str,
        typer.Option(help="Crop and resize to 256, or to height x width such as 128x256 pixels."),
    ] = "",
    device: options.DeviceOption = "cpu",
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path(
        "outputs/reconstruct.png"
    ),
) -> None:
    """Draw what a tokenizer makes of pictures: a row each, of a VAR's scale by scale."""
    from setar.data.images import height_and_width
    from setar.device import find_device
    from setar.pictures.reconstructions import reconstruction_sheet
    from setar.pipeline import Pipeline
    from setar.pretrained import load_tokenizer, locate, read_config

    if count < 1:
        raise ValueError(f"`count` (={count}) must be at least 1")
    prepare_picture(out)
    rule, wanted = "--size reads 256, or height x width such as 128x256", None
    if size:
        sides = options.parse_numbers(size, "x", [1, 2], rule)
        wanted = height_and_width((*sides, *sides)[:2])
    device = str(find_device(device))
    if "model" in read_config(locate(model)):
        pipe = Pipeline.from_pretrained(model, device)
        tokenizer, own_size = pipe.tokenizer, (pipe.size[1], pipe.size[0])
    else:
        tokenizer = load_tokenizer(model, device)
        own_size = tokenizer.image_size
    names, images = _pictures(pictures or ["emoji:heldout"], wanted or own_size, count)
    sheet, decibels = reconstruction_sheet(tokenizer, images, names, model)
    sheet.save(out)
    typer.echo(f"{len(images)} pictures, {decibels:.2f} dB on average -> {out}")


def _pictures(
    texts: list[str], size: tuple[int, int] | None, count: int
) -> "tuple[list[str], Tensor]":
    """Names and pictures uint8 ``[n, 3, H, W]`` of files, folders and data sets."""
    import torch

    from setar.data.images import ENDINGS, read_image
    from setar.evaluation.sources import find_pictures

    names, parts = [], []
    for text in texts:
        if Path(text).suffix.lower() in ENDINGS and not Path(text).is_dir():
            found, images = [Path(text).stem], read_image(Path(text), size)[None]
        else:
            source = find_pictures(text, size)
            shown = min(count, len(source.images))
            chosen = torch.arange(shown) * len(source.images) // shown
            known = source.names
            found = [known[i] if known else f"{text} {i}" for i in chosen.tolist()]
            images = source.images[chosen]
        if parts and images.shape[1:] != parts[0].shape[1:]:
            raise ValueError(f"{text} has pictures of another size than {texts[0]}: give --size")
        names += found
        parts.append(images)
    return names, torch.cat(parts)
