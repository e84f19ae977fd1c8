"""Figure 14: guidance and top-k, for a transition state and for classic AR."""

from lab import (
    DIGITS,
    Bed,
    Claim,
    Figures,
    Sampling,
    Section,
    count_of_seeds,
    distance,
    finish,
    mean,
    over_seeds,
    panels,
    save_plot,
    shown,
    shown_distance,
    table,
)

from setar.sampling.guidance import Guidance

SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
TOP_K = (1, 2, 4, 8, 0)
MODELS = {
    "transition state": ("random-16-random", Sampling("random-16-cosine")),
    "classic AR": ("raster-N-uniform", Sampling("ar")),
}


def section(bed: Bed = DIGITS) -> Section:
    scales = {name: [_with_scale(name, scale, bed) for scale in SCALES] for name in MODELS}
    kept = {name: [_with_top_k(name, k, bed) for k in TOP_K] for name in MODELS}
    figure, (left, middle, right) = panels(3)
    names = ["all" if k == 0 else str(k) for k in TOP_K]
    for name in MODELS:
        left.plot(SCALES, [distance(f) for f in scales[name]], "o-", label=name)
        middle.plot(SCALES, [accuracy(f) for f in scales[name]], "o-", label=name)
        right.plot(names, [distance(f) for f in kept[name]], "o-", label=name)
    left.set(xlabel="guidance scale", ylabel=bed.distance, yscale="log")
    middle.set(xlabel="guidance scale", ylabel=bed.right)
    right.set(xlabel="top-k", ylabel=bed.distance, yscale="log")
    for axis in (left, middle, right):
        finish(axis)
    picture = save_plot(
        figure,
        bed.plot("figure14"),
        f"guidance scale against distance and {bed.right}; top-k against distance",
    )
    best = {name: SCALES[_lowest(line)] for name, line in scales.items()}
    best_k = {name: names[_lowest(line)] for name, line in kept.items()}
    claim = Claim(
        10,
        "guidance scale and top-k act as in classic AR",
        "for both models the best scale lies between 1 and 8, what was asked for is more frequent at 3 than at 1, and top-k 1 is the worst",
        f"best scale {best['transition state']:g} and {best['classic AR']:g}; "
        f"best top-k {best_k['transition state']} and {best_k['classic AR']}",
        all(1 < best[name] < 8 for name in MODELS)
        and all(accuracy(line[3]) > accuracy(line[0]) for line in scales.values())
        and all(distance(line[0]) == max(distance(f) for f in line) for line in kept.values()),
    )
    rows = [
        (name, *(f"{shown_distance(f)} ({shown([x.accuracy for x in f], 2)})" for f in line))
        for name, line in scales.items()
    ]
    rows_k = [(name, *(shown_distance(f) for f in line)) for name, line in kept.items()]
    body = f"""
{count_of_seeds().capitalize()}. {bed.distance}, in brackets: {bed.right}.

{picture}

{table(["guidance", *(f"{s:g}" for s in SCALES)], rows)}

{table(["top-k, guidance 1.5", *names], rows_k)}
"""
    return Section(bed.title("Figure 14: guidance and top-k"), body, (claim,))


def accuracy(figures: list[Figures]) -> float:
    """The mean share of right digits of several seeds."""
    return mean([f.accuracy for f in figures])


def _with_scale(name: str, scale: float, bed: Bed) -> list[Figures]:
    recipe, sampling = MODELS[name]
    return over_seeds(recipe, sampling.but(guidance=Guidance(scale)), bed=bed)


def _with_top_k(name: str, k: int, bed: Bed) -> list[Figures]:
    recipe, sampling = MODELS[name]
    return over_seeds(recipe, sampling.but(top_k=k), bed=bed)


def _lowest(line: list[list[Figures]]) -> int:
    return min(range(len(line)), key=lambda i: distance(line[i]))


if __name__ == "__main__":
    print(section().markdown())
