"""SIGKILL at random instants: does a run that is killed again and again end as one that is not?

    python benchmarks/kills.py --kills 100

A tiny run is killed, resumed, killed again, until it ends; then the next one begins. Of two kills
one waits for a save: to have something to hit, every write, fsync and rename of a life takes some
milliseconds longer than it would. Every life is a process of its own, forked from this one, which
has imported everything. Its log but for its clocks, byte by byte, and its weights must be those of
a run that was left alone, and nothing half written may lie about.
"""

import argparse
import hashlib
import mmap
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from safetensors.torch import load_file
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 (every life needs it)
from tqdm import tqdm

import setar
import setar.training.generator
from setar import checkpoint
from setar.run_folder import CLOCKS, checkpoints
from setar.training.loop import Trainer
from setar.training.run import make_run, open_run

STEPS = 40
VALUES = {
    "task": "generator",
    "recipe": "random-8-random",
    "data": {"source": "digits:heldout"},
    "model": {"preset": "tiny", "width": 16, "encoder_layers": 1, "decoder_layers": 1},
    "sampling": {"recipe": "random-4-cosine", "guidance": {"scale": 1.0}},
    "optimizer": {"learning_rate": 1e-3},
    "loop": {"steps": STEPS, "batch_size": 4, "log_every": 1, "checkpoint_every": 2, "keep": 2,
             "device": "cpu"},
}  # fmt: skip
DOING = ("start or resume", "step", "save: between", "save: write", "save: fsync", "save: rename")
START, STEP, SAVE, WRITE, FSYNC, RENAME = range(len(DOING))


class Life:
    """One process of a run, and what it does at this moment, for this process to see."""

    def __init__(self, folder: Path, delay: float, chance: random.Random) -> None:
        self.state = mmap.mmap(-1, 1)  # shared with the child
        seed, self.said = chance.random(), folder.with_name(f"{folder.name}.said")
        self.pid = os.fork()
        if self.pid == 0:
            self._live(folder, delay, random.Random(seed))

    @property
    def doing(self) -> int:
        """An index of `DOING`."""
        return self.state[0]

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self, kill: bool) -> int:
        """Its exit status, negative of a signal, once it has ended or been killed."""
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _live(self, folder: Path, delay: float, chance: random.Random) -> None:
        code = 1
        try:
            with self.said.open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
                self._slow_down(delay, chance)
                setar.train(VALUES, folder, resume=True)
            code = 0
        except BaseException as error:
            self.said.write_text(f"{self.said.read_text()}{type(error).__name__}: {error}")
        finally:
            os._exit(code)

    def _slow_down(self, delay: float, chance: random.Random) -> None:
        """Let all that a save does say so, and take its time before and after."""

        def slow(module: Any, name: str, code: int) -> None:
            function = getattr(module, name)

            def slowly(*arguments: Any, **options: Any) -> Any:
                before, self.state[0] = self.state[0], code
                try:
                    time.sleep(chance.random() * delay)
                    result = function(*arguments, **options)
                    time.sleep(chance.random() * delay)
                    return result
                finally:
                    self.state[0] = before

            setattr(module, name, slowly)

        for module, name, code in (
            (checkpoint, "save_file", WRITE),
            (Path, "write_text", WRITE),
            (os, "fsync", FSYNC),
            (os, "replace", RENAME),
            (os, "rename", RENAME),
        ):
            slow(module, name, code)
        for name, code in (("save", SAVE), ("_step", STEP)):
            function = getattr(Trainer, name)

            def marked(*words: Any, f: Any = function, c: int = code, **options: Any) -> Any:
                before, self.state[0] = self.state[0], c
                try:
                    return f(*words, **options)
                finally:
                    self.state[0] = before

            setattr(Trainer, name, marked)


def figures(folder: Path) -> tuple[bytes, str, dict[str, str], list[str]]:
    """What must be the same: log, name and tensors of the last checkpoint, and no leftovers."""
    clocks = "|".join(CLOCKS).encode()
    log = re.sub(rb'"(%b)": [^,]+, ' % clocks, b"", (folder / "metrics.jsonl").read_bytes())
    last = checkpoints(folder)[-1]
    sums = {
        f"{file.name} {name}": hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for file in sorted(last.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    hidden = [str(f.relative_to(folder)) for f in folder.rglob(".*") if f.name != ".lock"]
    return log, last.name, sums, hidden


def wait_for(life: Life, in_a_save: bool, chance: random.Random, delay: float) -> None:
    """Return at a random instant: of one of the next saves, or soon after the start."""
    if not in_a_save:
        until = time.monotonic() + chance.random() * (1 + 100 * delay)
        while time.monotonic() < until and life.goes_on:
            time.sleep(0.002)
        return
    saves = chance.randrange(3)  # that are let pass
    after, began = chance.random() * 20 * delay, 0.0  # of about so many writes, fsyncs and renames
    while life.goes_on:
        if life.doing < SAVE:
            saves, began = saves - bool(began), 0.0
        else:
            began = began or time.monotonic()
            if saves <= 0 and time.monotonic() - began > after:
                return
        time.sleep(0.0005)


def kill_runs(place: Path, kills: int, delay: float, seed: int) -> tuple[Counter[str], list[str]]:
    """Kill so often; what was hit, and all that went wrong."""
    chance, hit, wrong = random.Random(seed), Counter[str](), list[str]()
    whole = Life(place / "whole", 0.0, chance)
    if whole.end(kill=False):
        return hit, [f"the run that is left alone: {whole.said.read_text()[-800:]}"]
    right, run = figures(place / "whole"), 0
    if right[3]:
        wrong.append(f"leftovers of the run that is left alone: {right[3]}")
    while not wrong:
        folder, killing = place / f"run-{run}", hit.total() < kills
        life = Life(folder, delay * killing, chance)
        if killing:
            in_saves = sum(n for name, n in hit.items() if name.startswith("save"))
            wait_for(life, 2 * in_saves <= hit.total(), chance, delay)
        status = life.end(killing)
        if status == -signal.SIGKILL:
            hit[DOING[life.doing]] += 1
            continue
        if status:
            wrong.append(f"run {run} ended with {status}: {life.said.read_text()[-800:]}")
        elif figures(folder) != right:
            wrong.append(f"run {run} is not the one that was left alone")
        else:
            shutil.rmtree(folder)
        run += 1
        if hit.total() >= kills:
            break
    print(f"{run} runs of {STEPS} steps")
    return hit, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--delay", type=float, default=0.01, help="seconds at most, before and after"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # no threads, which forking does not take along
    tqdm.set_lock(threading.RLock())  # its own is shared by all children, and one may die with it
    setar.training.generator.SHOWN = 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        # Imports what every life needs; nothing is trained here, for threads outlive no fork.
        open_run(make_run(VALUES, "settings"), place / "warm")
        hit, wrong = kill_runs(place, options.kills, options.delay, options.seed)
    for doing in DOING:
        print(f"  {doing:<16} {hit[doing]:>4}")
    in_saves = sum(n for name, n in hit.items() if name.startswith("save"))
    seconds = time.monotonic() - began
    print(f"{hit.total()} kills, {in_saves} of them inside a save, in {seconds:.0f} s")
    for fault in wrong:
        print(fault)
    print("all resumed by themselves; logs and weights are the same" if not wrong else "WRONG")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
