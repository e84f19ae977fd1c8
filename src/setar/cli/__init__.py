"""The command line: ``setar sample``, ``edit``, ``train``, ``reconstruct``, ``evaluate`` and more.

A file per command. Commands import what they need when they run, so that ``setar --help`` is
instant. Every mistake of the user's is one line on standard error and exit code 2.
"""

import sys

import typer

from setar.cli import configs, edit, evaluate, importing, recipe, reconstruct, sample, train
from setar.cli.options import with_plugins

MISTAKES = (ValueError, ImportError, OSError, FloatingPointError, MemoryError)
"""What ends in one line; so does a lack of memory, which torch calls a RuntimeError."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Set-autoregressive image generation: choose an order, choose the sets, generate.",
)
for command in (
    sample.sample,
    edit.edit,
    train.train,
    reconstruct.reconstruct,
    evaluate.evaluate,
    recipe.recipe,
    configs.configs,
):
    app.command()(with_plugins(command))
importers = typer.Typer(
    no_args_is_help=True, help="Convert a public checkpoint of another project."
)
for command in (importing.llamagen_vq, importing.llamagen_gpt, importing.var_vqvae, importing.var):
    importers.command()(with_plugins(command))
app.add_typer(importers, name="import")


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    try:
        app()
    except (*MISTAKES, RuntimeError) as error:
        if not isinstance(error, MISTAKES) and "allocate" not in str(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        typer.secho(f"setar: {reason}", err=True, fg="red")
        sys.exit(2)
