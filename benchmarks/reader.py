"""Reading codes beside a training step: images a second of both, and memory, by number of records.

    python benchmarks/reader.py [RECORDS ...] [--steps N] [--device cpu|cuda] [--preset emoji|B]

On a CPU seconds are those of the processor, so that what else runs there does not matter. Makes
folders of codes of two views with ``setar encode``, and trains on each in a
process of its own: a few steps, then all batches of an epoch through the reader alone, after the
files were read once by the check of their sums. Memory is the resident set at the end (anonymous
and mapped), and what it rose by while the epoch was read.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from setar.data.base import DATASETS, Dataset
from setar.training.encoding import EncodeConfig, encode
from setar.training.generator import GeneratorObjective
from setar.training.run import make_run, open_run

CLASSES, BATCH = 1000, 256
PIXELS = {"family": "pixels", "levels": 4096}


class Noise:
    """Grey pictures of random pixels, made when they are asked for."""

    def __init__(self, count: int, side: int) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, items: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(int(items[0]))
        shape = (len(items), 1, self.side, self.side)
        grey = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        return grey.expand(-1, 3, -1, -1)


def memory() -> tuple[float, float]:
    """Resident MB of this process: all, and the part of mapped files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) / 1000 for name in ("VmRSS", "RssFile"))  # type: ignore[return-value]


def encoded(records: int, side: int, folder: Path) -> None:
    """Codes of so many pictures, in a folder."""
    labels = torch.arange(records) % CLASSES
    data = Dataset(Noise(records, side), labels, tuple(map(str, range(CLASSES))), tokenizer=PIXELS)
    DATASETS.add("noise", lambda split: data)
    encode(EncodeConfig("pixels", "noise", batch_size=1024, device="cpu"), folder)


def measure(codes: Path, options: argparse.Namespace, out: Path) -> list[str]:
    """Train on a folder of codes and read an epoch of it; a row of the table."""
    model = {"family": "fmt", "preset": options.preset}
    loop = {"steps": options.steps, "batch_size": options.batch_size, "device": options.device}
    values = {"task": "generator", "recipe": "random-16-random", "tokenizer": "pixels"}
    values |= {"data": {"source": str(codes)}, "model": model}
    values |= {
        "loop": {**loop, "checkpoint_every": 10**9},
        "sampling": {"recipe": "random-4-cosine"},
    }
    clock = time.process_time if options.device == "cpu" else time.monotonic
    began = clock()
    trainer = open_run(make_run(values, "benchmark"), out)
    opened = clock() - began
    objective = trainer.objective
    assert isinstance(objective, GeneratorObjective)
    began = clock()
    for step in range(options.steps):
        trainer._step(step)
    if options.device != "cpu":
        torch.cuda.synchronize()
    trained = options.steps * options.batch_size / (clock() - began)
    records = objective.samples
    batches = objective.in_turn(BATCH, seed=1)
    gc.collect()
    before, began = memory()[0], clock()
    highest, seen = before, torch.zeros(records, dtype=torch.bool)
    steps = -(-records // BATCH)
    for step in range(steps):
        items = batches.indices(step)
        objective.codes(items, step)
        objective.labels[items]
        seen[items] = True
        if step % 100 == 0:
            highest = max(highest, memory()[0])
    read = BATCH * steps / (clock() - began)
    assert seen.all()
    total, mapped = memory()
    rose = max(highest, total) - before
    ratio = f"{read / trained:,.0f}"
    memories = [f"{total:.0f} ({mapped:.0f})", f"{rose:.0f}"]
    return [f"{records:,}", f"{opened:.1f}", f"{trained:,.0f}", f"{read:,.0f}", ratio, *memories]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--side", type=int, default=16, help="of a grid of tokens")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", default="emoji")
    parser.add_argument("--codes", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.codes:
        with tempfile.TemporaryDirectory() as out:
            print("|".join(["", *measure(options.codes, options, Path(out) / "run"), ""]))
        return
    names = "records", "s to open", "step images/s", "reader images/s", "ratio"
    print("|", " | ".join([*names, "RSS MB (mapped)", "rose MB"]), "|")
    print("|---" * 7 + "|", flush=True)
    for records in options.records:
        with tempfile.TemporaryDirectory() as folder:
            encoded(records, options.side, Path(folder) / "codes")
            words = [sys.executable, __file__, *sys.argv[1:], "--codes", f"{folder}/codes"]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            print(done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
