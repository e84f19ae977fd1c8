"""Configs of models and runs with hostile values: one line each, at once, in little memory."""

import json
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from hostile_configs import mutated
from random_weights import random_fmt
from setar.models.var import PRESETS, VARTransformer
from setar.pipeline import Pipeline
from setar.tokenizers import multiscale, vqgan
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig
from setar.training.run import make_run
from tiny_runs import DIGITS, FOLDER_MULTISCALE, FOLDER_TOKENIZER, FOLDER_VAR

CLASSES = ["a", "b", "c", "d", "e"]


def models():
    """A generator and tokenizer of each kind that differs in its config."""
    torch.manual_seed(0)
    small = {"width": 8, "encoder_layers": 1, "decoder_layers": 1}  # many are made
    pixels = vqgan.VQGANConfig(
        channels=8, multipliers=(1, 2), blocks=1, latent_channels=8, codebook_size=32
    )
    yield random_fmt(vocabulary=32, **small), vqgan.VQGAN(pixels)
    yield random_fmt(grid=(2, 3), vocabulary=4, **small), PixelLevels(PixelLevelsConfig(4))
    shape = multiscale.MultiScaleConfig(8, (1, 1, 2), 1, 32, 8, scales=(1, 2, 4), phis=2)
    yield VARTransformer(replace(PRESETS["tiny"], layers=1)), multiscale.MultiScaleVQ(shape)


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of a model folder, and its checksum, as whoever made it could have."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name] = sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def attempt(call, *arguments) -> tuple[str, float]:
    """The one line that is refused with, empty if it is not, and the CPU seconds."""
    began = time.process_time()
    try:
        call(*arguments)
        message = ""
    except ValueError as error:
        message = str(error)
        assert message
        assert "\n" not in message
        assert len(message) < 1000
        assert message.isprintable()
    return message, time.process_time() - began


def refusals(folder: Path) -> list[str]:
    """Try every mutation of the models of `models`; what was refused."""
    found = []
    for index, (model, tokenizer) in enumerate(models()):
        place = folder / str(index)
        Pipeline(model, tokenizer, CLASSES).save_pretrained(place)
        config = json.loads((place / "config.json").read_text())
        for change, hostile in mutated(config):
            if index and change.split()[0].split(".")[0] not in ("model", "tokenizer"):
                continue  # these are the same in all
            rewrite(place, "config.json", json.dumps(hostile).encode())
            message, seconds = attempt(Pipeline.from_pretrained, place)
            assert seconds < 5, change
            found += [change] if message else []
    return found


LIMITED = """
import resource, sys
from pathlib import Path
from test_hostile_configs import refusals
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = refusals(Path(sys.argv[1]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(found), peak // 1024)
"""


@pytest.mark.slow
def test_model_folders(tmp_path):
    """In a process of its own, to see its memory."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr[-2000:]
    count, peak = map(int, done.stdout.split())
    assert count > 1000
    assert peak < 500


SIZES = {
    "width": 2**30,
    "heads": 2**30,
    "encoder_layers": 10**9,
    "decoder_layers": 10**9,
    "vocabulary": 2**40,
    "classes": 2**40,
    "grid": [10**6, 10**6],
    "condition_length": 10**9,
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_beyond_all_bounds(tmp_path, name):
    model, tokenizer = next(models())
    Pipeline(model, tokenizer, CLASSES).save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["model"][name] = SIZES[name]
    rewrite(tmp_path / "m", "config.json", json.dumps(config).encode())
    message, seconds = attempt(Pipeline.from_pretrained, tmp_path / "m")
    assert f"`{name}`" in message
    assert seconds < 5


@pytest.mark.parametrize("run", [DIGITS, FOLDER_TOKENIZER, FOLDER_MULTISCALE, FOLDER_VAR])
def test_configs_of_runs(run):
    values = tomllib.loads(run)
    values.setdefault("data", {})["source"] = "digits"
    make_run(values, "right.toml")
    refused = 0
    for change, hostile in mutated(values):
        message, seconds = attempt(make_run, hostile, "wrong.toml")
        assert seconds < 5, change
        refused += bool(message)
    assert refused > 100
