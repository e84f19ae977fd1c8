"""Five backbones of one size, trained alike: trains and measures them, and keeps every figure.

    python experiments/backbones.py --bed digits     whatever of this bed is not kept yet
    python experiments/backbones.py --bed emoji      may run beside it
    python experiments/backbones.py --speed          seconds, of one quiet thread
    python experiments/results.py backbones          all of it, then docs/backbones.md

A file of `KEPT` is written after every single measurement, so whatever stops goes on where it was;
a file whose settings are no longer these is made anew. Models lie beside those of the other
experiments.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lab import (
    EMOJI_TEMPERATURE,
    PER_CLASS,
    PER_SUBGROUP,
    SEEDS,
    Sampling,
    digit_figures,
    emoji_figures,
    key,
    lasting,
    losses,
    mean,
    run_of,
    small_emoji_run,
    train,
)
from scaling import cross_entropy
from torch import Tensor

from setar import Pipeline
from setar.bench.recorder import clock_of
from setar.bench.sampling import measure_sampling
from setar.bench.training import measure_training
from setar.data import digits, emoji
from setar.durable import write_text
from setar.layers.attention import Mask
from setar.models.base import FAMILIES, Generator
from setar.models.fmt import FullyMaskedTransformer, RecomputedDecoding
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults
from setar.training.generator import GeneratorRun

KEPT = Path(__file__).parent / "kept" / "backbones"
"""Figures, committed; a folder for each bed, and in it a file for each training."""

TRAINED = "random-16-random"
"""The recipe of all trainings but those of the decoder-only model, which can only follow `AR`."""

AR = "ar"

STEPS = (4, 8, 16, 32, 64)
"""In which the 64 tokens are sampled."""

ORDERS = ("random", "locality")

LPD_ORDERS = ("random", "lpd-proximity", "lpd-repulsion", "lpd")
"""Neither, either and both of LPD's two rules, always with its set sizes."""

LPD_STEPS = (8, 16)

LPD_FAMILIES = ("fmt", "lpd")
"""That are sampled in `LPD_ORDERS`."""

NAMES = {
    "fmt": "FMT",
    "randar": "RandAR",
    "arpg": "ARPG",
    "lpd": "LPD",
    "decoder-only": "decoder-only",
    "fmt-apart": "FMT, queries apart",
}

SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    # within 2 % of the FMT's parameters, in about as many layers as that
    "digits": {
        "fmt": {"width": 64, "heads": 2, "encoder_layers": 2, "decoder_layers": 2},  # 302,656
        "randar": {"width": 72, "heads": 2, "layers": 4},  # 308,088
        "arpg": {"width": 72, "heads": 2, "self_layers": 2, "cross_layers": 2},  # 297,792
        "lpd": {"width": 64, "heads": 2, "layers": 6},  # 307,264
        "decoder-only": {"width": 72, "heads": 2, "layers": 4},  # 308,016
        "fmt-apart": {"width": 64, "heads": 2, "encoder_layers": 2, "decoder_layers": 2},
    },
    "emoji": {
        "fmt": {"width": 84, "heads": 3, "encoder_layers": 3, "decoder_layers": 3},  # 742,308
        "randar": {"width": 84, "heads": 3, "layers": 7},  # 744,912
        "arpg": {"width": 96, "heads": 3, "self_layers": 3, "cross_layers": 3},  # 736,032
        "lpd": {"width": 112, "heads": 4, "layers": 4},  # 741,664
        "decoder-only": {"width": 84, "heads": 3, "layers": 7},  # 744,828
        "fmt-apart": {"width": 84, "heads": 3, "encoder_layers": 3, "decoder_layers": 3},
    },
}


@FAMILIES.register("fmt-apart")
class ApartTransformer(FullyMaskedTransformer):
    """An FMT in which a query does not see the others of its own set, as if asked alone.

    Those of earlier sets it still sees. It is here to be compared, so it is sampled without caches.
    """

    def decode(
        self,
        x: Tensor,
        rotation: Tensor,
        memory: Tensor,
        memory_rotation: Tensor,
        self_mask: Mask | None = None,
        cross_mask: Mask | None = None,
    ) -> Tensor:
        """As that of `FullyMaskedTransformer`: queries that see each other are those of one set."""
        assert isinstance(self_mask, Tensor)
        itself = torch.eye(self_mask.shape[-1], dtype=torch.bool, device=self_mask.device)
        apart = self_mask & ~self_mask.mT | itself
        return super().decode(x, rotation, memory, memory_rotation, apart, cross_mask)

    def start(
        self,
        condition: Tensor,
        tokens: int,
        attention: str = "causal",
        cache: bool = True,
        grid: tuple[int, int] | None = None,
    ) -> RecomputedDecoding:
        """As that of `FullyMaskedTransformer`, always without caches."""
        self.check_attention("causal" if attention == "causal" else f"{attention} of queries apart")
        return RecomputedDecoding(self, condition, self.check_grid(grid))


@dataclass(frozen=True)
class Bed:
    """Data that all backbones are trained on, and how their samples are judged."""

    title: str
    run: Callable[[str, dict[str, Any], int], GeneratorRun]
    """From recipe, model and seed to the settings of a training."""
    judge: Callable[[Pipeline, str, int], dict[str, float]]
    """From model, sampling recipe and seed to ``distance`` and ``right``."""
    heldout: Callable[[], Any]
    """The pictures whose loss is measured."""
    sampled: dict[str, Any]
    """What the figures depend on beside the run."""
    vocabulary: int
    classes: int


def digit_run(recipe: str, model: dict[str, Any], seed: int) -> GeneratorRun:
    """400 steps of 64 digits, as in the other experiments."""
    return run_of(recipe, seed, model["family"], shape={"preset": "tiny", **model})


def judge_digits(pipe: Pipeline, recipe: str, seed: int) -> dict[str, float]:
    """FD-digits and the share of right digits, as in the other experiments."""
    found = digit_figures(pipe, Sampling(recipe, Guidance(1.5), seed=seed))
    return {"distance": found.distance, "right": found.accuracy}


def judge_emoji(pipe: Pipeline, recipe: str, seed: int) -> dict[str, float]:
    """FD-EffLite0 and class share, as in the comparison with VAR but of fewer pictures."""
    found = emoji_figures(pipe, Sampling(recipe, Guidance(1.25), seed=seed))
    return {"distance": found.distance, "right": found.accuracy}


BEDS = {
    "digits": Bed(
        "Digits",
        digit_run,
        judge_digits,
        lambda: digits.load("heldout"),
        {"guidance": 1.5, "temperature": 1.0, "count": 10 * PER_CLASS},
        17,
        10,
    ),
    "emoji": Bed(
        "Emoji",
        small_emoji_run,
        judge_emoji,
        lambda: emoji.load("heldout"),
        {"guidance": 1.25, "temperature": EMOJI_TEMPERATURE, "count": 99 * PER_SUBGROUP},
        512,
        99,
    ),
}


def run_for(bed: str, family: str, seed: int) -> GeneratorRun:
    """The settings of one training."""
    recipe = AR if family == "decoder-only" else TRAINED
    run = BEDS[bed].run(recipe, {"family": family, **SHAPES[bed][family]}, seed)
    # So small models take as long to compile as to train.
    return replace(run, loop=replace(run.loop, precision="float32", compile=False))


def recipes_for(family: str) -> list[str]:
    """What a trained backbone is sampled with."""
    if family == "decoder-only":
        return [AR]
    orders = ORDERS if family != "fmt-apart" else ("random",)
    found = [f"{order}-{steps}-cosine" for order in orders for steps in STEPS]
    if family in LPD_FAMILIES:
        found += [f"{order}-{steps}-lpd" for order in LPD_ORDERS for steps in LPD_STEPS]
    return found


def file_of(bed: str, name: str) -> Path:
    """Where figures are kept."""
    return KEPT / bed / f"{name}.json"


def facts_of(bed: str, family: str, seed: int) -> str:
    """A hash of what the figures of a training depend on."""
    run = run_for(bed, family, seed)
    return key({"run": lasting(run), "sampled": BEDS[bed].sampled, "what": "backbones"})


def kept(bed: str, family: str, seed: int) -> dict[str, Any]:
    """What is known about a training so far; all of it is gone once its settings are others."""
    facts, file = facts_of(bed, family, seed), file_of(bed, f"{family}-{seed}")
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found if found.get("of") == facts else {"of": facts, "figures": {}}


def is_whole(bed: str, family: str, seed: int) -> bool:
    """Whether nothing is left to measure."""
    found = kept(bed, family, seed)
    return "heldout" in found and all(name in found["figures"] for name in recipes_for(family))


def measured(bed: str, family: str, seed: int) -> dict[str, Any]:
    """All figures of a training, which is done now unless it was done before."""
    found, file = kept(bed, family, seed), file_of(bed, f"{family}-{seed}")
    if is_whole(bed, family, seed):
        return found
    run = run_for(bed, family, seed)
    pipe = Pipeline.from_pretrained(train(run))
    if "heldout" not in found:
        found |= facts_of_training(bed, run, pipe)
        write(file, found)
    for recipe in recipes_for(family):
        if recipe not in found["figures"]:
            began = time.perf_counter()
            found["figures"][recipe] = BEDS[bed].judge(pipe, recipe, seed)
            write(file, found)
            shown = ", ".join(f"{k} {v:.4g}" for k, v in found["figures"][recipe].items())
            seconds = time.perf_counter() - began
            print(f"  {bed} {family} {seed} {recipe}: {shown} ({seconds:.0f} s)", flush=True)
    return found


def facts_of_training(bed: str, run: GeneratorRun, pipe: Pipeline) -> dict[str, Any]:
    """What a training left: its size, its losses while it went on and at its end."""
    curve, unseen = losses(run), BEDS[bed].heldout()
    last = [loss for step, loss in curve if step > 0.75 * run.loop.steps]
    return {
        "parameters": sum(p.numel() for p in pipe.model.parameters()),
        "images": run.loop.steps * run.loop.batch_size,
        "curve": curve,
        "trained": mean(last),
        "heldout": cross_entropy(pipe, run, unseen.images, unseen.labels),
    }


def write(file: Path, found: dict[str, Any]) -> None:
    """Keep figures."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(found, indent=1) + "\n")


def trainings() -> Iterator[tuple[str, int]]:
    """Families and seeds, seed by seed, so that whatever is there compares all families."""
    for seed in SEEDS:
        for family in NAMES:
            yield family, seed


def run_bed(bed: str) -> dict[str, list[dict[str, Any]]]:
    """All figures of a bed by family, over the seeds; what is missing is made now."""
    found: dict[str, list[dict[str, Any]]] = {family: [] for family in NAMES}
    todo = [pair for pair in trainings() if not is_whole(bed, *pair)]
    for family, seed in trainings():
        if (family, seed) in todo:
            print(f"{bed}: {family}, seed {seed} ({len(todo)} left)", flush=True)
            todo.remove((family, seed))
        found[family].append(measured(bed, family, seed))
    return found


TIMED_BATCH = {"training": 64, "sampling": 8}
TIMED_STEPS = STEPS
REPEATS = 5


def model_of(bed: str, family: str) -> Generator[Any]:
    """A model of random weights, for seconds depend on its shape alone."""
    facts = {"vocabulary": BEDS[bed].vocabulary, "classes": BEDS[bed].classes, "grid": (8, 8)}
    shape = run_for(bed, family, 0).model.shape
    return FAMILIES.find(family)(replace(shape, **facts)).eval()


def speeds(bed: str, again: bool = False) -> dict[str, Any]:
    """CPU seconds of one thread by family; taken now unless they were before.

    The thread's own seconds, so that a busy machine disturbs them as little as can be.
    """
    file = file_of(bed, "speed")
    if file.exists() and not again:
        return json.loads(file.read_text("utf-8"))
    torch.set_num_threads(1)
    found: dict[str, Any] = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
    for family in NAMES:
        if family != "fmt-apart":
            found[family] = speed(bed, family)
            print(f"{bed} {family}: {found[family]}", flush=True)
    write(file, found)
    return found


def machine() -> str:
    """The processor, as Linux tells it; elsewhere its architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text("utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def speed(bed: str, family: str) -> dict[str, Any]:
    """Images a second in training; seconds a picture and bytes of its caches in sampling."""
    clock = clock_of(torch.device("cpu"), cpu_time=True)
    recipe = Recipe.parse(AR if family == "decoder-only" else TRAINED)
    batch = TIMED_BATCH["training"]
    training = measure_training(model_of(bed, family), recipe, batch, clock, REPEATS)
    seconds, caches = {}, 0
    for steps in TIMED_STEPS if family != "decoder-only" else TIMED_STEPS[-1:]:
        recipe = Recipe.parse(AR if family == "decoder-only" else f"random-{steps}-cosine")
        chosen = SamplingDefaults(recipe, Guidance(1.5))
        batch = TIMED_BATCH["sampling"]
        taken = measure_sampling(model_of(bed, family), chosen, batch, clock, REPEATS)
        seconds[str(steps)] = taken.seconds / batch
        caches = taken.expected["caches"] // batch
    return {"images": training.images / training.seconds, "seconds": seconds, "caches": caches}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bed", choices=BEDS)
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    if asked.speed:
        for bed in BEDS if asked.bed is None else [asked.bed]:
            speeds(bed, again=True)
    elif asked.bed:
        run_bed(asked.bed)
    else:
        parser.print_usage(sys.stderr)
        sys.exit("name a bed, or ask for the --speed of all")


if __name__ == "__main__":
    main()
