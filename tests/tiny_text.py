"""Models that read texts, so small that sampling them takes a moment; all weights random."""

from functools import lru_cache
from pathlib import Path

import torch

import tiny_texts
from random_weights import random_fmt, randomise
from setar.data.styles_tiny import FOLDER
from setar.pipeline import Pipeline
from setar.sampling.settings import SamplingDefaults
from setar.text import TextConfig
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig
from setar.tokenizers.vqgan import PRESETS, VQGAN

DRAWINGS = str(FOLDER)
"""A captioned folder of 200 drawings, some of them held out."""


STRIDE = 4
"""Pixels of a token of `text_pipeline`, whose own pictures are 16x16."""


@lru_cache(maxsize=8)
def random_text_fmt(dim: int = 16, length: int = 16, grid: tuple[int, int] = (4, 4)):
    """A tiny FMT of texts and any grid, with random weights; the same object at every call."""
    text = {"condition": "text", "condition_dim": dim, "condition_length": length}
    return random_fmt(grid=grid, vocabulary=17, classes=1, positions="sine", **text)


def pipeline(encoder: str, data: str = "") -> Pipeline:
    """It makes 4x4 grey pixels, and reads texts by an encoder that `tiny_texts.save` wrote."""
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine", "guidance": 1.5})
    tokenizer = PixelLevels(PixelLevelsConfig(17))
    text = TextConfig(encoder, length=16)
    return Pipeline(random_text_fmt(), tokenizer, (), defaults, data, text)


def save_pipeline(folder: Path, data: str = "") -> Path:
    """The same in a model folder, ``folder/model``, beside its encoder."""
    encoder = tiny_texts.save(folder / "encoder", "bert")
    pipeline(encoder, data).save_pretrained(folder / "model")
    return folder / "model"


def text_pipeline(folder, guidance=2.0):
    """A model of any grid that reads texts; its encoder is written to ``folder``."""
    length = 8
    fields = {"condition": "text", "condition_dim": 16, "condition_length": length}
    model = random_fmt(vocabulary=32, classes=1, positions="sine", **fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = randomise(VQGAN(PRESETS["tiny"])).eval().requires_grad_(False)
    text = TextConfig(tiny_texts.save(folder, "bert"), length=length)
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine", "guidance": guidance})
    return Pipeline(model, tokenizer, (), defaults, text=text)
