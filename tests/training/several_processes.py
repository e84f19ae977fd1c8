"""Trains the same tiny runs in 1, 2, 3 and 4 processes: what ``test_several.py`` looks at.

    python tests/training/several_processes.py FOLDER

All processes are forked from this one, which has imported what they need and computed nothing: so
they start in no time. They meet as those of torchrun do, by the same environment variables.
"""

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import tomllib
import traceback
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from torch.distributed.tensor import DTensor
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 (every child needs it)
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


def forked(count, work, folder, machines=1, grace=10, **options):
    """Let ``count`` processes do some work; their exit codes.

    Once one of them has failed the others have ``grace`` seconds, then they are killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count}
    common["LOCAL_WORLD_SIZE"] = count // machines
    sys.stdout.flush()
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
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes, until = {}, None
    while len(codes) < count:
        for child in {*children} - codes.keys():
            if until and time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
        if any(codes.values()):
            until = until or time.monotonic() + grace
        time.sleep(0.02)
    return [codes[child] for child in children]


def together(count, work, folder, **options):
    """Let ``count`` processes do some work; exit if one of them fails."""
    codes = forked(count, work, folder, **options)
    if any(codes):
        sys.exit(f"{folder.name}: the processes ended with {codes}")


def warm(place):
    """Import what every child needs; nothing is computed here, for threads outlive no fork."""
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # no threads, which forking does not take along
    tqdm.set_lock(threading.RLock())
    setar.training.generator.SHOWN = 1
    open_run(run_of({"loop": {}}), place / "warm")


def main(place):
    warm(place)
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
