"""The one sampling loop (SAR, algorithm 2): for each set, predict, sample, absorb.

It knows a generator only through `setar.models.base`, so the same loop serves every model, with a
cache or without, causal or with full attention.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.models.base import Generator, guided
from setar.recipes.recipe import Recipe, SetPlan
from setar.sampling.edit import edit_plan
from setar.sampling.guidance import Guidance, Progress
from setar.sampling.logits import draw, is_distribution
from setar.sampling.settings import SamplingSettings
from setar.sampling.smoothing import draw_soft


class SetDone(NamedTuple):
    """What a callback learns after each set."""

    step: int
    """1 .. steps."""
    steps: int
    codes: Tensor
    """int64 ``[B, N]``, or soft ones ``[B, N, V]``, in raster order; -1 where none is known yet."""


def noise_and_plan(
    recipe: Recipe,
    grid: tuple[int, int],
    seeds: Sequence[int],
    schedule_seed: int,
    free: Tensor | None = None,
) -> tuple[Tensor, SetPlan]:
    """Everything random about some images, each from its own generator.

    A generator first gives one uniform number per token position, float32 ``[B, N]`` in raster
    order, then its image's order: an image is the same alone and in any batch, and the noise is
    the same under any recipe and any default of torch. Of `free` cells, bool ``[N]`` or ``[B, N]``,
    the plan is that of `edit_plan`.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    tokens, kind = grid[0] * grid[1], {"dtype": torch.float32, "device": "cpu"}
    noise = torch.stack([torch.rand(tokens, generator=one, **kind) for one in generators])
    schedule = torch.Generator().manual_seed(schedule_seed)
    if free is not None:
        return noise, edit_plan(recipe, grid, free, generators, schedule)
    return noise, recipe.sampling_plan(grid, generators, schedule)


@torch.inference_mode()
def generate(
    model: Generator,
    condition: Tensor,
    plan: SetPlan,
    noise: Tensor,
    guidance: Guidance | None = None,
    settings: SamplingSettings | None = None,
    on_set: Callable[[SetDone], None] | None = None,
    given: Tensor | None = None,
    null: Tensor | None = None,
) -> Tensor:
    """Generate codes for a batch.

    Args:
        model: a generator in evaluation mode.
        condition: of each image, ``[B, ...]``.
        plan: set sizes shared by the batch, orders of each image.
        noise: uniform numbers in [0, 1), ``[B, N]`` by raster position.
        guidance: None is the plain conditional model.
        settings: filters and kind of attention.
        on_set: called after each set.
        given: int64 ``[B, N]`` in raster order, -1 where a code is to be made; any other stands in
            for what is drawn there. A set that is given whole is absorbed and not asked for.
        null: what guidance leads away from, in the shape of ``condition``; None: no condition.

    Returns:
        int64 ``[B, N]`` in raster order; with smoothing, float32 ``[B, N, V]``.

    Raises:
        ValueError: smoothing of a model that takes no soft codes; logits that are no numbers.
    """
    guidance, settings = guidance or Guidance(1.0), settings or SamplingSettings()
    check_smoothing(model, settings)
    total = plan.order.shape[1]
    device = condition.device
    plan, noise = plan.to(device), noise.to(device)
    null = model.null(condition) if null is None else null
    decoding = _GuidedDecoding(model, condition, null, plan, guidance, settings)
    codes = torch.full_like(plan.order, -1)
    images = torch.arange(len(condition), device=device)[:, None]
    given = codes if given is None else given.to(device)
    missing = (given < 0).gather(1, plan.order).any(0).tolist()
    for step, (start, stop) in enumerate(plan.slices(), 1):
        positions = plan.order[:, start:stop]
        drawn = given.gather(1, positions)
        if settings.smoothing or any(missing[start:stop]):
            scales = guidance.scales(Progress(start, stop - start, total, step, plan.steps))
            logits = decoding.predict(positions, scales)
            if not is_distribution(logits):
                raise ValueError(_why_not_finite(model))
            probs = settings.probabilities(logits)
            uniform = noise.gather(1, positions)
            if settings.smoothing:
                mixed = draw_soft(probs, uniform, (step - 1) / max(1, plan.steps - 1))
                whole = F.one_hot(drawn.clamp_min(0), mixed.shape[-1]).to(mixed)
                drawn = torch.where((drawn < 0)[..., None], mixed, whole)
            else:
                drawn = torch.where(drawn < 0, draw(probs, uniform), drawn)
        if step == 1:  # now it is known whether codes are numbers or mixtures
            codes = drawn.new_full((*codes.shape, *drawn.shape[2:]), -1)
        codes[images, positions] = drawn
        if stop < total:
            decoding.absorb(drawn, positions)
        if on_set is not None:
            on_set(SetDone(step, plan.steps, codes.clone()))
    return codes


def check_smoothing(model: Generator, settings: SamplingSettings) -> None:
    """Raise ValueError if ``settings`` ask for mixtures of codes and the model reads codes only."""
    if settings.smoothing and not model.takes_soft_codes:
        raise ValueError(
            "`smoothing` mixes the vectors of codes at every scale: it needs a VAR with its "
            f"multi-scale tokenizer, not a {type(model).__name__}"
        )


def _why_not_finite(model: nn.Module) -> str:
    """Where logits that are no numbers come from: a weight that is none, or a small range."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            kind = "NaN" if value.isnan().any() else "infinity"
            return f"the model holds {kind}, in the weights {name!r}: it can make no picture"
    return (
        "the model's logits are no finite numbers, though its weights are: in half precision they "
        "may be too large (use float32 or bfloat16)"
    )


class _GuidedDecoding:
    """The image with its condition and without, side by side.

    Both go through the model as one batch, unless guidance acts in an interval only: then the
    unconditional one is kept apart, rests outside the interval and catches up when it is needed.
    """

    def __init__(
        self,
        model: Generator,
        condition: Tensor,
        null: Tensor,
        plan: SetPlan,
        guidance: Guidance,
        settings: SamplingSettings,
    ) -> None:
        tokens = plan.order.shape[1]
        grid = (plan.grid,) if model.any_grid else ()  # others have one grid, and need not ask
        options = (tokens, settings.attention, settings.cache, *grid)
        self.missed: list[tuple[Tensor, Tensor]] = []
        self.joint = not guidance.off and guidance.interval == (0.0, 1.0)
        self.guides = self.joint and model.guides
        asked = torch.cat([condition, null]) if self.joint else condition
        self.conditional = model.start(asked, *options)
        alone = self.joint or guidance.off
        self.unconditional = None if alone else model.start(null, *options)

    def predict(self, positions: Tensor, scales: list[float]) -> Tensor:
        """Guided logits ``[B, n, V]``, by one scale or by n."""
        if self.joint:
            both = torch.cat([positions, positions])
            if self.guides:
                return self.conditional.guided(both, scales)  # type: ignore[attr-defined]
            return guided(self.conditional.predict(both), scales)
        conditional = self.conditional.predict(positions)
        if self.unconditional is None or all(scale == 1 for scale in scales):
            return conditional
        for codes, where in self.missed:
            self.unconditional.absorb(codes, where)
        self.missed.clear()
        unconditional = self.unconditional.predict(positions)
        return guided(torch.cat([conditional, unconditional]), scales)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make a set known to both."""
        if self.joint:
            codes, positions = torch.cat([codes, codes]), torch.cat([positions, positions])
        elif self.unconditional is not None:
            self.missed.append((codes, positions))
        self.conditional.absorb(codes, positions)
