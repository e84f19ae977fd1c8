"""Is a picture that remembers made again to the byte?

    python benchmarks/again.py --pictures 50

Pictures with random settings, sheets and single images, of all shipped models: classes, prompts,
sizes, smoothing, negative prompts, guidance schedules, precisions, recipes, batches. Then a second
process makes each again with ``setar sample --like`` and compares the files.
"""

import argparse
import contextlib
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
from setar.cli import main as setar

WORDS = ["red", "apple", "cat", "a blue heart", "two dogs", "house", "Twemoji style", "猫", "é"]
RECIPES = ["random-8-cosine", "random-16-random", "raster-16-uniform", "halton-4-arccos"]
RECIPES += ["locality-8-cosine", "next-scale", "random-3-random", "roll-8-cosine"]
SCHEDULES = ["constant", "linear", "linear-after", "power-cosine"]


def words_for(draw: random.Random) -> list[str]:
    """The words of a random command, after ``setar sample``."""
    model = draw.choice(["emoji", "emoji-var", "emoji-text", "emoji-text"])
    count = draw.randint(1, 4)
    given: dict[str, Any] = {"seed": draw.randrange(2**40), "count": count}
    flags = []
    if draw.random() < 0.6:
        given |= {"temperature": round(draw.uniform(0.2, 1.2), 2)}
    if draw.random() < 0.5:
        given |= {"top-p": round(draw.uniform(0.5, 1), 2), "top-k": draw.choice([0, 20])}
    if draw.random() < 0.3:
        given |= {"min-p": 0.02, "scale": draw.randint(1, 4), "columns": draw.randint(1, 4)}
    if draw.random() < 0.3:
        given["precision"] = draw.choice(["int8", "float32", "bfloat16"])
    if draw.random() < 0.7:
        given["guidance"] = round(draw.uniform(1.1, 4), 2)
        given["schedule"] = "var" if model == "emoji-var" else draw.choice(SCHEDULES)
    if model == "emoji-var" and draw.random() < 0.4:
        flags.append("--smoothing")
    if model != "emoji-var" and draw.random() < 0.8:
        given["recipe"] = draw.choice(RECIPES)
        if draw.random() < 0.2 and "next" not in given["recipe"]:
            given["attention"] = "full"
    if model == "emoji-text":
        prompts = [" ".join(draw.sample(WORDS, draw.randint(1, 5))) for _ in range(2)]
        flags += [word for prompt in prompts for word in ("--prompt", prompt)]
        given["size"] = draw.choice(["32x32", "32x64", "64x32"])
        if draw.random() < 0.4:
            given |= {"negative-prompt": "a face", "guidance": 2.5}
    else:
        chosen = [str(draw.randrange(99)) for _ in range(2)]
        flags += ["--classes", ",".join(chosen)]
    if draw.random() < 0.15 and count > 1 and "negative-prompt" not in given:
        flags.append("--between")
    return [model, *flags, *(word for k, v in given.items() for word in (f"--{k}", str(v)))]


def run(*words: str) -> tuple[int, str]:
    """The exit code of ``setar sample``, and what it said."""
    sys.argv, said = ["setar", "sample", *words], io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            setar()
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    raise AssertionError("a command ends by its exit code")


def make(folder: Path, pictures: int, seed: int) -> list[Path]:
    """Pictures with random settings: a sheet, or one image of it, in turn."""
    draw, made = random.Random(seed), list[Path]()
    while len(made) < pictures:
        here = folder / f"{len(made):03d}"
        words = words_for(draw)
        code, said = run(*words, "--out", str(here / "sheet.png"), "--each", str(here / "each"))
        if code:
            print(f"refused: {' '.join(words)}: {said.strip()}")
            continue
        images = sorted((here / "each").iterdir())
        made.append(here / "sheet.png" if len(made) % 2 else draw.choice(images))
    return made


def again(files: list[Path]) -> int:
    """Make each again; the number of those whose bytes are the same."""
    same = 0
    for file in files:
        copy = file.with_name("again.png")
        code, said = run("--like", str(file), "--out", str(copy))
        if not code and copy.read_bytes() == file.read_bytes():
            same += 1
        else:
            print(f"{file}: {said.strip()}")
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description="Is a picture made again to the byte?")
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", nargs="*", type=Path, help="what the second process does")
    options = parser.parse_args()
    if options.again is not None:
        print(f"{again(options.again)} of {len(options.again)} pictures are the same bytes")
        return
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        files = make(Path(folder), options.pictures, options.seed)
        print(f"{len(files)} pictures made in {time.perf_counter() - began:.0f} s", flush=True)
        subprocess.run([sys.executable, __file__, "--again", *map(str, files)], check=True)


if __name__ == "__main__":
    main()
