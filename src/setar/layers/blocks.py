"""Transformer blocks.

In Llama's style, as LlamaGen uses them: RMSNorm, SwiGLU, no biases. In DiT's style, as VAR uses
them: layer norms whose gain and bias are a function of the condition (AdaLN, arXiv 2212.09748).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.layers.attention import (
    CosineAttention,
    CrossAttention,
    KVCache,
    Mask,
    QueryAttention,
    SelfAttention,
)
from setar.layers.dropout import Dropout
from setar.layers.norm import RMSNorm
from setar.layers.steady import SteadyLinear


def swiglu_width(width: int) -> int:
    """Hidden width of the feed-forward layer: 2/3 of 4 x ``width``, up to a multiple of 256."""
    hidden = 8 * width // 3
    return 256 * -(-hidden // 256)


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        hidden = swiglu_width(width)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        return self.dropout(self.down(F.silu(self.gate(x)) * self.up(x)))


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(width, heads)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Tensor,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        last: int | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape, or to ``[B, last, width]``.

        The arguments are those of `SelfAttention`.
        """
        attended = self.attention(self.attention_norm(x), rotation, mask, cache, last)
        x = (x if last is None else x[:, -last:]) + self.dropout(attended)
        return x + self.feed_forward(self.feed_forward_norm(x))


class DecoderBlock(nn.Module):
    """Self-attention among the queries, cross-attention to the memory, then feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(width, heads)
        self.cross_attention_norm = RMSNorm(width)
        self.cross_attention = CrossAttention(width, heads)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Tensor,
        keys_values: tuple[Tensor, Tensor] | None = None,
        self_mask: Mask | None = None,
        cross_mask: Mask | None = None,
        cache: KVCache | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape.

        ``keys_values`` are what this block's cross-attention made of the encoder's output; without
        them it makes them of ``memory``, that output and its rotations.
        """
        if keys_values is None:
            assert memory is not None
            keys_values = self.cross_attention.remember(*memory)
        attended = self.attention(self.attention_norm(x), rotation, self_mask, cache)
        x = x + self.dropout(attended)
        crossed = self.cross_attention(
            self.cross_attention_norm(x), rotation, keys_values, cross_mask
        )
        x = x + self.dropout(crossed)
        return x + self.feed_forward(self.feed_forward_norm(x))


class QueryBlock(nn.Module):
    """Attention of queries to keys and values that are made elsewhere, then feed-forward.

    The queries do not see one another.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = QueryAttention(width, heads)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Tensor,
        keys_values: tuple[Tensor, Tensor],
        mask: Mask | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape; the arguments are those of `QueryAttention`."""
        attended = self.attention(self.attention_norm(x), rotation, keys_values, mask)
        x = x + self.dropout(attended)
        return x + self.feed_forward(self.feed_forward_norm(x))


def modulated_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm of ``[B, L, width]``, eps 1e-6, times 1 + ``scale`` plus ``shift``."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Offset(nn.Module):
    """Adds a learned vector: a block's own part of a shared modulation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        return x + self.offset


class DropPath(nn.Module):
    """Leaves a branch out for some images while training (stochastic depth, Huang et al. 2016)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """A branch ``[B, ...]``: 0 for images that drop it, and larger for the others in turn."""
        if not self.training or self.probability == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.probability
        return x * kept / (1 - self.probability)


class AdaLNBlock(nn.Module):
    """Self-attention, then a GELU layer of 4 x ``width``; the condition modulates and gates both.

    Args:
        width: of the tokens.
        heads: attention heads.
        shared: the modulation comes from one layer for all blocks; this one adds an offset.
        drop_path: probability that an image skips a branch while training.
        l2_norm: of `CosineAttention`.
    """

    def __init__(
        self, width: int, heads: int, shared: bool, drop_path: float, l2_norm: bool = True
    ) -> None:
        super().__init__()
        self.modulation = Offset(6 * width) if shared else SteadyLinear(width, 6 * width)
        self.attention = CosineAttention(width, heads, l2_norm)
        self.feed_forward = nn.Sequential(
            SteadyLinear(width, 4 * width),
            nn.GELU(approximate="tanh"),
            SteadyLinear(4 * width, width),
        )
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor | None = None,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        basis: Tensor | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape.

        ``modulation`` ``[B, 1, 6 * width]`` is what this block's layer of that name made of
        ``basis``, or makes now: two gates, two scales and two shifts, each for attention and for
        the feed-forward layer.
        """
        if modulation is None:
            modulation = self.modulation(basis)
            assert modulation is not None
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation.chunk(6, -1)
        attended = self.attention(modulated_norm(x, scale1, shift1), mask, cache)
        x = x + self.drop_path(gate1 * attended)
        return x + self.drop_path(gate2 * self.feed_forward(modulated_norm(x, scale2, shift2)))
