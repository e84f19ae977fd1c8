"""A text as the condition: its token states as a prefix, under the usual causal mask.

SAR (arXiv 2410.10511, section 4.5) puts a language model's states before the image tokens, "with
the conventional causal mask": T tokens are known at the clocks -T+1 .. 0. Texts are padded on the
left, so that the last token of every text is known at 0. Two texts, of two tokens and of three:

    marker   0 1 1      clock   P -1 0      P = PADDING, which no token sees
             1 1 1             -2 -1 0

A condition is one tensor ``[B, T, D + 1]``: the D numbers that a frozen encoder gives for each
token, and a marker: 1 of a token, 0 of padding, -1 of a token of "nothing". There a learned
sequence stands in the place of the states, aligned at the right end, as LlamaGen (arXiv 2406.06525)
does: "nothing" is as long as the text that it is the absence of.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.layers.norm import RMSNorm
from setar.models.condition import Condition
from setar.recipes.clocks import PADDING, prefix_clock

if TYPE_CHECKING:
    from setar.models.base import GeneratorConfig

TOKEN, PAD, NOTHING = 1, 0, -1
"""Markers: what the last number of each token of a condition says."""


def pack(states: Tensor, mask: Tensor) -> Tensor:
    """States ``[B, T, D]`` and a mask ``[B, T]``, 0 at padding, as a condition."""
    mask = mask.to(states)[..., None]
    return torch.cat([states * mask, mask], -1)


def padded_to(condition: Tensor, length: int) -> Tensor:
    """The same of so many tokens, at least those it has: padding on the left."""
    return F.pad(condition, (0, 0, length - condition.shape[1], 0))


class TextCondition(Condition):
    """Token states ``[B, T, D + 1]`` of at most `length` tokens; see the module.

    Raises:
        ValueError: the config does not say how many numbers a state has.
    """

    reads = "text"

    def __init__(self, config: "GeneratorConfig", width: int) -> None:
        super().__init__(config, width)
        dim = config.condition_dim
        if dim < 1:
            raise ValueError(
                f"`condition_dim` (={dim}) must be the numbers of a token of the text encoder"
            )
        self.nothing = nn.Parameter(torch.zeros(self.length, dim))
        self.project = PROJECTIONS[config.condition_projection](dim, width)

    @classmethod
    def facts(cls, data: object) -> dict[str, int]:
        """Texts have no classes: one, that stands for all."""
        return {"classes": 1}

    def example(self, count: int) -> Tensor:
        """Random states; each text is one token longer than the one before."""
        noise = torch.Generator().manual_seed(0)
        dim, places = self.nothing.shape[1], torch.arange(self.length)
        states = torch.randn(count, self.length, dim, generator=noise)
        lengths = torch.arange(count) % self.length + 1
        return pack(states, places >= self.length - lengths[:, None])

    def embed(self, condition: Tensor) -> Tensor:
        """States ``[B, T, D + 1]`` to tokens ``[B, T, width]``; drops texts while training.

        Raises:
            ValueError: there are more tokens than `length`, or states of another encoder.
        """
        self.check(condition)
        condition = self.dropped(condition)
        states, marker = condition[..., :-1], condition[..., -1:]
        nothing = self.nothing[self.length - condition.shape[1] :].to(states)
        return self.project(torch.where(marker < 0, nothing, states).to(self.nothing.dtype))

    def null(self, condition: Tensor) -> Tensor:
        """As many tokens of "nothing" as each text has tokens."""
        marker = torch.where(condition[..., -1:] == PAD, PAD, NOTHING).to(condition)
        return torch.cat([torch.zeros_like(condition[..., :-1]), marker], -1)

    def clock(self, condition: Tensor) -> Tensor:
        """int64 ``[B, T]``: -T+1 .. 0, and `PADDING` of padding."""
        clock = prefix_clock(condition.shape[1], condition.device)
        return torch.where(condition[..., -1] == PAD, PADDING, clock)

    def alike(self, condition: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Both padded on the left to the length of the longer one."""
        length = max(condition.shape[1], other.shape[1])
        return padded_to(condition, length), padded_to(other, length)

    def between(self, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        """Token by token from the end, states mixed; the longer text's first tokens fade."""
        first, second = self.alike(first, second)
        length, part = first.shape[1], share.to(first)[:, None, None]
        nothing = self.nothing[self.length - length :].to(first)
        ends = [torch.where(c[..., -1:] < 0, nothing, c[..., :-1]) for c in (first, second)]
        real = (first[..., -1] != PAD) | (second[..., -1] != PAD)
        return pack((1 - part) * ends[0] + part * ends[1], real)

    def check(self, condition: Tensor) -> None:
        """Raise ValueError unless these are states of its encoder, of a bearable length."""
        dim = self.nothing.shape[1]
        if condition.ndim != 3 or condition.shape[1] > self.length or condition.shape[2] != dim + 1:
            raise ValueError(
                f"a text condition (of shape {list(condition.shape)}) must be [B, T, {dim} + 1] "
                f"with T of at most {self.length}"
            )


def linear_projection(dim: int, width: int) -> nn.Module:
    """A norm, since encoders differ in the size of their states, and one matrix."""
    return nn.Sequential(RMSNorm(dim), nn.Linear(dim, width, bias=False))


def mlp_projection(dim: int, width: int) -> nn.Module:
    """Two matrices with a GELU between them, as in LlamaGen."""
    return nn.Sequential(
        nn.Linear(dim, width, bias=False),
        nn.GELU(approximate="tanh"),
        nn.Linear(width, width, bias=False),
    )


PROJECTIONS = {"linear": linear_projection, "mlp": mlp_projection}
"""From the numbers of an encoder's token to those of the model's."""
