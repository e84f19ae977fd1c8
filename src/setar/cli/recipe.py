"""``setar recipe``: a recipe, drawn."""

from pathlib import Path
from typing import Annotated

import typer

from setar.cli.files import prepare_picture
from setar.cli.options import parse_grid


def recipe(
    text: Annotated[str, typer.Argument(help="A recipe, such as roll-8-cosine.")],
    grid: Annotated[str, typer.Option(help="Rows x columns of tokens.")] = "8x8",
    seed: Annotated[int, typer.Option(help="Of random orders and schedules.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also draw it as a picture.")] = None,
) -> None:
    """Draw what is generated when: the numbered grid and the three attention masks."""
    import torch
    from rich.console import Console

    from setar.pictures.plans import render_image, render_text
    from setar.recipes.recipe import Recipe

    if not 0 <= seed < 2**63:
        raise ValueError(f"`seed` (={seed}) must be a whole number from 0 to 2**63 - 1")
    plan = Recipe.parse(text).plan(parse_grid(grid), 1, torch.Generator().manual_seed(seed))
    if out is not None:
        prepare_picture(out)
    Console().print(render_text(plan))
    if out is not None:
        render_image(plan, f"{text} on {grid}").save(out)
        typer.echo(f"-> {out}")
