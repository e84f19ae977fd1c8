"""What each process holds that trains a sharded model, measured beside the formula.

    python benchmarks/sharded_memory.py --processes 4 --layers 16 --width 512

Each process trains a few steps of a tiny batch on a CPU. Printed are the largest growth of its
memory since before the model was made, and what `setar.training.memory.held` says.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from setar.models.fmt import FMTConfig, FullyMaskedTransformer
from setar.recipes.recipe import Recipe
from setar.training.distributed import Parallel, join
from setar.training.generator import GeneratorObjective
from setar.training.loop import LoopConfig, Trainer
from setar.training.memory import held
from setar.training.optim import OptimizerConfig
from setar.training.stored import kept

MIB = 2**20

SETTINGS = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(MIB)}
"""Of the processes. The second: what is freed goes back at once; otherwise each of the threads that
carry tensors to other processes keeps up to 64 MiB for later."""


def resident() -> float:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def shape_of(width: int, layers: int) -> FMTConfig:
    """That of the model: 4x4 tokens of 2048 codes."""
    half = layers // 2
    return FMTConfig(
        2048,
        10,
        (4, 4),
        width=width,
        heads=width // 64,
        dropout=0.0,
        encoder_layers=half,
        decoder_layers=layers - half,
    )


def make(width: int, layers: int, parallel: Parallel, folder: Path) -> Trainer:
    """A trainer of a model of 4x4 tokens, with random codes."""
    torch.manual_seed(0)
    model = FullyMaskedTransformer(shape_of(width, layers))
    codes, labels = torch.randint(2048, (64, 16)), torch.zeros(64, dtype=torch.int64)
    objective = GeneratorObjective(model, kept(codes), labels, Recipe.parse("random-4-random"))
    processes = join()
    loop = LoopConfig(batch_size=processes.count, device="cpu", parallel=parallel)
    return Trainer(objective, OptimizerConfig(), loop, folder, lambda w: ({}, {}), None, processes)


def measure(options: argparse.Namespace, folder: Path) -> None:
    """In each process: train, then let the first print what all found."""
    torch.set_num_threads(1)
    processes = join()
    small = make(64, 2, options.parallel, folder)
    for step in range(2):
        small._step(step)  # loads what any training needs
    before = resident()
    trainer = make(options.width, options.layers, options.parallel, folder)
    for step in range(options.steps):
        trainer._step(step)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    grown = torch.tensor(peak - before)
    processes.highest(grown)
    if not processes.first:
        return
    with torch.device("meta"):
        plain = FullyMaskedTransformer(shape_of(options.width, options.layers))
    shards = processes.count if options.parallel == "shard" else 1
    parts = held(plain, trainer.settings, shards)
    said = sum(parts.values())
    listed = ", ".join(f"{name} {amount / MIB:.0f}" for name, amount in parts.items())
    print(f"{trainer.parameters / 1e6:.1f} M parameters, {processes.count} processes")
    print(f"formula   {said / MIB:.0f} MiB a process: {listed}")
    print(f"measured  {float(grown) / MIB:.0f} MiB, {float(grown) / said:.3f} of the formula")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--parallel", choices=["replicate", "shard"], default="shard")
    options = parser.parse_args()
    if "RANK" in os.environ or options.processes == 1:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, Path(folder))
        return
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    words = [sys.executable, *run, str(options.processes), *sys.argv]
    sys.exit(subprocess.run(words, env={**os.environ, **SETTINGS}).returncode)


if __name__ == "__main__":
    main()
