"""Figure 10 and guidance, of the shipped model of texts; and its evaluation as a table.

setar data styles --out data/styles                      the drawings, once (or name them in SETAR_STYLES)
for seed in 0 10000 20000; do setar evaluate emoji-text --reference data/styles --seed $seed \\
    --out experiments/kept/text/seed-$seed.json; done    the table of three seeds
python experiments/results.py text                       all of it on the page
python experiments/text.py --model runs/mine --data drawings --each 8    another model; to standard output
"""

import argparse
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import lab
import torch
from lab import Claim, Section, finish, key, mean, panels, remember, save_plot, shown, table
from safetensors.torch import load_file, save_file
from torch import Tensor

from setar import Pipeline, checkpoint, files
from setar.data.base import Dataset, open_data
from setar.evaluation.drawings import RANK, Gallery, find, share
from setar.evaluation.samples import Prompt
from setar.evaluation.targets import chosen_prompts
from setar.features.base import extract_features, make_extractor
from setar.pictures.sheets import labelled_rows, to_pil
from setar.pretrained import locate
from setar.tokenizers.base import decode_codes, encode_images

TITLE = "Figure 10: a model of texts, time against steps"

SCALES, STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0), (4, 8, 16, 32, 64)
FULL = (128, 256)
"""Steps more of a picture of twice the height and width, up to one for each of its tokens."""

ACCEPTABLE = 0.9
"""Of the best score; a picture with it counts as acceptable."""

SHOWN = 6
"""Pictures of each kind of captions in a sheet."""

BATCH = 256
"""Drawings that are looked at together."""

FOUND = {"drawing": f"drawing within {RANK}", "name": f"name within {RANK}", "style": "style"}
KINDS = ("held-out", "training")


@dataclass(frozen=True)
class Setup:
    """What is measured, and on what."""

    model: str = "emoji-text"
    data: str = os.environ.get("SETAR_STYLES", "data/styles")
    each: int = 100
    """Captions of each of `KINDS`."""


@dataclass(frozen=True)
class Way:
    """How the model is sampled."""

    steps: int
    scale: float


class Bench:
    """A model, the drawings among which its pictures are looked up, and what it is asked for."""

    def __init__(self, setup: Setup) -> None:
        if not os.path.exists(setup.data):
            raise lab.NoData(
                f"the drawings are not in {setup.data}: setar data styles --out {setup.data} makes "
                "them; or say in SETAR_STYLES where they are"
            )
        self.pipe = Pipeline.from_pretrained(setup.model)
        width, height = self.pipe.size
        self.data: Dataset = open_data(setup.data, (height, width))
        held = self.data.held_out()
        if held is None or not {"name", "style"} <= self.data.meta.keys():
            raise ValueError(f"{setup.data} has no held-out drawings with a `name` and a `style`")
        self.parts, self.known = (self.data, held), len(self.data)
        self.prompts = chosen_prompts(self.data, setup.each)
        names, styles = ([*self.data.meta[c], *held.meta[c]] for c in ("name", "style"))
        drawings = {"names": names, "styles": styles, "size": [height, width]}
        sums = checkpoint.read_json(locate(setup.model) / files.MANIFEST)["sha256"]
        parts = ("model.safetensors", "tokenizer.safetensors", files.CONFIG)
        self.facts = {
            "model": [sums[part] for part in parts],
            "threads": torch.get_num_threads(),
            "drawings": key(drawings),
            "prompts": [prompt.text for prompt in self.prompts],
        }
        self.names, self.styles = names, styles

    @cached_property
    def extractor(self) -> Any:
        """EfficientNet-Lite0."""
        return make_extractor("efflite0")

    @cached_property
    def gallery(self) -> Gallery:
        """All drawings, the training ones first; their features are kept."""
        file = lab.RUNS / "features" / f"{self.facts['drawings']}.safetensors"
        if not file.exists():
            every = torch.arange(len(self.names)).split(BATCH)
            found = torch.cat([self.seen(self.images(some)) for some in every])
            file.parent.mkdir(parents=True, exist_ok=True)
            beside = file.with_suffix(".partial")
            save_file({"pooled": found}, beside)
            os.replace(beside, file)
        return Gallery(load_file(file)["pooled"], self.names, self.styles)

    def seen(self, pictures: Tensor) -> Tensor:
        """Features ``[n, d]``."""
        return extract_features(self.extractor, pictures).pooled

    def images(self, drawings: Iterable[int] | Tensor) -> Tensor:
        """Drawings uint8 ``[n, 3, H, W]`` by their indices; held-out ones count on."""
        one = [torch.tensor([int(index)]) for index in drawings]
        first, held = self.parts
        return torch.cat(
            [first.images[i] if i < self.known else held.images[i - self.known] for i in one]
        )

    def of(self, kind: str) -> list[int]:
        """Indices of the prompts of one of `KINDS`."""
        held = kind == "held-out"
        return [i for i, p in enumerate(self.prompts) if (p.drawing >= self.known) == held]

    def found(self, pictures: Tensor) -> dict[str, dict[str, float]]:
        """Shares of `FOUND` for each of `KINDS`, of a picture of each prompt."""
        asked = torch.tensor([prompt.drawing for prompt in self.prompts])
        hits = find(self.gallery, self.seen(pictures), asked)
        return {
            kind: {name: share(getattr(hits, name)[self.of(kind)]) for name in FOUND}
            for kind in KINDS
        }

    def measured(self, way: Way) -> dict[str, Any]:
        """Shares of `FOUND` by kind, ``seconds`` for a picture and the ``codes`` of the shown ones."""
        return remember(
            f"figures/{key({**self.facts, **asdict(way)})}", lambda: self._measured(way)
        )

    def _measured(self, way: Way) -> dict[str, Any]:
        texts = [prompt.text for prompt in self.prompts]
        how = {"recipe": self.recipe(way.steps), "guidance": way.scale}
        self.pipe.sample_codes(texts[:1], **how)  # whatever is loaded at first use is there now
        began = time.perf_counter()
        codes = self.pipe.sample_codes(texts, **how)
        seconds = (time.perf_counter() - began) / len(texts)
        print(f"{how['recipe']}, guidance {way.scale:g}: {seconds:.3f} s a picture", flush=True)
        figures = self.found(self.pipe.decode(codes))
        return {**figures, "seconds": seconds, "codes": codes[self.shown].tolist()}

    def timed(self, steps: int, times: int) -> float:
        """Seconds for one picture of so many times the height and width: the best of three."""
        facts = {**self.facts, "timed": steps, "times": times}
        return remember(f"figures/{key(facts)}", lambda: self._timed(steps, times))

    def _timed(self, steps: int, times: int) -> float:
        size, best = tuple(times * side for side in self.pipe.size[::-1]), float("inf")
        for _ in range(4):
            began = time.perf_counter()
            self.pipe(self.prompts[0].text, size=size, recipe=self.recipe(steps))
            best = min(best, time.perf_counter() - began)
        return best

    def recipe(self, steps: int) -> str:
        """The model's own with so many sets."""
        own = self.pipe.defaults.recipe
        return f"{own.order}-{steps}-{own.schedule}"

    @cached_property
    def own(self) -> Way:
        """How the model is sampled by default."""
        defaults = self.pipe.defaults
        return Way(defaults.recipe.set_count(self.pipe.grid), defaults.guidance.scale)

    @cached_property
    def shown(self) -> list[int]:
        """The prompts of a sheet."""
        return [index for kind in KINDS for index in self.of(kind)[:SHOWN]]

    @cached_property
    def rebuilt(self) -> dict[str, Any]:
        """What `measured` gives, of the asked drawings through the tokenizer."""
        return remember(f"figures/{key({**self.facts, 'rebuilt': True})}", self._rebuilt)

    def _rebuilt(self) -> dict[str, Any]:
        codes = encode_images(self.pipe.tokenizer, self.images(p.drawing for p in self.prompts))
        made = decode_codes(self.pipe.tokenizer, codes, self.pipe.grid)
        return {**self.found(made), "codes": codes[self.shown].tolist()}

    def sheet(self, name: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
        """Write a picture with a row for each way and return the Markdown that shows it."""
        real = to_pil(self.images(self.prompts[index].drawing for index in self.shown))
        lines = [("real", "", real)]
        for label, found in {"tokenizer": self.rebuilt, **rows}.items():
            codes = torch.tensor(found["codes"])
            lines.append((label, "", to_pil(self.pipe.decode(codes))))
        columns = [str(number) for number in range(1, len(real) + 1)]
        picture = labelled_rows(lines, side=64, columns=columns).quantize(256)
        lab.PICTURES.mkdir(parents=True, exist_ok=True)
        picture.save(lab.PICTURES / f"{name}.png", optimize=True)
        held = min(SHOWN, len(self.of(KINDS[0])))
        return f"![{name}](results/{name}.png)\n\n*{_prompts(self.prompts, self.shown, held)}*"


def _prompts(prompts: Sequence[Prompt], shown: Sequence[int], held: int) -> str:
    """What was asked for in the columns of a sheet."""
    texts = [f"{number} {prompts[index].text}" for number, index in enumerate(shown, 1)]
    return f"held out: {'; '.join(texts[:held])}. In training: {'; '.join(texts[held:])}"


def score(found: Mapping[str, Any]) -> float:
    """The mean of all shares, of both kinds of captions."""
    return mean([found[kind][name] for kind in KINDS for name in FOUND])


def acceptable_from(by_steps: Mapping[int, Mapping[str, Any]]) -> int | None:
    """From how many steps on all pictures are acceptable; None if more steps are not."""
    best, enough = max(map(score, by_steps.values())), None
    for steps in sorted(by_steps, reverse=True):
        if score(by_steps[steps]) < ACCEPTABLE * best:
            break
        enough = steps
    return enough


def said_of(by_steps: Mapping[int, Mapping[str, Any]]) -> str:
    """`acceptable_from` in words."""
    enough = acceptable_from(by_steps)
    rule = f"the mean of all shares is at least {ACCEPTABLE:g} of the best"
    if enough is None:
        return f"More steps are not better here: with {max(by_steps)} it is not true that {rule}."
    return f"**Acceptable from {enough} steps on**: there and with more steps {rule}."


def draw_shares(axis: Any, ways: Mapping[Any, Mapping[str, Any]], label: str, bench: Bench) -> None:
    """Shares upwards, what is swept to the right."""
    for colour, (name, words) in zip(("C0", "C1", "C2"), FOUND.items(), strict=True):
        for kind, line in zip(KINDS, ("-", "--"), strict=True):
            values = [found[kind][name] for found in ways.values()]
            axis.plot([*ways], values, f"o{line}", color=colour, ms=3, label=f"{words}, {kind}")
        top = mean([bench.rebuilt[kind][name] for kind in KINDS])
        axis.axhline(top, color=colour, lw=0.8, ls=":")
    axis.set(xscale="log", ylim=(0, 1), xlabel=label, ylabel="share", title=f"found, by {label}")
    axis.set_xticks([*ways], [f"{value:g}" for value in ways])
    axis.set_xticks([], minor=True)
    axis.axvline(bench.own.scale if label == "guidance" else bench.own.steps, color="grey", lw=0.5)


def draw_times(axis: Any, times: Mapping[str, Mapping[int, float]]) -> None:
    """Seconds upwards, steps to the right, as in the paper's figure."""
    for label, line in times.items():
        axis.plot([*line], [*line.values()], "o-", ms=3, label=label)
    every = max(times.values(), key=len)
    axis.set(xscale="log", yscale="log", xlabel="steps", ylabel="seconds", title="time")
    axis.set_xticks([*every], [str(k) for k in every])
    axis.set_xticks([], minor=True)
    finish(axis)


def rows_of(ways: Mapping[Any, Mapping[str, Any]], bench: Bench) -> list[tuple[str, ...]]:
    """Rows of the table of a sweep, and what the tokenizer allows at the end."""
    found = [(f"{value:g}", row) for value, row in ways.items()]
    return [
        (
            label,
            *(f"{row[kind][name]:.2f}" for kind in KINDS for name in FOUND),
            f"{score(row):.3f}",
            f"{row['seconds']:.3f}" if "seconds" in row else "",
        )
        for label, row in [*found, ("reconstructed", bench.rebuilt)]
    ]


def swept(name: str, ways: Mapping[Any, Mapping[str, Any]], bench: Bench) -> str:
    """The table of a sweep."""
    heads = [f"{words}, {kind}" for kind in KINDS for words in FOUND.values()]
    return table([name, *heads, "mean", "s per picture"], rows_of(ways, bench))


def read_evaluations(files: Iterable[Path]) -> list[dict[str, dict[str, Any]]]:
    """What `setar evaluate` wrote for several seeds.

    Raises:
        ValueError: a file is none of a model of texts, or two share pictures, since their seeds are
            nearer to each other than they have pictures.
    """
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    if not all("held-out pairs" in tables for tables in found):
        raise ValueError("an evaluation is not one of a model of texts with its drawings")
    seeds = sorted((t["settings"]["seed"], t["settings"]["N"]) for t in found)
    for (seed, images), (later, _) in pairwise(seeds):
        if later - seed < images:
            raise ValueError(
                f"seeds {seed} and {later} share pictures: image i uses seed + i, and there are "
                f"{images}"
            )
    return found


def evaluated(found: Sequence[Mapping[str, Mapping[str, Any]]]) -> str:
    """Mean and spread of an evaluation's figures over seeds, as two tables."""
    if not found:
        return "No evaluation is kept here: the head of `experiments/text.py` has the commands."

    def line(heading: str, name: str) -> str:
        values = [t[heading][name] for t in found if name in t.get(heading, {})]
        if len(values) < len(found):
            return ""
        return str(values[0]) if isinstance(values[0], int) else shown(values, 3)

    pairs, settings = ("held-out pairs", "training pairs"), found[0]["settings"]
    rows = [(name, *(line(pair, name) for pair in pairs)) for name in found[0][pairs[0]]]
    others = [
        (heading, name, line(heading, name))
        for heading in ("figures", "prompts without a style", "scenes", "editing")
        for name, value in found[0].get(heading, {}).items()
        if isinstance(value, int | float)
    ]
    seeds = ", ".join(str(tables["settings"]["seed"]) for tables in found)
    return f"""
`setar evaluate`, `{settings["recipe"]}`, guidance {settings["guidance"]["scale"]:g}, temperature {settings["temperature"]:g}; seeds {seeds}, {settings["of each prompt"]} samples of each prompt.

{table(["", *pairs], rows)}

{table(["", "", "measured"], others)}""".strip()


def claims(
    by_steps: Mapping[int, Mapping[str, Any]], times: Mapping[int, float]
) -> tuple[Claim, Claim]:
    """What the paper says of its figure."""
    best, enough = max(map(score, by_steps.values())), acceptable_from(by_steps)
    shares = ", ".join(f"{steps}: {score(row) / best:.2f}" for steps, row in by_steps.items())
    ratio, more = times[max(times)] / times[min(times)], max(times) // min(times)
    return (
        Claim(
            13,
            "a text-to-image model of random sets gives acceptable pictures from 4 to 8 steps on",
            f"with 8 steps and any more, the mean share of asked drawings, names and styles that are found is at least {ACCEPTABLE:g} of the best",
            f"of the best, by steps: {shares}",
            enough is not None and enough <= 8,
        ),
        Claim(
            13,
            "time is nearly proportional to steps: 64 times as many take 56 times as long",
            f"a picture of four drawings takes at least half of that, {28 * more / 64:g} times as long, with {max(times)} steps as with {min(times)}",
            f"{ratio:.1f} times as long ({times[min(times)]:.2f} s and {times[max(times)]:.2f} s)",
            ratio >= 28 * more / 64,
        ),
    )


def section(setup: Setup | None = None) -> Section:
    """The part of the page.

    Raises:
        NoData: the drawings are not there.
    """
    setup = setup or Setup()
    bench = Bench(setup)
    by_scale = {scale: bench.measured(Way(bench.own.steps, scale)) for scale in SCALES}
    by_steps = {steps: bench.measured(Way(steps, bench.own.scale)) for steps in STEPS}
    height, width = bench.pipe.size[::-1]
    labels = {1: f"one of {height}x{width}", 2: f"one of {2 * height}x{2 * width}"}
    times = {
        labels[1]: {k: bench.timed(k, 1) for k in STEPS},
        labels[2]: {k: bench.timed(k, 2) for k in (*STEPS, *FULL)},
        "in batches of 64": {k: row["seconds"] for k, row in by_steps.items()},
    }
    figure, axes = panels(3)
    draw_shares(axes[0], by_scale, "guidance", bench)
    draw_shares(axes[1], by_steps, "steps", bench)
    draw_times(axes[2], times)
    for axis in axes[:2]:
        finish(axis)
    picture = save_plot(
        figure,
        "text",
        "what is found at each guidance and number of steps (dotted: reconstructions; grey: the model's own), and the time",
    )
    sheets = [
        bench.sheet("text-steps", {f"{k} steps": row for k, row in by_steps.items()}),
        bench.sheet("text-guidance", {f"guidance {s:g}": row for s, row in by_scale.items()}),
    ]
    timed = table(
        ["steps", *times],
        [
            (str(k), *(f"{line[k]:.3f}" if k in line else "" for line in times.values()))
            for k in times[labels[2]]
        ],
    )
    evaluations = read_evaluations(sorted((lab.KEPT / "text").glob("seed-*.json")))
    settings = bench.pipe.defaults.settings
    body = f"""
The shipped model of texts, `{Path(setup.model).name}`: {len(bench.of(KINDS[0]))} captions of drawings that it has never seen and {len(bench.of(KINDS[1]))} of its training, a picture of each. A picture is looked
up among all {len(bench.names):,} real drawings in features of EfficientNet-Lite0: is the very drawing within the nearest {RANK}, does one of them have the name, and the nearest the style?
By default it samples with `{bench.pipe.defaults.recipe}`, guidance {bench.own.scale:g} and temperature {settings.temperature:g}; one of these is changed at a time. Seconds are those of {torch.get_num_threads()} thread(s), text encoder included.
{said_of(by_steps)}

{picture}

{swept("steps", by_steps, bench)}

{sheets[0]}

{swept("guidance", by_scale, bench)}

{sheets[1]}

Seconds for one picture, the best of several:

{timed}

### The evaluation

{evaluated(evaluations)}
"""
    return Section(TITLE, body, claims(by_steps, times[labels[2]]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=Setup.model, help="a shipped model or a model folder")
    parser.add_argument("--data", default=Setup.data, help="drawings with names and styles")
    parser.add_argument("--each", type=int, default=Setup.each, help="captions of each kind")
    print(section(Setup(**vars(parser.parse_args()))).markdown())
