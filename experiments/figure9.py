"""Figure 9: random order and random intervals: how many sets, which attention, which loss."""

from lab import (
    DIGITS,
    SEEDS,
    Bed,
    Claim,
    Sampling,
    Section,
    count_of_seeds,
    distance,
    finish,
    losses,
    mean,
    over_seeds,
    panels,
    save_plot,
    shown,
    shown_distance,
    table,
)

SETS = (2, 4, 8, 16, 32, 64)
CAUSAL = Sampling("random-16-cosine")
FULL = CAUSAL.but(attention="full")


def section(bed: Bed = DIGITS) -> Section:
    masked = {k: over_seeds(f"random-{k}-random", CAUSAL, bed=bed) for k in SETS}
    unmasked = {k: over_seeds(f"random-{k}-random", FULL, bed=bed) for k in SETS}
    causal = {k: distance(figures) for k, figures in masked.items()}
    full = {k: distance(figures) for k, figures in unmasked.items()}
    curves = {k: [losses(bed.run(f"random-{k}-random", seed)) for seed in SEEDS] for k in SETS}
    last = {k: [mean([loss for _, loss in line[-5:]]) for line in curves[k]] for k in SETS}
    body = f"""
Trained with random-K-random, sampled with random-16-cosine; {
        count_of_seeds()
    }. Full attention encodes everything anew at each step, unmasked, and asks at all unknown positions.

{_picture(causal, full, {k: lines[0] for k, lines in curves.items()}, bed)}

{
        table(
            ["K", *map(str, SETS)],
            [
                ("causal attention", *(shown_distance(masked[k]) for k in SETS)),
                ("full attention", *(shown_distance(unmasked[k]) for k in SETS)),
                ("training loss, last 100 steps", *(shown(last[k], 3) for k in SETS)),
            ],
        )
    }
"""
    best = min(causal, key=lambda k: causal[k])
    gains = {k: causal[k] / full[k] for k in SETS}
    claims = (
        Claim(
            7,
            "random-K-random is best at a middle K and declines at 2",
            "the best K is neither 2 nor 64, and K = 2 is the worst",
            f"best at K = {best} ({causal[best]:.1f}); K = 2: {causal[2]:.1f}, K = 64: {causal[64]:.1f}",
            best not in (2, 64) and causal[2] == max(causal.values()),
        ),
        Claim(
            7,
            "full attention restores K = 2 only",
            "with full attention K = 2 improves by more than a tenth and no K of 8 or more does",
            "causal over full: " + ", ".join(f"K = {k}: {g:.2f}" for k, g in gains.items()),
            gains[2] > 1.1 and all(gains[k] <= 1.1 for k in SETS if k >= 8),
        ),
    )
    return Section(bed.title("Figure 9: random order, random intervals"), body, claims)


def _picture(causal: dict, full: dict, curves: dict, bed: Bed) -> str:
    figure, (left, middle, right) = panels(3)
    left.plot(SETS, list(causal.values()), "o-")
    middle.plot(SETS, list(causal.values()), "o-", label="causal")
    middle.plot(SETS, list(full.values()), "o-", label="full")
    for k, line in curves.items():
        right.plot([step for step, _ in line], [loss for _, loss in line], lw=1, label=f"{k} sets")
    right.set(xlabel="training step", ylabel="loss (nats per token)", title="training loss")
    if bed is DIGITS:
        right.set_ylim(1, 2)
    for axis, title in ((left, "sets in training"), (middle, "causal and full attention")):
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="sets K in training",
            ylabel=bed.distance,
            title=title,
        )
        axis.set_xticks(SETS, [str(k) for k in SETS])
        axis.set_xticks([], minor=True)
    for axis in (left, middle, right):
        finish(axis)
    return save_plot(
        figure,
        bed.plot("figure9"),
        f"left: {bed.distance} against K; middle: with full attention too; right: loss while training, first seed",
    )


if __name__ == "__main__":
    print(section().markdown())
