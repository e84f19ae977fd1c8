"""Blocks of a plain vision transformer (arXiv 2010.11929): layer norm, GELU, biases everywhere.

Positions are for the caller to add to its tokens.
"""

from torch import Tensor, nn

from setar.layers.attention import KVCache, attend
from setar.layers.dropout import Dropout


def layer_norm(width: int) -> nn.LayerNorm:
    """Layer norm with a learned gain and bias, eps 1e-6."""
    return nn.LayerNorm(width, eps=1e-6)


class PlainAttention(nn.Module):
    """Multi-head attention of a sequence to itself and to what its cache remembers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        last: int | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape, or to that of its ``last`` rows.

        Args:
            x: the sequence.
            mask: boolean ``[B or 1, 1, L, keys]``, True where a key is visible; None: all are.
            cache: if given, the keys are those it holds and then these; they are added to it.
            last: how many rows at the end are asked for; None: all.
        """
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        if cache is not None:
            cache.append(key, value)
            key, value = cache.view()
        if last is not None:
            query, mask = query[:, :, -last:], None if mask is None else mask[:, :, -last:]
        return self.output(attend(query, key, value, mask).transpose(1, 2).flatten(2))


class PlainBlock(nn.Module):
    """Self-attention, then a feed-forward layer of four times the width."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = layer_norm(width)
        self.attention = PlainAttention(width, heads)
        self.feed_forward_norm = layer_norm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(4 * width, width),
        )
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        last: int | None = None,
    ) -> Tensor:
        """``[B, L, width]`` to the same shape; the arguments are those of `PlainAttention`."""
        attended = self.attention(self.attention_norm(x), mask, cache, last)
        x = (x if last is None else x[:, -last:]) + self.dropout(attended)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


def initialise_plain(module: nn.Module) -> None:
    """Glorot's uniform weights and no biases in linear layers, normal(0.02) in embeddings.

    As in MAR and LPD; for `nn.Module.apply`.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
