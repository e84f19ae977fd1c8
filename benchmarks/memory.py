"""Memory of a training step against tokens: measured, beside the formula, whole and checkpointed.

    python benchmarks/memory.py [--tokens 64 256 1024 4096] [--math] [--json FILE]

Forward and backward pass of an FMT of 5.9 M parameters, one image; what counts are the bytes of all
tensors that are there at once (`setar.bench.recorder`), beside the weights and their gradients,
whatever the allocator makes of them. With ``--math`` attention is written out, as training on a CPU
has it. The formula is that of `setar.bench.activations`.
"""

import argparse
import json
from contextlib import nullcontext

import torch
from costs import shape, square
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from setar import FullyMaskedTransformer, Recipe
from setar.bench.activations import Activations
from setar.bench.recorder import Recorder
from setar.training.distributed import Engine


def peak(of: Activations) -> int:
    """Most bytes at once that a step makes, beside the weights and their gradients."""
    torch.manual_seed(0)
    model = FullyMaskedTransformer(of.config).train()
    Engine(checkpointing=of.checkpointing).prepare(model)
    plan = Recipe.parse("random-16-random").plan(of.config.grid, of.images)
    codes = torch.randint(of.config.vocabulary, (of.images, of.tokens))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # so that they are not counted
    way = nullcontext() if of.fused else sdpa_kernel(SDPBackend.MATH)
    with Recorder() as recorder, way:
        logits = model(codes, torch.zeros(of.images, dtype=torch.int64), plan)
        F.cross_entropy(logits.flatten(0, 1), codes.gather(1, plan.order).flatten()).backward()
    return recorder.peak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=square, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--math", action="store_true")
    parser.add_argument("--json")
    asked, rows = parser.parse_args(), []
    print(f"{'tokens':>8}{'checkpointed':>14}{'MiB':>10}{'formula':>10}{'error':>9}")
    for tokens in asked.tokens:
        for checkpointing in (False, True):
            of = Activations(shape(tokens), 1, not asked.math, checkpointing)
            found, expected = peak(of), of.peak()
            error = expected / found - 1
            sizes = f"{found / 2**20:>10.1f}{expected / 2**20:>10.1f}"
            print(
                f"{tokens:>8}{'yes' if checkpointing else 'no':>14}{sizes}{error:>+9.1%}",
                flush=True,
            )
            names = ("tokens", "checkpointing", "bytes", "formula", "error")
            rows.append(
                dict(zip(names, (tokens, checkpointing, found, expected, error), strict=True))
            )
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
