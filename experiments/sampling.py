"""Beyond the paper: orders, schedules and guidance for sampling transition states in few steps."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

from lab import (
    SEEDS,
    Sampling,
    Section,
    count_of_seeds,
    emoji_distance,
    finish,
    key,
    mean,
    measure,
    panels,
    remember,
    run_of,
    save_plot,
    shipped_weights,
    shown,
    table,
)

from setar import Pipeline
from setar.sampling.guidance import Guidance

STEPS = (4, 8, 16, 32)

EMOJI = {"scale": 1.25, "temperature": 0.25}
"""The constant guidance and the temperature of the shipped emoji model."""


@dataclass(frozen=True)
class Way:
    """An order, a schedule and a kind of guidance; all are compared at each number of steps."""

    order: str = "random"
    schedule: str = "cosine"
    guidance: str = "constant"

    def __str__(self) -> str:
        return f"{self.order}-K-{self.schedule}, {self.guidance} guidance"

    def recipe(self, steps: int) -> str:
        """The recipe with so many steps."""
        return f"{self.order}-{steps}-{self.schedule}"

    def scaled(self, scale: float) -> Guidance:
        """Guidance of this kind; what rises from 1 gets the same mean excess as a constant scale."""
        if self.guidance == "interval":
            return Guidance(scale, interval=(0.0, 0.5))
        if self.guidance == "constant":
            return Guidance(scale)
        return Guidance(1 + 2 * (scale - 1), self.guidance)


WAYS = (
    *(Way(o, s) for o in ("random", "halton", "locality") for s in ("cosine", "arccos")),
    *(Way(guidance=g) for g in ("linear", "power-cosine", "interval")),
)

PLAIN = WAYS[0]


def on_digits(way: Way, steps: int) -> list[float]:
    """FD-digits, a model and its samples per seed."""
    sampling = Sampling(way.recipe(steps), way.scaled(1.5))
    return [measure(run_of("random-16-random", s), sampling.but(seed=s)).distance for s in SEEDS]


def on_emoji(way: Way, steps: int) -> list[float]:
    """FD-EffLite0 of an image of each subgroup from the shipped model, seed by seed."""
    facts = {"emoji": shipped_weights(), **EMOJI, "way": asdict(way), "steps": steps}
    return [
        remember(f"figures/{key({**facts, 'seed': seed})}", _measured(way, steps, seed))
        for seed in SEEDS
    ]


def _measured(way: Way, steps: int, seed: int) -> Callable[[], float]:
    def work() -> float:
        pipe = shipped()
        classes = list(range(len(pipe.classes)))
        codes = pipe.sample_codes(
            classes,
            recipe=way.recipe(steps),
            guidance=way.scaled(EMOJI["scale"]),
            temperature=EMOJI["temperature"],
            seed=1000 * (1 + seed),
        )
        return emoji_distance(pipe.decode(codes))

    return work


@cache
def shipped() -> Pipeline:
    return Pipeline.from_pretrained("emoji")


def section() -> Section:
    sets = {"digits": on_digits, "emoji": on_emoji}
    measured = {
        name: {way: {k: function(way, k) for k in STEPS} for way in WAYS}
        for name, function in sets.items()
    }
    figure, axes = panels(2)
    for axis, (name, lines) in zip(axes, measured.items(), strict=True):
        for way, line in lines.items():
            plain = way == PLAIN
            axis.plot(
                STEPS,
                [mean(line[k]) for k in STEPS],
                "o-" if plain else "o--",
                ms=3,
                lw=2 if plain else 1,
                color="black" if plain else None,
                label=str(way),
            )
        axis.set(
            xscale="log",
            yscale="log",
            title=name,
            xlabel="sampling steps",
            ylabel="Frechet distance",
        )
        axis.set_xticks(STEPS, [str(k) for k in STEPS])
        axis.set_xticks([], minor=True)
        finish(axis, legend=False)
    names = axes[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=2, fontsize=7)
    picture = save_plot(
        figure, "sampling", "Frechet distance against steps for each way of sampling"
    )
    tables = [
        table(
            [name, *(f"{k} steps" for k in STEPS), "mean ratio to the first"],
            [
                (str(way), *(shown(line[k]) for k in STEPS), f"{ratio(lines, way):.3f}")
                for way, line in lines.items()
            ],
        )
        for name, lines in measured.items()
    ]
    overall = {way: mean([ratio(lines, way) for lines in measured.values()]) for way in WAYS}
    best = min(overall, key=lambda way: overall[way])
    both = "\n\n".join(tables)
    body = f"""
Models trained with random-16-random; {count_of_seeds()} (digits: of model and samples; emoji: of the samples, 99 images each). Guidance that
rises from 1 ends at twice the excess of the constant scale, so that its mean is about the same; `interval` guides the first half of the tokens.
The base line is `{PLAIN}`.

{picture}

{both}

Best over both data sets and all step numbers: **{best}** ({overall[best]:.3f} of the base line's distance). `configs/digits.toml` and the shipped
`emoji` model sample with power-cosine guidance by default.
"""
    return Section("Beyond the paper: sampling transition states", body)


def ratio(lines: dict[Way, dict[int, list[float]]], way: Way) -> float:
    """The mean over step numbers of this way's distance over the base line's."""
    return mean([mean(lines[way][k]) / mean(lines[PLAIN][k]) for k in STEPS])


if __name__ == "__main__":
    print(section().markdown())
