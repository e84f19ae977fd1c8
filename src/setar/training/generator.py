"""Training a generator: what a config says, what is minimised, and how both meet."""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from setar import checkpoint
from setar.config import build, table
from setar.data.base import Dataset, spread
from setar.data.codes import CodeFolder, read_encoding
from setar.data.images import ChosenImages, Images
from setar.device import Unfilled
from setar.models.base import FAMILIES, Generator, GeneratorConfig
from setar.models.condition import CONDITIONS
from setar.origin import trained_size
from setar.pictures.sheets import labelled_rows, tile, to_pil
from setar.pipeline import Pipeline
from setar.pretrained import IMAGE_SIZE, load_tokenizer
from setar.recipes.recipe import Recipe
from setar.registry import did_you_mean, quoted
from setar.run_folder import left_out
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings
from setar.text import CachedTexts, TextConfig, load_text_encoder
from setar.tokenizers.base import TOKENIZERS, Tokenizer, device_of, encode_images, through
from setar.training import facts
from setar.training.cost import flops_of
from setar.training.data import MANY, DataConfig
from setar.training.distributed import Processes
from setar.training.heldout import MEASURED, HeldOutCodes, measured
from setar.training.loop import Exported, LoopConfig, Objective, Step, Trainer
from setar.training.optim import OptimizerConfig
from setar.training.report import say
from setar.training.stages import StageConfig, StageShapes, lay_out, make_stages
from setar.training.start import begin_with
from setar.training.stored import Draw, Stored, check_tokenizer, features_of, kept
from setar.training.survey import without_captions
from setar.training.text import HeldOutTexts, TextObjective, token_loss

SHOWN = 64
"""Pictures in a sheet of samples."""

TEXTS = "texts"
"""Folder in that of a run with the states of captions; it may be deleted."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a generator: a family, one of its presets, and changes of that.

    Vocabulary, classes and grid (or scales) follow from tokenizer and data.
    """

    family: str
    """The Fully Masked Transformer ``fmt``; the baseline ``decoder-only``, for the recipe ``ar``
    alone; or ``var``, which needs a multi-scale tokenizer and its scales as the recipe
    (``raster-1,4,9``)."""
    preset: str
    """What the other keys change: B, L or XL of the papers, tiny, emoji, d16 to d36 (VAR) and
    others; a wrong name lists them."""
    shape: GeneratorConfig
    """The preset with all changes; every other key of the table is a field of it."""

    @classmethod
    def from_table(cls, value: Any, where: str) -> "ModelConfig":
        """Read the table ``model``; ValueError, saying ``where``, if something in it is wrong."""
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be a table, not {quoted(value)}")
        # Earlier versions wrote what a family has not as null into settings.json.
        changes = {key: inner for key, inner in value.items() if inner is not None}
        family, preset = changes.pop("family", "fmt"), changes.pop("preset", "B")
        try:
            kind = FAMILIES.find(family)
            if not isinstance(preset, str) or preset not in kind.presets:
                known = ", ".join(kind.presets)
                raise ValueError(f"{family!r} has no preset {quoted(preset)}; known: {known}")
            follows = {*kind.Config.TOKENIZER_FACTS}
            known_keys = ["family", "preset", *(table(kind.presets[preset]).keys() - follows)]
            for key in changes:
                if key in follows:
                    raise ValueError(f"`{key}` follows from tokenizer and data")
                if key not in known_keys:
                    hint = did_you_mean(key, known_keys)
                    raise ValueError(f"unknown key `{str(key)[:80]}`; {hint}")
            CONDITIONS.find(changes.get("condition", kind.presets[preset].condition))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        shape = build(kind.Config, {**table(kind.presets[preset]), **changes}, where)
        return cls(family, preset, shape)

    def named(self) -> str:
        """Family and preset in words; of a preset that was changed, the family alone."""
        changed = self.to_table().keys() - {"family", "preset"}
        return self.family if changed else f"{self.family}, preset {self.preset}"

    def to_table(self) -> dict[str, Any]:
        """The inverse of `from_table`."""
        base = table(FAMILIES.find(self.family).presets[self.preset])
        changes = {key: value for key, value in table(self.shape).items() if value != base[key]}
        return {"family": self.family, "preset": self.preset, **changes}

    def create(
        self,
        tokenizer: Tokenizer,
        data: Dataset,
        grid: tuple[int, int],
        more: Mapping[str, Any] | None = None,
    ) -> Generator:
        """A freshly initialised model for these codes; ``more`` are further fields of its shape.

        Raises:
            ValueError: the tokenizer does not fit.
        """
        facts = {**CONDITIONS.find(self.shape.condition).facts(data), **(more or {})}
        shape = self.shape.fitted(tokenizer, facts, grid)
        return FAMILIES.find(self.family)(shape)


@dataclass(frozen=True)
class SamplingConfig:
    """How a finished model is sampled: `SamplingDefaults`, whose recipe may be left out."""

    recipe: Recipe | None = None
    """Left out, it follows from the family: ``random-16-cosine`` of an FMT."""
    guidance: Guidance = field(default_factory=Guidance)
    settings: SamplingSettings = field(default_factory=SamplingSettings)


@dataclass(frozen=True)
class GeneratorRun:
    """A config file with ``task = "generator"``."""

    task: Literal["generator"]
    """Says that this is the training of a generator."""
    data: DataConfig
    recipe: Recipe | None = None
    """What is generated when, in training; see ``setar recipe``. Left out, it follows from the
    family: a VAR's scales, ``ar`` of a decoder-only model, ``random-16-random`` of an FMT."""
    tokenizer: str = "pixels"
    """A model folder, a run's folder or a shipped name with a tokenizer; ``pixels`` for digits."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig.from_table({}, "model"))
    text: TextConfig | None = None
    """What reads the captions, if ``model.condition`` is ``text``; left out, it is MiniLM."""
    stages: tuple[StageConfig, ...] = ()
    """Of a model that reads texts: parts of the training, each of its own resolution and recipe.
    Left out, there is one. ``loop.steps`` is the sum of their steps and may be left out."""
    init: str = ""
    """A shipped name, a model folder or a run whose weights it begins with, as far as they have the
    same names and shapes; empty: random ones."""
    self_correction: float = 0.0
    """Of a VAR: up to this share of an image's codes is wrong while training, and later scales
    learn to make up for it (0.3 is good). Keeps the features of all images in memory; of a folder
    of codes, reads those that ``setar encode --features`` kept, or makes them of the codes."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the finished model is sampled by default, and how the pictures on the way are made."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    plugins: tuple[str, ...] = ()
    """Python files with things of your own, beside the config or in the working directory."""

    def __post_init__(self) -> None:
        self._check_texts()
        if not 0 <= self.self_correction <= 1:
            raise ValueError(f"`self_correction` (={self.self_correction}) must be from 0 to 1")
        if self.self_correction and not FAMILIES.find(self.model.family).self_correcting:
            raise ValueError(
                "`self_correction` is for families whose later tokens can make up for mistakes, "
                f"such as 'var'; those of {self.model.family!r} stay"
            )

    @property
    def reads_texts(self) -> bool:
        """Whether the model is asked with texts."""
        return CONDITIONS.find(self.model.shape.condition).reads == "text"

    def _check_texts(self) -> None:
        """ValueError if there are settings for texts and no model that reads them, or others."""
        if self.reads_texts:
            if self.data.flips:
                raise ValueError("`data.flips` would make captions with left and right wrong")
            return
        given = {"text": self.text, "stages": self.stages, "data.scenes": self.data.scenes}
        for name, value in given.items():
            if value:
                raise ValueError(f"`{name}` is for models that read texts: model.condition='text'")

    def staged(self) -> "GeneratorRun":
        """The same with the steps of its stages, and with a text encoder if it needs one."""
        if not self.reads_texts:
            return self
        run = replace(self, text=self.text or TextConfig())
        total = sum(stage.steps for stage in self.stages)
        if not total or total == self.loop.steps:
            return run
        if self.loop.steps != LoopConfig().steps:
            raise ValueError(
                f"`loop.steps` (={self.loop.steps}) must be left out, or be the {total} steps of "
                "the stages together"
            )
        return replace(run, loop=replace(self.loop, steps=total))

    def completed(self) -> "GeneratorRun":
        """The same with all that was left out: it follows from the tokenizer and its images.

        Raises:
            ValueError: tokenizer, data and family do not fit each other.
        """
        run = replace(self.staged(), data=self.data.sized(self.size_of_tokenizer()))
        if self.recipe is not None and self.sampling.recipe is not None:
            return run
        tokenizer = run.load_tokenizer()
        grid = run.grid(tokenizer, run.data.size())
        shape = self.model.shape.fitted(tokenizer, run._of_text(), grid)
        sampling = self.sampling.recipe or Recipe.parse(shape.sampling_recipe)
        return replace(
            run,
            recipe=self.recipe or Recipe.parse(shape.recipe),
            sampling=replace(self.sampling, recipe=sampling),
        )

    def trainer(self, folder: Path, processes: Processes) -> Trainer:
        """The trainer of this run, which is complete; ValueError if its parts do not fit."""
        recipe, sampling = self.recipe, self.sampling
        assert recipe is not None
        assert sampling.recipe is not None
        self.loop.check_compiler()
        device, data = self.loop.resolve_device(), self.data.open()
        size, tokenizer = self.data.size(data), self.load_tokenizer().to(device)
        grid = self.grid(tokenizer, size)
        model = self.model.create(tokenizer, data, grid, self._of_text()).to(device)
        fresh = self._begin(model)
        defaults = SamplingDefaults(sampling.recipe, sampling.guidance, sampling.settings)
        classes = () if self.reads_texts else data.classes
        source = self.data.source if data.stored is None else data.stored.encoding.source
        pipeline = Pipeline(model, tokenizer, classes, defaults, source, self.text)
        check_recipes(model, recipe, sampling.recipe)
        pipeline.check_sampling(defaults)
        data, found = self.data.prepare(data, folder, processes.first)
        if data.stored is None:
            self._check_colours(tokenizer, data)
        else:
            fresh += self._check_codes(data.stored, tokenizer, processes)
        make = self._objective
        if self.reads_texts:
            make = partial(self._text_objective, folder / TEXTS)
        objective = make(model, tokenizer, data, processes)
        described = {**pipeline.describe(), IMAGE_SIZE: [*size]}

        def export(weights: Mapping[str, Tensor]) -> Exported:
            return described, {"model": dict(weights), "tokenizer": dict(tokenizer.state_dict())}

        def show(module: Generator, step: int) -> Tensor:
            shown = Pipeline(module, tokenizer, classes, defaults, text=self.text)
            if self.reads_texts:
                return shown_texts(shown, data)
            ids, columns = shown_classes(len(data.classes))
            pictures = shown.decode(shown.sample_codes(ids, seed=0))
            if len(set(ids)) == len(ids) > 1:
                return tile(pictures, columns, scale=0)
            return named_rows(pictures, [data.classes[label] for label in ids])

        trainer = Trainer(objective, self.optimizer, self.loop, folder, export, show, processes)
        trainer.left_out = found.broken if found else {}
        trainer.uncaptioned = without_captions(data) if self.reads_texts else {}
        trainer.flops = self._flops(model, tokenizer, size, processes)
        if self.loop.fd_every:
            from setar.training.fidelity import Fidelity, samples_of  # loads all of evaluation

            count = self.loop.fd_samples
            prompts = asked_texts(data, count) if self.reads_texts else []

            def maker(module: Generator) -> Callable[[Tensor], Tensor]:
                made = Pipeline(module, tokenizer, classes, defaults, text=self.text)
                return samples_of(made, count, prompts)

            trainer.fidelity = Fidelity(maker, count, data, processes, device)
        if data.stored is not None:
            trainer.left_out = left_out(data.stored.folder)
            trainer.codes = data.stored.manifest.sha256
        trainer.facts = [
            *facts.of_data(self.data, data, found),
            *facts.of_balance(self.data, data),
            facts.of_tokens(tokenizer, pipeline.grid, recipe),
            facts.of_model(model, self.model.named()),
            *fresh,
            *self._other_size(size),
        ]
        return trainer

    def _flops(
        self, model: Generator, tokenizer: Tokenizer, size: tuple[int, int], processes: Processes
    ) -> Callable[[int], float | None]:
        """Operations that the mean image of a step takes; counted when that is first asked."""
        assert self.recipe is not None
        shapes = [([model.config.grid], [1], self.recipe)]
        if self.reads_texts:
            stages = self.stage_shapes(model, tokenizer, size, processes.count)
            shapes = [(list(s.grids), list(s.counts), s.recipe) for s in stages]
        begins = [sum(stage.steps for stage in self.stages[:i]) for i in range(len(shapes))]

        @cache
        def of_shapes(index: int) -> float | None:
            with torch.device("meta"), Unfilled():
                hollow = FAMILIES.find(self.model.family)(model.config)
            hollow.attach(deepcopy(tokenizer).to("meta"))
            grids, counts, recipe = shapes[index]
            each = [flops_of(loss_of_one(hollow, grid, recipe)) for grid in grids]
            total = sum(n * (one or 0) for n, one in zip(counts, each, strict=True))
            return None if None in each else total / sum(counts)

        return lambda step: of_shapes(max(i for i, first in enumerate(begins) if first <= step))

    def _objective(
        self, model: Generator, tokenizer: Tokenizer, data: Dataset, processes: Processes
    ) -> Objective:
        """What is minimised: all images are encoded, once."""
        assert self.recipe is not None
        make = self._encoded if data.stored is None else self._stored
        codes, labels, heldout = make(tokenizer, data, processes)
        epoch = self.data.epoch(labels) if self.data.balance else None
        if self.self_correction:
            return SelfCorrectionObjective(
                model, codes, labels, self.self_correction, epoch, heldout
            )
        return GeneratorObjective(model, codes, labels, self.recipe, epoch, heldout)

    def _encoded(
        self, tokenizer: Tokenizer, data: Dataset, processes: Processes
    ) -> tuple[Draw, Tensor, HeldOutCodes | None]:
        """Codes (or features), labels and what is held out, of pictures that are encoded now."""
        assert self.recipe is not None
        speak = processes.first
        images, labels = self.data.images(data), self.data.labels(data)
        if speak and len(images) > MANY:
            say(f"encoding {len(images)} images")
        bar, heldout = speak and sys.stderr.isatty(), None
        if (some := measured(data)) and data.heldout_labels is not None:
            heldout = HeldOutCodes(encode_images(tokenizer, some.images), some.labels, self.recipe)
        if self.self_correction:
            features = through(tokenizer.features, images, device_of(tokenizer), bar)
            return kept(features), labels, heldout
        return kept(encode_images(tokenizer, images, bar)), labels, heldout

    def _stored(
        self, tokenizer: Tokenizer, data: Dataset, processes: Processes
    ) -> tuple[Draw, Tensor, HeldOutCodes | None]:
        """Codes (or features), labels and what is held out, of shards."""
        assert data.stored is not None
        assert self.recipe is not None
        size, heldout = self.data.size(), None
        codes = data.stored.codes("train", [size])
        assert codes is not None
        held = data.held_out()
        if held is not None and data.heldout_labels is not None:
            items = spread(held.labels, MEASURED)
            centres = data.stored.codes("heldout", [size])
            assert centres is not None
            heldout = HeldOutCodes(centres.centres(items), held.labels[items], self.recipe)
        stored = Stored(codes, self.loop.seed)
        draw = stored.codes
        if self.self_correction:
            grid = tokenizer.grid(*size)
            kept = bool(codes.families[0].facts.features)
            draw = stored.features if kept else features_of(stored.codes, tokenizer, grid)
        return draw, data.labels, heldout

    def _check_codes(
        self, codes: CodeFolder, tokenizer: Tokenizer, processes: Processes
    ) -> list[facts.Fact]:
        """Refuse codes of another tokenizer, and damaged ones; what is told of them."""
        check_tokenizer(codes, tokenizer, self.tokenizer)
        bar = processes.first and sys.stderr.isatty()
        features = bool(self.self_correction)
        codes.check(features, processes.index, processes.count, bar)
        return [("codes", codes.described(features))]

    def _of_text(self) -> dict[str, int]:
        """Fields of the model's shape that follow from the text encoder."""
        if self.text is None:
            return {}
        dim, said = load_text_encoder(self.text).dim, self.model.shape.condition_dim
        if said not in (0, dim):
            raise ValueError(
                f"`model.condition_dim` (={said}) may be left out, or be the {dim} numbers of a "
                f"token of the text encoder {self.text.encoder!r}"
            )
        return {"condition_dim": dim, "condition_length": self.text.length}

    def _begin(self, model: Generator) -> list[facts.Fact]:
        """Give a model the weights of `init`, if that is said; what is told of it."""
        if not self.init:
            return []
        fresh = begin_with(model, Pipeline.from_pretrained(self.init).model.state_dict())
        count = len(model.state_dict())
        if len(fresh) == count:
            raise ValueError(f"`init` = {self.init!r} has no weights that fit this model")
        new = f"; new: {', '.join(fresh)}" if fresh else ""
        return [("begins", f"with {count - len(fresh)} of {count} tensors of {self.init}{new}")]

    def stage_shapes(
        self, model: Generator, tokenizer: Tokenizer, size: tuple[int, int], processes: int = 1
    ) -> list[StageShapes]:
        """What the stages of this run, which is complete, show; one if it has none.

        Raises:
            ValueError: they do not suit the tokenizer or the model.
        """
        assert self.recipe is not None
        configs = self.stages or (StageConfig(self.loop.steps),)
        stages = lay_out(configs, self.data, size, tokenizer, self.recipe, self.loop, processes)
        own = tuple(model.config.grid)
        if not model.any_grid and any(grid != own for stage in stages for grid in stage.grids):
            raise ValueError(
                f"the stages have images that are not {own[0]}x{own[1]} tokens, which need "
                "model.positions = 'sine'"
            )
        for number, stage in enumerate(stages, 1):
            with _saying(f"recipe of stage {number}", stage.recipe, model.config.recipe):
                model.check(stage.recipe.plan(stage.grids[0]))
        return stages

    def _text_objective(
        self,
        kept: Path,
        model: Generator,
        tokenizer: Tokenizer,
        data: Dataset,
        processes: Processes,
    ) -> Objective:
        """What is minimised, given captions, whose states are ``kept`` in a folder."""
        assert self.recipe is not None
        assert self.text is not None
        if not any(data.captions):
            raise ValueError(
                f"{self.data.source!r} has no captions: write a metadata.jsonl with `file_name` "
                "and `text`, or a .txt beside each image"
            )
        encoder = load_text_encoder(self.text, device_of(tokenizer))
        if processes.first:
            note_encoder(kept, encoder.id)
        texts = CachedTexts(encoder, kept)
        shapes = self.stage_shapes(model, tokenizer, self.data.size(data), processes.count)
        stages = make_stages(shapes, self.data, data, tokenizer, self.loop.seed)
        heldout, held, size = None, data.held_out(), self.data.size(data)
        if held is not None and any(held.captions):
            encode = partial(_encode_some, tokenizer, held.images)
            if data.stored is not None:
                centres = data.stored.codes("heldout", [size])
                assert centres is not None
                encode = centres.centres
            some = spread(held.labels, MEASURED)
            captions = [held.captions[int(item)] for item in some]
            grid = tokenizer.grid(*size)
            heldout = HeldOutTexts(captions, lambda i: encode(some[i]), grid, self.recipe, texts)
        return TextObjective(model, stages, texts, len(data), heldout)

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer that is named, or the data set's own; ValueError if there is none."""
        if not self.without_weights:
            return load_tokenizer(self.tokenizer)
        own = None
        if self.data.of_codes:
            own = read_encoding(Path(self.data.source)).tokenizer.entry
        elif not self.data.of_a_folder:
            own = self.data.open().tokenizer
        if own is None or self.tokenizer != own["family"]:
            raise ValueError(
                f"`tokenizer` = {self.tokenizer!r} does not suit the data {self.data.source!r} "
                "untrained: train a tokenizer on them and name the folder of its run"
            )
        return checkpoint.create(own, TOKENIZERS)

    def grid(self, tokenizer: Tokenizer, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tokens of an image of ``size`` (height, width) in pixels.

        Raises:
            ValueError: the tokenizer has none for the images, or is not of the kind that the family
                needs.
        """
        named = f"the tokenizer {self.tokenizer!r} does not fit"
        try:
            grid = tokenizer.grid(*size)
        except ValueError as error:
            fitting = tokenizer.image_size
            hint = "choose another `data.image_size`"
            if not self.data.of_a_folder:
                hint = "train a tokenizer on these data"
            elif fitting:
                hint = f"with `data.image_size` = {[*fitting]} it does"
            raise ValueError(f"{named} {self.data.source!r}: {error}; {hint}") from error
        try:
            self.model.shape.fitted(tokenizer, {}, grid)
        except ValueError as error:
            raise ValueError(f"{named} `model.family` = {self.model.family!r}: {error}") from error
        return grid

    @property
    def without_weights(self) -> bool:
        """Whether the tokenizer is named by its family, which only one without weights can be."""
        return self.tokenizer in TOKENIZERS and not os.path.exists(self.tokenizer)

    def size_of_tokenizer(self) -> tuple[int, int] | None:
        """The size that the tokenizer was trained at, where the config needs it."""
        if self.without_weights or self.data.image_size or not self.data.of_a_folder:
            return None
        return trained_size(self.tokenizer)

    def _other_size(self, size: tuple[int, int]) -> list[facts.Fact]:
        """A note if the tokenizer was trained at another size, which it may be used at."""
        trained = None if self.without_weights else trained_size(self.tokenizer)
        if trained is None or trained == size:
            return []
        return [("note", f"the tokenizer was trained at {trained[0]}x{trained[1]} pixels")]

    def _check_colours(self, tokenizer: Tokenizer, data: Dataset) -> None:
        """Raise ValueError if the tokenizer would make coloured images grey."""
        if tokenizer.colours:
            return
        shown = data.shown(SHOWN)
        if (shown != shown[:, :1]).any():
            raise ValueError(
                f"the tokenizer {self.tokenizer!r} knows grey levels alone, and "
                f"{self.data.source!r} has coloured images: train a tokenizer on them"
            )


def note_encoder(kept: Path, name: str) -> None:
    """Make the folder of an encoder's states; say a line if there are those of others alone."""
    before = sorted(folder.name for folder in kept.iterdir()) if kept.is_dir() else []
    if before and name not in before:
        others = "another encoder, or numbers of another type"
        say(f"captions were read by {before[0]} before, now by {name}: {others}")
    with suppress(OSError):  # it is said when there are states to be written
        (kept / name).mkdir(parents=True, exist_ok=True)


def _encode_some(tokenizer: Tokenizer, images: Images, items: Tensor) -> Tensor:
    """Codes int64 ``[n, N]`` of some images."""
    return encode_images(tokenizer, ChosenImages(images, items))


def check_recipes(model: Generator, training: Recipe, sampling: Recipe) -> None:
    """Raise ValueError unless a model can be trained with one recipe and sampled with the other."""
    shape = model.config
    with _saying("recipe", training, shape.recipe):
        model.check(training.plan(shape.grid))
    with _saying("sampling.recipe", sampling, shape.sampling_recipe):
        model.check(sampling.sampling_plan(shape.grid, [torch.Generator()]))


@contextmanager
def _saying(key: str, recipe: Recipe, own: str) -> Iterator[None]:
    """Tell of a refused recipe which it is, and which the family would take."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"`{key}` = '{recipe}': {error}; left out, it is {own}") from error


class ClassObjective(Objective):
    """What is common to trainings on images of classes, whatever is asked of them."""

    model: Generator
    labels: Tensor
    epoch: Tensor | None
    heldout: HeldOutCodes | None

    def __post_init__(self) -> None:
        used = self.labels if self.epoch is None else self.epoch
        super().__init__({"model": self.model}, len(used))

    def sources(self, items: Tensor, step: int) -> Tensor:
        """Indices of the codes; mirror images come after all the others."""
        return items if self.epoch is None else self.epoch[items]

    def validate(self) -> Mapping[str, float]:
        """The loss on held-out codes."""
        return self.heldout.measure(self.model, self.device) if self.heldout else {}


@dataclass(eq=False, repr=False)
class GeneratorObjective(ClassObjective):
    """Cross-entropy of every supervised token under a recipe (algorithm 1)."""

    model: Generator
    """Predicts codes."""
    codes: Draw
    """Gives int64 ``[B, N]``, in raster order."""
    labels: Tensor
    """int64 ``[n]``."""
    recipe: Recipe
    """Orders and sets; each batch gets a fresh plan."""
    epoch: Tensor | None = None
    """Indices of the codes of one epoch, some of them repeated; None is each once."""
    heldout: HeldOutCodes | None = None
    """What is never trained on, and measured on the way."""

    def losses(self, items: Tensor, step: int) -> Step:
        """Mean negative log-likelihood in nats per supervised token."""
        part = self.part_of(items)
        draw = part.generator()
        plan = self.recipe.plan(self.model.config.grid, len(part.batch), draw)
        counted = plan.supervised.sum().item() * part.share
        chances = part.chances(draw)[part.rows].to(self.device)
        plan = plan.rows(part.rows).to(self.device)
        items = self.sources(items, step)
        codes, labels = self.codes(items, step).to(self.device), self.labels[items].to(self.device)
        with self.model.condition.dropping_by(chances):
            logits = self.model(codes, labels, plan)
        loss = token_loss(logits, codes.gather(1, plan.order), plan.supervised, counted)
        return Step({"model": loss}, {"loss": loss.detach()})


@dataclass(eq=False, repr=False)
class SelfCorrectionObjective(ClassObjective):
    """Cross-entropy of a VAR that makes up for mistakes (Infinity, arXiv 2412.04431, for bits).

    A VAR that saw right codes only is lost once it has drawn a wrong one, for every finer code
    depends on it. Here random codes take the place of some, and what is asked for are the codes
    that lead back to the image. So no two passes over an image are the same either, and it is
    hard to learn by heart.
    """

    model: Generator
    """Predicts codes; self-correcting."""
    features: Draw
    """Gives float32 ``[B, C, rows, columns]`` of images, by its tokenizer."""
    labels: Tensor
    """int64 ``[n]``."""
    share: float
    """Of an image's codes up to this are wrong, drawn for each image from 0 on."""
    epoch: Tensor | None = None
    """As of `GeneratorObjective`."""
    heldout: HeldOutCodes | None = None
    """As of `GeneratorObjective`; measured without mistakes."""

    def losses(self, items: Tensor, step: int) -> Step:
        """Mean negative log-likelihood in nats per token."""
        part = self.part_of(items)
        draw, rows = part.generator(), part.rows
        shape = (len(part.batch), math.prod(self.model.config.grid))
        wrong = torch.randint(self.model.config.vocabulary, shape, generator=draw)
        share = self.share * torch.rand(len(part.batch), 1, generator=draw)
        where = torch.rand(shape, generator=draw) < share
        wrong, where = wrong[rows].to(self.device), where[rows].to(self.device)
        chances = part.chances(draw)[rows].to(self.device)
        items = self.sources(items, step)
        features = self.features(items, step).to(self.device)
        labels = self.labels[items].to(self.device)
        with self.model.condition.dropping_by(chances):
            logits, targets = self.model.after_mistakes(features, labels, wrong, where)
        loss = token_loss(logits, targets, torch.ones_like(where))
        return Step({"model": loss}, {"loss": loss.detach()})


def loss_of_one(model: Generator, grid: tuple[int, int], recipe: Recipe) -> Callable[[], Tensor]:
    """The loss of one image, of a model on the device `meta`, where a plan cannot be checked."""
    model.check = lambda plan: None  # it was, before

    def loss() -> Tensor:
        plan = recipe.plan(grid, 1, torch.Generator().manual_seed(0)).to("meta")
        codes = torch.zeros(1, grid[0] * grid[1], dtype=torch.int64, device="meta")
        with torch.device("cpu"):
            condition = torch.zeros_like(model.condition.example(1), device="meta")
        logits = model(codes, condition, plan)
        return token_loss(logits, codes.gather(1, plan.order), plan.supervised)

    return loss


def named_rows(pictures: Tensor, names: Sequence[str]) -> Tensor:
    """Pictures uint8 ``[n, 3, h, w]``, those of a class in a row beside its name, as one."""
    rows: dict[str, list[Image.Image]] = {name: [] for name in names}
    for name, picture in zip(names, to_pil(pictures), strict=True):
        rows[name].append(picture)
    width = pictures.shape[-1]
    side = width * math.ceil(48 / width)  # as large as `tile` makes them
    sheet = labelled_rows([(name, "", row) for name, row in rows.items()], side=side)
    return torch.from_numpy(np.asarray(sheet).copy()).permute(2, 0, 1)


def asked_texts(data: Dataset, count: int) -> list[str]:
    """Captions of about so many pictures, of held-out ones if there are, else of any."""
    held = data.held_out()
    captions = (data if held is None or not any(held.captions) else held).captions
    first = (i * len(captions) // count for i in range(count))
    found = (next(filter(None, captions[start : start + 100]), ("",))[0] for start in first)
    return [text for text in dict.fromkeys(found) if text]


def shown_texts(pipe: Pipeline, data: Dataset, count: int = 8) -> Tensor:
    """Pictures of some captions, held-out ones if there are, each in a row beside its text."""
    texts = asked_texts(data, count)
    pictures = pipe.decode(pipe.sample_codes(texts, seed=0, count=count))
    return named_rows(pictures, [text for text in texts for _ in range(count)])


def shown_classes(classes: int) -> tuple[list[int], int]:
    """About `SHOWN` class ids, and the columns to show them in: a row each if they are few."""
    each, shown = max(1, SHOWN // classes), min(classes, SHOWN)
    spread = [i * classes // shown for i in range(shown)]
    return [label for label in spread for _ in range(each)], each if each > 1 else 8
