"""The commands at the top of each guide, run one after the other with small models."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_runs
from foreign_files import read_golden

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = ["own-images", "evaluation", "var", "several-gpus", "editing", "plugins", "captions",
         "fine-tuning"]  # fmt: skip
"""`evaluation` takes the model of `own-images`."""

QUICK = {"loop.steps": 2, "loop.batch_size": 4, "loop.checkpoint_every": 2, "loop.device": "cpu"}
PLAIN = {"loop.compile": "false", "loop.precision": "float32"}
SMALLER = {
    "emoji": {"model.width": 32, "model.heads": 2, "model.encoder_layers": 1,
              "model.decoder_layers": 1, "sampling.recipe": "random-4-cosine"},
    "emoji-tokenizer": {"tokenizer.channels": 8},
    "emoji-var-tokenizer": {"tokenizer.channels": 8},
    "emoji-text": {"init": "", "model.width": 32, "model.heads": 2, "model.encoder_layers": 1,
                   "model.decoder_layers": 1, "sampling.recipe": "random-4-cosine"},
    "examples/plugin_tokenizer.toml": {"tokenizer.channels": 8, "tokenizer.multipliers": "[1,1,2]"},
    "fine-tuning.toml": {"data.image_size": 16},
}  # fmt: skip
"""What a training of the tests changes of a config, beside `QUICK`."""


def commands(name):
    """The words of each command of the first block of a guide, `setar` left out."""
    text = BLOCK.findall((GUIDES / f"{name}.md").read_text(encoding="utf-8"))[0]
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["torchrun"]:  # here a single process does the work of all
            words = ["setar", *words[words.index("setar.cli") + 1 :]]
        assert words[0] == "setar", line
        yield words[1:]


def smaller(words):
    """The same command with a training of two steps, or of what `foreign` made."""
    if words[:2] == ["import", "llamagen-gpt"]:  # widths that were never published
        return [*words, "--heads", "4", "--grid", "4x4"]
    if words[0] != "train":
        return words
    changes = {**QUICK, **PLAIN, **SMALLER.get(words[1], {})}
    return [
        *words,
        *(word for key, value in changes.items() for word in ("--set", f"{key}={value}")),
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a reader is: with pictures, captioned ones, and the examples of a checkout."""
    folder = tmp_path_factory.mktemp("guides")
    tiny_runs.save_pictures(folder / "photos", 8)
    (folder / "captions").mkdir()
    for number, name in enumerate(["a red apple", "a cat"] * 2):
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "captions" / f"{number}.png")
        (folder / "captions" / f"{number}.txt").write_text(name)
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def foreign(place):
    """LlamaGen's small models in the place of its published files, and the guide's own config."""
    vq, _, _ = read_golden("llamagen_vq")
    gpt, _, shape = read_golden("llamagen_gpt_c2i")
    vq["quantize.embedding.weight"] = vq["quantize.embedding.weight"][: shape["vocab_size"]]
    for file, state in {"vq_ds16_c2i.pt": vq, "c2i_B_256.pt": gpt}.items():
        torch.save({"model": {key: value.float() for key, value in state.items()}}, place / file)
    text = (GUIDES / "fine-tuning.md").read_text(encoding="utf-8")
    config = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    small = f'preset = "B"\nwidth = {shape["dim"]}\nlayers = {shape["layers"]}\nheads = 4'
    (place / "fine-tuning.toml").write_text(config.replace('preset = "B"', small))


def in_a_process(*words):
    """As the fixture `run`, in a process of its own."""
    command = [sys.executable, "-m", "setar.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_all_guides_are_tried():
    assert {*NAMES} == {file.stem for file in GUIDES.glob("*.md")} - {"index"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_commands(name, place, run, monkeypatch):
    monkeypatch.chdir(place)
    if name == "captions":
        pytest.importorskip("transformers", reason="setar[text] is not installed")
    if name == "fine-tuning":
        foreign(place)
    if name == "plugins":  # whose things may be registered in this process already
        run = in_a_process
    for words in commands(name):
        code, _, err = run(*smaller(words))
        assert code == 0, (words, err)
    written = [w for words in commands(name) for w in words if w.startswith(("outputs/", "runs/"))]
    assert [path for path in written if not (place / path).exists()] == []
