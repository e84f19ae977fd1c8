"""One of two processes comes to grief in its third step: what ``test_lost.py`` looks at.

    torchrun --nproc-per-node 2 lost_processes.py kill FOLDER
    python lost_processes.py FOLDER

The second does ``raise``, ``hang``, ``nan`` and ``skip`` in forked processes; what they say is in
folders called so.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch

import setar.cli
import training.several_processes as several
import training.two_processes as two
from setar.cli import console
from setar.training import distributed
from setar.training.run import open_run


def trouble(kind, trainer, losses, struck):
    def found(items, step):
        if step != 2 or trainer.processes.first:
            return losses(items, step)
        struck.write_text(str(time.time()))
        if kind == "raise":
            raise ValueError("the disk of this node is gone")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            time.sleep(300)
        found = losses(items, step)
        return found._replace(losses={"model": found.losses["model"] * torch.nan})

    return found


def main(kind, folder):
    if kind == "hang":
        distributed.TIMEOUT = timedelta(seconds=5)
    values = two.generator()
    if kind == "skip":
        values = replace(values, loop=replace(values.loop, skip_bad_steps=1))
    try:
        trainer = open_run(values, folder)
        trainer.objective.losses = trouble(
            kind, trainer, trainer.objective.losses, folder.with_name("struck")
        )
        trainer.run()
    except Exception as error:  # as the command does
        reason = setar.cli._reason(error)
        if reason is None:
            raise
        console.say_mistake(reason)
        sys.exit(2)


def one_of_them(folder):
    """`main` of a forked process, which speaks into a file."""
    with (folder / "said").open("a") as said:
        os.dup2(said.fileno(), 2)
    main(folder.name, folder / "run")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(sys.argv[1], Path(sys.argv[2]))
    else:
        place = Path(sys.argv[1])
        several.warm(place)
        for kind in ("raise", "hang", "nan", "skip"):
            (place / kind).mkdir()
            codes = several.forked(2, one_of_them, place / kind, grace=0 if kind == "hang" else 10)
            (place / kind / "codes").write_text(" ".join(map(str, codes)))
            (place / kind / "ended").write_text(str(time.time()))
