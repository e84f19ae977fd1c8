"""Figure 7: quality against wall time, with the cache and without."""

from time import perf_counter

import torch
from lab import (
    Claim,
    Sampling,
    Section,
    count_of_seeds,
    distance,
    emoji_distance,
    finish,
    key,
    lasting,
    over_seeds,
    panels,
    remember,
    run_of,
    save_plot,
    shipped_model,
    shown_distance,
    table,
    train,
)

from setar import Pipeline

TRAINED, STEPS = "random-16-random", (4, 8, 16, 32, 64)
IMAGES = 8
"""Images that are timed as one batch, as in the paper."""


def seconds(pipe: Pipeline, recipe: str, cache: bool, repeats: int = 3) -> float:
    """The best time for a batch."""
    times = []
    for _ in range(repeats):
        began = perf_counter()
        pipe.sample_codes(list(range(IMAGES)), recipe=recipe, guidance=1.5, cache=cache)
        times.append(perf_counter() - began)
    return min(times)


def digit_rows() -> list[dict]:
    """Step by step: seconds with the cache, seconds without."""
    pipe = Pipeline.from_pretrained(train(run_of(TRAINED)))
    return [{"steps": k, **timed(pipe, f"random-{k}-cosine")} for k in STEPS]


def timed(pipe: Pipeline, recipe: str) -> dict:
    """Seconds of a batch with the cache and without it."""
    return {"cached": seconds(pipe, recipe, True), "recomputed": seconds(pipe, recipe, False)}


def emoji_rows() -> list[dict]:
    """The same for the shipped emoji model: FD-EffLite0 of two images of each of the 99 subgroups."""
    pipe = Pipeline.from_pretrained("emoji")
    rows = []
    for k in STEPS:
        recipe = f"random-{k}-cosine"
        codes = pipe.sample_codes(list(range(len(pipe.classes))), recipe=recipe, count=2)
        quality = emoji_distance(pipe.decode(codes))
        rows.append({"steps": k, "distance": quality, **timed(pipe, recipe)})
    return rows


def section() -> Section:
    facts = {"emoji": shipped_model(), "digits": lasting(run_of(TRAINED))}
    digits = remember(f"figures/figure7-{key(facts)}-digits", digit_rows)
    quality = {k: over_seeds(TRAINED, Sampling(f"random-{k}-cosine")) for k in STEPS}
    digits = [{**row, "distance": distance(quality[row["steps"]])} for row in digits]
    spread = {("digits", k): shown_distance(figures) for k, figures in quality.items()}
    shipped = remember(f"figures/figure7-{key(facts)}-emoji", emoji_rows)
    figure, axes = panels(2)
    for axis, rows, name in zip(axes, (digits, shipped), ("FD-digits", "FD-EffLite0"), strict=True):
        for cache in ("cached", "recomputed"):
            axis.plot(
                [r[cache] for r in rows], [r["distance"] for r in rows], "o-", ms=4, label=cache
            )
        for row in rows:
            axis.annotate(
                str(row["steps"]),
                (row["cached"], row["distance"]),
                fontsize=7,
                xytext=(3, 3),
                textcoords="offset points",
            )
        axis.set(xscale="log", xlabel=f"seconds for {IMAGES} images", ylabel=name)
        finish(axis)
    axes[0].set_title("digits")
    axes[1].set_title("emoji")
    picture = save_plot(
        figure, "figure7", "quality against time; the numbers at the points are sampling steps"
    )
    rows = [
        (
            name,
            str(r["steps"]),
            spread.get((name, r["steps"]), f"{r['distance']:.1f}"),
            f"{r['cached']:.2f}",
            f"{r['recomputed']:.2f}",
            f"{r['recomputed'] / r['cached']:.1f} x",
        )
        for name, part in (("digits", digits), ("emoji", shipped))
        for r in part
    ]
    claim = Claim(
        9,
        "few steps with the cache give the best quality for the time",
        "on digits and emoji, 8 or 16 cached steps take less time than 64 and come within a tenth of its FD, "
        "and no point without the cache is both faster and better than one with it",
        "; ".join(_summary(name, part) for name, part in (("digits", digits), ("emoji", shipped))),
        all(_efficient(part) for part in (digits, shipped)),
    )
    body = f"""
Models trained with random-16-random: the FD of the digits is the mean over {count_of_seeds()}, their times are of one, and the emoji model is the shipped one. {IMAGES} images
as one batch on {torch.get_num_threads()} thread(s), best of three.

{picture}

{table(["model", "steps", "FD", "seconds, cached", "seconds, recomputed", "gain"], rows)}
"""
    return Section("Figure 7: quality against time", body, (claim,))


def _efficient(rows: list[dict]) -> bool:
    by_steps = {row["steps"]: row for row in rows}
    last = by_steps[64]
    few = [by_steps[k] for k in (8, 16)]
    close = any(
        r["cached"] < last["cached"] and r["distance"] < 1.1 * last["distance"] for r in few
    )
    beaten = any(
        slow["recomputed"] < fast["cached"] and slow["distance"] < fast["distance"]
        for slow in rows
        for fast in rows
    )
    return close and not beaten


def _summary(name: str, rows: list[dict]) -> str:
    by_steps = {row["steps"]: row for row in rows}
    few, last = by_steps[16], by_steps[64]
    return (
        f"{name}: FD {few['distance']:.1f} in {few['cached']:.2f} s at 16 steps, "
        f"{last['distance']:.1f} in {last['cached']:.2f} s at 64 ({last['recomputed']:.2f} s without cache)"
    )


if __name__ == "__main__":
    print(section().markdown())
