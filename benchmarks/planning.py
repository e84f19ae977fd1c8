"""What planning costs: a batch of 256 images of 256 tokens against the training step it serves.

    python benchmarks/planning.py

Forward and backward are timed on one of 16 parts of 16 images and scaled, AdamW is added once. On
a CPU a larger model only makes the step longer.
"""

import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from setar import FullyMaskedTransformer, Recipe
from setar.models.fmt import FMTConfig
from setar.training.text import token_loss

GRID, BATCH, PART, VOCABULARY = (16, 16), 256, 16, 1024


def seconds(work, repeat: int) -> float:
    work()
    began = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - began) / repeat


def main() -> None:
    shape = FMTConfig(VOCABULARY, 10, GRID, width=192, heads=6, encoder_layers=3, decoder_layers=3)
    model = FullyMaskedTransformer(shape)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    recipe = Recipe.parse("random-16-random")

    def part() -> None:
        plan = recipe.plan(GRID, PART)
        codes = torch.randint(VOCABULARY, (PART, 256))
        with sdpa_kernel(SDPBackend.MATH):  # as the trainer does on a CPU
            logits = model(codes, torch.randint(10, (PART,)), plan)
            token_loss(logits, codes.gather(1, plan.order), plan.supervised).backward()

    planning = seconds(lambda: recipe.plan(GRID, BATCH), 20)
    whole = seconds(part, 2) * BATCH / PART + seconds(optimizer.step, 2)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"random-16-random, {BATCH} images of 256 tokens, {torch.get_num_threads()} threads")
    print(f"plan {1000 * planning:.1f} ms, training step {1000 * whole:.0f} ms ({count:.1f} M)")
    print(f"ratio {100 * planning / whole:.3f} %")


if __name__ == "__main__":
    main()
