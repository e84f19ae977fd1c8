"""Trains in two processes what ``test_distributed.py`` looks at.

    python tests/training/two_processes.py FOLDER

They are forked from this one and meet as those of torchrun do; `training.several_processes` says
how, and `test_lost.py` starts torchrun itself.
"""

import hashlib
import json
import os
import signal
import sys
import tomllib
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import setar.cli
import tiny_runs
import training.several_processes as several
from setar.config import build
from setar.training.distributed import join
from setar.training.generator import GeneratorRun
from setar.training.loop import Trainer
from setar.training.run import open_run
from setar.training.tokenizer import TokenizerRun

ORDERLY = {
    "recipe": "raster-4-uniform",
    "model": {"preset": "tiny", "width": 16, "dropout": 0.0, "class_dropout": 0.0},
    "sampling": {"recipe": "random-4-cosine", "guidance": {"scale": 1.0}},
}
"""Of a digit model: nothing random but its weights and the order of the images."""


def generator():
    return build(GeneratorRun, tomllib.loads(tiny_runs.DIGITS) | ORDERLY)


def tokenizer(pictures):
    values = tomllib.loads(tiny_runs.FOLDER_MULTISCALE)
    values["data"]["source"] = str(pictures)
    values["loop"] |= {"steps": 6, "log_every": 1}
    values["loss"] = {"revive_every": 2, "adversarial": 0.5, "critic_start": 2, "critic_layers": 1}
    return build(TokenizerRun, values)


def digest(module):
    state = hashlib.sha256()
    for tensor in module.state_dict().values():
        state.update(tensor.numpy().tobytes())
    return state.hexdigest()


def arithmetic(processes):
    """What each operation makes of numbers that differ between the processes."""
    mine = torch.full((2, 2), float(processes.index))
    highest, first = mine.clone(), mine.clone()
    processes.highest(highest)
    processes.copy_first([first])
    return {
        "mean": processes.mean([float(processes.index), 4.0]),
        "highest": highest.tolist(),
        "first": first.tolist(),
        "share": torch.arange(6)[processes.rows(6)].tolist(),
        "told": raised(processes, ValueError("mine") if processes.index else None),
        "first's": raised(processes, None, ValueError("of the first")),
    }


def raised(processes, error, of_first=None):
    """What all of them raise if one does."""

    def work():
        assert processes.first
        if of_first:
            raise of_first

    try:
        processes.by_first(work)
        processes.all_raise(error)
    except ValueError as found:
        return str(found)
    return ""


def unequal(processes):
    """Let the networks begin with other weights in the second process."""
    make = Trainer.__init__

    def made(self, objective, *rest):
        with torch.no_grad():  # those of the first are to be taken over
            next(next(iter(objective.networks.values())).parameters()).add_(processes.index)
        make(self, objective, *rest)

    Trainer.__init__ = made


def train(folder):
    """Everything that two processes do when nothing happens."""
    processes = join()
    found = {"count": processes.count, **arithmetic(processes)}
    unequal(processes)
    for name, run in (("generator", generator()), ("tokenizer", tokenizer(folder / "pictures"))):
        trainer = open_run(run, folder / name)
        trainer.run()
        found[name] = [digest(module) for module in trainer.objective.networks.values()]
        found[f"{name} state"] = {k: v.tolist() for k, v in trainer.objective.state().items()}
    (folder / f"process-{processes.index}.json").write_text(json.dumps(found))


def stop(folder):
    """Train until the second process is told to stop, in its second step."""
    trainer = open_run(generator(), folder / "stopped")
    losses = trainer.objective.losses

    def told(items, step):
        if step == 1 and not trainer.processes.first:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(items, step)

    trainer.objective.losses = told
    trainer.run()


def command(folder):
    """The command line, with a batch that two cannot share."""
    sys.argv = ["setar", "train", str(folder / "odd.toml"), "--out", str(folder / "odd")]
    setar.cli.main()


def told(folder, kind):
    """Some work of a process, which speaks into a file."""
    with (folder / f"{kind.__name__}.said").open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    kind(folder)


def main(place):
    several.warm(place)
    for kind in (train, stop, command):
        codes = several.forked(2, told, place, kind=kind)
        (place / f"{kind.__name__}.codes").write_text(" ".join(map(str, codes)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
