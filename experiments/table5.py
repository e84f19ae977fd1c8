"""Table 5: the order in training against the order in sampling, one token at a time."""

from lab import (
    DIGITS,
    Bed,
    Claim,
    Sampling,
    Section,
    count_of_seeds,
    distance,
    over_seeds,
    shown_distance,
    table,
)

ORDERS = ("raster", "reversed-raster", "roll", "reversed-roll", "fixed-random", "random")


def section(bed: Bed = DIGITS) -> Section:
    cells = {
        (trained, sampled): over_seeds(
            f"{trained}-N-uniform", Sampling(f"{sampled}-N-uniform"), bed=bed
        )
        for trained in ORDERS
        for sampled in ORDERS
    }
    rows = []
    for trained in ORDERS:
        shown = [shown_distance(cells[trained, sampled]) for sampled in ORDERS]
        own = ORDERS.index(trained)
        shown[own] = f"**{shown[own]}**"
        rows.append((trained, *shown))
    factors = [
        min(distance(cells[trained, other]) for other in ORDERS if other != trained)
        / distance(cells[trained, trained])
        for trained in ORDERS[:-1]
    ]
    free = [distance(cells["random", sampled]) for sampled in ORDERS]
    claim = Claim(
        2,
        "a fixed training order does not serve other orders of inference, a random one does",
        "every fixed order is at least 3 times worse off its diagonal; the random row stays within 3 times its best",
        f"fixed orders: {min(factors):.1f} to {max(factors):.1f} times worse with the next best order; "
        f"random: worst over best {max(free) / min(free):.2f}",
        min(factors) >= 3 and max(free) <= 3 * min(free),
    )
    body = f"""
{bed.distance} with the order of the row in training and that of the column in sampling; sets of one, {count_of_seeds()}, guidance 1.5.

{table(["trained / sampled", *ORDERS], rows)}
"""
    return Section(bed.title("Table 5: training order against inference order"), body, (claim,))


if __name__ == "__main__":
    print(section().markdown())
