"""What cached sampling with an FMT costs, step by step, as formulas of its shape.

With width d, feed-forward width h, E encoder and D decoder layers and V codes, a token meets

    absorbed    E (4 d^2 + 3 d h) + 2 D d^2      weights: encoder, keys and values for the decoder
    asked for   D (6 d^2 + 3 d h)                weights: decoder; and V d of the head

once, whatever the recipe; guidance doubles all but the head. A step reads each of these weights
once, whatever the batch. After a condition of P tokens, when a set brings the tokens that are known
from c to c + n, each of its n tokens attends to

    E (P + c + n) + D (c + n) + D (P + c)        keys, of d numbers, with as many values

in encoder, decoder and across. So a step of n tokens makes n times as many products as one of 1 and
reads the same weights, while attention depends on n and c alone: this is all that a recipe decides.
"""

from collections.abc import Sequence
from typing import NamedTuple

from setar.layers.blocks import swiglu_width
from setar.models.fmt import FMTConfig


class Cost(NamedTuple):
    """Of a step, for all images of a batch."""

    products: int
    """Operations of products with weights; a product and a sum are two."""
    attention: int
    """Operations of attention: its two products."""
    weights: int
    """Numbers that are read of weights."""
    caches: int
    """Numbers that are read and written of keys and values."""

    @property
    def operations(self) -> int:
        """All of them."""
        return self.products + self.attention

    def bytes(self, number: int = 4) -> int:
        """That are moved, of so many for a number."""
        return number * (self.weights + self.caches)


def step_costs(
    config: FMTConfig, sizes: Sequence[int], images: int, guided: bool = True
) -> list[Cost]:
    """The costs of the start, with a condition of a class, and of each set.

    Args:
        config: shape of the model.
        sizes: tokens of each set, of which none may be empty.
        images: of the batch.
        guided: whether each is made with its condition and without.
    """
    shape, rows = _Shape(config), images * (2 if guided else 1)
    costs, known = [shape.absorb(config.condition_length, 0, rows, 0)], 0
    for index, size in enumerate(sizes):
        asked = shape.ask(size, known, rows, images)
        more = index + 1 < len(sizes)  # nobody needs to know the last set
        absorbed = (
            shape.absorb(size, known, rows, config.condition_length) if more else Cost(0, 0, 0, 0)
        )
        costs.append(Cost(*map(sum, zip(asked, absorbed, strict=True))))
        known += size
    return costs


def total(costs: Sequence[Cost]) -> Cost:
    """Of all steps together."""
    return Cost(*map(sum, zip(*costs, strict=True)))


class _Shape:
    """Weights that a token meets, by what is done with it."""

    def __init__(self, config: FMTConfig) -> None:
        self.config, width = config, config.width
        forward = 3 * width * swiglu_width(width)
        self.encoder = config.encoder_layers * (4 * width**2 + forward)
        self.memory = config.decoder_layers * 2 * width**2
        self.decoder = config.decoder_layers * (6 * width**2 + forward)
        self.head = config.vocabulary * width

    def absorb(self, count: int, known: int, rows: int, prefix: int) -> Cost:
        """Encode so many tokens after ``prefix`` and ``known`` ones."""
        weights, layers = self.encoder + self.memory, self.config.encoder_layers
        read = layers * (prefix + known + count)
        written = count * (layers + self.config.decoder_layers)
        return self._cost(weights, 0, count, rows, 0, read, written)

    def ask(self, count: int, known: int, rows: int, images: int) -> Cost:
        """Predict so many tokens when ``known`` ones are."""
        layers = self.config.decoder_layers
        read = layers * (known + count) + layers * (self.config.condition_length + known)
        return self._cost(self.decoder, self.head, count, rows, images, read, count * layers)

    def _cost(
        self, weights: int, head: int, count: int, rows: int, images: int, read: int, written: int
    ) -> Cost:
        width = self.config.width
        return Cost(
            products=2 * count * (rows * weights + images * head),
            attention=4 * rows * count * read * width,
            weights=weights + head,
            caches=2 * rows * (read + written) * width,
        )
