"""``setar reconstruct``: pictures through a tokenizer and back, as one labelled picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from setar.cli import options
from setar.cli.files import PICTURES, prepare_picture, save_picture, say_where
from setar.cli.models import find_config
from setar.files import check_file
from setar.numbers import counted

if TYPE_CHECKING:
    from torch import Tensor

    from setar.tokenizers.base import Tokenizer


def reconstruct(
    model: options.Model = "emoji",
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, .npz files, or e.g. digits:heldout; default: what the model was "
            "trained on, or held-out pictures of that."
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            help="Pictures of each folder or data set, evenly spread.",
            callback=options.counted(1, 1000),
        ),
    ] = 8,
    size: Annotated[
        str,
        typer.Option(help="Crop and resize to 256, or to height x width such as 128x256 pixels."),
    ] = "",
    device: options.DeviceOption = "cpu",
    out: Annotated[
        Path, typer.Option("--out", help="File to write; if it exists, the next free name.")
    ] = Path("outputs/reconstruct.png"),
) -> None:
    """Draw what a tokenizer makes of pictures: a row each, of a VAR's scale by scale."""
    wanted = options.parse_size(size)
    for text in pictures or ():
        if Path(text).suffix.lower() in (*PICTURES, ".npz") and not Path(text).is_dir():
            check_file(Path(text))
    find_config(model)
    prepare_picture(out)

    from setar.device import find_device
    from setar.files import fingerprint
    from setar.origin import origin_of
    from setar.pictures.memory import Memory
    from setar.pictures.reconstructions import reconstruction_sheet
    from setar.pictures.sheets import check_sheet, sheet_size
    from setar.pretrained import read_newest

    tokenizer, own_size = _tokenizer(model, str(find_device(device)))
    chosen, take, left_out = list(pictures or ()), wanted or own_size, frozenset[str]()
    if not chosen:
        origin = origin_of(model)
        chosen, take = [_shown_of(origin.data, model)], take or origin.size
        left_out = origin.left_out
    names, images = _pictures(chosen, take, count, left_out)
    try:
        tokenizer.grid(*images.shape[-2:])
    except ValueError as error:
        raise ValueError(f"{error}: crop and resize the pictures with --size") from error
    title = Path(model).name or model
    columns = [""] * (len(tokenizer.scales or "1") + 1)  # the stages, and the original
    rows = [(name, "00.0 dB", len(columns)) for name in names]
    height, width = images.shape[-2:]
    check_sheet(sheet_size(rows, (width, height), title, max(96, width), columns), out)
    sheet, decibels = reconstruction_sheet(tokenizer, images, names, title)
    memory = Memory(
        "reconstruction",
        model=model,
        manifest=read_newest(model, fingerprint),
        size=(height, width),
        note=f"reconstruction of {counted(len(images), 'picture')}",
    )
    written = save_picture(sheet, out, memory)
    say_where((f"{counted(len(images), 'picture')}, {decibels:.2f} dB on average", written))


def _tokenizer(model: str, device: str) -> "tuple[Tokenizer, tuple[int, int] | None]":
    """The tokenizer of a model, and the (height, width) of its pictures if it has one size."""
    from setar.pipeline import Pipeline
    from setar.pretrained import load_tokenizer, read_config, read_newest

    if "model" in read_newest(model, read_config):
        pipe = Pipeline.from_pretrained(model, device)
        return pipe.tokenizer, (pipe.size[1], pipe.size[0])
    tokenizer = load_tokenizer(model, device)
    return tokenizer, tokenizer.image_size


def _shown_of(data: str, model: str) -> str:
    """What is shown of a data set: held-out pictures of a built-in one, or its folder."""
    from setar.data.base import DATASETS

    if not data or data.partition(":")[0] in DATASETS:
        return data if ":" in data else f"{data or 'emoji'}:heldout"
    if not Path(data).is_dir():
        raise ValueError(
            f"{model} was trained on {data}, which does not exist here: name those or other "
            "pictures after the model"
        )
    return data


def _pictures(
    texts: list[str], size: tuple[int, int] | None, count: int, left_out: frozenset[str]
) -> "tuple[list[str], Tensor]":
    """Names and pictures uint8 ``[n, 3, H, W]`` of files, folders and data sets."""
    import torch

    from setar.data.decoding import ENDINGS
    from setar.data.images import read_image
    from setar.evaluation.sources import find_pictures

    names, parts = [], []
    for text in texts:
        if Path(text).suffix.lower() in ENDINGS and not Path(text).is_dir():
            found, images = [Path(text).stem], read_image(Path(text), size)[None]
        else:
            source = find_pictures(text, size, left_out=left_out)
            shown = min(count, len(source.images))
            chosen = torch.arange(shown) * len(source.images) // shown
            known = source.names
            found = [known[i] if known else f"{text} {i}" for i in chosen.tolist()]
            try:
                images = source.images[chosen]
            except ValueError as error:
                hint = ": crop and resize them with --size" if "of one (width" in str(error) else ""
                raise ValueError(f"{error}{hint}") from error
        if parts and images.shape[1:] != parts[0].shape[1:]:
            raise ValueError(f"{text} has pictures of another size than {texts[0]}: give --size")
        names += found
        parts.append(images)
    return names, torch.cat(parts)
