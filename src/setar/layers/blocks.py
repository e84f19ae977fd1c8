"""Transformer blocks in Llama's style, as LlamaGen uses them: RMSNorm, SwiGLU, no biases."""

from torch import Tensor, nn
from torch.nn import functional as F

from setar.layers.attention import CrossAttention, KVCache, SelfAttention


def rms_norm(width: int) -> nn.RMSNorm:
    """Root-mean-square normalisation with a learned gain, eps 1e-5."""
    return nn.RMSNorm(width, eps=1e-5)


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
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        return self.dropout(self.down(F.silu(self.gate(x)) * self.up(x)))


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = rms_norm(width)
        self.attention = SelfAttention(width, heads)
        self.feed_forward_norm = rms_norm(width)
        self.feed_forward = SwiGLU(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape; the arguments are those of `SelfAttention`."""
        attended = self.attention(self.attention_norm(x), positions, mask, cache)
        x = x + self.dropout(attended)
        return x + self.feed_forward(self.feed_forward_norm(x))


class DecoderBlock(nn.Module):
    """Self-attention among the queries, cross-attention to the memory, then feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = rms_norm(width)
        self.attention = SelfAttention(width, heads)
        self.cross_attention_norm = rms_norm(width)
        self.cross_attention = CrossAttention(width, heads)
        self.feed_forward_norm = rms_norm(width)
        self.feed_forward = SwiGLU(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        memory: tuple[Tensor, Tensor],
        self_mask: Tensor | None = None,
        cross_mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape.

        ``memory`` is what this block's cross-attention made of the encoder's output.
        """
        attended = self.attention(self.attention_norm(x), positions, self_mask, cache)
        x = x + self.dropout(attended)
        crossed = self.cross_attention(self.cross_attention_norm(x), positions, memory, cross_mask)
        x = x + self.dropout(crossed)
        return x + self.feed_forward(self.feed_forward_norm(x))
