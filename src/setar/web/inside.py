"""What happens inside: sets, order and masks of a picture, and what a tokenizer makes of one."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from setar.numbers import counted
from setar.pictures.masks import fitted
from setar.pictures.memory import Memory
from setar.pictures.plans import render_grid, render_image, render_scales
from setar.pictures.reconstructions import reconstruction_sheet
from setar.pipeline import Pipeline
from setar.recipes.orders import ORDERS
from setar.recipes.recipe import Recipe, SetPlan
from setar.recipes.schedules import SCHEDULES
from setar.sampling.generate import noise_and_plan
from setar.web.limits import MOST_CELLS, number, read_picture, seed_of, size_of, text_of
from setar.web.results import told
from setar.web.shelf import Shelf

LISTED = 24
"""Set sizes that are written out."""


def plan_of(pipe: Pipeline, recipe: Any, size: Any, seed: Any) -> tuple[Recipe, SetPlan]:
    """The recipe that is meant, and the plan of the picture of a seed; ValueError as of drawing."""
    grid, text = pipe.grid_of(size_of(pipe, size)), text_of("recipe", recipe)
    chosen = Recipe.parse(text) if text else pipe.recipe_on(grid)
    _, plan = noise_and_plan(chosen, grid, [seed_of(seed)], seed_of(seed))
    pipe.model.check(plan)
    return chosen, plan


def sets(shelf: Shelf, model: Any, recipe: Any, size: Any, seed: Any) -> tuple[Image.Image, str]:
    """The numbered grid of a picture with its sets coloured, and the same in words."""
    pipe = shelf.pipe(model)
    chosen, plan = plan_of(pipe, recipe, size, seed)
    scales = pipe.tokenizer.scales
    drawn = render_grid(plan) if scales is None else render_scales(scales)
    drawn = told(drawn, _memory(pipe, chosen, plan, seed))
    sizes = [str(size) for size in plan.sizes]
    shown = sizes if len(sizes) <= LISTED else [*sizes[:LISTED], "..."]
    tokens = counted(plan.order.shape[1], "token")
    return drawn, f"{chosen}: {tokens} in {counted(len(sizes), 'set')} of {', '.join(shown)}"


def masks(shelf: Shelf, model: Any, recipe: Any, size: Any, seed: Any) -> Image.Image:
    """The grid with the three masks of attention: who sees whom."""
    pipe = shelf.pipe(model)
    chosen, plan = plan_of(pipe, recipe, size, seed)
    return told(render_image(plan, str(chosen)), _memory(pipe, chosen, plan, seed))


def _memory(pipe: Pipeline, recipe: Recipe, plan: SetPlan, seed: Any) -> Memory:
    """What the drawing of a plan remembers."""
    return Memory(
        "recipe",
        model=pipe.source,
        manifest=pipe.manifest,
        seed=seed_of(seed),
        sampling={"recipe": str(recipe)},
        note="recipe on {}x{}".format(*plan.grid),
    )


def reconstructed(shelf: Shelf, model: Any, picture: Any, size: Any) -> tuple[Image.Image, str]:
    """A picture through the tokenizer of a model and back, scale by scale, with its PSNR."""
    pipe = shelf.pipe(model)
    height, width = size_of(pipe, size)
    image = fitted(read_picture(picture), (width, height))
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None]
    sheet, decibels = reconstruction_sheet(pipe.tokenizer, pixels, ["this picture"], str(model))
    tokens = counted(int(np.prod(pipe.grid_of((height, width)))), "token")
    memory = Memory(
        "reconstruction",
        model=pipe.source,
        manifest=pipe.manifest,
        size=(height, width),
        note="reconstruction of 1 picture",
    )
    return told(sheet, memory), f"{height}x{width} pixels as {tokens}: PSNR {decibels:.1f} dB"


def orders() -> list[str]:
    """Orders that a recipe can have."""
    return list(ORDERS)


def schedules() -> list[str]:
    """Schedules that pictures can be sampled with."""
    return [name for name in SCHEDULES if not SCHEDULES.find(name).masking]


def sets_at(pipe: Pipeline, size: Any, share: Any) -> int:
    """How many sets a slider means, from 0, a token at a time, to 100, all at once.

    Halfway it is the root of the number of tokens: every step of the slider divides alike.
    """
    place = number(share)
    if not isinstance(place, int | float) or not 0 <= place <= 100:
        raise ValueError("the slider goes from 0, one token at a time, to 100, all at once")
    rows, columns = pipe.grid_of(size_of(pipe, size))
    return max(1, round((rows * columns) ** (1 - place / 100)))


def share_of(pipe: Pipeline, recipe: Recipe) -> int:
    """Where the slider is for a recipe on the model's own grid; the inverse of `sets_at`."""
    tokens = min(MOST_CELLS, int(np.prod(pipe.grid)))
    steps = recipe.set_count(pipe.grid)
    return round(100 * (1 - np.log(steps) / np.log(tokens))) if tokens > 1 else 100


def built(shelf: Shelf, model: Any, order: Any, share: Any, schedule: Any, size: Any) -> str:
    """The recipe that a builder's controls mean; empty where the model has one recipe only."""
    pipe = shelf.pipe(model)
    if pipe.tokenizer.scales is not None:
        return ""
    if ORDERS.find(order).sizes is not None:
        return str(order)
    return str(Recipe.parse(f"{order}-{sets_at(pipe, size, share)}-{schedule}"))
