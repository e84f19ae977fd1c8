"""``setar encode`` under kills: is what it writes the same, byte for byte?

    python benchmarks/encoding.py [--images 20000] [--corrupt 200] [--kills 2]

Draws pictures of 16x16 pixels of which some are corrupt (empty, cut off, no picture, a bomb), and
encodes them with a tiny tokenizer: undisturbed, then on one and on two processes that are killed
(SIGKILL) when a third and two thirds of the shards are there, and started again.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from setar.data.codes import LEFT_OUT, CodeFolder
from setar.pretrained import save_tokenizer
from setar.tokenizers.vqgan import PRESETS, VQGAN

SHARD = 512


def save_pictures(folder: Path, count: int, corrupt: int) -> None:
    """Pictures of ten classes, some of which cannot be read."""
    noise, chance = np.random.default_rng(0), random.Random(0)
    broken = set(chance.sample(range(count), corrupt))
    for index in range(count):
        file = folder / f"class-{index % 10}" / f"{index:06d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
        if index in broken:
            content, kind = file.read_bytes(), index % 4
            bomb = content[:16] + b"\0\1\0\0" * 2 + content[24:]  # 65536 x 65536, it says
            file.write_bytes((b"", content[: len(content) // 2], b"%!PS-Adobe-3.0", bomb)[kind])


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the lock."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


def start(folder: Path, out: Path, processes: int) -> list[subprocess.Popen]:
    """Processes that encode, each as torchrun would start it."""
    words = ["encode", folder / "tokenizer", folder / "pictures", "--out", out, "--size", 16]
    command = [sys.executable, "-m", "setar.cli", *map(str, [*words, "--shard", SHARD])]
    found = []
    for index in range(processes):
        environment = {**os.environ, "RANK": str(index), "WORLD_SIZE": str(processes)}
        environment["OMP_NUM_THREADS"] = "1"
        found.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    return found


def killed_runs(folder: Path, out: Path, processes: int, kills: int, shards: int) -> float:
    """Encode, killed so many times on the way; seconds."""
    began = time.monotonic()
    for kill in range(kills):
        running = start(folder, out, processes)
        while len(list(out.glob("train-*/0*.json"))) <= shards * (kill + 1) // (kills + 1):
            if all(process.poll() is not None for process in running):
                raise RuntimeError("it ended before it was killed")
            time.sleep(0.01)
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.wait()
    for process in start(folder, out, processes):
        if process.wait():
            raise RuntimeError("it failed")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--corrupt", type=int, default=200)
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_pictures(folder / "pictures", options.images, options.corrupt)
        save_tokenizer(VQGAN(PRESETS["tiny"]), folder / "tokenizer")
        whole = folder / "whole"
        seconds = killed_runs(folder, whole, 1, 0, 0)
        family = CodeFolder(whole).manifest.families[0]
        listed = len((whole / LEFT_OUT).read_text().splitlines()) if options.corrupt else 0
        print(
            f"{options.images} pictures, {options.corrupt} corrupt: {family.records} records in "
            f"{len(family.shards)} shards, {listed} listed, {seconds:.0f} s undisturbed", flush=True
        )  # fmt: skip
        right, wrong = sums(whole), 0
        for processes in (1, 2):
            out = folder / f"killed-{processes}"
            seconds = killed_runs(folder, out, processes, options.kills, len(family.shards))
            same = sums(out) == right
            wrong += not same
            verdict = "the same bytes" if same else "OTHER BYTES"
            print(
                f"{processes} processes, {options.kills} kills: {verdict}, {seconds:.0f} s",
                flush=True,
            )
        sys.exit(bool(wrong or listed != options.corrupt))


if __name__ == "__main__":
    main()
