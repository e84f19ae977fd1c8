"""Started several times by torchrun: one of the processes comes to grief in its third step.

torchrun --nproc-per-node 2 lost_processes.py raise|kill|hang|nan|skip FOLDER
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
    trainer = open_run(values, folder)
    trainer.objective.losses = trouble(
        kind, trainer, trainer.objective.losses, folder.with_name("struck")
    )
    trainer.run()


if __name__ == "__main__":
    words = sys.argv[1], Path(sys.argv[2])
    try:
        main(*words)
    except Exception as error:  # as the command does
        reason = setar.cli._reason(error)
        if reason is None:
            raise
        console.say_mistake(reason)
        sys.exit(2)
