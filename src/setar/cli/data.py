"""``setar data``: data sets that do not ship with the package, built on this machine."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from setar.cli.console import say
from setar.cli.options import counted

NAMED = 5
"""Drawings that are named of those that were left out for a reason."""


def styles(
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")],
    tarballs: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder with the packages as `npm pack` writes them; else they are fetched.",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(help="Side of the pictures in pixels.", callback=counted(8, 1024))
    ] = 64,
) -> None:
    """Render emoji in six drawing styles into a captioned image folder."""
    if os.path.lexists(out):
        raise ValueError(f"{out} exists already: remove it, or write to another folder")
    if tarballs is not None and not tarballs.is_dir():
        raise ValueError(f"{tarballs} is no folder")
    from setar.data.styles import build_styles

    built = build_styles(out, tarballs, size, sys.stderr.isatty())
    say(f"{sum(built.drawings.values())} drawings of {size}x{size} pixels -> {out}")
    for style, count in built.drawings.items():
        say(f"  {style:<20}{count:>6}")
    say(f"  {'held out':<20}{built.heldout:>6} pairs of name and style, never trained on")
    for reason, names in built.left_out.items():
        more = f" and {len(names) - NAMED} more" * (len(names) > NAMED)
        say(f"left out: {len(names)} {reason} ({', '.join(names[:NAMED])}{more})")
    for note in built.notes:
        say(f"note: {note}")
