"""``setar recipe``: a recipe, drawn."""

from pathlib import Path
from typing import Annotated

import typer

from setar.cli.console import show
from setar.cli.files import prepare_picture, save_picture, say_where
from setar.cli.options import parse_grid, whole_seed
from setar.cli.recipes import check_recipe

MOST_TOKENS = 2**16
"""More, in as many sets, take minutes to draw, and nobody could tell them apart."""


def recipe(
    text: Annotated[str, typer.Argument(help="A recipe, such as roll-8-cosine.")],
    grid: Annotated[str, typer.Option(help="Rows x columns of tokens.")] = "8x8",
    seed: Annotated[
        int, typer.Option(help="Of random orders and schedules.", callback=whole_seed)
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Also draw it as a picture.")] = None,
) -> None:
    """Draw what is generated when: the numbered grid and the three attention masks."""
    check_recipe(text)
    rows, columns = parse_grid(grid)
    if rows * columns > MOST_TOKENS:
        raise ValueError(f"--grid (={grid}) must have at most {MOST_TOKENS} tokens to be drawn")
    if out is not None:
        prepare_picture(out)

    import torch

    from setar.pictures.memory import Memory
    from setar.pictures.plans import render_image, render_text
    from setar.recipes.recipe import Recipe

    plan = Recipe.parse(text).plan((rows, columns), 1, torch.Generator().manual_seed(seed))
    memory = Memory("recipe", seed=seed, sampling={"recipe": text}, note=f"recipe on {grid}")
    drawn = None if out is None else render_image(plan, f"{text} on {grid}")
    written = None if out is None or drawn is None else save_picture(drawn, out, memory)
    show(render_text(plan))
    if written is not None:
        say_where(("", written))
