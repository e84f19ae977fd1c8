"""Scenes: drawings put together on the fly, with captions made of those of the parts.

    one     a           beside  a b         above   a           four    a b
                                                    b                   c d

A model that has seen drawings alone knows nothing of left, right, above and below; a data set of
captioned square drawings becomes one of any aspect ratio.
"""

import random
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from setar.data.base import Dataset
from setar.data.captions import plain
from setar.data.styles import STYLES, with_article
from setar.registry import printable


class Layout(NamedTuple):
    """Where the parts of a scene lie, and what is said of that."""

    rows: int
    columns: int
    templates: tuple[str, ...]
    """With ``{0}``, ``{1}``, ... for the parts, in reading order."""

    @property
    def parts(self) -> int:
        """How many drawings."""
        return self.rows * self.columns


LAYOUTS = {
    "one": Layout(1, 1, ("{0}",)),
    "beside": Layout(
        1, 2, ("{0} next to {1}", "{0} to the left of {1}", "{1} to the right of {0}")
    ),
    "above": Layout(2, 1, ("{0} above {1}", "{1} below {0}", "{0} on top of {1}")),
    "four": Layout(2, 2, ("{0}, {1}, {2} and {3}", "{0} and {1} above {2} and {3}")),
}
"""Kinds of scenes by name."""

KINDS = tuple(LAYOUTS)

MOST_PARTS = max(layout.parts for layout in LAYOUTS.values())
"""Drawings of the largest scene."""


@dataclass(frozen=True)
class ScenesConfig:
    """How often each kind of scene is shown: a share of the steps, relative to the others."""

    one: float = 1.0
    """Of single drawings."""
    beside: float = 0.0
    """Of two side by side."""
    above: float = 0.0
    """Of two above each other."""
    four: float = 0.0
    """Of two rows of two."""
    pool: int = 20_000
    """Different scenes of each kind but ``one``: what is encoded once can be shown again."""

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or not sum(self.shares):
            raise ValueError(f"shares of scenes (={self.shares}) must be at least 0, and one above")
        if not 1 <= self.pool <= 10**7:
            raise ValueError(f"`pool` (={self.pool}) must be from 1 to 10000000")

    @property
    def shares(self) -> tuple[float, ...]:
        """One for each of `KINDS`."""
        return self.one, self.beside, self.above, self.four


class Scene(NamedTuple):
    """What a scene is made of."""

    kind: str
    parts: tuple[int, ...]
    """Indices of the drawings, in reading order."""
    caption: str


class Scenes:
    """All scenes of a data set: item ``i`` is of the kind ``i % 4``, in turn those of `KINDS`.

    Items of the kind ``one`` are the drawings themselves, over and over. The parts of a larger
    scene are different drawings of one style; without styles, drawings that are fewer than its
    parts are repeated.

    Args:
        data: square drawings with captions.
        config: how many there are.
        balance: 0 shows each drawing equally often; 1 each name of a style, whatever the number of
            its variants, which are told apart after a comma ("waving hand, dark skin tone").
        seed: of what they are made of.

    Raises:
        ValueError: no drawing has a caption, drawings are not square, or a style has fewer of them
            than a scene that is shown has parts.
    """

    def __init__(
        self, data: Dataset, config: ScenesConfig, balance: float = 0.0, seed: int = 0
    ) -> None:
        self.data, self.seed = data, seed
        self.captioned = [i for i, texts in enumerate(data.captions) if texts]
        if not self.captioned:
            raise ValueError("scenes need captions: no picture has one")
        # In memory, since a picture is part of many scenes.
        self.drawings = data.images[torch.arange(len(data))]
        height, width = self.drawings.shape[-2:]
        if height != width:
            raise ValueError(f"scenes need square pictures, not {height}x{width}")
        self.side = width
        self.weights = _weights(data, self.captioned, balance)
        self.config = self._checked(config)

    def shared_as(self, config: ScenesConfig) -> "Scenes":
        """Scenes of the same drawings in other shares; ValueError as of a new one."""
        other = copy(self)
        other.config = self._checked(config)
        return other

    def __len__(self) -> int:
        return len(KINDS) * max(self.config.pool, len(self.data))

    def __getitem__(self, items: Tensor) -> Tensor:
        """Scenes of one kind, int64 ``[B]``, as uint8 ``[B, 3, H, W]``."""
        scenes = [self.scene(item) for item in items.tolist()]
        rows, columns, _ = LAYOUTS[scenes[0].kind]
        parts = self.drawings[torch.tensor([scene.parts for scene in scenes])]
        grid = parts.unflatten(1, (rows, columns))  # [B, rows, columns, 3, side, side]
        return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def batches(self, batch_size: int, seed: int) -> "SceneBatches":
        """What a training sees of them at each step."""
        return SceneBatches(self, batch_size, seed)

    def scene(self, item: int) -> Scene:
        """What an item is made of, the same at every call.

        Raises:
            ValueError: a style has fewer drawings than the scene has parts.
        """
        number, kind = divmod(item, len(KINDS))
        if kind == 0:
            number %= len(self.data)
            own = self.data.captions[number]
            return Scene("one", (number,), own[0] if own else "")
        self._check_parts(KINDS[kind])
        draw = random.Random(f"{self.seed}/{item}")
        parts = self._parts(draw, LAYOUTS[KINDS[kind]].parts)
        style = self._style(parts)
        names = [self._name(part, draw) for part in parts]
        caption = plain(scene_caption(KINDS[kind], names, style, draw))
        return Scene(KINDS[kind], parts, caption)

    def captions(self, items: Sequence[int], draw: random.Random) -> list[str]:
        """A caption of each item; of those of a drawing any one, as ``draw`` has it, or empty."""
        texts = []
        for item in items:
            number, kind = divmod(item, len(KINDS))
            one = self.data.captions[number % len(self.data)]
            own = one if kind == 0 else (self.scene(item).caption,)
            texts.append(draw.choice(own) if own else "")
        return texts

    @cached_property
    def _fewest(self) -> tuple[int, str]:
        """How many captioned drawings the style with the fewest has, and its name."""
        styles = self.data.meta.get("style")
        counts = Counter(styles[item] for item in self.captioned) if styles else {}
        return min(((count, style) for style, count in counts.items()), default=(MOST_PARTS, ""))

    def _checked(self, config: ScenesConfig) -> ScenesConfig:
        for kind, share in zip(KINDS, config.shares, strict=True):
            if share:
                self._check_parts(kind)
        return config

    def _check_parts(self, kind: str) -> None:
        count, style = self._fewest
        if count < LAYOUTS[kind].parts:
            raise ValueError(
                f"scenes of the kind {kind!r} need {LAYOUTS[kind].parts} captioned drawings of "
                f"each style; of {printable(style)!r} there are {count}"
            )

    def _parts(self, draw: random.Random, count: int) -> tuple[int, ...]:
        """Different drawings, of one style where there are styles."""
        styles = self.data.meta.get("style")
        first = draw.choices(self.captioned, cum_weights=self.weights)[0]
        parts = [first]
        while len(parts) < count:
            more = draw.choices(self.captioned, cum_weights=self.weights)[0]
            same = styles is None or styles[more] == styles[first]
            if same and (more not in parts or len(self.captioned) <= count):
                parts.append(more)
        return tuple(parts)

    def _style(self, parts: tuple[int, ...]) -> str:
        styles = self.data.meta.get("style")
        return styles[parts[0]] if styles else ""

    def _name(self, part: int, draw: random.Random) -> str:
        """What a part is called in the caption of a whole."""
        names = self.data.meta.get("name")
        if names and names[part].split(",")[0].strip():
            return with_article(names[part])
        return draw.choice(self.data.captions[part])


def scene_caption(
    kind: str, names: Sequence[str], style: str = "", draw: random.Random | None = None
) -> str:
    """A caption of a scene.

    Args:
        kind: one of `KINDS`.
        names: of the parts with their articles, in reading order.
        style: a name of `setar.data.styles.STYLES`, or empty; it is said in three of four captions.
        draw: chooses among the ways to say it; None takes the first, with the style.
    """
    templates = LAYOUTS[kind].templates
    text = (draw.choice(templates) if draw else templates[0]).format(*names)
    if not style:
        return text
    words = STYLES[style].words if style in STYLES else style
    ways = (f"{text}, {words} style", f"{words} drawing of {text}", f"{text}, {words} style", text)
    return draw.choice(ways) if draw else ways[0]


def _weights(data: Dataset, items: list[int], balance: float) -> list[float]:
    """Cumulative weights with which ``items`` are drawn."""
    names, styles = data.meta.get("name"), data.meta.get("style")
    if not names or not balance:
        weights = [1.0] * len(items)
    else:
        groups = [(styles[i] if styles else "", names[i].split(",")[0]) for i in items]
        counts = Counter(groups)
        weights = [counts[group] ** -balance for group in groups]
    total, cumulative = 0.0, []
    for weight in weights:
        total += weight
        cumulative.append(total)
    return cumulative


class SceneBatches:
    """Endless batches of scenes, each of one kind and of about equally many pixels.

    A batch of ``one`` has ``batch_size`` drawings; of larger scenes there are fewer. Which kind a
    step shows and which scenes is a function of (seed, step).

    Args:
        scenes: of a data set.
        batch_size: drawings per batch, a multiple of the parts of every kind that is shown.
        seed: of the order.

    Raises:
        ValueError: a batch cannot be divided.
    """

    def __init__(self, scenes: Scenes, batch_size: int, seed: int) -> None:
        shown = [LAYOUTS[k] for k, share in zip(KINDS, scenes.config.shares, strict=True) if share]
        most = max(layout.parts for layout in shown)
        if batch_size % most:
            raise ValueError(
                f"`batch_size` (={batch_size}) must be a multiple of {most} with scenes"
            )
        self.scenes, self.batch_size, self.seed = scenes, batch_size, seed

    def indices(self, step: int) -> Tensor:
        """The items of batch ``step`` (from 0), all of one kind."""
        draw = random.Random(f"{self.seed}/batch/{step}")
        scenes = self.scenes
        kind = draw.choices(range(len(KINDS)), scenes.config.shares)[0]
        count = self.batch_size // LAYOUTS[KINDS[kind]].parts
        if kind == 0:
            numbers = draw.choices(scenes.captioned, cum_weights=scenes.weights, k=count)
        else:
            numbers = [draw.randrange(scenes.config.pool) for _ in range(count)]
        return torch.tensor([number * len(KINDS) + kind for number in numbers])
