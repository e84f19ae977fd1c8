"""Sampling an FMT in fixed shapes: its steps are compiled once, and recorded as CUDA graphs.

A set is filled up to the next power of two, and attention reads all slots of a cache, of which a
mask hides those that hold nothing yet. What fills a set up is written too, behind it, where nobody
sees it and the next set overwrites it. A set of 3 after 5 tokens, of 10 in all:

    slot       0 1 2 3 4 5 6 7 8 9 | 10
    written              x x x -   |       x are tokens, - fills up
    visible    1 1 1 1 1 1 1 1 . . |  .    the last slot takes what fills up beyond the end

So there are as many shapes as powers of two, whatever the recipe.
"""

import weakref
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from setar.layers.attention import SlotCache
from setar.models.base import HeadDecoding
from setar.recipes.clocks import PADDING, visible

if TYPE_CHECKING:
    from setar.models.fmt import FullyMaskedTransformer


def bucket(size: int) -> int:
    """The power of two that a set of so many tokens is filled up to."""
    return 1 << (size - 1).bit_length()


class Buffers(NamedTuple):
    """Keys and values of all layers, each ``[B, heads, slots, head_dim]``."""

    encoder: list[tuple[Tensor, Tensor]]
    cross: list[tuple[Tensor, Tensor]]
    decoder: list[tuple[Tensor, Tensor]]


def absorb(
    model: "FullyMaskedTransformer",
    buffers: Buffers,
    x: Tensor,
    rotation: Tensor,
    slots: Tensor,
    mask: Tensor,
) -> None:
    """Encode tokens ``[B, n, width]`` into their slots ``[n]``; the mask has a column per slot."""
    caches = [SlotCache(*pair, slots) for pair in buffers.encoder]
    memory = model.encode(x, rotation, mask, caches)  # type: ignore[arg-type]
    for block, pair in zip(model.decoder, buffers.cross, strict=True):
        remembered = block.cross_attention.remember(memory, rotation)  # type: ignore[union-attr]
        SlotCache(*pair, slots).append(*remembered)


def ask(
    model: "FullyMaskedTransformer",
    buffers: Buffers,
    x: Tensor,
    rotation: Tensor,
    slots: Tensor,
    self_mask: Tensor,
    cross_mask: Tensor,
) -> Tensor:
    """What the head reads ``[B, n, width]`` of queries ``[B, n, width]`` in their slots ``[n]``."""
    for index, block in enumerate(model.decoder):
        cache = SlotCache(*buffers.decoder[index], slots)
        x = block(x, rotation, buffers.cross[index], self_mask, cross_mask, cache)
    return model.norm(x)


class FixedShapes:
    """The compiled steps of a model, and buffers that go from one batch to the next.

    Args:
        model: in evaluation mode.
        options: of `torch.compile`.
    """

    def __init__(self, model: "FullyMaskedTransformer", **options: Any) -> None:
        how = {"dynamic": False, "fullgraph": True, "recompile_limit": 64, **options}
        self.model = model
        self.absorb, self.ask = torch.compile(absorb, **how), torch.compile(ask, **how)
        self.free: dict[Any, list[Buffers]] = defaultdict(list)

    def start(self, condition: Tensor, tokens: int, columns: int) -> "FixedDecoding":
        """As `Generator.start`, of a grid of so many columns."""
        clock = self.model.condition.clock(condition)
        slots = -(-(clock.shape[1] + tokens + 1) // 8) * 8  # kernels like multiples of 8
        like = self.model.norm.weight
        key = (len(condition), slots, like.device, like.dtype)
        buffers = self.free[key].pop() if self.free[key] else self._buffers(len(condition), slots)
        for tensor in (tensor for pairs in buffers for pair in pairs for tensor in pair):
            tensor.zero_()  # NaN of a batch that failed would come through every mask
        decoding = FixedDecoding(self, buffers, condition, clock, slots, columns)
        weakref.finalize(decoding, self.free[key].append, buffers)
        return decoding

    @torch.inference_mode(False)  # they outlive the call
    def _buffers(self, batch: int, slots: int) -> Buffers:
        config, like = self.model.config, self.model.norm.weight
        shape = (batch, config.heads, slots, config.width // config.heads)

        def pairs(layers: int) -> list[tuple[Tensor, Tensor]]:
            return [
                (_still(like.new_zeros(shape)), _still(like.new_zeros(shape)))
                for _ in range(layers)
            ]

        decoder = config.decoder_layers
        return Buffers(pairs(config.encoder_layers), pairs(decoder), pairs(decoder))


def _still(buffer: Tensor) -> Tensor:
    """A tensor that stays where it is, which CUDA graphs may write into."""
    torch._dynamo.mark_static_address(buffer)
    return buffer


class FixedDecoding(HeadDecoding):
    """`CachedDecoding` in fixed shapes."""

    def __init__(
        self,
        fixed: FixedShapes,
        buffers: Buffers,
        condition: Tensor,
        clock: Tensor,
        slots: int,
        columns: int,
    ) -> None:
        model = self.model = fixed.model
        self.fixed, self.buffers = fixed, buffers
        self.columns, self.prefix = columns, clock.shape[1]
        self.slots = torch.arange(slots, device=condition.device)
        self.seen = F.pad(clock < PADDING, (0, slots - self.prefix), value=True)[:, None, None]
        self.asked = self.known = 0
        cells = torch.arange(model.config.grid[0] * model.config.grid[1], device=condition.device)
        self.rotations = model.rotation(cells[None], columns)[0, 0]  # of every position, once
        nothing = torch.empty(len(condition), 0, dtype=torch.int64, device=condition.device)
        x = model.embed(condition, nothing)
        origin = model.prefixed(model.rotation(nothing), self.prefix)
        mask = F.pad(visible(clock, clock), (0, slots - self.prefix))[:, None]
        absorb(model, buffers, x, origin, self.slots[: self.prefix], mask)

    def ask(self, positions: Tensor) -> Tensor:
        """What the head reads of the next set, ``[B, n, width]``, at ``positions`` ``[B, n]``."""
        count, positions = positions.shape[1], _filled(positions)
        slots, end = self._slots(self.asked, positions), self.asked + count
        x, rotation = self.model.queries(positions, self.columns), self._rotation(positions)
        masks = (self.slots < end)[None, None, None], self._mask(self.known)
        torch.compiler.cudagraph_mark_step_begin()
        found = self.fixed.ask(self.model, self.buffers, x, rotation, slots, *masks)
        self.asked = end
        return found[:, :count]

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` at ``positions`` ``[B, n]`` known."""
        if self.known == self.asked:  # its guidance was skipped, and later queries see its queries
            self.ask(positions)
        end, positions = self.known + codes.shape[1], _filled(positions)
        slots = self._slots(self.prefix + self.known, positions)
        x, rotation = self.model.embed(None, _filled(codes)), self._rotation(positions)
        torch.compiler.cudagraph_mark_step_begin()
        self.fixed.absorb(self.model, self.buffers, x, rotation, slots, self._mask(end))
        self.known = end

    def _rotation(self, positions: Tensor) -> Tensor:
        return self.rotations[positions][:, None]

    def _slots(self, start: int, positions: Tensor) -> Tensor:
        """Where a set and what fills it up is written, from a slot on; the last slot takes more."""
        return (self.slots[: positions.shape[1]] + start).clamp_max(len(self.slots) - 1)

    def _mask(self, known: int) -> Tensor:
        """Which slots hold the condition, no padding, and so many tokens: ``[B, 1, 1, slots]``."""
        return self.seen & (self.slots < self.prefix + known)


def _filled(values: Tensor) -> Tensor:
    """``[B, n]`` with zeros behind it up to a power of two."""
    return F.pad(values, (0, bucket(values.shape[1]) - values.shape[1]))
