"""Pictures that are held out of a training, and what a generator makes of them."""

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from setar.data.base import Dataset, chosen, holding, spread
from setar.models.base import Generator
from setar.recipes.recipe import Recipe
from setar.training.by_set import LossBySet

MEASURED = 1024
"""Held-out pictures that are measured, at most; of more, some from all over the classes."""

BATCH = 64
"""Pictures that are measured at once."""


def hold_out(data: Dataset, share: float) -> Dataset:
    """The data set with a share of its pictures held out, but at least one of each class left.

    Which they are follows from a hash of each picture's path, or of its number where it has none:
    pictures that are added later change nothing for the others.
    """
    keys = data.paths or [str(index) for index in range(len(data))]
    places = torch.tensor([_place(key) for key in keys], dtype=torch.float64)
    held = places < share
    left = torch.bincount(data.labels[~held], minlength=len(data.classes))
    for label in (left == 0).nonzero().flatten():
        own = (data.labels == label).nonzero().flatten()
        if len(own):
            held[own[places[own].argmax()]] = False
    if not held.any():
        return data
    away = held.nonzero().flatten()
    return holding(chosen(data, (~held).nonzero().flatten()), chosen(data, away))


def held_beside(data: Dataset, other: Dataset, name: str) -> Dataset:
    """The data set with all pictures of another one, of that name, held out.

    Raises:
        ValueError: a class of the other one is not one class of this one.
    """
    labels = other.labels
    if len(data.classes) == 1:
        labels = torch.zeros_like(labels)
    elif other.classes != data.classes:
        for label in other.classes:
            if data.classes.count(label) != 1:
                raise ValueError(
                    f"the class {label!r} of {name} must be one of the {len(data.classes)} that "
                    "are trained on"
                )
        labels = torch.tensor([data.classes.index(label) for label in other.classes])[labels]
    paths = [f"{Path(name).name}/{path}" for path in other.paths]
    return holding(data, replace(other, labels=labels, classes=data.classes, paths=paths))


def _place(key: str) -> float:
    """A number in 0..1 that follows from a text, evenly spread over all texts.

    File systems write letters with accents in several ways; they are all the same here.
    """
    text = unicodedata.normalize("NFC", key)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def measured(data: Dataset) -> Dataset | None:
    """The held-out pictures that are measured, as a data set; None if there are none.

    Their labels mean nothing unless the data set has `heldout_labels`.
    """
    held = data.held_out()
    return held and chosen(held, spread(held.labels, MEASURED))


@dataclass(eq=False)
class HeldOutCodes:
    """The codes of held-out pictures, and the loss on them.

    It is always measured in the same way, whatever the step: the same plans, nothing dropped, no
    mistakes.
    """

    codes: Tensor
    """int64 ``[n, N]``."""
    labels: Tensor
    """int64 ``[n]``."""
    recipe: Recipe
    """Orders and sets: those of the training."""

    @torch.no_grad()
    def measure(self, model: Generator, device: torch.device) -> Mapping[str, float]:
        """Mean negative log-likelihood in nats per supervised token, also by set (`LossBySet`)."""
        generator = torch.Generator().manual_seed(0)
        found = LossBySet(self.recipe.set_count(model.config.grid))
        for codes, labels in zip(self.codes.split(BATCH), self.labels.split(BATCH), strict=True):
            plan = self.recipe.plan(model.config.grid, len(codes), generator).to(device)
            targets = codes.to(device).gather(1, plan.order)
            logits = model(codes.to(device), labels.to(device), plan)
            losses = F.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten(), reduction="none"
            )
            found.add(losses.view_as(targets), plan)
        return found.figures()
