"""Clocks: every attention mask of the project is one comparison.

    visible  <=>  key_clock <= query_clock

A token of set k = 1..K is known at k, and the query that predicts it asks at k - 1. The condition
is known at 0; a prefix of T condition tokens at -T+1..0, which is the usual causal mask over text.
The Fully Masked Transformer (section 3.2) compares three times. For sets of 1, 2 and 1 tokens after
one condition, with a row per query, a column per key, and their clocks at the edges:

    encoder self        cross               decoder self
      | 0 1 2 2 3         | 0 1 2 2 3         | 0 1 1 2
    --+----------       --+----------       --+--------
    0 | 1 . . . .       0 | 1 . . . .       0 | 1 . . .
    1 | 1 1 . . .       1 | 1 1 . . .       1 | 1 1 1 .
    2 | 1 1 1 1 .       1 | 1 1 . . .       1 | 1 1 1 .
    2 | 1 1 1 1 .       2 | 1 1 1 1 .       2 | 1 1 1 1
    3 | 1 1 1 1 1

Padding is known at `PADDING` and so asks just before it: no token sees it, and it sees everything,
so that its softmax is defined. Its loss must be left out (`SetPlan.supervised`).
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from setar.recipes.recipe import SetPlan

CONDITION = 0
"""The clock of the condition, known before every token."""

PADDING = 2**62
"""The clock of padding, later than every token."""

_ALL_TOKENS = PADDING - 2
"""A query at this clock sees every token but no padding, neither known nor asking."""


Seen = TypeVar("Seen")
"""A mask, however it is held."""


class AttentionClocks(NamedTuple):
    """The clocks that the three attentions of the Fully Masked Transformer compare."""

    known: Tensor
    """int64 [B, P + N]: of condition and tokens, as encoder queries and as keys."""
    asks: Tensor
    """int64 [B, N]: of the decoder, as cross-attention queries and as self-attention keys."""
    decoder: Tensor
    """int64 [B, N]: of the decoder as self-attention queries; `asks`, or later if unmasked."""

    def masks(self, compare: "Callable[[Tensor, Tensor], Seen]") -> "AttentionMasks[Seen]":
        """The three masks, of the clocks of keys and of queries by `visible` or the like of it."""
        known, asks, decoder = self
        return AttentionMasks(compare(known, known), compare(known, asks), compare(asks, decoder))


class AttentionMasks(NamedTuple, Generic[Seen]):
    """Masks, True where the query (row) sees the key (column); of `dense_masks` they are bool."""

    encoder_self: Seen
    """[B, P + N, P + N]"""
    cross: Seen
    """[B, N, P + N]"""
    decoder_self: Seen
    """[B, N, N]"""


def visible(key_clock: Tensor, query_clock: Tensor) -> Tensor:
    """Return bool [..., Q, K] from clocks [..., K] and [..., Q]: True where query sees key."""
    return key_clock[..., None, :] <= query_clock[..., :, None]


def prefix_clock(length: int, device: torch.device | str | None = None) -> Tensor:
    """Return int64 [length]: the clocks -length+1..0 of a condition, the last at `CONDITION`."""
    return torch.arange(CONDITION - length + 1, CONDITION + 1, device=device)


def unpadded(clock: Tensor, tokens: int) -> Tensor | None:
    """Which keys are no padding, of a condition with clocks [B, P] and so many tokens after it.

    Return bool [B, 1, 1, P + tokens], a mask of attention; None if there is no padding.
    """
    seen = F.pad(clock < PADDING, (0, tokens), value=True)[:, None, None]
    return None if seen.all() else seen


def attention_clocks(plan: SetPlan, prefix: int | Tensor = 1) -> AttentionClocks:
    """Return the clocks of `plan` after a condition of `prefix` tokens, or of these clocks.

    Such clocks are int64 [B or 1, P], `PADDING` where a text is shorter than others.
    """
    if isinstance(prefix, int):
        prefix = prefix_clock(prefix, plan.known.device)
    start = prefix.expand(len(plan.known), prefix.shape[-1])
    known = torch.cat([start, plan.known], dim=1)
    decoder = plan.asks if plan.decoder_causal else torch.full_like(plan.asks, _ALL_TOKENS)
    return AttentionClocks(known, plan.asks, decoder)


def dense_masks(plan: SetPlan, prefix: int | Tensor = 1) -> AttentionMasks[Tensor]:
    """Return the three masks of `plan` after a condition, as in `attention_clocks`."""
    return attention_clocks(plan, prefix).masks(visible)
