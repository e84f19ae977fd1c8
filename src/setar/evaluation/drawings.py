"""Is a drawing what was asked for? Its nearest real drawings have a name and a style, which tell.

Pure functions of features, names and styles; nothing here knows a network or a model. Nearest is by
cosine similarity, after the mean of the real drawings is subtracted from both, as in
`setar.evaluation.neighbours`. A model that copies scores high too: print the share of near copies
beside these figures.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from setar.evaluation.distances import check_finite
from setar.evaluation.neighbours import BLOCK

RANK = 5
"""A drawing, or a name, is found if it is among so many nearest real drawings."""


class Gallery:
    """Real drawings, as a network sees them.

    Args:
        features: ``[m, d]``, at least `RANK`.
        names: what each shows; drawings of one name may differ in style.
        styles: how each is drawn.

    Raises:
        ValueError: there is not one name and one style for each, they are fewer than `RANK`, or a
            feature is not finite.
    """

    def __init__(self, features: Tensor, names: Sequence[str], styles: Sequence[str]) -> None:
        for what, values in (("names", names), ("styles", styles)):
            if len(values) != len(features):
                raise ValueError(f"{len(features)} drawings have {len(values)} {what}")
        if len(features) < RANK:
            raise ValueError(f"{len(features)} real drawings are too few: at least {RANK}")
        self.names, self.styles = tuple(names), tuple(styles)
        self._name_ids, self._style_ids = _ids(names), _ids(styles)
        self.origin = features.double().mean(dim=0)
        self.directions = self.seen(features)

    def __len__(self) -> int:
        return len(self.directions)

    def seen(self, features: Tensor) -> Tensor:
        """Features ``[n, d]`` as unit vectors from the mean of the real drawings, float64."""
        return functional.normalize(check_finite(features.double() - self.origin))

    def nearest(self, features: Tensor, count: int = RANK, without: Tensor | None = None) -> Tensor:
        """The nearest real drawings, nearest first: int64 ``[n, count]``.

        ``without``, int64 ``[n]``, is a real drawing that does not count for each of them: itself,
        where the features are those of real drawings.
        """
        seen, found = self.seen(features), []
        for rows in torch.arange(len(seen)).split(max(1, BLOCK // len(self))):
            similarity = seen[rows] @ self.directions.T
            if without is not None:
                similarity[torch.arange(len(rows)), without[rows]] = -torch.inf
            found.append(similarity.topk(count, dim=1).indices)
        return torch.cat(found)

    def rank(self, features: Tensor, drawings: Tensor) -> Tensor:
        """How near one real drawing ``[n]`` is to each feature: int64 ``[n]``, 1 is the nearest.

        Of equally near ones each has the best rank.
        """
        seen, found = self.seen(features), []
        for rows in torch.arange(len(seen)).split(max(1, BLOCK // len(self))):
            similarity = seen[rows] @ self.directions.T
            own = similarity[torch.arange(len(rows)), drawings[rows]]
            found.append(1 + (similarity > own[:, None]).sum(dim=1))
        return torch.cat(found)

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Cosine similarity of features ``[n, d]``, row by row: float64 ``[n]``."""
        return (self.seen(first) * self.seen(second)).sum(dim=1)

    def named(self, found: Tensor, names: Sequence[str]) -> Tensor:
        """Whether any of some real drawings ``[n, k]`` has the name: bool ``[n]``."""
        return self._name_ids.of(found).eq(self._name_ids.all(names)[:, None]).any(dim=1)

    def styled(self, found: Tensor, styles: Sequence[str]) -> Tensor:
        """Whether the first of some real drawings ``[n, k]`` has the style: bool ``[n]``."""
        return self._style_ids.of(found[:, 0]) == self._style_ids.all(styles)

    @cached_property
    def styles_of(self) -> Mapping[str, int]:
        """In how many styles there is a drawing of each name."""
        of: dict[str, set[str]] = {}
        for name, style in zip(self.names, self.styles, strict=True):
            of.setdefault(name, set()).add(style)
        return {name: len(styles) for name, styles in of.items()}


class _Ids(NamedTuple):
    numbers: Mapping[str, int]
    every: Tensor

    def of(self, drawings: Tensor) -> Tensor:
        return self.every[drawings]

    def all(self, values: Sequence[str]) -> Tensor:
        """-1 of what no drawing has."""
        return torch.tensor([self.numbers.get(value, -1) for value in values])


def _ids(values: Sequence[str]) -> _Ids:
    numbers: dict[str, int] = {}
    every = [numbers.setdefault(value, len(numbers)) for value in values]
    return _Ids(numbers, torch.tensor(every))


class Found(NamedTuple):
    """Of pictures that should be a real drawing each: what was found. Each is bool ``[n]``."""

    drawing: Tensor
    """That very drawing is within `RANK` of the nearest."""
    style: Tensor
    """The nearest has its style."""
    name: Tensor
    """One within `RANK` has its name, in any style."""


def find(gallery: Gallery, features: Tensor, drawings: Tensor) -> Found:
    """Look for the real drawings ``[n]`` that pictures with features ``[n, d]`` should be."""
    return _found(gallery, features, drawings, None)


def find_others(gallery: Gallery, drawings: Tensor) -> Found:
    """Look for relatives of real drawings ``[n]``, which do not count themselves.

    It says how telling `find` is: how often the nearest other drawing is of the same style, and one
    of the nearest is of the same name. The drawing itself is never found.
    """
    features = gallery.directions[drawings] + gallery.origin
    found = _found(gallery, features, drawings, drawings)
    return found._replace(drawing=torch.zeros_like(found.drawing))


def _found(gallery: Gallery, features: Tensor, drawings: Tensor, without: Tensor | None) -> Found:
    nearest = gallery.nearest(features, without=without)
    return Found(
        gallery.rank(features, drawings) <= RANK,
        gallery.styled(nearest, [gallery.styles[index] for index in drawings]),
        gallery.named(nearest, [gallery.names[index] for index in drawings]),
    )


def share(hits: Tensor) -> float:
    """Of bool of any shape, how many are True: 0..1."""
    return float(hits.double().mean())


def share_of_prompts(hits: Tensor, each: int) -> float:
    """Of bool ``[prompts * each]``, the samples of a prompt in a row: prompts with any True."""
    return share(hits.unflatten(0, (-1, each)).any(dim=1))


def distinct_styles(gallery: Gallery, features: Tensor, each: int) -> float:
    """The mean number of styles among the nearest drawings of each prompt's samples.

    Features are ``[prompts * each, d]``, the samples of a prompt in a row.
    """
    nearest = gallery.nearest(features, 1).flatten().unflatten(0, (-1, each))
    counts = [len({gallery.styles[index] for index in row}) for row in nearest.tolist()]
    return sum(counts) / len(counts)


class Sides(NamedTuple):
    """What is found in pictures of two drawings each."""

    asked: Tensor
    """bool ``[2, n]``: a half's nearest `RANK` have the name that was asked for on its side."""
    swapped: Tensor
    """bool ``[2, n]``: they have that of the other side, and not its own: a binding error."""


def find_sides(
    gallery: Gallery,
    features: tuple[Tensor, Tensor],
    names: tuple[Sequence[str], Sequence[str]],
) -> Sides:
    """Look for two names in the two halves of pictures, whose features are ``[n, d]`` each."""
    found = [gallery.nearest(half) for half in features]
    asked = torch.stack([gallery.named(found[side], names[side]) for side in (0, 1)])
    other = torch.stack([gallery.named(found[side], names[1 - side]) for side in (0, 1)])
    return Sides(asked, other & ~asked)


def closer(gallery: Gallery, made: Tensor, pasted: Tensor, truth: Tensor) -> Tensor:
    """Whether ``made`` is nearer to the truth than ``pasted``: bool ``[n]`` of ``[n, d]``."""
    return gallery.similarity(made, truth) > gallery.similarity(pasted, truth)
