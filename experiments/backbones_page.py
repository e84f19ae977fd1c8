"""``docs/backbones.md``: five backbones side by side, and which one to take.

    python experiments/results.py backbones    trains and measures what is missing

Every sentence that weighs one backbone against another is made of figures by a rule that the page
says.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import first_token
from backbones import (
    AR,
    BEDS,
    LPD_FAMILIES,
    LPD_ORDERS,
    LPD_STEPS,
    NAMES,
    ORDERS,
    SHAPES,
    STEPS,
    TIMED_BATCH,
    TIMED_STEPS,
    TRAINED,
    run_bed,
    run_for,
    speeds,
)
from lab import count_of_seeds, finish, mean, panels, save_plot, shown, spread_of, table

PAGE = Path("docs/backbones.md")

FAMILIES = [family for family in NAMES if family != "fmt-apart"]
"""That are compared with each other; of the last one only with its own kind."""

MEASURES = {"digits": ("FD-digits", "right digit"), "emoji": ("FD-EffLite0", "class share")}

Seeds = list[dict[str, Any]]
"""What is kept of the trainings of a family on a bed."""

Found = Mapping[str, Seeds]
"""The same by family."""


def write() -> None:
    """Train and measure what is missing of all beds, and write the page."""
    beds, timed = {bed: run_bed(bed) for bed in BEDS}, {bed: speeds(bed) for bed in BEDS}
    print_page(beds, timed, f"## What is a first token worth?\n\n{first_token.section()}")


def print_page(
    beds: Mapping[str, Found], timed: Mapping[str, dict[str, Any]], more: str = ""
) -> None:
    parts = [head(beds), answer(beds, timed), sizes(beds)]
    parts += [section(bed, found, timed.get(bed)) for bed, found in beds.items()]
    PAGE.write_text("\n\n".join(filter(None, [*parts, more])) + "\n", encoding="utf-8")
    print(f"-> {PAGE}")


def values(seeds: Seeds, recipe: str, field: str = "distance") -> list[float]:
    """One figure of all seeds."""
    return [one["figures"][recipe][field] for one in seeds]


def at(found: Found, family: str, order: str, steps: int) -> list[float] | None:
    """Distances in so many steps; None if the family cannot be sampled so."""
    if family == "decoder-only":
        return values(found[family], AR) if steps == STEPS[-1] else None
    return values(found[family], f"{order}-{steps}-cosine")


def leaders(compared: Mapping[str, Sequence[float]]) -> list[str]:
    """The one with the least mean, and those that cannot be told from it, in this order.

    Told apart are two whose means differ by more than twice the standard error of the difference.
    """
    ranked = sorted(compared, key=lambda name: mean(compared[name]))
    best = compared[ranked[0]]

    def apart(other: Sequence[float]) -> bool:
        error = (spread_of(best) ** 2 / len(best) + spread_of(other) ** 2 / len(other)) ** 0.5
        return mean(other) - mean(best) > 2 * error

    return [ranked[0], *(name for name in ranked[1:] if not apart(compared[name]))]


def said(names: Sequence[str]) -> str:
    """Some families in words."""
    words = [NAMES[name] for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def contest(found: Found, steps: int) -> dict[str, list[float]]:
    """Distances in so many steps, random order, of all families that can."""
    each = {family: at(found, family, "random", steps) for family in FAMILIES}
    return {family: line for family, line in each.items() if line is not None}


def head(beds: Mapping[str, Found]) -> str:
    on = " and ".join(beds)
    return f"""# Which backbone?

Five networks make images in sets of tokens. The FMT of set-autoregressive modelling reads what is known and asks in a decoder of its own. RandAR is a
decoder-only model that is told where to go next. ARPG asks with queries that see what is known and not each other. LPD's queries see each other, and are
forgotten. A plain decoder-only model goes token by token in raster order. Here they have equally many parameters (within 2 % of the FMT's), see the same {on} in the
same order as often, and are trained with one recipe (`{TRAINED}`; the decoder-only model can only follow `{AR}`), one optimiser (Muon) and its rates, which were chosen
for FMTs before: nothing was tuned for any of them. {count_of_seeds().capitalize()}; ± is the standard deviation over seeds of model and samples. All of it is small: 64 tokens, under a
million parameters, minutes of training. What holds for these need not hold for models of a thousand times the size.

Two are called *not told apart* where their means differ by no more than twice the standard error of the difference. Every figure is kept in `experiments/kept`;
`python experiments/results.py backbones` trains and measures what is missing there, and writes this page."""


def answer(beds: Mapping[str, Found], timed: Mapping[str, dict[str, Any]]) -> str:
    """Which one to take; a line for each question."""
    lines, wins, contests = [], Counter(), 0
    for steps in (STEPS[0], STEPS[2], STEPS[-1]):
        told = []
        for bed, found in beds.items():
            compared = contest(found, steps)
            best = leaders(compared)
            told.append(f"on {bed} {said(best)} ({shown(compared[best[0]])})")
        lines.append(f"- **The best pictures in {steps} steps**: {'; '.join(told)}.")
    for found in beds.values():
        for steps in STEPS:
            wins.update(leaders(contest(found, steps)))
            contests += 1
    lines.append(line_of_raster(beds))
    lines += lines_of_costs(timed)
    counted = ", ".join(f"{NAMES[name]} {wins[name]}" for name in FAMILIES)
    most = [name for name in FAMILIES[:-1] if wins[name] == max(wins[one] for one in FAMILIES[:-1])]
    lines.append(
        f"- **So**: of {contests} comparisons (beds and numbers of steps) each was the best, or not told from it, in: "
        f"{counted}. Take {said(most)} for few steps, or where the order matters, as in editing"
        f"{cheapest(beds, timed, most)}; if raster order, token by token, is all you need, see above."
    )
    return "## The answer\n\n" + "\n".join(lines)


def line_of_raster(beds: Mapping[str, Found]) -> str:
    """Whether any order costs anything, where one does not need it."""
    told = []
    for bed, found in beds.items():
        compared = contest(found, STEPS[-1])
        raster = compared.pop("decoder-only")
        best = leaders(compared)[0]
        pair = {"decoder-only": raster, best: compared[best]}
        first = leaders(pair)
        word = (
            "is not told from" if len(first) == 2 else "beats" if first[0] != best else "loses to"
        )
        told.append(
            f"on {bed} the decoder-only model ({shown(raster)}) {word} the best of the others in "
            f"{STEPS[-1]} steps, {NAMES[best]} ({shown(compared[best])})"
        )
    return f"- **Token by token in raster order**, if that is all you need: {'; '.join(told)}."


def lines_of_costs(timed: Mapping[str, dict[str, Any]]) -> list[str]:
    """What is cheap, in time and memory."""
    if not timed:
        return []
    training, sampling, memory = [], [], []
    for bed, found in timed.items():
        rates = {name: found[name]["images"] for name in FAMILIES}
        fast, slow = max(rates, key=lambda n: rates[n]), min(rates, key=lambda n: rates[n])
        training.append(
            f"on {bed} {NAMES[fast]} ({rates[fast]:.0f} images/s), least {NAMES[slow]} ({rates[slow]:.0f})"
        )
        took = {name: found[name]["seconds"]["16"] for name in FAMILIES[:-1]}
        quick, late = min(took, key=lambda n: took[n]), max(took, key=lambda n: took[n])
        sampling.append(
            f"on {bed} {NAMES[quick]} ({1000 * took[quick]:.1f} ms a picture), last {NAMES[late]} ({1000 * took[late]:.1f})"
        )
        caches = {name: found[name]["caches"] for name in FAMILIES}
        small, large = min(caches, key=lambda n: caches[n]), max(caches, key=lambda n: caches[n])
        memory.append(
            f"on {bed} {NAMES[small]} ({caches[small] / 1024:.0f} KiB a picture), most {NAMES[large]} ({caches[large] / 1024:.0f})"
        )
    return [
        f"- **Trains fastest**: {'; '.join(training)}.",
        f"- **Samples fastest in 16 steps**: {'; '.join(sampling)}.",
        f"- **Keeps least in its caches**: {'; '.join(memory)}.",
    ]


def cheapest(
    beds: Mapping[str, Found], timed: Mapping[str, dict[str, Any]], most: Sequence[str]
) -> str:
    """Who is faster than the winners, if anybody, and what that costs."""
    if not timed:
        return ""
    names = FAMILIES[:-1]
    total = {
        name: statistics.geometric_mean([found[name]["seconds"]["16"] for found in timed.values()])
        for name in names
    }
    quick = min(names, key=lambda name: total[name])
    if quick in most:
        return f", and {NAMES[quick]} for time too"
    gain, costs = total[most[0]] / total[quick], []
    for bed, found in beds.items():
        compared = contest(found, 16)
        costs.append(f"{mean(compared[quick]) / mean(compared[most[0]]):.1f} on {bed}")
    return (
        f", and {NAMES[quick]} only where time counts more than pictures: in 16 steps it is {gain:.1f} times as fast, "
        f"at so many times the distance: {', '.join(costs)}"
    )


def sizes(beds: Mapping[str, Found]) -> str:
    """What was trained."""
    rows = []
    for family in FAMILIES:
        row = [NAMES[family]]
        for bed, found in beds.items():
            shape = SHAPES[bed][family]
            layers = [value for name, value in shape.items() if name.endswith("layers")]
            row += [
                f"{shape['width']} x {' + '.join(map(str, layers))}",
                f"{found[family][0]['parameters']:,}",
            ]
        rows.append(row)
    columns = [text for bed in beds for text in (f"{bed}: width x layers", "parameters")]
    seen = "; ".join(
        f"{bed}: {found['fmt'][0]['images']:,} images in batches of {run_for(bed, 'fmt', 0).loop.batch_size}"
        for bed, found in beds.items()
    )
    return f"## What was trained\n\n{table(['', *columns], rows)}\n\n{seen}."


def section(bed: str, found: Found, timed: dict[str, Any] | None) -> str:
    """All figures of a bed."""
    distance, right = MEASURES[bed]
    sampled = BEDS[bed].sampled
    steps = [f"{k} steps" for k in STEPS]
    cost = "" if timed is None else f"\n\n### Time and memory\n\n{costs(timed)}"
    return f"""## {BEDS[bed].title}

{sampled["count"]:,} samples for each figure, guidance {sampled["guidance"]:g}, temperature {sampled["temperature"]:g}. {distance} is a distance, lower is better; {right} is a share, higher is better.

{plot(bed, found)}

### {distance}

{table(["random order, cosine sets", *steps], by_steps(found, "random", "distance", 1))}

{table(["order `locality`", *steps], by_steps(found, "locality", "distance", 1))}

{orders_told(found)}

### {right.capitalize()}

{table(["random order, cosine sets", *steps], by_steps(found, "random", "right", 3))}

### Losses

{losses_of(found)}{cost}

### Do queries of a set have to see each other?

{mutual(found)}

### LPD's two rules

{rules(found)}"""


def by_steps(found: Found, order: str, field: str, digits: int) -> list[list[str]]:
    """A row for each family that can be sampled in this order."""
    rows = []
    for family in FAMILIES:
        if family == "decoder-only":
            if order == "random":
                ar = shown(values(found[family], AR, field), digits)
                rows.append([f"{NAMES[family]}, `{AR}`", *[""] * (len(STEPS) - 1), ar])
            continue
        line = [values(found[family], f"{order}-{k}-cosine", field) for k in STEPS]
        rows.append([NAMES[family], *(shown(one, digits) for one in line)])
    return rows


def orders_told(found: Found) -> str:
    """What locality gains, family by family."""
    told = []
    for family in FAMILIES[:-1]:
        ratios = []
        for steps in STEPS[:-1]:
            random, local = (mean(at(found, family, order, steps) or []) for order in ORDERS)
            ratios.append(local / random)
        told.append(f"{NAMES[family]} {mean(ratios):.2f}")
    return (
        f"Locality over random, mean ratio of {STEPS[0]} to {STEPS[-2]} steps: {', '.join(told)}."
    )


def losses_of(found: Found) -> str:
    """Training and held-out losses."""
    rows = [
        (
            NAMES[family],
            shown([one["trained"] for one in found[family]], 3),
            shown([one["heldout"] for one in found[family]], 3),
        )
        for family in FAMILIES
    ]
    best = leaders({name: [one["heldout"] for one in found[name]] for name in FAMILIES[:-1]})
    return f"""{table(["", "training, last quarter", "held out"], rows)}

Nats per token, of the tokens in sets of `{TRAINED}`; the decoder-only model's are of single tokens in raster order, which are told more, and cannot be compared. The
held-out loss is that of averaged weights under the same plans for all. Of the any-order ones the least: {said(best)}."""


def costs(timed: Mapping[str, Any]) -> str:
    """Seconds and bytes."""
    rows = []
    for family in FAMILIES:
        one = timed[family]
        took = [one["seconds"].get(str(k)) for k in TIMED_STEPS]
        rows.append(
            [
                NAMES[family],
                f"{one['images']:.0f}",
                *("" if value is None else f"{1000 * value:.1f}" for value in took),
                f"{one['caches'] / 1024:.0f}",
            ]
        )
    columns = ["", "trains, images/s", *(f"{k} steps, ms a picture" for k in TIMED_STEPS)]
    return f"""{table([*columns, "caches, KiB a picture"], rows)}

CPU seconds of one thread ({timed["machine"]}, {timed["date"]}), float32, best of several: training in batches of {TIMED_BATCH["training"]} (plan, forward, loss, backward, AdamW; nothing compiled), sampling in
batches of {TIMED_BATCH["sampling"]} with guidance, cached."""


def mutual(found: Found) -> str:
    """The FMT with its queries of a set together and apart."""
    pair = ("fmt", "fmt-apart")
    rows = [
        [label, *(shown(values(found[name], f"random-{k}-cosine")) for k in STEPS)]
        for name, label in zip(pair, ("see each other", "do not"), strict=True)
    ]
    better: dict[str, list[str]] = {name: [] for name in pair}
    for steps in STEPS:
        best = leaders({name: values(found[name], f"random-{steps}-cosine") for name in pair})
        if len(best) == 1:
            better[best[0]].append(str(steps))
    words = zip(("seeing each other", "not seeing each other"), better.values(), strict=True)
    told = [f"{word} is better in {', '.join(steps)} steps" for word, steps in words if steps]
    verdict = "; ".join(told) or "they are not told apart in any number of steps"
    losses = ", ".join(shown([one["heldout"] for one in found[name]], 3) for name in pair)
    return f"""An FMT whose queries of one set see each other, as published, and one whose queries see those of earlier sets and themselves alone (trained so, too); random order.

{table(["queries of a set", *(f"{k} steps" for k in STEPS)], rows)}

Held-out losses: {losses}. In {STEPS[-1]} steps, sets of one, there is nobody to see. Of the figures above: {verdict}."""


def rules(found: Found) -> str:
    """Proximity and repulsion, each with and without."""
    rows, told = [], []
    for family in LPD_FAMILIES:
        for order in LPD_ORDERS:
            line = [values(found[family], f"{order}-{k}-lpd") for k in LPD_STEPS]
            rows.append([f"{NAMES[family]}, `{order}-K-lpd`", *(shown(one) for one in line)])
        for steps in LPD_STEPS:
            each = {o: values(found[family], f"{o}-{steps}-lpd") for o in LPD_ORDERS}
            names = ", ".join(f"`{name}`" for name in leaders(each))
            told.append(f"{NAMES[family]} in {steps} steps {names}")
    return f"""Random order, each of LPD's rules alone, and both; its set sizes in all rows.

{table(["", *(f"{k} steps" for k in LPD_STEPS)], rows)}

Best, with those that are not told from it: {"; ".join(told)}."""


def plot(bed: str, found: Found) -> str:
    """Distance against steps, and the training."""
    figure, (left, right) = panels(2)
    for index, family in enumerate(FAMILIES):
        colour = f"C{index}"
        if family == "decoder-only":
            value = mean(values(found[family], AR))
            left.axhline(
                value, color=colour, lw=1, ls=":", label=f"{NAMES[family]}, {STEPS[-1]} steps"
            )
        else:
            for order, style in zip(ORDERS, ("o-", "x--"), strict=True):
                line = [mean(at(found, family, order, k) or []) for k in STEPS]
                left.plot(
                    STEPS, line, style, ms=4, lw=1, color=colour, label=f"{NAMES[family]}, {order}"
                )
        curve = found[family][0]["curve"]
        right.plot(*zip(*curve, strict=True), lw=1, color=colour, label=NAMES[family])
    left.set(xscale="log", yscale="log", xlabel="sampling steps", ylabel=MEASURES[bed][0])
    left.set_xticks(STEPS, [str(k) for k in STEPS], minor=False)
    left.set_xticks([], minor=True)
    right.set(xlabel="training step", ylabel="loss (nats per token)")
    for axis in (left, right):
        finish(axis)
    return save_plot(
        figure,
        f"backbones-{bed}",
        f"{bed}: distance against steps, and loss while training (first seed)",
    )
