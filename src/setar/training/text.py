"""Training on captioned images: stages, buckets of aspect ratios, and what is minimised.

    stage 1   256 pixels, random-16-random    images of 16x16, 14x18, 18x14, ... tokens
    stage 2   512 pixels, random-32-random    32x32, 28x36, ...

Every stage goes on from the weights of the one before (SAR, section 4.5). A batch may hold images
on different grids, which are padded to the longest; scenes of a batch are on one grid.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from setar.data.base import Dataset
from setar.data.batches import Batches, ChosenBatches, ShuffledBatches
from setar.data.codes import Codes
from setar.data.images import ChosenImages, Images
from setar.data.scenes import LAYOUTS, Scenes
from setar.models.base import Generator
from setar.models.text_condition import padded_to
from setar.recipes.padding import join_codes, join_plans
from setar.recipes.recipe import Recipe, SetPlan
from setar.text import CachedTexts
from setar.tokenizers.base import Tokenizer, encode_images
from setar.training.by_set import LossBySet
from setar.training.loop import Objective, Step
from setar.training.shapes import nearest_bucket
from setar.training.stored import Stored

TRIMMED_TO = 28
"""Texts of a batch are padded to a multiple of so many tokens: few shapes, so that a compiled
model is compiled a few times only."""

MEASURED = 512
"""Held-out images whose loss is measured, at most."""

BATCH = 64
"""Of them at once."""

MOST_CODES = 2**29
"""Codes of training images that a process keeps, in 2 GiB."""

Grid = tuple[int, int]


class Examples(Protocol):
    """What a stage is trained on: codes and captions of numbered items."""

    def batches(self, batch_size: int, seed: int) -> Batches:
        """The items of every step."""
        ...

    def grids(self, items: Tensor) -> list[Grid]:
        """Rows and columns of the tokens of each item."""
        ...

    def codes(self, items: Tensor, grid: Grid, step: int = 0) -> Tensor:
        """int64 ``[B, N]`` of items that are all on one grid, as a step shows them."""
        ...

    def captions(self, items: Tensor, draw: random.Random) -> list[str]:
        """A caption of each item, any one of those it has; empty if it has none."""
        ...


class SceneExamples:
    """Scenes of captioned drawings, each encoded when it is first shown.

    Args:
        scenes: of the training images.
        tokenizer: of the codes, on its device.
    """

    def __init__(self, scenes: Scenes, tokenizer: Tokenizer) -> None:
        self.scenes, self.tokenizer = scenes, tokenizer
        self._known: dict[int, Tensor] = {}

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Scenes of one kind at each step."""
        return self.scenes.batches(batch_size, seed)

    def grids(self, items: Tensor) -> list[Grid]:
        """Rows and columns of the tokens of each scene."""
        sizes = [LAYOUTS[self.scenes.scene(item).kind] for item in items.tolist()]
        side = self.scenes.side
        return [self.tokenizer.grid(side * size.rows, side * size.columns) for size in sizes]

    def codes(self, items: Tensor, grid: Grid, step: int = 0) -> Tensor:
        """int64 ``[B, N]`` of scenes of one kind."""
        new = [item for item in dict.fromkeys(items.tolist()) if item not in self._known]
        if new:
            codes = encode_images(self.tokenizer, self.scenes[torch.tensor(new)]).to(torch.int32)
            self._known |= dict(zip(new, codes.cpu(), strict=True))
        return torch.stack([self._known[item] for item in items.tolist()]).long()

    def captions(self, items: Tensor, draw: random.Random) -> list[str]:
        """A caption of each scene."""
        return self.scenes.captions(items.tolist(), draw)


class BucketExamples:
    """Images cropped to the size, of a few, that is nearest to their own shape.

    Each is encoded when it is first shown: of millions, a process never sees most.

    Args:
        data: captioned images.
        cropped: makes `Images` of a size (height, width) in pixels.
        shapes: float ``[n, 2]``, height and width of each image before it is cropped.
        buckets: sizes (height, width) in pixels.
        tokenizer: of the codes, on its device.
        epoch: int64, the images of one epoch, some of them repeated; None is each once.
        most: codes that are kept; images beyond are encoded at each showing.
    """

    def __init__(
        self,
        data: Dataset,
        cropped: Callable[[tuple[int, int]], Images],
        shapes: Tensor,
        buckets: Sequence[tuple[int, int]],
        tokenizer: Tokenizer,
        epoch: Tensor | None = None,
        most: int = MOST_CODES,
    ) -> None:
        self.data, self.tokenizer, self.room = data, tokenizer, most
        self.epoch = torch.arange(len(data)) if epoch is None else epoch
        self.bucket = nearest_bucket(shapes, buckets)
        self.grid_of_bucket = [tokenizer.grid(*size) for size in buckets]
        self.images = [cropped(size) for size in buckets]
        self._known: dict[int, Tensor] = {}

    def batches(self, batch_size: int, seed: int) -> Batches:
        """All images in turn, whatever their shapes."""
        return ChosenBatches(ShuffledBatches(len(self.epoch), batch_size, seed), self.epoch)

    def grids(self, items: Tensor) -> list[Grid]:
        """Rows and columns of the tokens of each image."""
        return [self.grid_of_bucket[index] for index in self.bucket[items].tolist()]

    def codes(self, items: Tensor, grid: Grid, step: int = 0) -> Tensor:
        """int64 ``[B, N]`` of images of one bucket."""
        new = [item for item in dict.fromkeys(items.tolist()) if item not in self._known]
        fresh: dict[int, Tensor] = {}
        if new:
            images = ChosenImages(self.images[int(self.bucket[new[0]])], torch.tensor(new))
            codes = encode_images(self.tokenizer, images).to(torch.int32).cpu()
            fresh = dict(zip(new, codes, strict=True))
            kept = new[: self.room // codes.shape[1]]
            self.room -= len(kept) * codes.shape[1]
            self._known |= {item: fresh[item] for item in kept}
        found = [fresh[item] if item in fresh else self._known[item] for item in items.tolist()]
        return torch.stack(found).long()

    def captions(self, items: Tensor, draw: random.Random) -> list[str]:
        """One of the captions of each image; empty if it has none."""
        return drawn_captions(self.data.captions, items, draw)


class StoredExamples:
    """Codes on disk of images in all shapes of a stage, none of them mirrored.

    Args:
        codes: of all images.
        captions: of each.
        seed: of the training.
        epoch: which images an epoch shows, some of them repeated; None is each once.
    """

    def __init__(
        self,
        codes: Codes,
        captions: Sequence[Sequence[str]],
        seed: int,
        epoch: Tensor | None = None,
    ) -> None:
        self.stored, self.texts = Stored(codes, seed, upright=True), captions
        self.epoch = epoch

    def batches(self, batch_size: int, seed: int) -> Batches:
        """All images in turn, whatever their shapes."""
        if self.epoch is None:  # of very many images there is no list
            return ShuffledBatches(len(self.texts), batch_size, seed)
        return ChosenBatches(ShuffledBatches(len(self.epoch), batch_size, seed), self.epoch)

    def grids(self, items: Tensor) -> list[Grid]:
        """Rows and columns of the tokens of each image."""
        return self.stored.stored.grids(items)

    def codes(self, items: Tensor, grid: Grid, step: int = 0) -> Tensor:
        """int64 ``[B, N]`` of images of one shape."""
        return self.stored.codes(items, step)

    def captions(self, items: Tensor, draw: random.Random) -> list[str]:
        """One of the captions of each image; empty if it has none."""
        return drawn_captions(self.texts, items, draw)


def drawn_captions(
    captions: Sequence[Sequence[str]], items: Tensor, draw: random.Random
) -> list[str]:
    """One of the captions of each of some images; empty if it has none."""
    own = [captions[int(item)] for item in items]
    return [draw.choice(texts) if texts else "" for texts in own]


@dataclass(frozen=True)
class Stage:
    """A part of a training that has one resolution and one recipe."""

    first: int
    """The step with which it begins."""
    steps: int
    recipe: Recipe
    batch_size: int
    examples: Callable[[], Examples]
    """Makes them; called when the stage begins."""
    length: int = 0
    """Tokens of an image to which all are padded; 0: those of a batch to its longest."""


class StagedBatches:
    """The batches of all stages, one after the other; each stage counts from its own beginning."""

    def __init__(self, objective: "TextObjective", seed: int) -> None:
        self.objective, self.seed = objective, seed
        self._stage, self._batches = -1, None

    def indices(self, step: int) -> Tensor:
        """The items of batch ``step``, of the examples of its stage."""
        index = self.objective.stage_at(step)
        stage = self.objective.stages[index]
        if index != self._stage or self._batches is None:
            examples = self.objective.examples(index)
            self._batches = examples.batches(stage.batch_size, self.seed + index)
            self._stage = index
        return self._batches.indices(step - stage.first)


class TextObjective(Objective):
    """Cross-entropy of every supervised token, given captions (algorithm 1, section 4.5).

    Args:
        model: reads texts, and makes all grids of the stages.
        stages: in turn.
        texts: states of captions.
        samples: images of the training, to count epochs.
        heldout: measures the loss on what is never trained on.
    """

    def __init__(
        self,
        model: Generator,
        stages: Sequence[Stage],
        texts: CachedTexts,
        samples: int,
        heldout: Callable[[Generator], Mapping[str, float]] | None = None,
    ) -> None:
        super().__init__({"model": model}, samples)
        self.model, self.stages, self.texts, self.heldout = model, stages, texts, heldout
        self.batches = lambda batch_size, seed: StagedBatches(self, seed)
        self._made: tuple[int, Examples] | None = None

    def stage_at(self, step: int) -> int:
        """The stage that a step belongs to."""
        begun = [index for index, stage in enumerate(self.stages) if stage.first <= step]
        return begun[-1]

    def examples(self, index: int) -> Examples:
        """Those of a stage; those of the one before are let go."""
        if self._made is None or self._made[0] != index:
            self._made = None
            self._made = index, self.stages[index].examples()
        return self._made[1]

    def losses(self, items: Tensor, step: int) -> Step:
        """Mean negative log-likelihood in nats per supervised token."""
        index = self.stage_at(step)
        examples, stage = self.examples(index), self.stages[index]
        part = self.part_of(items)
        generator = part.generator()
        draw = random.Random(int(torch.randint(2**62, (), generator=generator)))
        batch = text_batch(
            examples, part.batch, stage.recipe, draw, generator, stage.length, part.rows, step
        )
        with self.model.condition.dropping_by(batch.chances.to(self.device)):
            counted = batch.counted * part.share
            loss = text_loss(self.model, batch, self.texts, self.device, counted)
        return Step({"model": loss}, {"loss": loss.detach(), "stage": float(index + 1)})

    def validate(self) -> Mapping[str, float]:
        """The loss on held-out images, at the size of a single one."""
        return self.heldout(self.model) if self.heldout else {}


@dataclass(frozen=True)
class TextBatch:
    """Images of one step, or some of them, those of a grid together."""

    codes: Tensor
    """int64 ``[B, N]``, padded."""
    captions: list[str]
    plan: SetPlan
    chances: Tensor = field(default_factory=lambda: torch.empty(0))
    """Uniform numbers ``[B]``: whose caption is dropped."""
    counted: float = 0.0
    """Supervised tokens of all images of the step."""


def text_batch(
    examples: Examples,
    items: Tensor,
    recipe: Recipe,
    draw: random.Random,
    generator: torch.Generator | None = None,
    length: int = 0,
    rows: slice = slice(None),
    step: int = 0,
) -> TextBatch:
    """Codes, captions and plan of some ``rows`` of a batch, of at least ``length`` tokens.

    For all items of the batch ``draw`` chooses captions and ``generator`` orders.
    """
    grids = examples.grids(items)
    wanted = torch.zeros(len(items), dtype=torch.bool)
    wanted[rows] = True
    codes, captions, plans, places, counted = [], [], [], [], 0.0
    for grid in dict.fromkeys(grids):
        here = torch.tensor([own == grid for own in grids]).nonzero().flatten()
        said = examples.captions(items[here], draw)
        plan = recipe.plan(grid, len(here), generator)
        counted += plan.supervised.sum().item()
        own = wanted[here]
        if own.any():
            codes.append(examples.codes(items[here[own]], grid, step))
            captions += [text for text, mine in zip(said, own.tolist(), strict=True) if mine]
            plans.append(plan.rows(own))
            places.append(here[own])
    chances = torch.rand(len(items), generator=generator)[torch.cat(places)]
    codes, plan = join_codes(codes, length), join_plans(plans, length)
    return TextBatch(codes, captions, plan, chances, counted)


def text_loss(
    model: Generator,
    batch: TextBatch,
    texts: CachedTexts,
    device: torch.device,
    counted: float | None = None,
) -> Tensor:
    """Float32 mean of the cross-entropy of all supervised tokens; an empty caption is none.

    ``counted`` is that of `token_loss`.
    """
    logits, targets = text_logits(model, batch, texts, device)
    return token_loss(logits, targets, batch.plan.supervised.to(device), counted)


def text_logits(
    model: Generator, batch: TextBatch, texts: CachedTexts, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a model says of a batch ``[B, N, V]``, and its codes ``[B, N]``, in output order."""
    plan, codes = batch.plan.to(device), batch.codes.to(device)
    condition = conditions(model, texts, batch.captions).to(device)
    return model(codes, condition, plan), codes.gather(1, plan.order)


def conditions(model: Generator, texts: CachedTexts, captions: Sequence[str]) -> Tensor:
    """What the model reads of captions ``[B, T, D + 1]``, T a multiple of `TRIMMED_TO`."""
    states = texts.encode(captions)
    length = min(-(-states.shape[1] // TRIMMED_TO) * TRIMMED_TO, model.condition.length)
    states = padded_to(states, length)
    empty = torch.tensor([not caption for caption in captions])
    return torch.where(empty[:, None, None], model.null(states), states)


def token_loss(
    logits: Tensor, targets: Tensor, supervised: Tensor, counted: float | None = None
) -> Tensor:
    """Float32 cross-entropy ``[B, N, V]`` against ``[B, N]``, mean over supervised tokens.

    Of a part of a batch, ``counted`` is what the part would have of its supervised tokens if all
    images had as many: then the mean over equal parts is the loss of the batch, whatever they have.
    """
    losses, weights = token_losses(logits, targets), supervised.float()
    if counted is None:
        return (losses * weights).sum() / weights.sum().clamp_min(1)
    return (losses * weights).sum() / max(1.0, counted)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Float32 cross-entropy ``[B, N, V]`` against ``[B, N]`` of each token."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets)


class HeldOutTexts:
    """The loss on held-out images with captions, always measured in the same way.

    Args:
        captions: of the images; those without are not measured.
        encode: gives codes int64 ``[n, N]`` of images int64 ``[n]``.
        grid: rows and columns of the tokens of an image.
        recipe: of the training.
        texts: states of captions.
    """

    def __init__(
        self,
        captions: Sequence[Sequence[str]],
        encode: Callable[[Tensor], Tensor],
        grid: Grid,
        recipe: Recipe,
        texts: CachedTexts,
    ) -> None:
        kept = list(islice((item for item, own in enumerate(captions) if own), MEASURED))
        self.codes = encode(torch.tensor(kept)).cpu()
        self.captions = [captions[item][0] for item in kept]
        self.grid, self.recipe, self.texts = grid, recipe, texts

    @torch.no_grad()
    def __call__(self, model: Generator) -> Mapping[str, float]:
        """Mean negative log-likelihood in nats per supervised token, also by set (`LossBySet`)."""
        generator, device = torch.Generator().manual_seed(0), next(model.parameters()).device
        found = LossBySet(self.recipe.set_count(self.grid))
        for start in range(0, len(self.codes), BATCH):
            codes = self.codes[start : start + BATCH]
            plan = self.recipe.plan(self.grid, len(codes), generator)
            batch = TextBatch(codes, self.captions[start : start + BATCH], plan)
            logits, targets = text_logits(model, batch, self.texts, device)
            found.add(token_losses(logits, targets), plan)
        return found.figures()
