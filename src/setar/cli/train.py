"""``setar train``: a tokenizer or a generator, of a config."""

from pathlib import Path
from typing import Annotated

import typer

from setar.cli.files import prepare_folder


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file such as configs/digits.toml.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: runs/<config's name>.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Override, e.g. --set loop.steps=100.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")
    ] = False,
) -> None:
    """Train a tokenizer or a generator."""
    from setar.training.settings import read_run
    from setar.training.train import open_run
    from setar.training.trainer import checkpoints

    run = read_run(config, change or [])
    folder = out or Path("runs") / config.stem
    prepare_folder(folder)
    trainer = open_run(run, folder, resume)
    say = typer.echo if trainer.processes.first else _nothing
    if resume and not trainer.step:
        say(f"{folder} has no checkpoint yet: starting from step 0")
    if trainer.step >= run.loop.steps:
        say(f"{folder} has its {trainer.step} steps; raise loop.steps to train on")
        return
    say(f"{config.stem}: {trainer.parameters / 1e6:.2f} M parameters, into {folder}")
    trainer.run()
    say(f"{trainer.step} steps in {trainer.seconds:.0f} s -> {checkpoints(folder)[-1]}")


def _nothing(text: str) -> None:
    """Of several processes, one speaks."""
