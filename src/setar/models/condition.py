"""What an image is conditioned on, as a prefix of tokens; or none, for classifier-free guidance.

A new kind of condition is a subclass of `Condition` and a line in `CONDITIONS`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.recipes.clocks import prefix_clock
from setar.registry import Table

if TYPE_CHECKING:
    from setar.models.base import GeneratorConfig


class Condition(nn.Module):
    """A prefix of `length` tokens, known at the clocks -length+1 .. 0.

    What it reads, a condition, is a tensor whose first axis is the batch.

    Args:
        config: of the generator; tells how many tokens, and how often a condition is dropped.
        width: of the tokens.
    """

    reads: ClassVar[str] = "class"
    """What people say to it: the name of a ``class``, or a ``text``."""

    def __init__(self, config: "GeneratorConfig", width: int) -> None:
        super().__init__()
        self.length, self.width, self.drop = config.condition_length, width, config.class_dropout
        self._chances: Tensor | None = None

    @classmethod
    def facts(cls, data: Any) -> dict[str, Any]:
        """Fields of a generator's config that follow from a data set (`setar.data.base`)."""
        return {"classes": len(data.classes)}

    def example(self, count: int) -> Tensor:
        """Conditions ``[count, ...]`` to try it with, most of them different."""
        raise NotImplementedError

    def clock(self, condition: Tensor) -> Tensor:
        """When its tokens are known, int64 ``[B or 1, T]``: -T+1 .. 0, or `PADDING` of padding."""
        return prefix_clock(self.length, condition.device)[None]

    def embed(self, condition: Tensor) -> Tensor:
        """Conditions ``[B, ...]`` to tokens ``[B, length, width]``; drops some while training."""
        raise NotImplementedError

    def null(self, condition: Tensor) -> Tensor:
        """What stands for no condition, in the shape of ``condition``."""
        raise NotImplementedError

    def alike(self, condition: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Two conditions in one shape, so that they can be one batch."""
        return condition, other

    def between(self, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        """Conditions that lie between others, each ``share`` ``[B]`` of the way to the second.

        Raises:
            ValueError: there is nothing between conditions of this kind.
        """
        raise ValueError(f"there is nothing between two conditions of {type(self).__name__}")

    @contextmanager
    def dropping_by(self, chances: Tensor) -> Iterator[None]:
        """Inside, uniform numbers ``[B]`` decide which conditions of a batch are dropped.

        Elsewhere they are drawn where they are needed. A training that computes a batch in parts
        draws them for all of it.
        """
        self._chances = chances
        try:
            yield
        finally:
            self._chances = None

    def dropped(self, condition: Tensor) -> Tensor:
        """The same; in training, no condition in the place of some (Ho and Salimans 2022)."""
        if not (self.training and self.drop > 0):
            return condition
        chances = self._chances
        if chances is None:
            chances = torch.rand(len(condition), device=condition.device)
        drop = chances < self.drop
        drop = drop.view(-1, *[1] * (condition.ndim - 1))
        return torch.where(drop, self.null(condition), condition)


class ClassEmbedding(Condition):
    """Class ids int64 ``[B]``, 0 .. C-1, as one token each; C means "no class".

    Or shares of all of these, float ``[B, C + 1]``, whose token is the sum of theirs.

    Raises:
        ValueError: more tokens than one are asked for.
    """

    def __init__(self, config: "GeneratorConfig", width: int) -> None:
        super().__init__(config, width)
        if self.length != 1:
            raise ValueError(
                f"`condition_length` (={self.length}) must be 1 with the condition 'class'"
            )
        self.classes = config.classes
        self.table = nn.Embedding(config.classes + 1, width)

    def example(self, count: int) -> Tensor:
        """The classes in turn."""
        return torch.arange(count) % self.classes

    def embed(self, condition: Tensor) -> Tensor:
        """Labels ``[B]`` to one token each, ``[B, 1, width]``; drops labels while training."""
        condition = self.dropped(condition)
        if condition.is_floating_point():
            return (condition.to(self.table.weight) @ self.table.weight)[:, None]
        return self.table(condition)[:, None]

    def null(self, condition: Tensor) -> Tensor:
        """The label "no class" in the shape of ``condition``."""
        if condition.is_floating_point():
            return self._shares(torch.full_like(condition[:, 0], self.classes, dtype=torch.int64))
        return torch.full_like(condition, self.classes)

    def between(self, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        """Shares ``[B, C + 1]`` of labels ``[B]`` and ``[B]``: their tokens are mixed."""
        part = share.to(torch.float32)[:, None]
        return (1 - part) * self._shares(first) + part * self._shares(second)

    def _shares(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.classes + 1).to(torch.float32)


CONDITIONS: Table[type[Condition]] = Table(
    "condition",
    {
        "class": "setar.models.condition:ClassEmbedding",
        "text": "setar.models.text_condition:TextCondition",
    },
)
"""Kinds of conditions by the name that a generator's config uses."""


def make_condition(config: "GeneratorConfig", width: int) -> Condition:
    """The condition of a generator's config; ValueError if there is no such kind."""
    return CONDITIONS.find(config.condition)(config, width)
