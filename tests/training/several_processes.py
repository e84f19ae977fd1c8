"""Trains the same tiny runs in 1, 2, 3 and 4 processes: what ``test_several.py`` looks at.

    python tests/training/several_processes.py FOLDER

All processes are forked from this one, which has imported what they need and computed nothing: so
they start in no time. They meet as those of torchrun do, by the same environment variables.
"""

import json
import os
import shutil
import socket
import sys
import threading
import tomllib
import traceback
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from torch.distributed.tensor import DTensor
from tqdm import tqdm

import setar.training.generator
import tiny_runs
from setar.config import build
from setar.training.distributed import local
from setar.training.generator import GeneratorRun
from setar.training.run import open_run

DIGITS = tomllib.loads(tiny_runs.DIGITS)
DIGITS["data"] = {"source": "digits:heldout"}
DIGITS["model"] |= {"dropout": 0.0, "class_dropout": 0.2, "width": 24, "heads": 2}
DIGITS["optimizer"] |= {"clip": 0.5, "ema": 0.9}
DIGITS["loop"] |= {"steps": 20, "batch_size": 12, "checkpoint_every": 10}
DIGITS["sampling"] = {"recipe": "random-2-cosine", "guidance": {"scale": 1.0}}
MASKED = {"recipe": "random-2-masked"}
MUON = {"optimizer": DIGITS["optimizer"] | {"name": "muon"}}


def run_of(changes):
    """A run like `DIGITS`; ``changes`` of ``loop`` are made in its table."""
    return build(GeneratorRun, DIGITS | changes | {"loop": DIGITS["loop"] | changes["loop"]})


def trained(folder, resume=False, **changes):
    """Train; what the first process then holds, for the test."""
    trainer = open_run(run_of({"loop": {}, **changes}), folder, resume)
    trainer.run()
    held = sum(local(p).numel() for p in trainer.result.parameters() if isinstance(p, DTensor))
    about = {"held": held, "all": trainer.parameters, "step": trainer.step}
    (folder / f"process-{trainer.processes.index}.json").write_text(json.dumps(about))


def failing(folder):
    """The second process cannot write its part of the second checkpoint."""
    import safetensors.torch

    trainer = open_run(run_of({"loop": {"parallel": "shard", "checkpoint_every": 4}}), folder)
    save, told = safetensors.torch.save, {}

    def full(tensors, **options):
        if trainer.step >= 8 and not trainer.processes.first:
            raise OSError(28, "No space left on device")
        return save(tensors, **options)

    safetensors.torch.save = full
    try:
        trainer.run()
    except OSError as error:
        told = {"error": str(error)}
    (folder / f"process-{trainer.processes.index}.json").write_text(json.dumps(told))


def together(count, work, folder, machines=1, **options):
    """Let ``count`` processes do some work; exit if one of them fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count}
    common["LOCAL_WORLD_SIZE"] = count // machines
    children = []
    for index in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                own = {"RANK": index, "LOCAL_RANK": index % (count // machines)}
                os.environ |= {k: str(v) for k, v in (common | own).items()}
                work(folder, **options)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(f"{folder.name}: the processes ended with {codes}")


def main(place):
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # no threads, which forking does not take along
    tqdm.set_lock(threading.RLock())
    setar.training.generator.SHOWN = 1
    open_run(run_of({"loop": {}}), place / "warm")
    shard = {"parallel": "shard"}
    together(1, trained, place / "alone")
    for count in (2, 3, 4):
        together(count, trained, place / f"replicate-{count}")
        together(count, trained, place / f"shard-{count}", loop=shard)
    together(4, trained, place / "hybrid-4", machines=2, loop={"parallel": "hybrid"})
    small = {"micro_batch": 2, "checkpointing": True, "steps": 8}
    for name, changes in {"masked": MASKED, "muon": MUON}.items():
        together(1, trained, place / f"{name}-alone", **changes)
        together(1, trained, place / f"{name}-alone-small", loop=small, **changes)
        together(2, trained, place / f"{name}-replicate-small", loop=small, **changes)
        together(3, trained, place / f"{name}-shard-small", loop=small | shard, **changes)
    together(2, trained, place / "saved", loop=shard | {"steps": 10}, **MUON)
    for count, loop in {1: {}, 3: shard, 4: {"parallel": "replicate"}}.items():
        shutil.copytree(place / "saved", place / f"resumed-{count}")
        together(count, trained, place / f"resumed-{count}", resume=True, loop=loop, **MUON)
    together(2, failing, place / "failing")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
