"""What the key-value cache saves: the same images with it and without, and with full attention.

    python benchmarks/cache.py [DEVICE [IMAGES]]

An FMT on 16x16 tokens with recipes of 4 to 256 steps, and a VAR on its published ten scales up to
16x16. Ratios are of the best times of one run, in which the ways take turns.
"""

import sys
import time

import torch

from setar import FullyMaskedTransformer, MultiScaleVQ, Recipe, VARTransformer
from setar.models.base import Generator
from setar.models.fmt import FMTConfig
from setar.models.var import SCALES_256, VARConfig
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.settings import SamplingSettings
from setar.tokenizers.multiscale import MultiScaleConfig

GRID, REPEATS = (16, 16), 3
DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
BATCH = int(sys.argv[2]) if len(sys.argv) > 2 else 4
VOCABULARY, CLASSES, CODE_DIM = 1024, 10, 8
RECIPES = ["raster-256-cosine", "random-64-cosine", "random-16-cosine", "next-scale"]
CAUSAL = {"cached": SamplingSettings(), "recomputed": SamplingSettings(cache=False)}
FULL = {"full attention": SamplingSettings(attention="full")}


def fmt() -> FullyMaskedTransformer:
    """Of 3.5 M parameters."""
    config = FMTConfig(
        VOCABULARY, CLASSES, GRID, width=192, heads=6, encoder_layers=3, decoder_layers=3
    )
    model = FullyMaskedTransformer(config).eval()
    torch.nn.init.normal_(model.head.weight, std=0.02)
    return model.to(DEVICE)


def var() -> VARTransformer:
    """Of 5.8 M parameters, next to which the pyramid of its small tokenizer costs little."""
    shape = MultiScaleConfig(8, (1,), 1, codebook_size=VOCABULARY, codebook_dim=CODE_DIM)
    config = VARConfig(
        vocabulary=VOCABULARY,
        code_dim=CODE_DIM,
        classes=CLASSES,
        scales=SCALES_256,
        width=256,
        heads=8,
        layers=6,
        shared_adaln=True,
    )
    model = VARTransformer(config).eval().to(DEVICE)
    torch.nn.init.normal_(model.head.weight, std=0.02)
    model.attach(MultiScaleVQ(shape).eval().to(DEVICE))
    return model


def compare(title: str, model: Generator, recipe: str, modes: dict[str, SamplingSettings]) -> None:
    """Print the seconds of each way and what the cache saves."""
    noise, plan = noise_and_plan(Recipe.parse(recipe), model.config.grid, range(BATCH), 0)
    labels = torch.arange(BATCH, device=DEVICE) % CLASSES
    took, codes = dict.fromkeys(modes, float("inf")), {}
    for _ in range(REPEATS):
        for name, settings in modes.items():
            began = time.perf_counter()
            codes[name] = generate(model, labels, plan, noise, settings=settings).cpu()  # waits
            took[name] = min(took[name], time.perf_counter() - began)
    same = (codes["cached"] == codes["recomputed"]).float().mean()
    shown = "  ".join(f"{name} {value:.2f} s" for name, value in took.items())
    ratio = took["recomputed"] / took["cached"]
    print(f"{title:18} {shown}  cache {ratio:.1f}x faster, same tokens {100 * same:.1f} %")


def main() -> None:
    torch.manual_seed(0)
    print(f"{BATCH} images, best of {REPEATS}, {DEVICE}, {torch.get_num_threads()} threads")
    print("FMT, 256 tokens")
    model = fmt()
    for recipe in RECIPES:
        compare(recipe, model, recipe, CAUSAL | FULL)
    model = var()
    print(f"VAR, {model.config.tokens} tokens in {len(SCALES_256)} scales")
    compare("next-scale (VAR)", model, model.config.recipe, CAUSAL)


if __name__ == "__main__":
    main()
