"""Figure 8: the number of sets in training, for three kinds of recipes."""

from lab import (
    DIGITS,
    Bed,
    Claim,
    Figures,
    Sampling,
    Section,
    axis_of_steps,
    count_of_seeds,
    distance,
    over_seeds,
    panels,
    save_plot,
    shown_distance,
    table,
)

STEPS = (4, 8, 16, 32, 64)

PANELS = {
    # training recipe, its set numbers, order of sampling
    "raster-{}-cosine": (4, 8, 16, 32, 64),
    "raster-{}-random": (4, 16, 64),
    "random-{}-cosine": (4, 8, 16, 64),
}


def curve(recipe: str, sets: int, bed: Bed) -> list[list[Figures]]:
    """Figures of all seeds over the sampling steps; 64 cosine sets of 64 tokens are sets of one."""
    order = recipe.partition("-")[0]
    single = sets == 64 and recipe.endswith("cosine")
    trained = f"{order}-N-uniform" if single else recipe.format(sets)
    return [over_seeds(trained, Sampling(f"{order}-{k}-cosine"), bed=bed) for k in STEPS]


def section(bed: Bed = DIGITS) -> Section:
    curves = {(recipe, k): curve(recipe, k, bed) for recipe, sets in PANELS.items() for k in sets}
    figure, axes = panels(3)
    for axis, recipe in zip(axes, PANELS, strict=True):
        for k in PANELS[recipe]:
            line, colour = [distance(f) for f in curves[recipe, k]], f"C{STEPS.index(k)}"
            axis.plot(STEPS, line, "o-", ms=3, color=colour, label=f"{k} sets")
        axis_of_steps(axis, STEPS, f"trained with {recipe.format('K')}", bed)
    picture = save_plot(
        figure,
        bed.plot("figure8"),
        f"{bed.distance} against sampling steps, one line per number of sets in training",
    )
    rows = [
        (f"`{recipe.format(k)}`", *(shown_distance(f) for f in line))
        for (recipe, k), line in curves.items()
    ]
    body = f"""
{count_of_seeds().capitalize()}; sampled in the training order with a cosine schedule. On 64 tokens, 64 cosine sets are sets of one.

{picture}

{table(["trained with", *(f"{k} steps" for k in STEPS)], rows)}
"""
    at = {
        key: {k: distance(f) for k, f in zip(STEPS, line, strict=True)}
        for key, line in curves.items()
    }
    return Section(bed.title("Figure 8: the number of sets in training"), body, _claims(at))


def _claims(at: dict) -> tuple[Claim, ...]:
    cosine = {k: at["raster-{}-cosine", k] for k in PANELS["raster-{}-cosine"]}
    own = {k: min(line, key=lambda steps: line[steps]) for k, line in cosine.items()}
    # Few steps served: 8 steps within 3 times the model's best.
    served = {
        k: line[8] <= 3 * min(line.values()) for k, line in at_of(at, "raster-{}-random").items()
    }
    single = at["raster-{}-cosine", 64]
    stable = at_of(at, "random-{}-cosine")
    best = min(min(line.values()) for line in stable.values())
    return (
        Claim(
            4,
            "raster with cosine sets is best where inference sets match training's, and only larger set numbers serve few steps",
            "each model is at its best within a factor 2 of its own number of sets, and at 8 steps a model trained with 4 sets is worse than those of 8 and 16",
            "best number of steps: "
            + ", ".join(f"{k} sets: {steps}" for k, steps in own.items())
            + f"; at 8 steps {cosine[4][8]:.1f}, {cosine[8][8]:.1f}, {cosine[16][8]:.1f} with 4, 8, 16 sets",
            all(k / 2 <= steps <= 2 * k for k, steps in own.items())
            and cosine[4][8] > max(cosine[8][8], cosine[16][8]),
        ),
        Claim(
            5,
            "random intervals give few-step generalisation even in raster order (with many sets)",
            "raster-16-random or raster-64-random: 8 steps within 3 times the model's best, while sets of one are not",
            f"8 steps over best: {_factors(at, 'raster-{}-random')}; sets of one {single[8] / min(single.values()):.1f}",
            (served[16] or served[64]) and single[8] > 3 * min(single.values()),
        ),
        Claim(
            6,
            "random order with cosine sets is stable for many sets and declines at 4",
            "trained with 8 sets or more, the best FD is within 1.5 times the best of all, with 4 sets it is worse than all of them",
            ", ".join(f"{k} sets: {min(line.values()):.1f}" for k, line in stable.items()),
            all(min(stable[k].values()) <= 1.5 * best for k in stable if k > 4)
            and min(stable[4].values()) > max(min(stable[k].values()) for k in stable if k > 4),
        ),
    )


def at_of(at: dict, recipe: str) -> dict[int, dict[int, float]]:
    """The lines of one panel by their number of sets."""
    return {k: at[recipe, k] for k in PANELS[recipe]}


def _factors(at: dict, recipe: str) -> str:
    lines = at_of(at, recipe)
    return ", ".join(f"{k} sets {line[8] / min(line.values()):.1f}" for k, line in lines.items())


if __name__ == "__main__":
    print(section().markdown())
