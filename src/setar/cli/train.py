"""``setar train``: a tokenizer or a generator, of a config."""

from pathlib import Path
from typing import Annotated

import typer

from setar.cli.console import say, say_mistake
from setar.cli.files import prepare_folder
from setar.files import check_file
from setar.numbers import counted


def train(
    config: Annotated[str, typer.Argument(help="A TOML file, or a name that `configs` lists.")],
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
    from setar.config import find_config, read_toml

    file = find_config(config)
    check_file(file)
    read_toml(file, change or [])  # what is wrong with it is said before torch is imported

    from setar.run_folder import checkpoint_folder
    from setar.training.run import open_run, read_run

    run = read_run(file, change or [])
    if dry_run:
        from setar.training.dry_run import dry_run as foresee
        from setar.training.facts import tell as tell_facts

        say(f"{file.stem}: a dry run, which trains nothing")
        tell_facts(foresee(run, file.parent, devices))
        return
    folder = out or Path("runs") / file.stem
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
    tell(f"training {file.stem} into {folder}")
    trainer.run()
    last = checkpoint_folder(folder, trainer.step)
    tell(f"{counted(trainer.step, 'step')} in {trainer.seconds:.0f} s -> {last}")
