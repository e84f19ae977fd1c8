"""``setar configs``: the configs that come with the package."""

from typing import Annotated

import typer


def configs(
    name: Annotated[str, typer.Argument(help="Print this config; without one, list them.")] = "",
) -> None:
    """List the configs of the package, or print one: a start for one of your own."""
    from setar.config import find_config, shipped_configs

    if name:
        typer.echo(find_config(name).read_text(encoding="utf-8"), nl=False)
        return
    for shown in shipped_configs():
        first = find_config(shown).read_text(encoding="utf-8").splitlines()[0]
        typer.echo(f"{shown:<20} {first.removeprefix('# ')}")
