"""Things of your own, without touching the package; `plugin_more.py` has two kinds more.

setar recipe snake-4-halves --grid 4x4 --plugin examples/plugin.py
setar train examples/plugin_tokenizer.toml && setar train examples/plugin.toml
setar sample runs/plugin --plugin examples/plugin.py
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from setar.data.base import DATASETS, Dataset
from setar.evaluation.metrics import register_metric
from setar.models.base import FAMILIES, Generator, GeneratorConfig
from setar.recipes.clocks import visible
from setar.recipes.orders import register_order
from setar.recipes.schedules import register_schedule
from setar.sampling.guidance import register_guidance
from setar.tokenizers.autoencoder import AutoencoderConfig, AutoencoderTokenizer
from setar.tokenizers.base import TOKENIZERS, Quantized, Quantizer


@register_order("snake")
def snake(height, width):
    """Row by row, there and back."""
    grid = torch.arange(height * width).view(height, width)
    return torch.stack([row.flip(0) if i % 2 else row for i, row in enumerate(grid)]).flatten()


@register_schedule("halves")
def halves(tokens, sets):
    """Each set is half of what is left; the last one takes the rest."""
    sizes = []
    for later in range(sets - 1, -1, -1):
        left = tokens - sum(sizes)
        sizes.append(max(1, min(left // 2, left - later)) if later else left)
    return sizes


@register_guidance("late")
def late(guidance, at):
    """None at first, all of it in the second half."""
    return guidance.scale if at.done >= at.total / 2 else 1.0


@dataclass(frozen=True)
class FSQConfig(AutoencoderConfig):
    levels: int = 4
    """Values of each number of a code."""


class FSQ(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505): numbers are rounded to one of a few levels."""

    def __init__(self, config: FSQConfig):
        super().__init__()
        self.levels, self.size = config.levels, config.codebook_size
        self.places = [config.levels**i for i in range(config.codebook_dim)]
        if self.levels**config.codebook_dim != self.size:
            raise ValueError("`codebook_size` must be `levels` to the power `codebook_dim`")

    def forward(self, features: Tensor):
        scaled = features.float().sigmoid() * (self.levels - 1)
        digits = scaled + (scaled.round() - scaled).detach()
        nothing = scaled.new_zeros(())  # no code has to be pulled anywhere
        return Quantized(
            digits / (self.levels - 1) * 2 - 1, self.encode(features), nothing, nothing
        )

    def encode(self, features: Tensor):
        digits = (features.float().sigmoid() * (self.levels - 1)).round().long()
        return (digits.movedim(1, -1) * digits.new_tensor(self.places)).sum(-1).flatten(1)

    def decode(self, codes: Tensor, grid: tuple[int, int]):
        digits = codes[..., None] // codes.new_tensor(self.places) % self.levels
        return digits.mT.unflatten(2, grid) / (self.levels - 1) * 2 - 1


@TOKENIZERS.register("fsq")
class FSQTokenizer(AutoencoderTokenizer[FSQConfig]):
    Config = FSQConfig
    presets = {"tiny": FSQConfig(8, (1, 1, 2), blocks=1, codebook_size=64, codebook_dim=3)}

    def __init__(self, config: FSQConfig):
        super().__init__(config, latent=8 * config.codebook_dim, kernel=1)

    def make_quantizer(self):
        return FSQ(self.config)


@DATASETS.register("stripes")
def stripes(split="train"):
    """Lying, standing and slanted stripes of random colours, 16x16 pixels."""
    generator = torch.Generator().manual_seed(len(split))
    labels, row = torch.arange(96) % 3, torch.arange(16)[:, None].expand(16, 16)
    phase = torch.stack([row, row.T, row + row.T])[labels]
    on = (phase + torch.randint(8, (96, 1, 1), generator=generator)) // 4 % 2 > 0
    colours = torch.randint(256, (2, 96, 3, 1, 1), generator=generator)
    images = torch.where(on[:, None], *colours).to(torch.uint8)
    return Dataset(images, labels, ("lying", "standing", "slanted"), report=("contrast",))


@register_metric("contrast")
def contrast(evidence):
    """How far the pixels of a picture spread, on average."""
    pixels = evidence.images[torch.arange(len(evidence.images))].float()
    return {"contrast": pixels.flatten(1).std(1).mean().item()}


@FAMILIES.register("deep-sets")
class DeepSets(Generator[GeneratorConfig]):
    """Asks for any token, given a sum over those that are known (arXiv 1703.06114)."""

    Config, editing = GeneratorConfig, "kept-first"
    presets = {"tiny": GeneratorConfig(vocabulary=32, classes=5, grid=(4, 4), width=32)}

    def __init__(self, config: GeneratorConfig):
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.grid[0] * config.grid[1], config.width)
        self.hidden = nn.Linear(2 * config.width, 256)
        self.head = nn.Linear(256, config.vocabulary)

    def forward(self, codes: Tensor, condition: Tensor, plan):
        self.check(plan)
        words = self.tokens(codes.gather(1, plan.order)) * self.positions(plan.order)
        known = visible(plan.known, plan.asks).to(words) @ words
        return self.ask(plan.order, known + self.condition.embed(condition).sum(1, True))

    def ask(self, positions: Tensor, known: Tensor):
        asked = self.positions(positions)
        return self.head(self.hidden(torch.cat([asked, known.expand_as(asked)], -1)).relu()).float()

    def start(self, condition: Tensor, tokens: int, attention="causal", cache=True, grid=None):
        self.check_attention(attention)
        return Sums(self, condition)


class Sums:
    def __init__(self, model: DeepSets, condition: Tensor):
        self.model, self.known = model, model.condition.embed(condition).sum(1, True)

    def predict(self, positions: Tensor):
        return self.model.ask(positions, self.known)

    def absorb(self, codes: Tensor, positions: Tensor):
        words = self.model.tokens(codes) * self.model.positions(positions)
        self.known = self.known + words.sum(1, True)
