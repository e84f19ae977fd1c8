"""Editing as a plan: the tokens that stay are one set before all others.

Cells are the tokens of a grid. Those to be made are free, the others are kept, and a model that can
make sets in any order is given the kept ones as its first set. A grid of 2 x 3 cells, a mask over
its left two columns, and the recipe raster-2-uniform:

    cells   free free kept      order   2 5 | 0 1 | 3 4
            free free kept      known   1 1   2 2   3 3

Other models make every cell in their own order, and what they draw for a kept one is replaced.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from setar.moved import moved
from setar.recipes.recipe import Recipe, SetPlan


def free_cells(mask: Tensor, scales: Sequence[tuple[int, int]]) -> Tensor:
    """The cells of each scale that must be made anew.

    At the last scale, and so in a model of a single one, these are all cells that the mask touches:
    a cell that stayed would still show in the masked pixels. A coarse cell says something about a
    large part of the image, and belongs to whatever fills most of it: it is made anew if the mask
    covers at least half of it. If a touch were enough, the coarsest cells would always be new and
    what is kept would lose its colours and its layout; if they had to be covered wholly, the
    coarse picture of what is to go would come through.

    Args:
        mask: bool ``[H, W]`` by pixel, True where the image is made anew.
        scales: rows and columns of each grid, coarse to fine; one grid for most models.

    Returns:
        bool ``[L]``: the cells of all scales, each in raster order.
    """
    shares = [F.adaptive_avg_pool2d(mask[None].double(), scale).flatten() for scale in scales]
    return torch.cat([*(share >= 0.5 for share in shares[:-1]), shares[-1] > 0])


def random_cells(tokens: int, share: float, seeds: Sequence[int]) -> Tensor:
    """A random share of the tokens of each image, at least one: bool ``[B, tokens]``.

    They are drawn from the image's own seed, behind its noise: the noise of the tokens that are
    chosen is like that of any others.
    """
    count = min(tokens, max(1, round(share * tokens)))
    chosen = torch.zeros(len(seeds), tokens, dtype=torch.bool, device="cpu")
    for row, seed in zip(chosen, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        torch.rand(tokens, generator=generator, dtype=torch.float32, device="cpu")
        row[torch.randperm(tokens, generator=generator, device="cpu")[:count]] = True
    return chosen


def edit_plan(
    recipe: Recipe,
    grid: tuple[int, int],
    free: Tensor,
    generators: Sequence[torch.Generator],
    schedule_generator: torch.Generator | None = None,
) -> SetPlan:
    """Plan the free cells alone, one image per generator; the kept ones are one set before them.

    The free cells come in the recipe's order. Its schedule splits their number, into one token per
    set if there are fewer tokens than sets. Sizes written out must sum to the free cells; where the
    order brings its own sets (next-scale), each set holds those of its cells that are free; of
    images whose free cells differ these sets differ too, and cannot be sampled together.

    Args:
        recipe: any recipe for sampling.
        grid: (height, width) in tokens.
        free: bool ``[N]``, or ``[B, N]`` of each image its own, as many of each: at least one.
        generators: the randomness of each image's order, as in `Recipe.sampling_plan`.
        schedule_generator: that of the set sizes, which all images share.

    Returns:
        A plan whose first set, known at 1 and not supervised, is all kept cells. Without any, the
        recipe's own plan.

    Raises:
        ValueError: the recipe does not fit the grid or the free cells.
    """
    if free.all():
        return recipe.sampling_plan(grid, generators, schedule_generator)
    free = free.expand(len(generators), -1)
    count, listed = int(free[0].sum()), recipe.sizes
    if listed is not None and sum(listed) != count:
        raise ValueError(
            f"`sizes` sum to {sum(listed)} but must sum to the {count} tokens to be made"
        )
    # Sizes that are written out fit the free cells only; for the order alone, any others do.
    anywhere = recipe if listed is None else replace(recipe, schedule="uniform", sizes=None)
    whole = anywhere.sampling_plan(grid, generators, schedule_generator)
    kept_first = free.gather(1, whole.order).long().argsort(dim=1, stable=True)
    if recipe.schedule == "own":
        clock = whole.known.gather(1, kept_first)[:, -count:]
    else:
        sets = None if recipe.sets is None else min(recipe.sets, count)
        row = replace(recipe, order="raster", sets=sets)
        clock = row.sampling_plan((1, count), [torch.Generator()], schedule_generator).known
        clock = clock.expand(len(generators), -1)
    known = F.pad(clock + 1, (free.shape[1] - count, 0), value=1)
    return SetPlan(grid, whole.order.gather(1, kept_first), known, known > 1)


def check_continuation(free: Tensor) -> None:
    """Raise ValueError unless the free cells ``[N]`` are the last ones in raster order."""
    if not free[int(free.long().argmax()) :].all():
        raise ValueError(
            "this model can only continue an image in raster order, so the mask must hold every "
            "token after its first one (as whole rows at the bottom do); masks elsewhere need an "
            "FMT or a VAR"
        )


__getattr__ = moved(
    __name__,
    dict.fromkeys(("box_mask", "outpaint", "prepare", "hide", "show_mask"), "setar.pictures.masks"),
)
