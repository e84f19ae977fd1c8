"""A training step measured, beside its floor."""

import statistics
from typing import Any

import torch
from torch import Tensor
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

    def step(recorder: Recorder | None = None) -> Tensor:
        plan = recipe.plan((rows, columns), batch, generator).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(codes, condition, plan)
        targets = codes.gather(1, plan.order)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        if recorder is None:
            loss.backward()
        else:
            with recorder.calling("backward"):
                loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    step()
    with recorder, recorder.inside(model):
        step(recorder)
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
        breakdown=breakdown_of(recorder.seconds, statistics.median(taken), "plan, loss, optimiser"),
        peak=weights + recorder.peak,
        expected={"weights": weights, "gradients": weights, "means": 2 * weights},
        operators=recorder.operators.total(),
        peers={},
    )
