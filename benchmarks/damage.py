"""Damaged checkpoints and code shards: is each fault named, and does the run go on?

    python benchmarks/damage.py --faults 100

Half of the faults are files that end too early, half flipped bits, spread over all files of the
newest checkpoint of a tiny run, and of a folder of ``setar encode``. A run must name the checkpoint
and the file, go on from the checkpoint before by itself, and end with the weights of a run that was
left alone. Of codes the file must be named.
"""

import argparse
import contextlib
import hashlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from safetensors.torch import load_file

import setar.training.generator
from setar.data.codes import CodeFolder
from setar.run_folder import checkpoints
from setar.training.encoding import EncodeConfig, encode
from setar.training.run import make_run, open_run

VALUES = {
    "task": "generator",
    "recipe": "random-8-random",
    "data": {"source": "digits:heldout"},
    "model": {"preset": "tiny", "width": 16, "encoder_layers": 1, "decoder_layers": 1},
    "sampling": {"recipe": "random-4-cosine", "guidance": {"scale": 1.0}},
    "loop": {"steps": 3, "batch_size": 4, "checkpoint_every": 1, "keep": 3, "device": "cpu"},
}  # fmt: skip


def damaged(folder: Path, place: Path, count: int, seed: int = 0) -> Iterator[tuple[Path, Path]]:
    """Copies of a folder, in each of which one file is damaged: the copy, and that file.

    Every file that is not empty has its turn. Even ones are cut, of odd ones a bit is flipped.
    """
    chance = random.Random(seed)
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size)
    for number in range(count):
        copy = place / "damaged"
        shutil.copytree(folder, copy)
        file = copy / files[number // 2 % len(files)].relative_to(folder)
        size = file.stat().st_size
        if number % 2:
            with file.open("r+b") as stream:
                at = chance.randrange(size)
                stream.seek(at)
                byte = stream.read(1)[0]
                stream.seek(at)
                stream.write(bytes([byte ^ 1 << chance.randrange(8)]))
        else:
            os.truncate(file, chance.randrange(size))
        yield copy, file
        shutil.rmtree(copy)


def of_checkpoints(place: Path, count: int) -> tuple[Counter[str], list[str]]:
    """Damage the newest checkpoint; which files it was, and what went wrong."""
    run = make_run(VALUES, "settings")
    with contextlib.redirect_stdout(io.StringIO()):
        open_run(run, place / "whole").run()
    right = sums(checkpoints(place / "whole")[-1])
    newest = checkpoints(place / "whole")[-1]
    hit, wrong = Counter[str](), list[str]()
    for copy, file in damaged(newest, place, count):
        folder = place / "run"
        shutil.copytree(place / "whole", folder)
        shutil.rmtree(folder / newest.relative_to(place / "whole"))
        shutil.copytree(copy, folder / newest.relative_to(place / "whole"))
        name = str(file.relative_to(copy))
        hit[name] += 1
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                trainer = open_run(run, folder, resume=True)
                step = trainer.step
                trainer.run()
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
            shutil.rmtree(folder)
            continue
        text = said.getvalue()
        goes_on = f"{checkpoints(folder)[-2].name} goes on"
        if step != 2 or not all(part in text for part in (newest.name, file.name, goes_on)):
            wrong.append(f"{name}: it went on from step {step} and said {text!r}")
        elif sums(checkpoints(folder)[-1]) != right:
            wrong.append(f"{name}: the run ended with other weights")
        shutil.rmtree(folder)
    return hit, wrong


def of_codes(place: Path, count: int) -> tuple[Counter[str], list[str]]:
    """Damage codes; which files it was, and where a training that begins would not name them."""
    config = EncodeConfig("pixels", "digits:heldout", shard=100, device="cpu")
    encode(config, place / "codes")
    hit, wrong = Counter[str](), list[str]()
    for copy, file in damaged(place / "codes", place, count):
        name, said = str(file.relative_to(copy)), "nothing"
        hit[name] += 1
        try:
            CodeFolder(copy).check()
        except ValueError as error:
            said = str(error)
        if file.name not in said:
            wrong.append(f"{name}: it said {said!r}")
    return hit, wrong


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every tensor in a folder; headers may name them in any order."""
    return {
        f"{file.relative_to(folder)} {name}": hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    setar.training.generator.SHOWN = 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        results = {
            "checkpoints": of_checkpoints(Path(name), options.faults),
            "codes": of_codes(Path(name), options.faults),
        }
    for kind, (hit, wrong) in results.items():
        print(f"{hit.total()} damaged {kind}, {len(wrong)} wrong:")
        for file, times in sorted(hit.items()):
            print(f"  {file:<60} {times:>4}")
        for fault in wrong:
            print(f"  {fault}")
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(any(wrong for _, wrong in results.values()))


if __name__ == "__main__":
    main()
