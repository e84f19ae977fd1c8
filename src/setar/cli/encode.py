"""``setar encode``: pictures to shards of codes that a training reads from disk."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from setar.cli import options
from setar.cli.console import say
from setar.cli.files import prepare_folder
from setar.numbers import counted


def encode(
    tokenizer: Annotated[
        str,
        typer.Argument(help="A shipped model, a model folder, a run's folder, a hub id; pixels."),
    ],
    images: Annotated[
        str,
        typer.Argument(help="A folder, parquet file, WebDataset tar, or data set by name."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, or one that was not finished.")],
    views: Annotated[
        str, typer.Option(help="crop, crop+flip or ten-crop; default: crop+flip, of captions crop.")
    ] = "",
    size: Annotated[
        list[str] | None,
        typer.Option(help="256, or height x width in pixels; repeatable; default: tokenizer's."),
    ] = None,
    max_aspect: Annotated[
        float, typer.Option(help="Crop to shapes of up to this ratio of sides, as stages do.")
    ] = 1.0,
    resize: Annotated[str, typer.Option(help="lanczos, or adm as ADM and LlamaGen crop.")] = (
        "lanczos"
    ),
    heldout: Annotated[
        float, typer.Option(help="Share of the images to set aside, if the source has none.")
    ] = 0.0,
    validation: Annotated[
        str, typer.Option(help="Pictures to set aside instead, as IMAGES and of the same classes.")
    ] = "",
    features: Annotated[
        bool, typer.Option("--features", help="Keep features too, for a VAR's self_correction.")
    ] = False,
    shard: Annotated[
        int, typer.Option(help="Images of a shard.", callback=options.counted(1, 2**24))
    ] = 8192,
    batch_size: Annotated[
        int, typer.Option(help="Images that are encoded at once.", callback=options.counted(1))
    ] = 32,
    device: options.DeviceOption = "auto",
) -> None:
    """Encode images once, for trainings of generators: `data.source = "OUT"`.

    The same command goes on after a kill. Under torchrun all processes share the work. What cannot
    be read is left out and listed in left-out.txt.
    """
    sizes = tuple(pair for text in size or () if (pair := options.parse_size(text)))
    prepare_folder(out)

    from setar.data.codes import LEFT_OUT
    from setar.data.crops import RESIZES, check_resize
    from setar.data.views import find_views
    from setar.training.encoding import EncodeConfig, Place, encode

    check_resize(resize)
    if views:
        find_views(views)
    named = next(name for name in RESIZES if name == resize)
    config = EncodeConfig(
        tokenizer,
        images,
        views,
        sizes,
        max_aspect,
        named,  # type: ignore[arg-type]
        heldout,
        validation,
        shard,
        batch_size,
        features,
        device,
    )
    first = Place.here().index == 0
    done = encode(config, out, progress=first and sys.stderr.isatty())
    if done.manifest is None:
        return
    made = done.manifest
    speed = (
        f", {done.pictures / max(done.seconds, 1e-9):.0f} images/s here" if done.pictures else ""
    )
    lost = sum(len(shard.left_out) for family in made.families for shard in family.shards)
    for facts, family in zip(made.encoding.families, made.families, strict=True):
        height, width = facts.size
        tokens = facts.grid[0] * facts.grid[1]
        say(
            f"  {facts.split:<9}{height}x{width} pixels: {counted(family.records, 'record')} of "
            f"{tokens} tokens, views {facts.views}, {counted(len(family.shards), 'shard')}"
        )
    if lost:
        say(f"left out: {counted(lost, 'image')} that cannot be read, see {out / LEFT_OUT}")
    say(f"{counted(sum(made.encoding.pictures.values()), 'image')} -> {out}{speed}")
