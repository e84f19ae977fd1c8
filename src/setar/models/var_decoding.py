"""How a VAR generates: the pyramid of its tokenizer, and an image that grows scale by scale.

The transformer knows vectors, not codes; a tokenizer makes these vectors, known here as a `Pyramid`
only.
"""

import bisect
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from setar.layers.attention import KVCache
from setar.models.base import Scales

if TYPE_CHECKING:
    from setar.models.var import VARTransformer


class Pyramid(Protocol):
    """What a multi-scale tokenizer does for a VAR: from codes to the next scale's inputs.

    Scales are numbered from 0; the tokens of a scale are in raster order. C is the dimension of a
    code's vector.
    """

    @property
    def scales(self) -> Scales:
        """Rows and columns of each scale, coarse to fine."""
        ...

    def next_inputs(self, codes: Tensor) -> Tensor:
        """Codes ``[B, L]`` of all scales to ``[B, L - first, C]``: the inputs of scales 1, 2, ...

        The input of a scale depends on the codes of the scales before it only.
        """
        ...

    def accumulate(
        self, latents: Tensor | None, codes: Tensor, scale: int
    ) -> tuple[Tensor, Tensor]:
        """The same step by step, for codes ``[B, n]`` of one scale.

        ``latents`` ``[B, C, rows, columns]`` is the sum over the scales before, None for scale 0.
        Returns the sum with this scale, and the input of the next one, ``[B, n', C]``.
        """
        ...

    def correct(self, features: Tensor, wrong: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs that hold mistakes, and the codes ``[B, L]`` that make up for those before them.

        Of the features ``[B, C, rows, columns]`` of images; the codes ``wrong`` ``[B, L]`` stand
        in the inputs where the bool ``mask`` ``[B, L]`` says so.
        """
        ...


class CachedDecoding:
    """Generation with cached keys and values: each token goes through the model once.

    What a scale's inputs say about its tokens is kept, so `predict` costs only the head, and scales
    may be absorbed that were not asked for (their guidance was skipped).
    """

    def __init__(self, model: "VARTransformer", condition: Tensor, tokens: int) -> None:
        self.model, self.pyramid, self.done = model, model.pyramid, 0
        self.latents: Tensor | None = None
        # Not `cached_like`: scores up to 100 are too large for bfloat16.
        config, like = model.config, model.words.weight
        shape = (len(condition), config.heads, tokens, config.width // config.heads)
        self.caches = [KVCache(*shape, like) for _ in range(config.layers)]
        self.token = model.condition.embed(condition)
        self.modulations = model.modulate(self.token)
        self.last = model.read(model.embed_start(self.token), self.modulations, caches=self.caches)

    def predict(self, positions: Tensor) -> Tensor:
        """Logits of the next scale; ValueError if ``positions`` are not its tokens in order."""
        _check_next(self.model, positions, self.done)
        return self.model.logits(self.last, self.token)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` of the next scale, at ``positions`` ``[B, n]``, known."""
        scale = _check_next(self.model, positions, self.done)
        self.done += codes.shape[1]
        if self.done == self.model.config.tokens:
            return
        self.latents, inputs = self.pyramid.accumulate(self.latents, codes, scale)
        x = self.model.embed(inputs, self.done)
        self.last = self.model.read(x, self.modulations, caches=self.caches)


class RecomputedDecoding:
    """Generation that computes everything anew at each step."""

    def __init__(self, model: "VARTransformer", condition: Tensor, tokens: int) -> None:
        self.model, self.pyramid, self.condition = model, model.pyramid, condition
        self.codes = torch.empty(len(condition), 0, dtype=torch.int64, device=condition.device)

    def predict(self, positions: Tensor) -> Tensor:
        """Logits of the next scale; ValueError if ``positions`` are not its tokens in order."""
        config, done = self.model.config, self.codes.shape[1]
        _check_next(self.model, positions, done)
        # The inputs that are asked for do not depend on the codes that are not known yet.
        missing = (len(self.codes), config.tokens - done, *self.codes.shape[2:])
        padded = torch.cat([self.codes, self.codes.new_zeros(missing)], 1)
        wanted = done + positions.shape[1] - config.sizes[0]
        inputs = self.pyramid.next_inputs(padded)[:, :wanted]
        return self.model.predict_maps(inputs, self.condition)[:, done:]

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` of the next scale, at ``positions`` ``[B, n]``, known."""
        done = _check_next(self.model, positions, self.codes.shape[1])
        self.codes = torch.cat([self.codes, codes], 1) if done else codes


def _check_next(model: "VARTransformer", positions: Tensor, done: int) -> int:
    """The number of the next scale; ValueError if ``positions`` are not its tokens."""
    ends = model.config.ends
    scale = bisect.bisect_right(ends, done)
    stop = ends[scale] if scale < len(ends) else done
    expected = torch.arange(done, stop, device=positions.device)
    if positions.shape[1] != stop - done or stop == done or (positions != expected).any():
        raise ValueError(model.rule)
    return scale
