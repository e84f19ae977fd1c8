"""``setar models``: the models that can be named here."""

from pathlib import Path
from typing import Annotated, Any

import typer

from setar.cli import models as known
from setar.cli.console import say, show

DEPTH = 3
"""Folders below the one that is looked at."""


def models(
    folder: Annotated[
        Path, typer.Argument(help="Where to look for model folders and runs.")
    ] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON list.")] = False,
) -> None:
    """List models: those of the package, those from the hub that are here, and nearby folders."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    rows = [_row("shipped", file.parent.name, file.parent) for file in known.shipped()]
    rows += [_row("cached", name, found) for name, found in known.cached()]
    rows += [_row("here", str(found), known.folder_of(str(found)))
             for found in known.nearby(folder, DEPTH)]  # fmt: skip
    if as_json:
        import json

        say(json.dumps(rows, indent=2))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("model", "where", "what", "parameters", "MB")
    for row in rows:
        cells = [row["model"], row["where"], row["what"], f"{row['parameters'] / 1e6:.2f} M"]
        table.add_row(*map(escape, cells), f"{row['bytes'] / 1e6:.1f}")
    show(table, 120)


def _row(where: str, name: str, folder: Path) -> dict[str, Any]:
    from setar.registry import printable

    config = known.glance(str(folder))
    return {
        "model": printable(name),
        "where": where,
        "what": printable(known.asked_with(config)),
        "parameters": sum(known.parameters_of(folder).values()),
        "bytes": known.bytes_of(folder),
    }
