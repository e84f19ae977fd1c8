"""What the key-value cache saves, family by family: the same images with it and without.

    python benchmarks/cache.py [DEVICE [IMAGES]]
    python benchmarks/cache.py cpu 8 fmt:B random-64-cosine    one preset or model, its recipes

All families have about 3.5 M parameters and 16x16 tokens, in recipes of 4 to 256 steps that each
can follow; the VAR makes its published ten scales up to 16x16. An FMT is sampled with full
attention too, which has no cache. Ratios are of the best times of one run, in which the ways take
turns; a token differs where a draw lies nearer to an edge than float32 can tell.
"""

import sys
import time
from typing import Any

import torch

from setar import MultiScaleVQ, Recipe
from setar.bench.subject import load_subject
from setar.models.arpg import ARPGConfig
from setar.models.base import FAMILIES, Generator, GeneratorConfig
from setar.models.decoder_only import DecoderOnlyConfig
from setar.models.fmt import FMTConfig
from setar.models.lpd import LPDConfig
from setar.models.randar import RandARConfig
from setar.models.var import SCALES_256, VARConfig
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.settings import SamplingSettings
from setar.tokenizers.multiscale import MultiScaleConfig

REPEATS = 3
DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
BATCH = int(sys.argv[2]) if len(sys.argv) > 2 else 4
NAMED = sys.argv[3:]
CODE_DIM = 8
COMMON: dict[str, Any] = {"vocabulary": 1024, "classes": 10, "width": 192, "heads": 6}
GRID: dict[str, Any] = {**COMMON, "grid": (16, 16)}
STEPS = ("random-N-uniform", "random-64-cosine", "random-16-cosine")

MODELS: dict[str, tuple[GeneratorConfig, tuple[str, ...]]] = {
    "fmt": (FMTConfig(**GRID, encoder_layers=3, decoder_layers=3), (*STEPS, "next-scale")),
    "randar": (RandARConfig(**GRID, layers=7), STEPS),
    "arpg": (ARPGConfig(**GRID, self_layers=4, cross_layers=4), STEPS),
    "lpd": (LPDConfig(**GRID, layers=7), STEPS),
    "decoder-only": (DecoderOnlyConfig(**GRID, layers=7), ("ar",)),
    "var": (
        VARConfig(**COMMON, code_dim=CODE_DIM, scales=SCALES_256, layers=6, shared_adaln=True),
        ("raster-1,4,9,16,25,36,64,100,169,256",),
    ),
}
"""Shapes by family, and what each is sampled with."""

WAYS = {
    "cached": SamplingSettings(),
    "recomputed": SamplingSettings(cache=False),
    "full attention": SamplingSettings(attention="full"),
}


def make(family: str) -> Generator:
    """Random weights, also in the head; a VAR with a pyramid that costs little beside it."""
    model = FAMILIES.find(family)(MODELS[family][0]).eval().to(DEVICE)
    torch.nn.init.normal_(model.get_parameter("head.weight"), std=0.02)
    shape = MultiScaleConfig(8, (1,), 1, codebook_size=1024, codebook_dim=CODE_DIM)
    if family == "var":
        model.attach(MultiScaleVQ(shape).eval().to(DEVICE))
    return model


def compare(name: str, model: Generator, recipe: str) -> str:
    """A row of the table."""
    noise, plan = noise_and_plan(Recipe.parse(recipe), model.config.grid, range(BATCH), 0)
    labels = model.condition.example(BATCH).to(DEVICE)
    ways = [one for one, way in WAYS.items() if way.attention in model.attentions]
    took, codes = dict.fromkeys(ways, float("inf")), {}
    for _ in range(REPEATS):
        for one in ways:
            began = time.perf_counter()
            made = generate(model, labels, plan, noise, settings=WAYS[one])
            codes[one] = made.cpu()  # which waits
            took[one] = min(took[one], time.perf_counter() - began)
    same = (codes["cached"] == codes["recomputed"]).float().mean()
    cells = [name, recipe, str(plan.steps)]
    cells += [f"{took[one]:.2f}" if one in took else "" for one in WAYS]
    cells += [f"{took['recomputed'] / took['cached']:.1f}", f"{100 * same:.1f} %"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    torch.manual_seed(0)
    print(f"{BATCH} images, best of {REPEATS}, {DEVICE}, {torch.get_num_threads()} threads\n")
    head = ["model", "recipe", "steps", *(f"{name}, s" for name in WAYS), "gain", "same tokens"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    if NAMED:
        model, _ = load_subject(NAMED[0], torch.device(DEVICE), {}, None)
        rows = [(NAMED[0], model, NAMED[1:])]
    else:
        rows = ((family, make(family), recipes) for family, (_, recipes) in MODELS.items())
    for name, model, recipes in rows:
        for recipe in recipes:
            print(compare(name, model, recipe), flush=True)


if __name__ == "__main__":
    main()
