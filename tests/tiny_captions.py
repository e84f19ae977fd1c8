"""A folder of captioned pictures, a tokenizer and a text encoder, all tiny; and a run of them."""

import json

import numpy as np
from PIL import Image

import tiny_texts
from random_weights import randomise
from setar.pretrained import save_tokenizer
from setar.tokenizers.vqgan import PRESETS, VQGAN

TEXT_TO_IMAGE = """
task = "generator"
recipe = "random-4-random"
sampling = {recipe = "random-2-cosine", guidance = {scale = 1.0}}
data = {source = "FOLDER/pictures", image_size = 16}
tokenizer = "FOLDER/tokenizer"
text = {encoder = "FOLDER/encoder", length = 12}
loop = {batch_size = 4, log_every = 1, checkpoint_every = 3, keep = 4, device = "cpu"}
[model]
preset = "tiny"
width = 16
encoder_layers = 1
decoder_layers = 1
condition = "text"
positions = "sine"
"""

STAGES = """
[[stages]]
steps = 2
max_aspect = 2.0
[[stages]]
steps = 3
image_size = 24
max_aspect = 2.0
recipe = "random-6-random"
"""
"""4x4, 3x5 and 5x3 tokens, then 6x6, 5x7 and 7x5."""

SCENES = """
[[stages]]
steps = 2
scenes.one = 1.0
[[stages]]
steps = 3
scenes = {one = 0.2, beside = 0.4, above = 0.4, four = 0.4, pool = 10}
"""

WORDS = ("apple", "cat", "dog", "house", "tree", "face")


def save(folder, count=12, heldout=0):
    """Write what the runs above need; the last ``heldout`` pictures are held out."""
    noise = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    rows = []
    for index in range(count):
        size = ((20, 20), (18, 30), (30, 18))[index % 3]
        picture = noise.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "pictures" / f"{index:02d}.png")
        thing = WORDS[index % len(WORDS)]
        texts = [] if index == 1 else [f"a {thing}", f"the small green {thing} next to a {thing}"]
        split = "heldout" if index >= count - heldout else "train"
        rows.append({"file_name": f"{index:02d}.png", "text": texts, "split": split})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "pictures" / "metadata.jsonl").write_text(lines)
    save_tokenizer(randomise(VQGAN(PRESETS["tiny"])), folder / "tokenizer")
    tiny_texts.save(folder / "encoder", "bert")
    return folder


def config(folder, stages=STAGES):
    """The text of a run's config."""
    return TEXT_TO_IMAGE.replace("FOLDER", str(folder)) + stages
