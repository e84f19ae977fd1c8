"""Next-scale prediction: a VAR together with the pyramid of its tokenizer.

The transformer knows vectors, not codes; a tokenizer makes these vectors, known here as a `Pyramid`
only. `VARGenerator` joins the two and is trained and sampled like any other generator.
"""

import bisect
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from setar.layers.attention import KVCache
from setar.models.var import Scales, VARTransformer
from setar.recipes.recipe import SetPlan


@runtime_checkable
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

    def correct(self, features: Tensor, wrong: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs that hold mistakes, and the codes ``[B, L]`` that make up for those before them.

        Of the features ``[B, C, rows, columns]`` of images; the codes ``wrong`` ``[B, L]`` stand
        in the inputs where the bool ``where`` ``[B, L]`` says so.
        """
        ...


class VARGenerator:
    """A VAR with the pyramid of its tokenizer: what can be trained on codes and sampled.

    Args:
        model: predicts codes; in evaluation mode to sample.
        pyramid: makes its inputs; of the same scales.
    """

    takes_soft_codes = True
    """Wherever its pyramid does: mixtures of codes ``[B, n, V]`` are absorbed like codes."""

    def __init__(self, model: VARTransformer, pyramid: Pyramid) -> None:
        if pyramid.scales != model.config.scales:
            raise ValueError(
                f"the tokenizer has the scales {pyramid.scales}, the model {model.config.scales}"
            )
        self.model, self.pyramid, self.config = model, pyramid, model.config

    def __call__(self, codes: Tensor, labels: Tensor, plan: SetPlan) -> Tensor:
        """Predict every map from the maps before it, all at once (training).

        Args:
            codes: int64 ``[B, L]``, the scales one after the other.
            labels: int64 ``[B]``; the number of classes means "no class".
            plan: a plan of `scale_recipe`.

        Returns:
            Float32 logits ``[B, L, V]``: row j predicts ``codes[:, j]``.

        Raises:
            ValueError: the plan has another grid, order or other sets.
        """
        self.check(plan)
        with torch.no_grad(), torch.autocast(codes.device.type, enabled=False):
            inputs = self.pyramid.next_inputs(codes)
        return self.model(inputs, labels)

    def after_mistakes(
        self, features: Tensor, labels: Tensor, wrong: Tensor, where: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict every map from maps with mistakes before it (training with self-correction).

        Args:
            features: float32 ``[B, C, rows, columns]``, of images, by the tokenizer.
            labels: int64 ``[B]``; the number of classes means "no class".
            wrong: int64 ``[B, L]``, codes to put in the place of the right ones.
            where: bool ``[B, L]``, where they are put.

        Returns:
            Float32 logits ``[B, L, V]``, and the codes ``[B, L]`` that they should predict: those
            that make up for the mistakes before them.
        """
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            inputs, targets = self.pyramid.correct(features, wrong, where)
        return self.model(inputs, labels), targets

    def start(
        self, labels: Tensor, tokens: int, attention: str = "causal", cache: bool = True
    ) -> "CachedDecoding | RecomputedDecoding":
        """Begin to generate images of ``labels`` ``[B]``, a scale at a time.

        Args:
            labels: int64 ``[B]``; the number of classes means "no class".
            tokens: most tokens that will be predicted; caches are allocated for them once.
            attention: ``"causal"``.
            cache: False computes everything anew at each step, to compare with.

        Raises:
            ValueError: ``attention`` is not causal.
        """
        if attention != "causal":
            raise ValueError(
                f"`attention` must be 'causal' for a VAR, not {attention!r}: its scales were never "
                "trained to see later ones (full attention needs an FMT)"
            )
        return CachedDecoding(self, labels, tokens) if cache else RecomputedDecoding(self, labels)

    def null(self, labels: Tensor) -> Tensor:
        """The label "no class" in the shape of ``labels``."""
        return self.model.null(labels)

    def check(self, plan: SetPlan) -> None:
        """Raise ValueError unless the plan is one of `scale_recipe` on the model's grid."""
        self.model.check(plan)


class CachedDecoding:
    """Generation with cached keys and values: each token goes through the model once.

    What a scale's inputs say about its tokens is kept, so `predict` costs only the head, and scales
    may be absorbed that were not asked for (their guidance was skipped).
    """

    def __init__(self, generator: VARGenerator, labels: Tensor, tokens: int) -> None:
        self.model, self.pyramid = generator.model, generator.pyramid
        self.done = 0
        self.latents: Tensor | None = None
        config, like = self.model.config, self.model.head.weight
        shape = (len(labels), config.heads, tokens, config.width // config.heads)
        self.caches = [KVCache(*shape, like) for _ in range(config.layers)]
        self.condition = self.model.condition(labels)
        self.modulations = self.model.modulate(self.condition)
        self.last = self._read(self.model.embed_start(self.condition))

    def predict(self, positions: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of the next scale, at ``positions`` ``[B, n]``.

        Raises:
            ValueError: these are not all tokens of the next scale in their order.
        """
        _check_next(self.model, positions, self.done)
        return self.model.logits(self.last, self.condition)

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` of the next scale, at ``positions`` ``[B, n]``, known."""
        scale = _check_next(self.model, positions, self.done)
        self.done += codes.shape[1]
        if self.done == self.model.config.tokens:
            return
        self.latents, inputs = self.pyramid.accumulate(self.latents, codes, scale)
        self.last = self._read(self.model.embed(inputs, self.done))

    def _read(self, x: Tensor) -> Tensor:
        return self.model.read(x, self.modulations, caches=self.caches)


class RecomputedDecoding:
    """Generation that computes everything anew at each step."""

    def __init__(self, generator: VARGenerator, labels: Tensor) -> None:
        self.model, self.pyramid, self.labels = generator.model, generator.pyramid, labels
        self.codes = labels.new_empty(len(labels), 0)

    def predict(self, positions: Tensor) -> Tensor:
        """Float32 logits ``[B, n, V]`` of the next scale, at ``positions`` ``[B, n]``.

        Raises:
            ValueError: these are not all tokens of the next scale in their order.
        """
        config, done = self.model.config, self.codes.shape[1]
        _check_next(self.model, positions, done)
        # The inputs that are asked for do not depend on the codes that are not known yet.
        missing = (len(self.codes), config.tokens - done, *self.codes.shape[2:])
        padded = torch.cat([self.codes, self.codes.new_zeros(missing)], 1)
        wanted = done + positions.shape[1] - config.sizes[0]
        inputs = self.pyramid.next_inputs(padded)[:, :wanted]
        return self.model(inputs, self.labels)[:, done:]

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        """Make ``codes`` ``[B, n]`` of the next scale, at ``positions`` ``[B, n]``, known."""
        done = _check_next(self.model, positions, self.codes.shape[1])
        self.codes = torch.cat([self.codes, codes], 1) if done else codes


def _check_next(model: VARTransformer, positions: Tensor, done: int) -> int:
    """The number of the next scale; ValueError if ``positions`` are not its tokens."""
    ends = model.config.ends
    scale = bisect.bisect_right(ends, done)
    stop = ends[scale] if scale < len(ends) else done
    expected = torch.arange(done, stop, device=positions.device)
    if positions.shape[1] != stop - done or stop == done or (positions != expected).any():
        raise ValueError(model.rule)
    return scale
