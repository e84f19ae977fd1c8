"""``setar evaluate``: the figures of pictures or of a model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from setar.cli import options
from setar.cli.files import prepare_file, prepare_picture

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


@options.with_sampling
def evaluate(
    source: Annotated[
        str,
        typer.Argument(help="A model, a folder of pictures, an .npz file, or digits:heldout."),
    ] = "emoji",
    reference: Annotated[
        str, typer.Option(help="emoji, digits (or e.g. emoji:heldout), a folder or an .npz file.")
    ] = "",
    features: Annotated[str, typer.Option(help="efflite0, digits or inception:FILE.")] = "",
    images: Annotated[int | None, typer.Option(help="How many pictures, evenly spread.")] = None,
    count: Annotated[int | None, typer.Option(help="Images per class of a model.")] = None,
    seed: Annotated[int, typer.Option(help="Image i uses seed + i.")] = 0,
    sampling: options.Sampling = options.AS_TRAINED,
    metrics: Annotated[
        str, typer.Option(help="Further metrics by name, with commas, such as a plugin's.")
    ] = "",
    device: options.DeviceOption = "cpu",
    processes: Annotated[int, typer.Option(help="Processes that share the work.")] = 1,
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

    from setar.device import find_device
    from setar.evaluation.run import run
    from setar.evaluation.targets import Request

    if out is not None:
        prepare_file(out)
    for file in (save_samples, save_statistics):
        if file is not None:
            prepare_picture(file, {".npz"})
    request = Request(
        source=source,
        reference=reference,
        features=features,
        images=images,
        count=count,
        seed=seed,
        sampling=sampling,
        metrics=tuple(name.strip() for name in metrics.split(",") if name.strip()),
        device=str(find_device(device)),
        processes=processes,
        save_samples=save_samples,
        save_statistics=save_statistics,
        progress=sys.stderr.isatty(),
    )
    tables = run(request)
    _print_tables(tables)
    if out is not None:
        out.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")
    for file in (out, save_samples, save_statistics):
        if file is not None:
            typer.echo(f"-> {file}")


def _print_tables(tables: "Mapping[str, Mapping[str, Any]]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", show_header=False)
    for heading, rows in tables.items():
        table.add_section()
        table.add_row(f"[bold]{heading}[/bold]", "")
        for name, value in rows.items():
            table.add_row(name.replace("_", " "), escape(_shown(value)))
    Console().print(table)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return "not stated" if value is None else str(value)
