"""The loss of held-out tokens by when they are generated.

Set k of an image is what becomes known at clock k. Where sets are of random sizes their number says
little, and how much of the image was known when a token was asked for says more: both are told.

    known         1    2 2  3 3 3 3 4      sets of 1, 2, 4 and 1 of 8 tokens
    seen before   0    1 1  3 3 3 3 7      in eighths: known_00, known_10, known_30, known_80
"""

import torch
from torch import Tensor

from setar.recipes.clocks import PADDING
from setar.recipes.recipe import SetPlan

MOST = 16
"""Groups of sets that are told apart: of more sets, neighbours are taken together."""

TENTHS = 10


class LossBySet:
    """Sums losses of tokens, by their set and by the share of the image that was known.

    Args:
        sets: of an image, at most.
    """

    def __init__(self, sets: int) -> None:
        self.width = -(-sets // MOST)
        groups = -(-sets // self.width)
        # A row of sums and one of counts.
        self.of_sets = torch.zeros(2, groups, dtype=torch.float64)
        self.of_shares = torch.zeros(2, TENTHS, dtype=torch.float64)

    def add(self, losses: Tensor, plan: SetPlan) -> None:
        """Take in the losses ``[B, N]`` of all tokens of a plan, in output order."""
        known, losses = plan.known.cpu().contiguous(), losses.detach().double().cpu()
        tokens = (known < PADDING).sum(1, keepdim=True)
        tenths = torch.searchsorted(known, known) * TENTHS // tokens
        counted = plan.supervised.cpu()
        for found, groups in (
            (self.of_sets, (known - 1) // self.width),
            (self.of_shares, tenths),
        ):
            where = groups[counted]
            found[0].index_add_(0, where, losses[counted])
            found[1].index_add_(0, where, torch.ones_like(losses[counted]))

    def figures(self) -> dict[str, float]:
        """Means in nats per token: ``heldout_loss``, and ``heldout_loss/set_1`` and so on.

        ``set_17-32`` are several sets together; ``known_30`` are tokens that were asked for when 30
        to 40 percent of their image were known.
        """
        total, count = self.of_sets.sum(1).tolist()
        found = {"heldout_loss": total / max(count, 1)}
        groups, width = self.of_sets.shape[1], self.width
        names = [_named(i * width + 1, (i + 1) * width) for i in range(groups)]
        shares = [f"known_{100 // TENTHS * i:02d}" for i in range(TENTHS)]
        for keys, (sums, counts) in ((names, self.of_sets), (shares, self.of_shares)):
            for key, value, of in zip(keys, sums.tolist(), counts.tolist(), strict=True):
                if of:
                    found[f"heldout_loss/{key}"] = value / of
        return found


def _named(first: int, last: int) -> str:
    return f"set_{first}" if first == last else f"set_{first}-{last}"
