"""What the backward pass of an FMT keeps, as a formula: the memory that grows with tokens.

Numbers of a token with width d, feed-forward width h and H heads, where M keys are seen:

    encoder layer    12 d + 4 h + H + 2 + M           with dropout 2 d more
    decoder layer    17 d + 4 h + 2 H + 3 + M + M'    with dropout 3 d more; M' keys of its own kind
                      2 d                             of each token that the decoder reads

With the fused kernel attention keeps H sums and M numbers of the mask; written out
(`SDPBackend.MATH`, which training on a CPU takes) it keeps H M probabilities and 2 d less.
Checkpointing keeps d of each layer, and one layer whole while it is computed again, with some of
its gradients.

On CUDA a number may have two bytes, dropout keeps one byte, and masks by blocks keep nothing.
"""

from dataclasses import dataclass

from setar.layers.blocks import swiglu_width
from setar.models.fmt import FMTConfig

FLOAT = 4
"""Bytes of a number on a CPU."""
GRADIENTS = 3
"""Of the feed-forward width: gradients that a layer's own backward pass has at once."""
LOGITS = 3
"""Logits, their logarithms of probabilities and the gradient of them, at once."""


@dataclass(frozen=True)
class Activations:
    """Of a training step with images of the config's grid and a condition of a class.

    Args:
        config: shape of the model.
        images: of the batch.
        fused: attention by the fused kernel, not written out.
        checkpointing: each layer is computed again for its backward pass.
    """

    config: FMTConfig
    images: int
    fused: bool = True
    checkpointing: bool = False

    @property
    def tokens(self) -> int:
        """Of an image, as the decoder has them."""
        return self.config.grid[0] * self.config.grid[1]

    @property
    def known(self) -> int:
        """Of an image, as the encoder has them: with its condition."""
        return self.tokens + self.config.condition_length

    def encoder_layer(self) -> int:
        """Bytes that one keeps."""
        numbers = self._layer(10, dropped=2, norms=2, keys=[self.known])
        return FLOAT * self.images * self.known * numbers

    def decoder_layer(self) -> int:
        """Bytes that one keeps."""
        numbers = self._layer(15, dropped=3, norms=3, keys=[self.known, self.tokens])
        memory = 2 * self.config.width * self.known
        return FLOAT * self.images * (self.tokens * numbers + memory)

    def logits(self) -> int:
        """Bytes of all logits, once."""
        return FLOAT * self.images * self.tokens * self.config.vocabulary

    def kept(self) -> int:
        """Bytes that wait for the backward pass."""
        encoder, decoder = self.config.encoder_layers, self.config.decoder_layers
        if self.checkpointing:
            ends = encoder * self.known + decoder * self.tokens
            inside = FLOAT * self.images * self.config.width * ends
        else:
            inside = encoder * self.encoder_layer() + decoder * self.decoder_layer()
        norms = FLOAT * self.images * (self.known + self.tokens) * (2 * self.config.width + 1)
        return inside + norms + self.logits()

    def peak(self) -> int:
        """The most bytes at once beside weights, their gradients and an optimiser's means."""
        beginning = self.kept() + (LOGITS - 1) * self.logits()
        if not self.checkpointing:
            return beginning
        hidden = GRADIENTS * swiglu_width(self.config.width)
        gradients = FLOAT * self.images * self.known * hidden
        within = self.kept() + max(self.encoder_layer(), self.decoder_layer()) + gradients
        return max(beginning, within)

    def _layer(self, widths: int, dropped: int, norms: int, keys: list[int]) -> int:
        """Numbers of a token in a layer that attends to so many keys, once or twice."""
        config = self.config
        widths += 2 * self.fused + dropped * (config.dropout > 0)
        attention = sum(
            config.heads + count if self.fused else config.heads * count for count in keys
        )
        return widths * config.width + 4 * swiglu_width(config.width) + norms + attention
