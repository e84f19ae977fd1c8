"""Pipelines of texts so small that they are made and sampled in a moment; all weights random."""

import torch

import tiny_texts
from random_weights import random_fmt, randomise
from setar.pipeline import Pipeline
from setar.sampling.settings import SamplingDefaults
from setar.text import TextConfig
from setar.tokenizers.vqgan import PRESETS, VQGAN

STRIDE = 4
"""Pixels of a token; the model's own pictures are 16x16."""


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
