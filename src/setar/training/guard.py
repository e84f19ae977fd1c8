"""A step whose loss or gradient is not finite moves nothing: it ends the training, or is skipped.

step 8124 of process 2 of 8: the loss of `model` is nan -> all 8 say so, none of them moved
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from setar.training.distributed import Processes
from setar.training.messages import warn

GENTLER = "go on with --resume and a smaller `optimizer.learning_rate` or `optimizer.clip`"
"""What may help a run that diverged."""

LISTED = 256
"""Items of a step that are listed; of more, the others are counted."""


class Fault(NamedTuple):
    """What one process found in a step."""

    what: str
    """Such as ``the loss of `model` is nan``; empty if all is well."""
    items: Sequence[int]
    """Its items of the data."""


class Guard:
    """Looks at each step before the weights move.

    Args:
        processes: those that train together; what is wrong in one of them is wrong for all.
        allowed: steps that are skipped, before the next one ends the training.

    Attributes:
        skipped: steps that were.
    """

    def __init__(self, processes: Processes, allowed: int) -> None:
        self.processes, self.allowed, self.skipped = processes, allowed, 0

    def lets_pass(
        self, step: int, items: Tensor, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor]
    ) -> bool:
        """Whether a step may move the weights; the same in every process. False: it is skipped.

        Args:
            step: its number, from 1 on.
            items: indices of the data ``[B]`` that this process took.
            losses: of this process, by network.
            norms: of the gradients of all processes together, by network.

        Raises:
            FloatingPointError: it may not, and none may be skipped any more.
        """
        values = {f"the loss of `{name}`": value.detach() for name, value in losses.items()}
        values |= {f"the gradient of `{name}`": value.detach() for name, value in norms.items()}
        numbers = torch.stack([value.float().reshape(()) for value in values.values()])
        bad = (~numbers.isfinite()).any().to(torch.int32)
        self.processes.highest(bad)
        if not bad:
            return True
        pairs = zip(values, numbers.tolist(), strict=True)
        wrong = [f"{name} is {value}" for name, value in pairs if not math.isfinite(value)]
        # Of a wrong loss the gradient is wrong too, in all processes.
        wrong = [text for text in wrong if "loss" in text] or wrong
        found = self.processes.everyones(Fault(", ".join(wrong), items.tolist()))
        said = self._said(found)
        if self.skipped >= self.allowed:
            hint = "" if self.allowed else "; loop.skip_bad_steps = 10 would leave out ten of them"
            raise FloatingPointError(
                f"training diverged at step {step}: {said}; no weight was moved; {GENTLER}{hint}"
            )
        self.skipped += 1
        if self.processes.first:
            warn(f"step {step} is skipped, {self.skipped} of at most {self.allowed}: {said}")
        return False

    def _said(self, found: Sequence[Fault]) -> str:
        """Who found what in which items; a gradient is that of all."""
        concerned = [i for i, fault in enumerate(found) if "loss" in fault.what]
        if not concerned:
            items = [item for fault in found for item in fault.items]
            return f"{found[0].what} (items {_listed(items)})"
        parts = []
        for index in concerned:
            who = f"in process {index}, " if len(found) > 1 else ""
            parts.append(f"{found[index].what} ({who}items {_listed(found[index].items)})")
        return "; ".join(parts)


def _listed(items: Sequence[int]) -> str:
    more = f" and {len(items) - LISTED} more" * (len(items) > LISTED)
    return ", ".join(map(str, items[:LISTED])) + more
