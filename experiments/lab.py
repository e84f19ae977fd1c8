"""The workbench of the experiments: train a model once, measure a way of sampling it once.

Models are kept under ``runs/experiments`` by a hash of their settings, and figures, which are
committed, under ``experiments/kept``. So a script that is started again only does what is new, and
so do several scripts that share models.
"""

import hashlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from setar import Pipeline, checkpoint, config
from setar.data import digits, emoji
from setar.device import find_device, slow_in_bfloat16
from setar.evaluation.distances import GaussianStatistics, frechet_distance
from setar.evaluation.neighbours import nearest_class_share
from setar.features.base import extract_features
from setar.features.digits import DigitFeatures
from setar.features.efficientnet import EfficientNetFeatures
from setar.pretrained import SHIPPED, locate, shipped
from setar.run_folder import METRICS, checkpoint_folder, checkpoints
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingSettings
from setar.training.generator import GeneratorRun
from setar.training.run import open_run

RUNS = Path(os.environ.get("SETAR_EXPERIMENTS", "runs/experiments"))
"""Where models are kept."""

KEPT = Path(__file__).parent / "kept"
"""Where figures are."""

PICTURES = Path("docs/results")
"""Where plots go."""

PER_CLASS = 100
"""Digits that are sampled of each class for one measurement."""

SHAPES: dict[str, dict[str, Any]] = {
    # 302,656 and 285,760 parameters: the same width and as many layers
    "fmt": {"encoder_layers": 2, "decoder_layers": 2},
    "decoder-only": {"layers": 4, "class_rotation": "zero"},  # as LlamaGen's
}


EMOJI_SHAPES: dict[str, dict[str, Any]] = {
    # 742,308 and 646,044 parameters: the same width and as many layers
    "fmt": {"width": 84, "heads": 3, "encoder_layers": 3, "decoder_layers": 3},
    "decoder-only": {"width": 84, "heads": 3, "layers": 6},
}

PER_SUBGROUP = 4
"""Emoji that are sampled of each of the 99 subgroups for one measurement."""

SMALL_STEPS = 600
"""Of 32 images, for a small model of emoji."""

COMPILES = shutil.which("g++") is not None
"""Whether models are compiled, which only makes their training faster."""

MULTISCALE = "emoji-var" if "emoji-var" in shipped() else "runs/emoji-var-tokenizer"
"""The multi-scale tokenizer of the emoji: that of the shipped VAR, or of its run until there is one."""

SEEDS = range(int(os.environ.get("SETAR_SEEDS", "3")))
"""Seeds of the models and of their samples, where a claim hangs on them."""


class NoData(ValueError):
    """What an experiment looks at is not on this machine; its section stays as it is."""


@dataclass(frozen=True)
class Bed:
    """Data on which claims are tested."""

    name: str
    """Of the data set."""
    distance: str
    """What distances to its training images are called."""
    right: str
    """What the share of samples is called that are what was asked for."""

    def title(self, text: str) -> str:
        """That of a section on this bed."""
        return text if self.name == "digits" else f"{text}, on {self.name}"

    def plot(self, name: str) -> str:
        """The name of a plot of this bed."""
        return name if self.name == "digits" else f"{name}-{self.name}"

    def run(self, recipe: str, seed: int = 0, family: str = "fmt") -> GeneratorRun:
        """The settings of a model."""
        if self.name == "digits":
            return run_of(recipe, seed, family)
        return small_emoji_run(recipe, {"family": family, **EMOJI_SHAPES[family]}, seed)


DIGITS = Bed("digits", "FD-digits", "right digit")
EMOJI = Bed("emoji", "FD-EffLite0", "class share")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, put to the test."""

    number: int
    text: str
    """What the paper says."""
    rule: str
    """What must be true of our figures for it to hold."""
    measured: str
    holds: bool

    def line(self) -> str:
        """A row of the table of claims."""
        verdict = "**holds**" if self.holds else "**does not hold**"
        return f"| {self.number} | {self.text} | {self.rule} | {self.measured} | {verdict} |"


@dataclass(frozen=True)
class Section:
    """A part of ``docs/results.md``."""

    title: str
    body: str
    claims: tuple[Claim, ...] = ()

    def markdown(self) -> str:
        """Heading, body, and what became of the claims."""
        rows = "\n".join(claim.line() for claim in self.claims)
        table = f"\n\n{CLAIMS_HEAD}\n{rows}" if rows else ""
        return f"## {self.title}\n\n{self.body.strip()}{table}\n"


CLAIMS_HEAD = "| | the paper's claim | holds if | measured | |\n|---|---|---|---|---|"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run_of(
    recipe: str,
    seed: int = 0,
    family: str = "fmt",
    steps: int = 400,
    shape: dict[str, Any] | None = None,
) -> GeneratorRun:
    """The settings of a digit model: 0.3 M parameters, ``steps`` of 64 images.

    ``shape`` is that of a family which has none in `SHAPES`.
    """
    size = {"width": 64, "heads": 2, "dropout": 0.0}
    model = {"family": family, **size, **(SHAPES[family] if shape is None else shape)}
    values = {
        "task": "generator",
        "data": {"source": "digits"},
        "recipe": recipe,
        "model": model,
        "sampling": {"recipe": "ar" if family == "decoder-only" else "random-16-cosine"},
        "optimizer": {
            "name": "muon",
            "learning_rate": 3e-3,
            "muon_rate": 2.0,
            "schedule": "cosine",
            "warmup_steps": 30,
            "ema": 0.99,
        },
        "loop": {
            "steps": steps,
            "batch_size": 64,
            "seed": seed,
            "precision": "bfloat16",
            "compile": COMPILES,
            "checkpoint_every": steps,
        },
    }
    return config.build(GeneratorRun, values)


def emoji_run(
    recipe: str,
    model: dict[str, Any],
    steps: int,
    tokenizer: str = "emoji",
    sampling: str | None = None,
    rate: float = 1.5e-3,
    balance: float = 1.0,
    compile: bool = True,
    seed: int = 0,
    self_correction: float = 0.0,
) -> GeneratorRun:
    """The settings of an emoji model: ``steps`` of 32 images, the rest as in configs/emoji.toml.

    ``sampling`` is the recipe of the pictures on the way; None is that of the training.
    """
    values = {
        "task": "generator",
        "data": {"source": "emoji", "balance": balance},
        "tokenizer": tokenizer,
        "recipe": recipe,
        "model": {"preset": "emoji", **model},
        "self_correction": self_correction,
        "sampling": {"recipe": sampling or recipe},
        "optimizer": {
            "name": "muon",
            "learning_rate": rate,
            "muon_rate": 4.0,
            "schedule": "cosine",
            "warmup_steps": steps // 20,
            "ema": 0.999,
        },
        "loop": {
            "steps": steps,
            "batch_size": 32,
            "precision": "bfloat16",
            "seed": seed,
            "compile": compile and COMPILES,
            "checkpoint_every": steps,
        },
    }
    return config.build(GeneratorRun, values)


def small_emoji_run(recipe: str, model: dict[str, Any], seed: int) -> GeneratorRun:
    """`SMALL_STEPS` of 32 emoji, each subgroup equally often, for a model of under a million."""
    model = {"preset": "tiny", "dropout": 0.0, **model}
    sampling = "ar" if model["family"] == "decoder-only" else "random-16-cosine"
    run = emoji_run(recipe, model, SMALL_STEPS, sampling=sampling, rate=2e-3, seed=seed)
    return replace(run, optimizer=replace(run.optimizer, ema=0.995))


def train(run: GeneratorRun) -> Path:
    """The folder of a trained run; trained now unless that was done before."""
    folder = RUNS / "models" / key(lasting(run))
    if checkpoint_folder(folder, run.loop.steps) not in checkpoints(folder):
        print(f"training {run.model.family} {run.recipe}, seed {run.loop.seed}", flush=True)
        open_run(_as_this_machine_can(run), folder, resume=True).run()
    return folder


def _as_this_machine_can(run: GeneratorRun) -> GeneratorRun:
    """In float32 where bfloat16 is slow: held-out losses agree in four digits (LOG.md)."""
    if not slow_in_bfloat16(find_device(run.loop.device)):
        return run
    return replace(run, loop=replace(run.loop, precision="float32"))


@dataclass(frozen=True)
class Figures:
    """What one measurement gives."""

    distance: float
    """Of the samples to the training images, FD-digits or FD-EffLite0; lower is better."""
    accuracy: float
    """Share of samples that a classifier takes for the digit that was asked for; of emoji, whose
    nearest training emoji is of the subgroup that was asked for."""
    seconds: float
    """Time that sampling took, all images together."""


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled for a measurement."""

    recipe: str
    guidance: Guidance = field(default_factory=lambda: Guidance(1.5))
    settings: SamplingSettings = field(default_factory=SamplingSettings)
    seed: int = 0

    def but(self, **changes: Any) -> "Sampling":
        """The same with changes, of the settings too."""
        own = {
            name: changes.pop(name) for name in ("recipe", "guidance", "seed") if name in changes
        }
        return replace(self, **own, settings=replace(self.settings, **changes))


def measure(run: GeneratorRun, sampling: Sampling) -> Figures:
    """Figures of a way of sampling a model; measured now unless that was done before."""
    digits = run.data.source == "digits"
    count = PER_CLASS if digits else PER_SUBGROUP
    facts = {"run": lasting(run), "sampling": asdict(sampling), "count": count}
    if not digits:
        facts["temperature"] = EMOJI_TEMPERATURE
    if sampling.settings.attention == "full":  # until then it asked at the next set alone
        facts["asks"] = "all unknown"
    name = key(facts)
    return Figures(**remember(f"figures/{name}", lambda: asdict(_measure(run, sampling))))


def _measure(run: GeneratorRun, sampling: Sampling) -> Figures:
    judge = digit_figures if run.data.source == "digits" else emoji_figures
    return judge(Pipeline.from_pretrained(train(run)), sampling)


def digit_figures(pipe: Pipeline, sampling: Sampling, given: Tensor | None = None) -> Figures:
    """Figures of a way of sampling a model of digits, measured now; some codes may be given."""
    labels = list(range(10))
    began = time.perf_counter()
    codes = pipe.sample_codes(
        labels,
        recipe=sampling.recipe,
        guidance=sampling.guidance,
        seed=sampling.seed * 10 * PER_CLASS,
        count=PER_CLASS,
        batch_size=500,
        given=given,
        **asdict(sampling.settings),
    )
    seconds = time.perf_counter() - began
    features = DigitFeatures()(pipe.decode(codes))
    assert features.probabilities is not None
    asked = torch.tensor(labels).repeat_interleave(PER_CLASS)
    accuracy = (features.probabilities.argmax(1) == asked).float().mean().item()
    return Figures(frechet_distance(features.pooled, real_features()), accuracy, seconds)


def real_features() -> Tensor:
    """Features of the training digits."""
    return DigitFeatures()(digits.load("train").images).pooled


def emoji_distance(images: Tensor) -> float:
    """FD-EffLite0 of pictures to the training emoji."""
    return frechet_distance(_emoji_features(images), _real_gaussian())


EMOJI_TEMPERATURE = 0.5
"""Of all samples of small models of emoji, as in the comparison with VAR."""


def emoji_figures(pipe: Pipeline, sampling: Sampling) -> Figures:
    """FD-EffLite0 and class share of a way of sampling a model of emoji, measured now."""
    labels = torch.arange(len(pipe.classes)).repeat_interleave(PER_SUBGROUP)
    began = time.perf_counter()
    codes = pipe.sample_codes(
        labels.tolist(),
        recipe=sampling.recipe,
        guidance=sampling.guidance,
        seed=sampling.seed * len(labels),
        batch_size=132,
        **{**asdict(sampling.settings), "temperature": EMOJI_TEMPERATURE},
    )
    seconds = time.perf_counter() - began
    features = _emoji_features(pipe.decode(codes))
    share = nearest_class_share(features, labels, _real_emoji(), emoji.load("train").labels)
    return Figures(frechet_distance(features, _real_gaussian()), share, seconds)


@cache
def _real_gaussian() -> GaussianStatistics:
    return GaussianStatistics.from_features(_real_emoji())


@cache
def _real_emoji() -> Tensor:
    return _emoji_features(emoji.load("train").images)


def _emoji_features(images: Tensor) -> Tensor:
    return extract_features(EfficientNetFeatures(), images).pooled


def floor(bed: Bed = DIGITS) -> list[float]:
    """The distance between two random halves of the training images: as good as it gets.

    20 times of the digits, 3 times of the emoji.
    """
    digits, generator = bed.name == "digits", torch.Generator().manual_seed(0)
    features, halves = real_features() if digits else _real_emoji(), []
    for _ in range(20 if digits else 3):
        mixed = features[torch.randperm(len(features), generator=generator)]
        halves.append(frechet_distance(*mixed.tensor_split(2)))
    return halves


def losses(run: GeneratorRun) -> list[list[float]]:
    """Pairs of step and training loss along a run."""

    def read() -> list[list[float]]:
        lines = (train(run) / METRICS).read_text().splitlines()
        return [[row["step"], round(row["loss"], 4)] for row in map(json.loads, lines)]

    return remember(f"figures/{key({'losses of': lasting(run)})}", read)


def over_seeds(
    recipe: str, sampling: Sampling, family: str = "fmt", bed: Bed = DIGITS
) -> list[Figures]:
    """The figures of models that differ in their seed alone; each is sampled with it too."""
    return [measure(bed.run(recipe, s, family), replace(sampling, seed=s)) for s in SEEDS]


def trained_how(bed: Bed) -> str:
    """How long, how many and how many samples, in words for the page."""
    loop, size = bed.run("random-16-random").loop, {"digits": "0.3 M", "emoji": "0.74 M"}[bed.name]
    count = 10 * PER_CLASS if bed is DIGITS else 99 * PER_SUBGROUP
    return (
        f"{loop.steps} steps of {loop.batch_size} images (Muon, {size} parameters), "
        f"{count_of_seeds()}, {count:,} samples"
    )


def count_of_seeds() -> str:
    """In words for the page."""
    return "one seed" if len(SEEDS) == 1 else f"{len(SEEDS)} seeds"


def mean(values: Sequence[float]) -> float:
    """The mean, of which tables and claims speak."""
    return statistics.fmean(values)


def distance(figures: Sequence[Figures]) -> float:
    """The mean FD-digits of several seeds."""
    return mean([f.distance for f in figures])


def spread_of(values: Sequence[float]) -> float:
    """The standard deviation over seeds; 0 of one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def shown(values: Sequence[float], digits: int = 1) -> str:
    """Mean and, of several values, standard deviation."""
    text = f"{mean(values):.{digits}f}"
    return f"{text} ± {spread_of(values):.{digits}f}" if len(values) > 1 else text


def shown_distance(figures: Sequence[Figures]) -> str:
    """Mean and spread of FD-digits."""
    return shown([f.distance for f in figures])


def panels(count: int) -> tuple[Any, list[Any]]:
    """A figure of ``count`` plots side by side."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, count, figsize=(4.2 * count, 4.2), layout="constrained", squeeze=False
    )
    return figure, list(axes[0])


def axis_of_steps(axis: Any, steps: Sequence[int], title: str, bed: Bed = DIGITS) -> None:
    """Sampling steps to the right and distances upwards, both logarithmic."""
    axis.set(xscale="log", yscale="log", xlabel="sampling steps", ylabel=bed.distance, title=title)
    axis.set_xticks(steps, [str(step) for step in steps], minor=False)
    axis.set_xticks([], minor=True)
    halves, lowest = mean(floor(bed)), min(min(line.get_ydata()) for line in axis.lines)
    if halves > lowest / 4:
        axis.axhline(halves, color="grey", lw=1, ls=":", label="two halves of the real ones")
    else:  # so far below that nothing else could be told apart
        axis.plot([], [], " ", label=f"two halves of the real ones: {halves:.0f}")
    finish(axis)


def finish(axis: Any, legend: bool = True) -> None:
    """Plain numbers on logarithmic axes, a grid, and the legend below, where it hides nothing."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if axis.get_xscale() == "log":
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    if axis.get_yscale() == "log":
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        low, high = axis.get_ylim()
        few = FuncFormatter(lambda value, _: f"{value:g}" if high / low < 30 else "")
        axis.yaxis.set_minor_formatter(few)
        axis.tick_params(axis="y", which="minor", labelsize=7)
    if legend and axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    axis.grid(alpha=0.3)


def save_plot(figure: Any, name: str, caption: str) -> str:
    """Write a plot and return the Markdown that shows it."""
    from matplotlib import pyplot

    PICTURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURES / f"{name}.png", dpi=110)
    pyplot.close(figure)
    return f"![{caption}](results/{name}.png)\n\n*{caption}*"


def remember(name: str, work: Callable[[], Any]) -> Any:
    """The JSON result of some work; done now unless it was done before under this name."""
    file = KEPT / f"{name}.json"
    if not file.exists():
        result = work()
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".partial")
        beside.write_text(json.dumps(result) + "\n", encoding="utf-8")
        os.replace(beside, file)
    return json.loads(file.read_text(encoding="utf-8"))


def shipped_model(name: str = "emoji") -> str:
    """What identifies a shipped model: its manifest."""
    return (SHIPPED / name / "manifest.json").read_text(encoding="utf-8")


def shipped_weights(name: str = "emoji") -> dict[str, str]:
    """The same without its settings: what identifies the weights alone."""
    sums = json.loads(shipped_model(name))["sha256"]
    return {file: value for file, value in sums.items() if file.endswith(".safetensors")}


def lasting(run: GeneratorRun) -> dict[str, Any]:
    """The settings that decide what is learned; a compiler only makes it faster.

    A trained tokenizer counts by its weights, wherever it lies.
    """
    if run.tokenizer != "pixels":
        run = replace(run, tokenizer=tokenizer_weights(run.tokenizer))
    values = config.table(replace(run, loop=replace(run.loop, compile=True)))
    # As they were written for the first results, which are kept by their hash.
    values["model"] = dict.fromkeys(OF_PRESET) | values["model"]
    values["data"]["image_size"] = values["data"]["image_size"] or 256
    if run.model.family == "decoder-only":
        values["recipe"] = values["sampling"]["recipe"] = "ar"
        values["model"]["class_rotation"] = config.table(run.model.shape)["class_rotation"]
    elif values["recipe"] == "random-2-masked":
        values["recipe"] = "mar"
    return values


@cache
def tokenizer_weights(source: str) -> str:
    """A hash of a tokenizer in half precision: the same for a run's and for its shipped copy."""
    state = checkpoint.half(checkpoint.load_tensors(locate(source), "tokenizer"))
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


OF_PRESET = ("width", "heads", "dropout", "class_dropout")
OF_PRESET += ("encoder_layers", "decoder_layers", "layers")
"""Settings of a model that the first results wrote as null where its preset has them."""

LATER = {"smoothing": False, "self_correction": 0.0, "plugins": [], "family": "vqgan"}
LATER |= {"decay_embeddings": False, "heldout": 0.0, "skip_broken": False, "resize": "lanczos"}
LATER |= {"scenes": None, "text": None, "stages": [], "init": "", "validation": ""}
LATER |= {"parallel": "replicate", "micro_batch": 0, "checkpointing": False, "skip_bad_steps": 0}
LATER |= {"fd_every": 0, "fd_samples": 1000, "wandb": ""}
"""Settings that came after the first results, and what they were until then: so they do not count."""


def key(values: dict[str, Any]) -> str:
    """A hash of settings."""
    text = json.dumps(_without_later(values), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_later(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {k: _without_later(v) for k, v in values.items() if (k, v) not in LATER.items()}
