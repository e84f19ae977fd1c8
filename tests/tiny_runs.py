"""Runs and models so small that training and sampling them takes a moment."""

import hashlib
import json

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from random_weights import random_fmt
from setar.pipeline import Pipeline
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig

DIGITS = """
task = "generator"
recipe = "random-8-random"
data.source = "digits"
model = {preset = "tiny", width = 16, encoder_layers = 1, decoder_layers = 1}
sampling.recipe = "random-4-cosine"
optimizer.learning_rate = 1e-3
loop = {steps = 4, batch_size = 4, log_every = 1, checkpoint_every = 3, device = "cpu"}
"""

FOLDER_TOKENIZER = """
task = "tokenizer"
data.image_size = 16
loop = {steps = 2, batch_size = 4, device = "cpu"}
[tokenizer]
channels = 8
multipliers = [1, 2]
blocks = 1
latent_channels = 8
codebook_size = 16
"""

FOLDER_MULTISCALE = """
task = "tokenizer"
data.image_size = 16
loop = {steps = 2, batch_size = 4, device = "cpu"}
[tokenizer]
family = "multiscale"
channels = 8
multipliers = [1, 1, 2]
blocks = 1
codebook_size = 32
codebook_dim = 8
scales = [1, 2, 4]
phis = 2
"""

FOLDER_VAR = """
task = "generator"
recipe = "raster-1,4,16"
data = {image_size = 16, flips = true}
model = {family = "var", preset = "tiny", layers = 1}
sampling.recipe = "raster-1,4,16"
loop = {steps = 2, batch_size = 4, device = "cpu"}
"""

FOLDER_GENERATOR = """
task = "generator"
recipe = "random-4-random"
data = {image_size = 16, flips = true}
model = {preset = "tiny", width = 16, encoder_layers = 1, decoder_layers = 1}
sampling.recipe = "random-4-cosine"
loop = {steps = 2, batch_size = 4, device = "cpu"}
"""

CLASSES = ("cat", "dog", "sky & sea", "a/b", "42")


def save_pipeline(folder):
    """A generator of 4x4 grey pixels with random weights, in a model folder."""
    model = random_fmt(grid=(4, 4), vocabulary=17, classes=len(CLASSES))
    tokenizer = PixelLevels(PixelLevelsConfig(17))
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine", "guidance": 1.5})
    Pipeline(model, tokenizer, CLASSES, defaults).save_pretrained(folder)
    return folder


def save_pictures(folder, count=12, classes=("cats", "dogs")):
    """Small coloured PNG files in one subfolder per class."""
    noise = np.random.default_rng(0)
    for index in range(count):
        size = (int(noise.integers(16, 40)), int(noise.integers(16, 40)), 3)
        file = folder / classes[index % len(classes)] / f"{index:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, size, dtype=np.uint8)).save(file)
    return folder


def state_file(folder, part):
    """The file of a checkpoint, of one process, that holds a part of the training's state."""
    for file in sorted((folder / "train").glob("*.safetensors")):
        with safe_open(file, "pt") as content:
            if all(name.startswith(f"{part}/") for name in content.keys()):  # noqa: SIM118
                return file
    raise FileNotFoundError(part)


def rewrite(file, change):
    """Change the tensors of a state file, and let the manifest agree."""
    with safe_open(file, "pt") as content:
        about = content.metadata()
    tensors = change(load_file(file))
    places = json.loads(about["DCP_SHARDING_INFO"])
    kept = {name: places.get(name, {"saved_offsets": [0]}) for name in tensors}
    save_file(tensors, file, {**about, "DCP_SHARDING_INFO": json.dumps(kept)})
    manifest = file.parent.parent / "manifest.json"
    sums = json.loads(manifest.read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    sums["sha256"][f"train/{file.name}"] = digest
    manifest.write_text(json.dumps(sums))


def digest(file):
    """A sum over the tensors of a safetensors file; the order of what its header says varies."""
    total = hashlib.sha256()
    for name, tensor in sorted(load_file(file).items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def digests(checkpoint):
    """Those of all weights and of the state of a checkpoint, by file."""
    files = sorted(checkpoint.rglob("*.safetensors"))
    return {file.relative_to(checkpoint).as_posix(): digest(file) for file in files}
