"""Cost of cached sampling against tokens, sets and batch: measured, and fitted to the formula.

    python benchmarks/costs.py [--tokens 64 256 1024 4096] [--repeats N] [--json FILE] [--cpu-time]

An FMT of 5.9 M parameters with guidance makes images of several sizes in several numbers of sets.
Operations are counted by `setar.bench.cost`. The seconds of all of it are then

    a x steps + b x products + c x attention + d x cached numbers

where the four prices, the same for all shapes, make the largest relative error least: what a step
costs whatever it does (Python, and reading the weights), a million operations of either kind, and a
million numbers of keys and values that are read or written. What drawing costs grows as products
do, with tokens and images, and is in their price. Runs take turns; the best of each counts. On
a busy machine ``--cpu-time`` counts the seconds of one thread instead.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from setar import FullyMaskedTransformer, Recipe
from setar.bench.cost import step_costs, total
from setar.bench.recorder import Clock, clock_of
from setar.models.fmt import FMTConfig
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance

SETS, BATCHES = (16, 64, 256), (1, 4)
PRICES = ("step", "million products", "million of attention", "million cached")


def square(text: str) -> int:
    """A number of tokens that a square grid has."""
    tokens = int(text)
    if tokens < 1 or math.isqrt(tokens) ** 2 != tokens:
        raise argparse.ArgumentTypeError(f"{tokens} is no square number")
    return tokens


def shape(tokens: int) -> FMTConfig:
    side = math.isqrt(tokens)
    return FMTConfig(
        vocabulary=1024,
        classes=10,
        grid=(side, side),
        width=256,
        heads=4,
        encoder_layers=3,
        decoder_layers=3,
        positions="sine",
    )


@dataclass
class Case:
    """One shape of the work."""

    tokens: int
    sets: int
    images: int
    seconds: float = float("inf")
    formula: float = 0.0

    @property
    def error(self) -> float:
        """Of the formula, as a share of what was measured."""
        return self.formula / self.seconds - 1

    def counts(self) -> list[float]:
        """How much of each of `PRICES` it takes."""
        config, recipe = shape(self.tokens), Recipe.parse(f"random-{self.sets}-cosine")
        cost = total(step_costs(config, recipe.plan(config.grid).sizes, self.images))
        return [self.sets, cost.products / 1e6, cost.attention / 1e6, cost.caches / 1e6]

    def run(self, model: FullyMaskedTransformer, clock: Clock) -> None:
        """Sample once; the best of all runs is kept."""
        recipe = Recipe.parse(f"random-{self.sets}-cosine")
        noise, plan = noise_and_plan(recipe, model.config.grid, range(self.images), 0)
        labels = torch.arange(self.images) % model.config.classes
        began = clock()
        generate(model, labels, plan, noise, Guidance(2.0))
        self.seconds = min(self.seconds, clock() - began)


def model_of(tokens: int) -> FullyMaskedTransformer:
    torch.manual_seed(0)
    model = FullyMaskedTransformer(shape(tokens)).eval().requires_grad_(False)
    torch.nn.init.normal_(model.head.weight, std=0.02)
    return model.pack("float32")


def fitted(counts: Tensor, seconds: Tensor) -> Tensor:
    """Prices of at least 0 whose largest relative error is the least: some may be 0."""
    scaled = counts / seconds[:, None]
    units = scaled.amax(0)  # numbers of all sizes do a linear program no good
    relative, ones = (scaled / units).numpy(), np.ones((len(seconds), 1))
    above, below = np.hstack([relative, -ones]), np.hstack([-relative, -ones])
    bounds = np.concatenate([ones, -ones]).ravel()
    found = linprog([0.0] * counts.shape[1] + [1.0], np.vstack([above, below]), bounds)
    return torch.from_numpy(found.x[:-1]) / units


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=square, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("--cpu-time", action="store_true")
    asked = parser.parse_args()
    if asked.cpu_time:
        torch.set_num_threads(1)
    clock = clock_of(torch.device("cpu"), asked.cpu_time)
    cases = [
        Case(tokens, sets, images)
        for tokens in asked.tokens
        for sets in SETS
        for images in BATCHES
        if sets <= tokens
    ]
    models = {tokens: model_of(tokens) for tokens in asked.tokens}
    for _ in range(asked.repeats):
        for case in cases:
            case.run(models[case.tokens], clock)
    counts = torch.tensor([case.counts() for case in cases], dtype=torch.float64)
    prices = fitted(counts, torch.tensor([case.seconds for case in cases], dtype=torch.float64))
    for case, formula in zip(cases, (counts @ prices).tolist(), strict=True):
        case.formula = formula
    named = dict(zip(PRICES, prices.tolist(), strict=True))
    kind = "CPU" if asked.cpu_time else "wall"
    print(f"best of {asked.repeats}, {kind} seconds, {torch.get_num_threads()} threads")
    print(f"{'tokens':>8}{'sets':>6}{'images':>8}{'seconds':>10}{'formula':>10}{'error':>9}")
    for case in cases:
        numbers = f"{case.seconds:>10.4g}{case.formula:>10.4g}{case.error:>+9.1%}"
        print(f"{case.tokens:>8}{case.sets:>6}{case.images:>8}{numbers}")
    print("; ".join(f"{price:.4g} s for a {name}" for name, price in named.items()))
    worst = max(cases, key=lambda case: abs(case.error))
    print(f"largest error {worst.error:+.1%}; bar 15 %")
    if asked.json:
        rows = [{**asdict(case), "error": case.error} for case in cases]
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump({"prices": named, "cases": rows}, file, indent=2)


if __name__ == "__main__":
    main()
