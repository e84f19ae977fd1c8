"""Self- and cross-attention in which masks, positions and caches are arguments."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from setar.layers.norm import RMSNorm
from setar.layers.rope import rotate
from setar.layers.steady import SteadyLinear

Mask = Tensor | BlockMask
"""Where queries see keys: bool ``[B or 1, 1, L, M]``, or the same by blocks of 128 x 128."""


MANY = 2**19
"""Numbers of keys from which on a single query of each image attends by two products: of fewer, the
calls take longer than what the fused kernel loses."""


class KVCache:
    """Keys and values of one attention layer, in buffers that are allocated once.

    Args:
        batch: number of sequences.
        heads: attention heads.
        length: most tokens it will ever hold.
        head_dim: dimension of a head.
        like: gives device and dtype.
    """

    def __init__(self, batch: int, heads: int, length: int, head_dim: int, like: Tensor) -> None:
        self.buffer = like.new_empty(2, batch, heads, length, head_dim)
        self.keys, self.values = self.buffer
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add ``[B, heads, n, head_dim]`` keys and values behind those already here."""
        start, count = self.length, keys.shape[2]
        self.keys.narrow(2, start, count).copy_(keys)  # slices in brackets take four times as long
        self.values.narrow(2, start, count).copy_(values)
        self.length += count

    def view(self) -> tuple[Tensor, Tensor]:
        """All keys and all values so far, ``[B, heads, length, head_dim]``, without a copy."""
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)


class SlotCache(KVCache):
    """A cache of fixed shapes, for code that is compiled once: what it gets goes to given slots.

    Args:
        keys: ``[B, heads, slots, head_dim]``, written into.
        values: the same.
        slots: int64 ``[n]``, where the next n keys and values go.
    """

    def __init__(self, keys: Tensor, values: Tensor, slots: Tensor) -> None:
        self.keys, self.values, self.slots = keys, values, slots

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Put ``[B, heads, n, head_dim]`` keys and values into the slots."""
        self.keys[:, :, self.slots] = keys
        self.values[:, :, self.slots] = values

    def view(self) -> tuple[Tensor, Tensor]:
        """All slots, ``[B, heads, slots, head_dim]``; a mask must hide those that hold nothing."""
        return self.keys, self.values


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask | None, scale: float | None = None
) -> Tensor:
    """Softmax attention of ``[B, heads, L, head_dim]`` to M keys and values, to the same shape.

    With a mask by blocks FlexAttention computes it, which leaves out blocks that nobody sees and
    has a backward pass on CUDA only.

    On a CPU it is computed in float32: the backward pass of PyTorch's fused kernel takes four times
    as long in bfloat16, which is what autocast would choose. The result has the dtype of the
    values. Only to keys and values that a cache holds in bfloat16 float32 queries attend in that,
    and get float32.
    """
    if isinstance(mask, BlockMask):
        # Inside of something that is compiled it is compiled with it.
        flex = flex_attention if torch.compiler.is_compiling() else _flex(query.device.type)
        query, key = query.to(value.dtype), key.to(value.dtype)  # rotated ones may be wider
        return flex(query, key, value, block_mask=mask, scale=scale)
    exact = query.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if query.device.type == "cpu" and exact:
        alone = query.shape[2] == 1 and key.numel() >= MANY
        if alone or key.dtype != query.dtype:
            return _by_products(query, key, value, mask, scale)
    if exact or query.device.type != "cpu":  # entering a context costs as much as a small product
        return F.scaled_dot_product_attention(query, key, value, mask, scale=scale)
    with torch.autocast("cpu", enabled=False):
        parts = (query.float(), key.float(), value.float())
        return F.scaled_dot_product_attention(*parts, mask, scale=scale).to(value.dtype)


def _by_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """`attend` as two products: on CPUs faster for one query and `MANY` keys, or in bfloat16.

    Keys are the first factor, since kernels in bfloat16 copy the second into a layout of theirs.
    The softmax of bfloat16 sums in float32 on its own; asked for that it copies its scores twice.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (key @ (query * scale).to(key.dtype).mT).mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ value).to(query.dtype)


@cache
def _flex(device: str) -> Callable[..., Any]:
    """FlexAttention on a kind of device: as it is on a CPU, for tests; else compiled."""
    return flex_attention if device == "cpu" else torch.compile(flex_attention)


def _heads(x: Tensor, heads: int) -> Tensor:
    """``[B, L, heads * head_dim]`` to ``[B, heads, L, head_dim]``."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    """The inverse of `_heads`."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself and to what its cache remembers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Tensor,
        rotation: Tensor,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        last: int | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: ``[B, L, width]``.
            rotation: of each of these L tokens.
            mask: boolean ``[B or 1, 1, L, keys]``, True where a key is visible, or by blocks; None:
                all are.
            cache: if given, the keys are those it holds and then these; they are added to it.
            last: only so many tokens at the end ask, and are returned; all are keys. None: all ask.
        """
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        (query, key), value = rotate(parts[:2], rotation), parts[2]
        if cache is not None:
            cache.append(key, value)
            key, value = cache.view()
        if last is not None:
            assert not isinstance(mask, BlockMask), "which cannot be cut"
            query, mask = query[:, :, -last:], None if mask is None else mask[..., -last:, :]
        mixed = attend(query, key, value, mask)
        return self.output(_merge(mixed))


class CrossAttention(nn.Module):
    """Multi-head attention of queries to an encoded memory."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def remember(self, memory: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``[B, heads, M, head_dim]`` of a memory ``[B, M, width]``."""
        key = rotate(_heads(self.key(memory), self.heads), rotation)
        return key, _heads(self.value(memory), self.heads)

    def forward(
        self,
        x: Tensor,
        rotation: Tensor,
        keys_values: tuple[Tensor, Tensor],
        mask: Mask | None = None,
    ) -> Tensor:
        """Attend from ``x`` ``[B, L, width]``, rotated, to what `remember` returned.

        ``mask`` is boolean ``[B or 1, 1, L, M]``, True where a key is visible, or by blocks; None:
        all are.
        """
        query = rotate(_heads(self.query(x), self.heads), rotation)
        return self.output(_merge(attend(query, *keys_values, mask)))


class KeysValues(nn.Module):
    """Keys and values of a memory, for all layers that read it (as in YOCO, arXiv 2405.05254)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm(width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    def forward(self, memory: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, rotated, and values ``[B, heads, M, head_dim]`` of a memory ``[B, M, width]``."""
        x = self.norm(memory)
        key = rotate(_heads(self.key(x), self.heads), rotation)
        return key, _heads(self.value(x), self.heads)


class QueryAttention(nn.Module):
    """Multi-head attention to keys and values that are made elsewhere."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Tensor,
        rotation: Tensor,
        keys_values: tuple[Tensor, Tensor],
        mask: Mask | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape; the arguments are those of `CrossAttention`."""
        query = rotate(_heads(self.query(x), self.heads), rotation)
        return self.output(_merge(attend(query, *keys_values, mask)))


class CosineAttention(nn.Module):
    """Self-attention by the angle between query and key, as in VAR (arXiv 2404.02905, section 3.3).

    Queries and keys have unit length after the biases; a head's scores are their cosines times
    exp(min(s, ln 100)), its learned s beginning at ln 4. Keys have no bias. Positions are for the
    caller to add to its tokens.

    Args:
        width: of the tokens.
        heads: attention heads.
        l2_norm: False keeps the lengths; scores are then products divided by 4 sqrt(head_dim), as
            in VAR's own code.
    """

    SHARPEST = math.log(100)
    """A head's s counts as this if it is larger."""

    def __init__(self, width: int, heads: int, l2_norm: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = SteadyLinear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.full((heads,), math.log(4))) if l2_norm else None
        self.scale = 1.0 if l2_norm else 0.25 * (width // heads) ** -0.5
        self.output = SteadyLinear(width, width)

    def forward(self, x: Tensor, mask: Mask | None = None, cache: KVCache | None = None) -> Tensor:
        """``[B, L, width]`` to the same shape; mask and cache are those of `SelfAttention`."""
        query, key, value = self.qkv(x).chunk(3, -1)
        query, value = query + self.query_bias, value + self.value_bias
        query, key, value = (_heads(part, self.heads) for part in (query, key, value))
        if self.log_scale is not None:
            sharpness = self.log_scale.clamp_max(self.SHARPEST).exp()[:, None, None]
            query, key = sharpness * F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        if cache is not None:
            cache.append(key, value)
            key, value = cache.view()
        mixed = attend(query, key, value, mask, self.scale)
        return self.output(_merge(mixed))
