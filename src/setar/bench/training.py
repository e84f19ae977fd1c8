"""A training step measured, beside its floor."""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F

from setar.bench.floor import bandwidth_of, products_seconds
from setar.bench.recorder import Clock, Recorder
from setar.bench.sampling import Measured, breakdown_of, weight_bytes
from setar.models.base import Generator
from setar.recipes.recipe import Recipe

MOVED = 7
"""AdamW reads weight, gradient and two means, and writes weight and means."""


def measure_training(
    model: Generator[Any],
    recipe: Recipe,
    batch: int,
    clock: Clock,
    repeats: int = 3,
    precision: str = "float32",
) -> Measured:
    """Measure a step: plan, forward, loss, backward, clipping, AdamW; arguments as of sampling."""
    device = next(model.parameters()).device
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    rows, columns = model.config.grid
    codes = torch.arange(batch * rows * columns, device=device) % model.config.vocabulary
    codes = codes.view(batch, rows * columns)
    condition = model.condition.example(batch).to(device)
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, precision)

    recorder = Recorder(clock)

    def step(place: Callable[[str], AbstractContextManager[None]] = nullcontext) -> None:
        with place("plan"):
            plan = recipe.plan((rows, columns), batch, generator).to(device)
        # Modules have places of their own; the model itself makes masks and positions.
        with place("masks"), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(codes, condition, plan)
        targets = codes.gather(1, plan.order)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        with place("backward"):
            loss.backward()
        with place("optimiser"):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    step()
    with recorder, recorder.inside(model):
        step(recorder.calling)
    recorder.finish()
    bandwidth = bandwidth_of(device, clock)
    taken, floors = [], []
    for _ in range(repeats):
        began = clock()
        step()
        taken.append(clock() - began)
        floors.append(products_seconds(recorder.parts.values(), clock))
    seconds, products, weights = min(taken), min(floors), weight_bytes(model)
    moving = MOVED * weights / bandwidth
    return Measured(
        images=batch,
        steps=1,
        seconds=seconds,
        floor=products + moving,
        products=products,
        spread=max(taken) / seconds,
        breakdown=breakdown_of(recorder.seconds, statistics.median(taken), "loss"),
        peak=weights + recorder.peak,
        expected={"weights": weights, "gradients": weights, "means": 2 * weights},
        operators=recorder.operators.total(),
        peers={},
    )
