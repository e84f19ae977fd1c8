"""Plans of images on different grids as one batch, padded to the longest.

    grids 2x2 and 1x2, each in two sets      order   0 1 2 3     known   1 1 2 2
                                                     0 1 2 3             1 2 P P

Each image has the raster indices of its own grid; those behind its last token are padding. Padding
is known at `PADDING` = P: no token sees it (`setar.recipes.clocks`), and its loss is left out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from setar.recipes.clocks import PADDING
from setar.recipes.recipe import SetPlan


def join_plans(plans: Sequence[SetPlan], least: int = 0) -> SetPlan:
    """One plan of all images of several plans, in turn, of at least so many tokens.

    Images on one grid that need no padding are a plan as any other.

    Raises:
        ValueError: there is none, or some mask the decoder and others do not.
    """
    if len({plan.decoder_causal for plan in plans}) != 1:
        raise ValueError("plans to join must be of one recipe, and at least one")
    length = max(least, *(plan.order.shape[1] for plan in plans))
    order, known, supervised = zip(*(_parts(plan, length) for plan in plans), strict=True)
    sizes = [torch.tensor([plan.grid]).expand(len(plan.order), 2) for plan in plans]
    same = len({plan.grid for plan in plans}) == 1 and length == plans[0].order.shape[1]
    return SetPlan(
        plans[0].grid if same else (1, length),
        torch.cat(order),
        torch.cat(known),
        torch.cat(supervised),
        plans[0].decoder_causal,
        None if same else torch.cat(sizes),
    )


def _parts(plan: SetPlan, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Order, clocks and what is supervised of a plan, padded to so many tokens."""
    count = plan.order.shape[1]
    rest = torch.arange(count, length).expand(len(plan.order), -1)
    return (
        torch.cat([plan.order, rest], 1),
        F.pad(plan.known, (0, length - count), value=PADDING),
        F.pad(plan.supervised, (0, length - count), value=False),
    )


def join_codes(codes: Sequence[Tensor], least: int = 0) -> Tensor:
    """Codes ``[B, N]`` of several grids as one tensor, padded with zeros to the longest.

    It has at least so many tokens.
    """
    length = max(least, *(part.shape[1] for part in codes))
    return torch.cat([F.pad(part, (0, length - part.shape[1])) for part in codes])
