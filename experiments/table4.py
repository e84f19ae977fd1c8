"""Table 4: the paradigms side by side, and the decoder-only baseline."""

from lab import (
    DIGITS,
    Bed,
    Claim,
    Sampling,
    Section,
    distance,
    floor,
    mean,
    over_seeds,
    shown,
    shown_distance,
    table,
    trained_how,
)

SAMPLING = Sampling("random-16-cosine")

ROWS = [
    # what it is, family, training recipe, how it is sampled
    ("AR, decoder-only (LlamaGen)", "decoder-only", "ar", Sampling("ar")),
    ("AR, FMT (K = N)", "fmt", "raster-N-uniform", Sampling("ar")),
    ("next-scale (customised)", "fmt", "next-scale", Sampling("next-scale")),
    ("MAR (K = 1)", "fmt", "mar", SAMPLING.but(attention="full")),
    ("transition state", "fmt", "random-16-random", SAMPLING),
    (
        "transition state, all steps",
        "fmt",
        "random-16-random",
        SAMPLING.but(recipe="random-N-uniform"),
    ),
    ("random order, sets of one", "fmt", "random-N-uniform", SAMPLING),
]


def section(bed: Bed = DIGITS) -> Section:
    measured = {row: over_seeds(row[2], row[3], row[1], bed) for row in ROWS}
    rows = [
        (
            name,
            f"`{recipe}`",
            f"`{sampling.recipe}`"
            + (", full attention" if sampling.settings.attention == "full" else ""),
            shown_distance(figures),
            shown([f.accuracy for f in figures], 3),
        )
        for (name, _, recipe, sampling), figures in measured.items()
    ]
    baseline, fmt = (measured[row] for row in ROWS[:2])
    spread = max(f.distance for f in baseline) - min(f.distance for f in baseline)
    claim = Claim(
        1,
        "FMT as AR is at least as good as a decoder-only model of the same width and depth",
        "its mean FD is no higher than the baseline's plus the range of the baseline's seeds",
        f"FMT {shown_distance(fmt)}, decoder-only {shown_distance(baseline)}",
        distance(fmt) <= distance(baseline) + spread,
    )
    head = ["paradigm", "trained with", "sampled with", bed.distance, bed.right]
    body = f"""
One model per row, {trained_how(bed)}, guidance 1.5. Two random halves of
the training images are {mean(floor(bed)):.1f} apart, which is as good as it gets. MAR has no cache; every other row has one.

{table(head, rows)}
"""
    return Section(bed.title("Table 4: paradigms side by side"), body, (claim,))


if __name__ == "__main__":
    print(section().markdown())
