"""Kills a tiny run at its writes, damages its newest checkpoint, and lets it go on each time.

    python tests/training/killed_runs.py FOLDER --kills 200 --damages 100

Started by ``test_kills.py`` with a few of each. Every run is a process of its own, forked from this
one, that really dies: by SIGKILL, before a write or in the middle of it. Some die again while they
are resumed. Each must end with the log and the weights of a run that was left alone.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter  # noqa: F401
from tqdm import tqdm

import setar
import setar.training.generator
import setar.training.report
import tiny_runs
from setar import checkpoint
from setar.run_folder import CLOCKS, METRICS, checkpoints
from setar.training.run import make_run, open_run

VALUES = tomllib.loads(tiny_runs.DIGITS)
VALUES["data"] = {"source": "digits:heldout"}
VALUES["loop"] |= {"steps": 4, "checkpoint_every": 1, "sample_every": 2, "keep": 1}
VALUES["sampling"] |= {"guidance": {"scale": 1.0}}
WRITES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"}


def train(folder, steps=4, keep=1):
    """The run, from wherever it is."""
    loop = VALUES["loop"] | {"steps": steps, "keep": keep}
    setar.train({**VALUES, "loop": loop}, folder, resume=True)


class Killer:
    """Counts the writes of this process into a folder; kills it at one of them."""

    def __init__(self, folder, at=0):
        self.folder, self.at, self.kinds = str(folder), at, []

    def write(self, kind, torn=lambda: None):
        """One write comes; ``torn`` does half of it, for a kill in its middle."""
        self.kinds.append(kind)
        if len(self.kinds) == self.at:
            torn()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        """Watch every system call that changes files, and what writes into them."""
        sys.addaudithook(self.audit)
        names: Any = checkpoint  # `save_file` is safetensors', and only imported there
        save_file, open_log = names.save_file, setar.training.report.open_log
        record = RecordWriter.write

        def torn_fsync(descriptor):  # a kill loses nothing that was written: it need not be flushed
            size, file = (
                os.fstat(descriptor).st_size // 2,
                os.readlink(f"/proc/self/fd/{descriptor}"),
            )
            # Of the log all but its last line was flushed before; that line is torn below.
            whole = os.path.isdir(file) or file.endswith(METRICS)
            self.write("flush", lambda: whole or os.ftruncate(descriptor, size))

        def torn_save(tensors, file):
            def half():
                save_file(tensors, file)
                os.truncate(file, file.stat().st_size // 2)

            self.write("weights", half)
            save_file(tensors, file)

        write = self.write

        def torn_record(self, data):
            write("curves", lambda: (self._writer.write(data[:9]), self._writer.flush()))
            record(self, data)

        def torn_log(file, step):
            stream = open_log(file, step)
            line = stream.write

            def torn_line(text):
                self.write("log", lambda: (line(text[: len(text) // 2]), stream.flush()))
                return line(text)

            stream.write = torn_line
            return stream

        os.fsync, names.save_file = torn_fsync, torn_save
        RecordWriter.write, setar.training.report.open_log = torn_record, torn_log

    def audit(self, event, args):
        """Of every audited call (PEP 578)."""
        if event == "open":
            path, _, flags = args
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, str | Path) and str(path).startswith(self.folder):
                self.write("open")
        elif event in WRITES:
            inside = str(args[0]).startswith(self.folder) or args[-1] not in (-1, None)
            if inside:
                self.write(event.removeprefix("os."))


def in_a_process(folder, at=0, **options):
    """Train in a child, killed at its write number ``at``: exit status, kinds of writes, output."""
    said, kinds = folder.with_name(f"{folder.name}.said"), folder.with_name(f"{folder.name}.kinds")
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(120)
        try:
            killer = Killer(folder, at)
            with said.open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
                killer.install()
                train(folder, **options)
            kinds.write_text(json.dumps(killer.kinds))
            code = 0
        except BaseException as error:
            said.write_text(said.read_text() + f"{type(error).__name__}: {error}")
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    written = json.loads(kinds.read_text()) if kinds.exists() and status == 0 else []
    return status, written, said.read_text()


def figures(folder):
    """What must be the same: the log but for its seconds, every weight, and no leftovers."""
    clocks = "|".join(CLOCKS).encode()
    log = re.sub(rb'"(%b)": [^,]+, ' % clocks, b"", (folder / "metrics.jsonl").read_bytes())
    last = checkpoints(folder)[-1]
    sums = tiny_runs.digests(last)
    hidden = [str(f.relative_to(folder)) for f in folder.rglob(".*") if f.name != ".lock"]
    return log, last.name, sums, hidden


def kill_runs(place, count, seed=0):
    """Kill ``count`` runs at different writes; the kinds of write, and what went wrong."""
    whole = place / "whole"
    status, kinds, said = in_a_process(whole)
    assert status == 0, said
    right, chance = figures(whole), random.Random(seed)
    assert right[3] == [], right[3]
    points = sorted({1 + i * len(kinds) // count for i in range(count)})
    points += [chance.randint(1, len(kinds)) for _ in range(count - len(points))]
    wrong = []
    for number, at in enumerate(points):
        folder = place / "killed"
        status, _, _ = in_a_process(folder, at)
        killed = [at] if status == -signal.SIGKILL else []
        if number % 3 == 2:  # and once more, while it is resumed
            again = chance.randint(1, len(kinds) // 2)
            killed += [again] * (in_a_process(folder, again)[0] == -signal.SIGKILL)
        status, _, said = in_a_process(folder)
        if not killed or status or figures(folder) != right:
            wrong.append((at, kinds[at - 1], killed, status, said[-500:]))
        shutil.rmtree(folder)
    return Counter(kinds[at - 1] for at in points), len(kinds), wrong


def rewritten(folder, name, content=None):
    """Replace a file and make the manifest agree."""
    if content is not None:
        (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest["sha256"][name] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))


def damaged_bytes(content, chance):
    """Some of the ways in which a disk loses what was on it."""
    place = chance.randrange(len(content))
    flipped = (
        content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    )
    return chance.choice(
        [flipped, flipped, content[:place], b"", bytes(len(content)), content + b"\0", b"\xff" * 64]
    )


NONSENSE = [
    b"", b"null", b"[]", b"{", b"\xff\xfe", b'"' * 999, b"[" * 99999, b'{"step": 4}',
    b'{"step": "4", "seconds": 1, "averaged": 4}', b'{"step": 4, "seconds": NaN, "averaged": 4}',
    b'{"step": 4.0, "seconds": 1, "averaged": 4}', b'{"step": -4, "seconds": 1, "averaged": 4}',
    b'{"step": 3, "seconds": 1, "averaged": 4}', b'{"step": true, "seconds": 1, "averaged": 4}',
    b'{"step": 4, "seconds": 1e999, "averaged": 4}', b'{"step": 4, "seconds": 1, "averaged": null}',
]  # fmt: skip
"""Contents of progress.json, with a manifest that agrees."""


def damage(folder, number, chance):
    """Damage a checkpoint in one of many ways; what was done."""
    inside = (file for file in folder.rglob("*") if file.is_file())
    files = sorted(file.relative_to(folder).as_posix() for file in inside)
    name = files[number % len(files)]
    kind = number // len(files) % 5
    weights = [file for file in files if file.startswith("train/")]
    if kind == 3:
        content = NONSENSE[number % len(NONSENSE)]
        rewritten(folder, "progress.json", content)
        return f"progress.json: {content[:40]!r}"
    if kind == 4:
        name = weights[number % len(weights)]
        change = ["shape", "missing", "unknown", "nan"][number % 4]

        def changed(state):
            tensor = max(state, key=lambda key: state[key].numel())
            if change == "shape":
                state[tensor] = state[tensor][:-1].clone()
            elif change == "missing":
                del state[tensor]
            elif change == "unknown":
                state[f"{tensor}.unknown"] = torch.ones(3)
            else:
                state[tensor].view(-1)[0] = float("nan")
            return state

        tiny_runs.rewrite(folder / name, changed)
        return f"{name}: {change}"
    if kind == 2:
        (folder / name).unlink()
        if number % 2:
            (folder / name).mkdir()
        return f"{name}: {'a folder' if number % 2 else 'missing'}"
    content = (folder / name).read_bytes()
    while (spoilt := damaged_bytes(content, chance)) == content:
        pass
    (folder / name).write_bytes(spoilt)
    return f"{name}: {len(content)} bytes, now {len(spoilt)}"


def damage_checkpoints(place, count, seed=0):
    """Damage the newest of two checkpoints ``count`` times; what went wrong."""
    whole, short = place / "long", place / "short"
    for folder, steps in ((whole, 5), (short, 4)):
        status, _, said = in_a_process(folder, steps=steps, keep=2)
        assert status == 0, said
    right, chance, wrong = figures(whole), random.Random(seed), []
    for number in range(count):
        folder = place / "damaged"
        shutil.copytree(short, folder)
        done = damage(checkpoints(folder)[-1], number, chance)
        status, _, said = in_a_process(folder, steps=5, keep=2)
        fell_back = "step-00000003 goes on" in said and "goes on from step 3" in said
        if status or not fell_back or figures(folder) != right:
            wrong.append((number, done, status, said[-500:]))
        shutil.rmtree(folder)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damages", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # no threads, which forking does not take along
    tqdm.set_lock(threading.RLock())  # its own is shared by all children, and one may die with it
    options.folder.mkdir(parents=True, exist_ok=True)
    setar.training.generator.SHOWN = 1
    # Imports what every child needs; nothing is trained here, for threads do not outlive a fork.
    open_run(make_run(VALUES, "settings"), options.folder / "warm")
    kinds, writes, wrong = kill_runs(options.folder, options.kills)
    print(f"{options.kills} kills at {writes} writes ({dict(kinds)}): {len(wrong)} wrong")
    damages = []
    if options.damages:
        damages = damage_checkpoints(options.folder, options.damages)
        print(f"{options.damages} damaged newest checkpoints: {len(damages)} wrong")
    for fault in (*wrong, *damages):
        print(*fault)
    sys.exit(bool(wrong or damages))


if __name__ == "__main__":
    main()
