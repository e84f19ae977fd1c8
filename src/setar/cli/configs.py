"""``setar configs``: the configs that come with the package."""

from typing import Annotated

import typer

from setar.cli.console import say
from setar.files import check_file


def configs(
    name: Annotated[str, typer.Argument(help="Print this config; without one, list them.")] = "",
) -> None:
    """List the configs of the package, or print one: a start for one of your own."""
    from setar.config import find_config, shipped_configs

    if name:
        file = find_config(name)
        check_file(file)
        try:
            say(file.read_text(encoding="utf-8"), end="")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no config: it is not UTF-8 text") from error
        return
    for shown in shipped_configs():
        first = find_config(shown).read_text(encoding="utf-8").splitlines()[0]
        say(f"{shown:<20} {first.removeprefix('# ')}")
