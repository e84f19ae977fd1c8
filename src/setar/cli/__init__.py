"""The command line: ``setar sample``, ``edit``, ``train``, ``encode``, ``evaluate`` and more.

A file per command. Commands import what they need when they run, so that ``setar --help`` is
instant, and refuse wrong values before they import torch. They write their files before they talk.
Every mistake of the user's is one line on standard error and exit code 2.
"""

import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from setar.cli import (
    available,
    bench,
    compare,
    configs,
    data,
    edit,
    encode,
    evaluate,
    export,
    importing,
    info,
    recipe,
    reconstruct,
    runs,
    sample,
    serve,
    train,
)
from setar.cli.console import let_go, prepare_console, say, say_mistake
from setar.cli.options import with_plugins

MISTAKES = (ValueError, ImportError, OSError, FloatingPointError, MemoryError)
"""What ends in one line; so does a lack of memory, which torch calls a RuntimeError."""

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Set-autoregressive image generation: choose an order, choose the sets, generate.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"setar {import_module('setar').__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say it and exit."),
    ] = False,
) -> None:
    """Set-autoregressive image generation: choose an order, choose the sets, generate."""


for command in (
    sample.sample,
    edit.edit,
    info.info,
    available.models,
    train.train,
    runs.runs,
    encode.encode,
    reconstruct.reconstruct,
    evaluate.evaluate,
    bench.bench,
    compare.compare,
    recipe.recipe,
    serve.serve,
    configs.configs,
):
    app.command()(with_plugins(command))
importers = typer.Typer(
    no_args_is_help=True, help="Convert a public checkpoint of another project."
)
for command in (
    importing.hub,
    importing.llamagen_vq,
    importing.llamagen_gpt,
    importing.llamagen_t2i,
    importing.var_vqvae,
    importing.var,
    importing.randar,
    importing.arpg,
    importing.lpd,
):
    importers.command()(with_plugins(command))
app.add_typer(importers, name="import")
builders = typer.Typer(
    no_args_is_help=True, help="Build a data set that does not ship with the package."
)
builders.command()(with_plugins(data.styles))
app.add_typer(builders, name="data")
exporters = typer.Typer(
    no_args_is_help=True, help="Samples for other people's benchmarks of text models."
)
for command in (export.geneval, export.dpg):
    exporters.command()(with_plugins(command))
app.add_typer(exporters, name="export")


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    prepare_console()
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:
            say_mistake("interrupted")
    except KeyboardInterrupt:
        say_mistake("interrupted")
        code = INTERRUPTED
    except Exception as error:
        code, reason = 2, _reason(error)
        if reason is None:
            raise
        if reason:
            say_mistake(reason)
    finally:
        let_go()
    sys.exit(code)


def _reason(error: Any) -> str | None:
    """What a mistake says in one line; None of a defect of the program, which is not hidden."""
    if type(error).__name__ == "NoArgsIsHelpError":  # `setar` alone: no mistake, but no work
        error.show()
        return ""
    if isinstance(error, typer.BadParameter.__bases__[0]):  # whatever the parser refuses
        command = error.ctx.command_path if error.ctx else "setar"
        return f"{error.format_message()} (see `{command} --help`)"
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return (
            "torch is not installed: pip install torch (where there is no GPU, its wheel for CPUs "
            "is far smaller: see pytorch's own page on installing)"
        )
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} does not exist"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # Of a full disk safetensors raises an error of its own, and of a full memory torch.
    text, kind = str(error), type(error).__name__
    of_space = kind == "SafetensorError" or "allocate" in text or "out of memory" in text
    if isinstance(error, MISTAKES) or of_space:
        return text or kind
    return None
