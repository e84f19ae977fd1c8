"""What is minimised: one class for generators, one for tokenizers.

An objective has players (modules with an optimiser each: a generator, or a tokenizer and its
critic) and gives each player's loss for a batch. The loop in `trainer` knows nothing else.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.data.images import Images
from setar.models.families import CodeGenerator
from setar.models.next_scale import VARGenerator
from setar.recipes.recipe import Recipe
from setar.tokenizers.autoencoder import psnr
from setar.tokenizers.base import to_float
from setar.tokenizers.losses import (
    FeatureMaps,
    PatchDiscriminator,
    adaptive_weight,
    adversarial_loss,
    critic_loss,
    perceptual_loss,
    pixel_loss,
)
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.vqgan import VQGAN
from setar.training.processes import ALONE, Processes

Metrics = dict[str, float | Tensor]
"""Scalars for the log; tensors of one element are read only when they are logged."""


class Objective(Protocol):
    """What the training loop asks for."""

    players: dict[str, nn.Module]
    """Modules in the order in which they move; the first one is the result."""

    samples: int
    """Number of training items."""

    def loss(self, player: str, items: Tensor, step: int) -> tuple[Tensor | None, Metrics]:
        """The scalar loss of ``player`` on the items with these indices, and what to log.

        None: the player does not move in this step.
        """
        ...

    def after_step(self, step: int) -> None:
        """What happens to the weights outside the optimiser."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What the objective itself must remember to resume."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        ...


class _OfGenerator:
    """What the objectives of a generator have in common."""

    def __init__(
        self, model: CodeGenerator, labels: Tensor, compile: bool, epoch: Tensor | None
    ) -> None:
        module = model.model if isinstance(model, VARGenerator) else model
        self.players: dict[str, nn.Module] = {"model": module}
        self.forward = _compiled(model) if compile else model
        self.labels = labels
        self.epoch = torch.arange(len(labels)) if epoch is None else epoch
        self.samples = len(self.epoch)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.players["model"].parameters()).device

    def after_step(self, step: int) -> None:
        """Nothing."""

    def state(self) -> dict[str, Tensor]:
        """Nothing to remember."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


class GeneratorObjective(_OfGenerator):
    """Cross-entropy of every supervised token under a recipe (algorithm 1).

    Args:
        model: predicts codes.
        codes: int64 ``[n, N]``, all training codes in raster order.
        labels: int64 ``[n]``.
        recipe: orders and sets; each batch gets a fresh plan.
        grid: rows and columns of tokens.
        compile: fuse the model's operations (its weights stay those of ``model``).
        epoch: indices of the codes of one epoch, some of them repeated; None is each once.
    """

    def __init__(
        self,
        model: CodeGenerator,
        codes: Tensor,
        labels: Tensor,
        recipe: Recipe,
        grid: tuple[int, int],
        compile: bool = False,
        epoch: Tensor | None = None,
    ) -> None:
        super().__init__(model, labels, compile, epoch)
        self.codes, self.recipe, self.grid = codes, recipe, grid

    def loss(self, player: str, items: Tensor, step: int) -> tuple[Tensor, Metrics]:
        """Mean negative log-likelihood in nats per supervised token."""
        plan = self.recipe.plan(self.grid, len(items)).to(self.device)
        items = self.epoch[items]
        codes, labels = self.codes[items].to(self.device), self.labels[items].to(self.device)
        logits = self.forward(codes, labels, plan)
        loss = token_loss(logits, codes.gather(1, plan.order), plan.supervised)
        return loss, {"loss": loss.detach()}


class SelfCorrectionObjective(_OfGenerator):
    """Cross-entropy of a VAR that makes up for mistakes (Infinity, arXiv 2412.04431, for bits).

    A VAR that saw right codes only is lost once it has drawn a wrong one, for every finer code
    depends on it. Here random codes take the place of some, and what is asked for are the codes
    that lead back to the image. So no two passes over an image are the same either, and it is
    hard to learn by heart.

    Args:
        model: predicts codes.
        features: float32 ``[n, C, rows, columns]`` of all training images, by its tokenizer.
        labels: int64 ``[n]``.
        share: of an image's codes up to this are wrong, drawn for each image from 0 on.
        compile, epoch: as of `GeneratorObjective`.
    """

    def __init__(
        self,
        model: VARGenerator,
        features: Tensor,
        labels: Tensor,
        share: float,
        compile: bool = False,
        epoch: Tensor | None = None,
    ) -> None:
        super().__init__(model, labels, compile, epoch)
        self.features, self.share, self.config = features, share, model.config

    def loss(self, player: str, items: Tensor, step: int) -> tuple[Tensor, Metrics]:
        """Mean negative log-likelihood in nats per token."""
        items, shape = self.epoch[items], (len(items), self.config.tokens)
        wrong = torch.randint(self.config.vocabulary, shape).to(self.device)
        where = (torch.rand(shape) < self.share * torch.rand(len(items), 1)).to(self.device)
        features, labels = self.features[items].to(self.device), self.labels[items].to(self.device)
        assert isinstance(self.forward, VARGenerator)
        logits, targets = self.forward.after_mistakes(features, labels, wrong, where)
        loss = token_loss(logits, targets, torch.ones_like(where))
        return loss, {"loss": loss.detach()}


def _compiled(model: CodeGenerator) -> CodeGenerator:
    """The same with fused operations; of a VAR, the transformer without the pyramid."""
    if isinstance(model, VARGenerator):
        return VARGenerator(torch.compile(model.model, dynamic=False), model.pyramid)  # type: ignore[arg-type]
    return torch.compile(model, dynamic=False)  # type: ignore[return-value]


def token_loss(logits: Tensor, targets: Tensor, supervised: Tensor) -> Tensor:
    """Float32 cross-entropy ``[B, N, V]`` against ``[B, N]``, mean over supervised tokens."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    counted = supervised.flatten().float()
    return (losses * counted).sum() / counted.sum().clamp_min(1)


@dataclass(frozen=True)
class TokenizerLossConfig:
    """Weights of a tokenizer's losses; pixels (L1 + L2) and the codebook have weight 1."""

    commitment: float = 0.25
    perceptual: float = 0.0
    """Of features of EfficientNet-Lite0 (needs the extra ``eval``)."""
    adversarial: float = 0.0
    """Of a PatchGAN critic, balanced by the adaptive weight; LlamaGen uses 0.5."""
    critic_start: int = 20000
    """First step with the adversarial loss."""
    critic_channels: int = 64
    critic_layers: int = 3
    revive_every: int = 100
    """Codes unused for so many steps restart at random features; 0 turns it off."""

    def __post_init__(self) -> None:
        if min(self.commitment, self.perceptual, self.adversarial) < 0:
            raise ValueError("loss weights must be at least 0")
        if min(self.critic_start, self.revive_every) < 0 or self.critic_layers < 1:
            raise ValueError("`critic_start`, `revive_every`: at least 0; `critic_layers`: 1")
        if self.critic_channels < 4 or self.critic_channels % 4:
            raise ValueError(f"`critic_channels` (={self.critic_channels}) must be a multiple of 4")


NEVER = -(2**40)
"""When a code was last used that has not been used yet."""


class TokenizerObjective:
    """Reconstruction, codebook and, if wanted, perceptual and adversarial losses.

    Args:
        model: the tokenizer.
        images: all training images.
        config: weights.
        feature_maps: network of the perceptual loss; needed if its weight is above 0.
        processes: those that train together.
    """

    def __init__(
        self,
        model: VQGAN | MultiScaleVQ,
        images: Images,
        config: TokenizerLossConfig,
        feature_maps: FeatureMaps | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.players: dict[str, nn.Module] = {"model": model}
        self.model, self.images, self.config = model, images, config
        self.samples = len(images)
        self.feature_maps, self.processes = feature_maps, processes
        if config.adversarial:
            critic = PatchDiscriminator(config.critic_channels, config.critic_layers)
            self.players["critic"] = critic.to(next(model.parameters()).device)
        self.last_used = torch.full((model.codebook.scale_count, model.vocabulary), NEVER)
        self._batch: tuple[Tensor, Tensor] | None = None
        self._features: Tensor | None = None

    def loss(self, player: str, items: Tensor, step: int) -> tuple[Tensor | None, Metrics]:
        """The tokenizer's loss, or the critic's on the same batch."""
        if player == "model":
            return self._model_loss(items, step)
        return self._critic_loss() if self._critic_plays(step) else (None, {})

    def _model_loss(self, items: Tensor, step: int) -> tuple[Tensor, Metrics]:
        originals = to_float(self.images[items]).to(next(self.model.parameters()).device)
        features = self.model.features(originals)
        quantized = self.model.codebook(features)
        images = self.model.decoder(self.model.from_code(quantized.vectors)).float()
        self._batch, self._features = (images.detach(), originals), features.detach()
        self.last_used[self.model.codebook.counts(quantized.codes).cpu() > 0] = step
        self.processes.highest(self.last_used)
        loss = pixel_loss(images, originals)
        if self.config.perceptual:
            assert self.feature_maps is not None
            distance = perceptual_loss(self.feature_maps, images, originals)
            loss = loss + self.config.perceptual * distance
        if self._critic_plays(step):
            fooled = adversarial_loss(self.players["critic"](images))
            weight = adaptive_weight(loss, fooled, self.model.decoder.output.weight)
            loss = loss + self.config.adversarial * weight * fooled
        pull = quantized.codebook_loss + self.config.commitment * quantized.commitment_loss
        metrics: Metrics = {
            "loss": (loss + pull).detach(),
            "psnr": psnr(images.detach(), originals).mean(),
            "usage": self.usage(step),
            **self._scale_usage(step),
        }
        return loss + pull, metrics

    def _critic_plays(self, step: int) -> bool:
        return "critic" in self.players and step >= self.config.critic_start

    def _critic_loss(self) -> tuple[Tensor, Metrics]:
        assert self._batch is not None
        images, originals = self._batch
        critic = self.players["critic"]
        loss = critic_loss(critic(originals), critic(images))
        return loss, {"critic_loss": loss.detach()}

    def usage(self, step: int, window: int = 100) -> float:
        """Share of the codebook that some image of the last ``window`` steps used."""
        return (self.last_used.amax(0) > step - window).float().mean().item()

    def _scale_usage(self, step: int, window: int = 100) -> Metrics:
        """The same for each scale alone, where there are several."""
        shares = (self.last_used > step - window).float().mean(1).tolist()
        return {f"usage/scale_{i + 1}": s for i, s in enumerate(shares) if len(shares) > 1}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Restart codes that no scale has used for long at what the present batch compares."""
        every = self.config.revive_every
        if not every or (step + 1) % every:
            return
        dead = (self.last_used.amax(0) <= step - every).nonzero().flatten()
        assert self._features is not None
        vectors = self.model.codebook.compared(self._features)
        chosen = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)]
        self.model.codebook.weight[dead.to(vectors.device)] = chosen
        self.processes.copy_first([self.model.codebook.weight])

    def state(self) -> dict[str, Tensor]:
        """When each scale last used each code."""
        return {"last_used": self.last_used}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self.last_used = state["last_used"].view_as(self.last_used)
