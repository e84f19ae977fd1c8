"""``setar evaluate``: the figures of pictures or of a model."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from setar.cli import options
from setar.cli.console import show
from setar.cli.files import (
    new_name,
    prepare_file,
    prepare_picture,
    say_where,
    write_new,
)
from setar.files import check_file


@options.with_sampling
def evaluate(
    source: Annotated[
        str,
        typer.Argument(help="A model, a folder of pictures, an .npz file, or digits:heldout."),
    ] = "emoji",
    reference: Annotated[
        str,
        typer.Option(
            help="emoji, digits (or e.g. emoji:heldout), a folder or an .npz file; default: what "
            "the model was trained on."
        ),
    ] = "",
    features: Annotated[str, typer.Option(help="efflite0, digits or inception:FILE.")] = "",
    images: Annotated[
        int | None,
        typer.Option(
            help="How many pictures, evenly spread.", callback=options.counted(2, 10_000_000)
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            help="Images per class or prompt of a model.", callback=options.counted(1, 10_000_000)
        ),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option(
            help="Held-out captions that a model of texts is asked for, and as many of training "
            "pictures; default: 300.",
            callback=options.counted(1),
        ),
    ] = None,
    clip: Annotated[
        str,
        typer.Option(help="Also a CLIP score, by this CLIP or SigLIP: a folder or a hub id."),
    ] = "",
    size: Annotated[
        str,
        typer.Option(
            help="Crop and resize the pictures of folders to 256, or to height x width pixels such "
            "as 128x256; default: a model's own size."
        ),
    ] = "",
    resize: Annotated[
        str,
        typer.Option(
            help="How these are resized: lanczos, or adm as ADM's own reference batches; default: "
            "as those that a model was trained on.",
            callback=options.must(lambda name: name in ("", "lanczos", "adm"), "lanczos or adm"),
        ),
    ] = "",
    seed: Annotated[
        int, typer.Option(help="Image i uses seed + i.", callback=options.whole_seed)
    ] = 0,
    sampling: options.Sampling = options.AS_TRAINED,
    metrics: Annotated[
        str, typer.Option(help="Further metrics by name, with commas, such as a plugin's.")
    ] = "",
    device: options.DeviceOption = "cpu",
    precision: options.Precision = None,
    processes: Annotated[
        int,
        typer.Option(help="Processes that share the work.", callback=options.counted(1, 1000)),
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
    save_samples: Annotated[
        Path | None, typer.Option(help="Also write the pictures as .npz, for other evaluators.")
    ] = None,
    save_statistics: Annotated[
        Path | None, typer.Option(help="Also write the reference's statistics, an .npz to reuse.")
    ] = None,
) -> None:
    """Measure pictures, or a model's samples, against a reference; every setting is printed."""
    import json

    if images is not None and count is not None:
        raise ValueError("give `images` or `count`, not both")
    wanted = options.parse_size(size)
    for text in (source, reference, features.removeprefix("inception:")):
        _check_source(text)
    if out is not None:
        prepare_file(out)
    for file in (save_samples, save_statistics):
        if file is not None:
            prepare_picture(file, [".npz"])

    from setar.device import find_device
    from setar.evaluation.run import run
    from setar.evaluation.targets import Request

    written: list[tuple[str, Path]] = []
    with _named(save_samples) as samples, _named(save_statistics) as statistics:
        request = Request(
            source=source,
            reference=reference,
            features=features,
            size=wanted,
            resize=cast(Any, resize or None),
            images=images,
            count=count,
            prompts=prompts,
            clip=clip,
            seed=seed,
            sampling=sampling,
            metrics=tuple(name.strip() for name in metrics.split(",") if name.strip()),
            device=str(find_device(device)),
            precision=precision,
            processes=processes,
            save_samples=samples,
            save_statistics=statistics,
            progress=sys.stderr.isatty(),
        )
        tables = run(request)
    try:
        if out is not None:
            text = json.dumps(tables, indent=2) + "\n"
            written.append(("", write_new(out, lambda file: file.write_text(text, "utf-8"))))
    finally:  # the figures are shown even where they cannot be written
        show(_drawn(tables))
    written += [("", file) for file in (samples, statistics) if file is not None]
    say_where(*written)


def _check_source(text: str) -> None:
    """ValueError of a path that is not there; a name is not looked up before torch is there."""
    if text.endswith(".npz"):
        check_file(Path(text))
    is_path = text.startswith((".", "/", "~")) or text.count("/") > 1
    if is_path and not os.path.exists(text):
        raise ValueError(f"{text[:200]} does not exist")


@contextmanager
def _named(file: Path | None) -> Iterator[Path | None]:
    """The free name that a file gets; it is left free if nothing is written."""
    name = None if file is None else new_name(file)
    try:
        yield name
    finally:
        if name is not None and name.is_file() and not name.stat().st_size:
            name.unlink()


def _drawn(tables: "Mapping[str, Mapping[str, Any]]") -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", show_header=False)
    for heading, rows in tables.items():
        table.add_section()
        table.add_row(f"[bold]{escape(heading)}[/bold]", "")
        for name, value in rows.items():
            table.add_row(escape(name.replace("_", " ")), escape(_shown(value)))
    return table


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return "not stated" if value is None else str(value)
