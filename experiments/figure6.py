"""Figure 6: few steps with models trained one token at a time, in fixed orders and at random."""

from lab import (
    DIGITS,
    Bed,
    Claim,
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

ORDERS = ("raster", "reversed-raster", "roll", "reversed-roll", "fixed-random", "random")
STEPS = (4, 8, 16, 32, 64)


def section(bed: Bed = DIGITS) -> Section:
    curves = {
        order: [
            over_seeds(f"{order}-N-uniform", Sampling(f"{order}-{k}-cosine"), bed=bed)
            for k in STEPS
        ]
        for order in ORDERS
    }
    figure, (axis,) = panels(1)
    for order, curve in curves.items():
        axis.plot(STEPS, [distance(f) for f in curve], "o-", label=order, ms=3)
    axis_of_steps(axis, STEPS, "trained with sets of one", bed)
    picture = save_plot(
        figure,
        bed.plot("figure6"),
        f"{bed.distance} against sampling steps, one line per training order",
    )
    loss = {
        order: {k: distance(f) - distance(curve[-1]) for k, f in zip(STEPS, curve, strict=True)}
        for order, curve in curves.items()
    }
    ordered, shuffled = [loss[o] for o in ORDERS[:4]], [loss[o] for o in ORDERS[4:]]
    claim = Claim(
        3,
        "fixed orders do not generalise to few steps; random and fixed-random do",
        "random and fixed-random lose less FD at 8 steps than any fixed path at 16, each against its own 64",
        f"at 16 steps the paths lose {min(x[16] for x in ordered):.1f} to {max(x[16] for x in ordered):.1f}; "
        f"at 8, fixed-random {loss['fixed-random'][8]:.1f} and random {loss['random'][8]:.1f}",
        max(x[8] for x in shuffled) < min(x[16] for x in ordered),
    )
    rows = [(order, *(shown_distance(f) for f in curve)) for order, curve in curves.items()]
    body = f"""
{count_of_seeds()}, guidance 1.5, sampled in the training order with a cosine schedule.

{picture}

{table(["order", *(f"{k} steps" for k in STEPS)], rows)}
"""
    return Section(bed.title("Figure 6: randomness of the order and few steps"), body, (claim,))


if __name__ == "__main__":
    print(section().markdown())
