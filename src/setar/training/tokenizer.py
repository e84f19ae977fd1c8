"""Training a tokenizer: what a config says, what is minimised, and how both meet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from setar.config import build, table
from setar.data.base import chosen, spread
from setar.data.images import Images
from setar.device import Unfilled
from setar.features.efficientnet import EfficientNetLite0
from setar.pictures.reconstructions import reconstruction_rows
from setar.pretrained import describe_tokenizer, load_tokenizer
from setar.registry import quoted
from setar.tokenizers.autoencoder import psnr
from setar.tokenizers.base import BATCH, TOKENIZERS, Tokenizer, to_float
from setar.tokenizers.losses import (
    FeatureMaps,
    PatchDiscriminator,
    adaptive_weight,
    adversarial_loss,
    critic_loss,
    perceptual_loss,
    pixel_loss,
)
from setar.training import facts
from setar.training.cost import flops_of
from setar.training.data import DataConfig
from setar.training.distributed import ALONE, Processes
from setar.training.heldout import measured
from setar.training.loop import Exported, LoopConfig, Metrics, Objective, Step, Trainer
from setar.training.optim import OptimizerConfig
from setar.training.start import begin_with

SHOWN = 64
"""Pictures whose reconstructions are shown."""

NEVER = -(2**40)
"""When a code was last used that has not been used yet."""


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of a tokenizer: a family and the fields of its config."""

    family: str
    """``vqgan``, LlamaGen's; or ``multiscale``, the tokenizer of a VAR."""
    shape: Any
    """Every other key of the table is a field of it."""
    left_out: tuple[str, ...] = field(default=(), compare=False)
    """Fields that the table does not say and that follow from the size of the images, such as the
    scales of a multi-scale tokenizer."""

    @classmethod
    def from_table(cls, value: Any, where: str) -> "TokenizerConfig":
        """Read the table ``tokenizer``; ValueError, saying ``where``, if something is wrong."""
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be a table, not {quoted(value)}")
        values = dict(value)
        family = values.pop("family", "vqgan")
        try:
            kind = TOKENIZERS.find(family)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        left_out = tuple(key for key in kind.FOLLOWS if key not in values)
        return cls(family, build(kind.Config, values, where), left_out)

    def completed(self, height: int, width: int) -> "TokenizerConfig":
        """The same with what was left out, for images of so many pixels; ValueError if none is."""
        if not self.left_out:
            return self
        return TokenizerConfig(
            self.family, TOKENIZERS.find(self.family).fitted(self.shape, height, width)
        )

    def to_table(self) -> dict[str, Any]:
        """The inverse of `from_table`."""
        fields = {k: v for k, v in table(self.shape).items() if k not in self.left_out}
        return {"family": self.family, **fields}

    def create(self) -> Tokenizer:
        """A freshly initialised tokenizer; ValueError if there is nothing to train."""
        tokenizer = TOKENIZERS.find(self.family)(self.shape)
        if tokenizer.quantizer is None:
            raise ValueError(f"the tokenizer {self.family!r} has nothing to train")
        return tokenizer


@dataclass(frozen=True)
class TokenizerLossConfig:
    """Weights of a tokenizer's losses; pixels (L1 + L2) and the codebook have weight 1."""

    commitment: float = 0.25
    """Of the distance that pulls features to their codes."""
    perceptual: float = 0.0
    """Of features of EfficientNet-Lite0 (needs the extra ``eval``)."""
    adversarial: float = 0.0
    """Of a PatchGAN critic, balanced by the adaptive weight; LlamaGen uses 0.5."""
    critic_start: int = 20000
    """First step with the adversarial loss."""
    critic_channels: int = 64
    """Width of its first layer."""
    critic_layers: int = 3
    """Layers that halve the picture; more of them judge larger patches."""
    revive_every: int = 100
    """Codes unused for so many steps restart at random features; 0 turns it off."""

    def __post_init__(self) -> None:
        if min(self.commitment, self.perceptual, self.adversarial) < 0:
            raise ValueError("loss weights must be at least 0")
        if min(self.critic_start, self.revive_every) < 0 or self.critic_layers < 1:
            raise ValueError("`critic_start`, `revive_every`: at least 0; `critic_layers`: 1")
        if self.critic_channels < 4 or self.critic_channels % 4:
            raise ValueError(f"`critic_channels` (={self.critic_channels}) must be a multiple of 4")


@dataclass(frozen=True)
class TokenizerRun:
    """A config file with ``task = "tokenizer"``."""

    task: Literal["tokenizer"]
    """Says that this is the training of a tokenizer."""
    data: DataConfig
    tokenizer: TokenizerConfig = field(
        default_factory=lambda: TokenizerConfig.from_table({}, "tokenizer")
    )
    init: str = ""
    """A shipped name, a model folder or a run whose tokenizer, of the same shape, is trained on;
    empty: it begins with random weights."""
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    plugins: tuple[str, ...] = ()
    """Python files with things of your own, beside the config or in the working directory."""

    def completed(self) -> "TokenizerRun":
        """The same with all that was left out: it follows from the images; ValueError if not."""
        run = replace(self, data=self.data.sized())
        if not self.tokenizer.left_out:
            return run
        return replace(run, tokenizer=self.tokenizer.completed(*run.data.size()))

    def trainer(self, folder: Path, processes: Processes) -> Trainer:
        """The trainer of this run, which is complete; ValueError if its parts do not fit."""
        self.loop.check_whole()
        self.loop.check_compiler()
        data, device = self.data.open(), self.loop.resolve_device()
        size = self.data.size(data)
        model = self._initial().to(device)
        grid = self._grid(model, size)
        side, smallest = min(size), 3 * 2**self.loss.critic_layers
        if self.loss.adversarial and side < smallest:
            raise ValueError(
                f"a critic of `critic_layers` (={self.loss.critic_layers}) needs images of at "
                f"least {smallest} pixels a side; these have {side}"
            )
        maps = perceptual_maps(device) if self.loss.perceptual else None
        data, found = self.data.prepare(data, folder, processes.first)
        images, shown, some = self.data.images(data), data.shown(SHOWN), measured(data)
        scenes = self.data.as_scenes(data, self.loop.seed)
        images = images if scenes is None else scenes
        objective = TokenizerObjective(
            model, images, self.loss, maps, processes, some.images if some else None
        )
        if scenes is not None:
            objective.batches = scenes.batches

        def export(weights: Mapping[str, Tensor]) -> Exported:
            return describe_tokenizer(model, size), {"tokenizer": dict(weights)}

        def show(module: Tokenizer, step: int) -> Tensor:
            return reconstruction_rows(module, shown)

        trainer = Trainer(objective, self.optimizer, self.loop, folder, export, show, processes)
        trainer.left_out = found.broken if found else {}
        trainer.flops = self._flops(size)
        if self.loop.fd_every:
            from setar.training.fidelity import Fidelity, reconstructions_of  # loads evaluation

            reference = chosen(data, spread(data.labels, self.loop.fd_samples))
            maker = partial(reconstructions_of, data=reference)
            about = (len(reference), reference, processes, device)
            trainer.fidelity = Fidelity(maker, *about)
        trainer.facts = [
            *facts.of_data(self.data, data, found),
            facts.of_tokens(model, grid),
            facts.of_model(model, f"{self.tokenizer.family} tokenizer"),
        ]
        return trainer

    def _initial(self) -> Tokenizer:
        """The tokenizer as the training begins; ValueError if that of `init` has another shape."""
        model = self.tokenizer.create()
        if self.init:
            fresh = begin_with(model, load_tokenizer(self.init).state_dict())
            if fresh:
                raise ValueError(
                    f"`init` = {self.init!r} is a tokenizer of another shape: it has no weights "
                    f"that fit {fresh[0]} and {len(fresh) - 1} more"
                )
        return model

    def _flops(self, size: tuple[int, int]) -> Callable[[int], float | None]:
        """Operations that an image takes, of the tokenizer alone; counted when first asked."""

        @cache
        def once() -> float | None:
            with torch.device("meta"), Unfilled():
                model = self.tokenizer.create()
            images = torch.zeros(1, 3, *size, device="meta")
            return flops_of(lambda: (model.picture(model.features(images)) - images).abs().mean())

        return lambda step: once()

    def _grid(self, model: Tokenizer, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of an image's tokens; ValueError, saying what to do, if it has none."""
        try:
            return model.grid(*size)
        except ValueError as error:
            hint = " (`data.image_size` is the size of the images)" * self.data.of_a_folder
            raise ValueError(f"{error}{hint}") from error


def perceptual_maps(device: torch.device) -> FeatureMaps:
    """The first three stages: edges and textures, before the class of things matters."""
    network = EfficientNetLite0.pretrained().to(device)

    def maps(images: Tensor) -> list[Tensor]:
        # Channels last is the faster layout for its convolutions on a CPU, by half.
        return list(islice(network.stages(images.contiguous(memory_format=torch.channels_last)), 3))

    return maps


class TokenizerObjective(Objective):
    """Reconstruction, codebook and, if wanted, perceptual and adversarial losses.

    Args:
        model: the tokenizer, with a quantizer.
        images: all training images.
        config: weights.
        feature_maps: network of the perceptual loss; needed if its weight is above 0.
        processes: those that train together.
        heldout: images that are never trained on, and measured on the way.
    """

    def __init__(
        self,
        model: Tokenizer,
        images: Images,
        config: TokenizerLossConfig,
        feature_maps: FeatureMaps | None = None,
        processes: Processes = ALONE,
        heldout: Images | None = None,
    ) -> None:
        assert model.quantizer is not None
        super().__init__({"model": model}, len(images))
        self.model, self.quantizer, self.images = model, model.quantizer, images
        self.config, self.feature_maps, self.processes = config, feature_maps, processes
        self.heldout = heldout
        if config.adversarial:
            critic = PatchDiscriminator(config.critic_channels, config.critic_layers)
            self.networks["critic"] = critic.to(self.device)
        self.last_used = torch.full((self.quantizer.scale_count, model.vocabulary), NEVER)
        self.revived: dict[str, Tensor] = {}

    def losses(self, items: Tensor, step: int) -> Step:
        """The tokenizer's loss and, from its first step on, the critic's on the same batch."""
        originals = to_float(self.images[items]).to(self.device)
        features = self.model.features(originals)
        quantized = self.quantizer(features)
        images = self.model.picture(quantized.vectors).float()
        self.last_used[self.quantizer.counts(quantized.codes).cpu() > 0] = step
        self.processes.highest(self.last_used)
        loss = pixel_loss(images, originals)
        if self.config.perceptual:
            assert self.feature_maps is not None
            distance = perceptual_loss(self.feature_maps, images, originals)
            loss = loss + self.config.perceptual * distance
        found: dict[str, Tensor] = {}
        if "critic" in self.networks and step >= self.config.critic_start:
            critic = self.networks["critic"]
            fooled = adversarial_loss(critic(images))
            weight = adaptive_weight(loss, fooled, self.model.last_layer)
            loss = loss + self.config.adversarial * weight * fooled
            found["critic"] = critic_loss(critic(originals), critic(images.detach()))
        pull = quantized.codebook_loss + self.config.commitment * quantized.commitment_loss
        metrics: Metrics = {
            "loss": (loss + pull).detach(),
            "psnr": psnr(images.detach(), originals).mean(),
            **self.usage(step),
            **{f"{name}_loss": value.detach() for name, value in found.items()},
        }
        finish = partial(self.revive, step, features.detach())
        return Step({"model": loss + pull, **found}, metrics, finish)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Losses of pixels and codebook, and PSNR in dB, of the held-out images."""
        if self.heldout is None:
            return {}
        loss = decibels = 0.0
        for items in torch.arange(len(self.heldout)).split(BATCH):
            originals = to_float(self.heldout[items]).to(self.device)
            quantized = self.quantizer(self.model.features(originals))
            images = self.model.picture(quantized.vectors).float()
            pull = quantized.codebook_loss + self.config.commitment * quantized.commitment_loss
            loss += len(items) * (pixel_loss(images, originals) + pull).item()
            decibels += psnr(images, originals).sum().item()
        count = len(self.heldout)
        return {"heldout_loss": loss / count, "heldout_psnr": decibels / count}

    def usage(self, step: int, window: int = 100) -> dict[str, float]:
        """Share of the codebook that some image of the last ``window`` steps used.

        Of several scales also that of each alone.
        """
        recent = self.last_used > step - window
        shares = {"usage": recent.any(0).float().mean().item()}
        if len(recent) > 1:
            of_scales = recent.float().mean(1).tolist()
            shares |= {f"usage/scale_{i}": share for i, share in enumerate(of_scales, 1)}
        return shares

    @torch.no_grad()
    def revive(self, step: int, features: Tensor) -> None:
        """Restart codes that no scale has used for long, at the present batch's features."""
        every = self.config.revive_every
        if not every or (step + 1) % every:
            return
        before = {k: v.clone() for k, v in self.model.state_dict().items()}
        dead = (self.last_used.amax(0) <= step - every).nonzero().flatten()
        self.quantizer.restart(dead, features)
        self.processes.copy_first(self.quantizer.state_dict().values())
        self.revived = {k: v != before[k] for k, v in self.model.state_dict().items()}

    def replaced(self) -> dict[str, Tensor]:
        """What `revive` changed in this step, once."""
        revived, self.revived = self.revived, {}
        return revived

    def state(self) -> dict[str, Tensor]:
        """When each scale last used each code."""
        return {"last_used": self.last_used}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self.last_used = state["last_used"].view_as(self.last_used)
