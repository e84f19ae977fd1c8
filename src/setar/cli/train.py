"""``setar train``: a tokenizer or a generator, of a config."""

import os
from pathlib import Path
from typing import Annotated

import typer

from setar.cli.console import say, say_mistake
from setar.cli.files import prepare_folder
from setar.files import check_file
from setar.numbers import counted

SETTINGS = "settings.json"
"""Of `setar.run_folder`, which would import torch."""


def train(
    config: Annotated[
        str,
        typer.Argument(
            help="A TOML file, a name that `configs` lists, or a run's folder: its settings again."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: runs/<config's name>.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Override, e.g. --set loop.steps=100.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Tell shapes, memory and stages, and what is missing here; train nothing.",
        ),
    ] = False,
    devices: Annotated[
        int, typer.Option(min=1, max=2**20, help="With --dry-run: devices that share a batch.")
    ] = 1,
) -> None:
    """Train a tokenizer or a generator."""
    from setar.config import read_config

    file = _file_of(config)
    check_file(file)
    read_config(file, change or [])  # what is wrong with it is said before torch is imported
    again = file.name == SETTINGS
    name = file.resolve().parent.name if again else file.stem
    if again and not (out or resume or dry_run):
        raise ValueError(
            f"{file} is of a run: --out FOLDER repeats it there, --resume goes on with it"
        )
    folder = out or (file.parent if again else Path("runs") / name)

    from setar.run_folder import checkpoint_folder
    from setar.training.run import open_run, read_run

    run = read_run(file, change or [])
    if dry_run:
        from setar.training.dry_run import dry_run as foresee
        from setar.training.facts import tell as tell_facts

        say(f"{name}: a dry run, which trains nothing")
        tell_facts(foresee(run, file.parent, devices))
        return
    prepare_folder(folder)
    trainer = open_run(run, folder, resume)

    def tell(text: str) -> None:
        if trainer.processes.first:
            say(text)

    if resume and not trainer.step and trainer.processes.first:
        say_mistake(f"nothing to resume: {folder} has no checkpoint yet: starting from step 0")
    if trainer.step >= trainer.loop.steps:
        tell(f"{folder} has its {counted(trainer.step, 'step')}; raise loop.steps to train on")
        return
    tell(f"training {name} into {folder}")
    trainer.run()
    last = checkpoint_folder(folder, trainer.step)
    tell(f"{counted(trainer.step, 'step')} in {trainer.seconds:.0f} s -> {last}")


def _file_of(config: str) -> Path:
    """The config file that is meant; ValueError if there is none."""
    from setar.config import find_config

    settings = Path(config) / SETTINGS
    return settings if os.path.isfile(settings) else find_config(config)
