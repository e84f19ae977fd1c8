"""What the key-value cache saves: the same images with it and without, and with full attention.

    python benchmarks/cache.py

Prints seconds and ratios taken in one run, for recipes of 4 to 256 steps.
"""

import time

import torch

from setar import FullyMaskedTransformer, Recipe
from setar.models.fmt import FMTConfig
from setar.sampling.generate import SamplingSettings, generate, noise_and_plan

GRID, BATCH = (16, 16), 4
RECIPES = ["raster-256-cosine", "random-64-cosine", "random-16-cosine", "next-scale"]
MODES = {
    "cached": SamplingSettings(),
    "recomputed": SamplingSettings(cache=False),
    "full attention": SamplingSettings(attention="full"),
}


def main() -> None:
    torch.manual_seed(0)
    model = FullyMaskedTransformer(FMTConfig(1024, 10, GRID, 192, 6, 3, 3)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.02)
    labels = torch.arange(BATCH)
    print(f"{BATCH} images of 256 tokens, {torch.get_num_threads()} threads")
    for text in RECIPES:
        noise, plan = noise_and_plan(Recipe.parse(text), GRID, range(BATCH), 0)
        took, codes = {}, {}
        for name, settings in MODES.items():
            began = time.perf_counter()
            codes[name] = generate(model, labels, plan, noise, settings=settings)
            took[name] = time.perf_counter() - began
        same = (codes["cached"] == codes["recomputed"]).float().mean()
        shown = "  ".join(f"{name} {value:.2f} s" for name, value in took.items())
        ratio = took["recomputed"] / took["cached"]
        print(f"{text:18} {shown}  cache {ratio:.1f}x faster, same tokens {100 * same:.1f} %")


if __name__ == "__main__":
    main()
