"""Measure a trained emoji model and put it, with its card, where the package ships it.

setar train NAME-tokenizer --out runs/NAME-tokenizer
setar train NAME --out runs/NAME
python experiments/ship.py NAME

NAME is emoji or emoji-var.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import typer

from setar import Pipeline
from setar.evaluation.emoji import GeneratorReport, evaluate_generator, evaluate_tokenizer
from setar.pretrained import SHIPPED
from setar.run_folder import METRICS

RECIPES = {
    "emoji": {"16 steps": "random-16-cosine", "8 steps": "random-8-cosine"},
    "emoji-var": {"6 scales": "raster-1,4,9,16,36,64"},
}
"""How each model is sampled for its card."""

FAMILIES = {"emoji": "Fully Masked Transformer", "emoji-var": "VAR, next-scale prediction"}


def read_metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / METRICS).read_text().splitlines()]


def draw_curves(runs: dict[str, Path], file: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axis, part, name, label in (
        (axes[0], "tokenizer", "psnr", "PSNR of training batches, dB"),
        (axes[1], "generator", "loss", "training loss, nats per token"),
    ):
        rows = read_metrics(runs[part])
        axis.plot([row["seconds"] / 60 for row in rows], [row[name] for row in rows], lw=1)
        axis.set(xlabel="minutes", title=f"{part}: {label}")
        axis.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


def row(name: str, reports: list[float], form: str = ".3f") -> str:
    return f"| {name} | " + " | ".join(f"{value:{form}}" for value in reports) + " |"


def shown_usage(usage: float, of_scales: dict[str, float]) -> str:
    parts = [f"{name} {100 * share:.0f} %" for name, share in of_scales.items()]
    return f"{100 * usage:.1f} % of the codebook" + (f" ({', '.join(parts)})" if parts else "")


def write_card(
    name: str,
    pipe: Pipeline,
    runs: dict[str, Path],
    reports: dict[str, GeneratorReport],
    note: str,
    machines: str,
) -> str:
    quality = evaluate_tokenizer(pipe.tokenizer)
    last = {name: read_metrics(run)[-1] for name, run in runs.items()}
    sizes = {
        "tokenizer": sum(p.numel() for p in pipe.tokenizer.parameters()),
        "generator": sum(p.numel() for p in pipe.model.parameters()),
    }
    found = list(reports.values())

    def field(name: str) -> list[float]:
        return [getattr(report, name) for report in found]

    table = "\n".join(
        [
            "| 99 subgroups x 8, seed 0 | " + " | ".join(reports) + " |",
            "|---|" + "---|" * len(reports),
            row(
                "class share (nearest training emoji is of the asked subgroup)",
                field("class_share"),
            ),
            row("the same for real emoji, leave-one-out", field("class_share_real")),
            row("FD-EffLite0 to the training emoji", field("distance"), ".1f"),
            row("of reconstructions, random emoji", field("distance_reconstructed"), ".1f"),
            row(
                "of reconstructions, 8 random emoji per subgroup",
                field("distance_reconstructed_balanced"),
                ".1f",
            ),
            row(
                "of reconstructions, 8 drawn independently per subgroup: all emoji known by heart",
                field("distance_by_heart"),
                ".1f",
            ),
            row("of real emoji, 8 per subgroup", field("distance_real_balanced"), ".1f"),
            row("near copies of a training emoji", field("near_copies")),
            row("exact copies in all tokens", field("exact_copies")),
            row("seconds for all", field("seconds"), ".1f"),
        ]
    )
    return f"""# {name}

Class-conditional 32x32 emoji: {sizes["generator"] / 1e6:.2f} M parameters ({FAMILIES[name]}) and a
tokenizer of {sizes["tokenizer"] / 1e6:.2f} M ({quality.tokens} tokens of {pipe.tokenizer.vocabulary} codes), float16 on disk.

## Training

    setar train {name}-tokenizer --out runs/{name}-tokenizer   # {last["tokenizer"]["seconds"]:.0f} s
    setar train {name} --out runs/{name}   # {last["generator"]["seconds"]:.0f} s
    python experiments/ship.py {name}

on {machines}; the last training loss was {last["generator"]["loss"]:.3f} nats per token. Curves: docs/{name}-curves.png.
Only the split `train` was used: the 198 held-out skin-tone emoji were never seen. {note}

## Tokenizer

PSNR on the held-out emoji {quality.psnr_heldout:.2f} dB, on the training emoji {quality.psnr_train:.2f} dB.
The training emoji use {shown_usage(quality.usage_train, quality.usage_of_scales_train)},
the 198 held-out ones {shown_usage(quality.usage_heldout, quality.usage_of_scales_heldout)}.

## Generator

Sampled as by default ({pipe.defaults.guidance.schedule} guidance {pipe.defaults.guidance.scale:g}, temperature {pipe.defaults.settings.temperature:g}), in features of
EfficientNet-Lite0; Frechet distances grow as samples get fewer, so compare equal numbers only.

{table}

A near copy lies within a root-mean-square pixel distance of {found[0].copy_threshold:.3f} (of 1) of a
reconstructed training emoji: 5 % of the real emoji without skin tone are that close to another one.

## Limits

It knows 3,418 pictures of one font and makes up variations of them at 32x32 pixels; small faces and
letters are often broken. Many samples resemble a training emoji: see the share of near copies.
"""


def main(
    name: str,
    out: Path | None = None,
    note: str = "",
    machines: str = "a CPU",
    guidance: float | None = None,
    schedule: str | None = None,
    temperature: float | None = None,
) -> None:
    runs = {"tokenizer": Path("runs") / f"{name}-tokenizer", "generator": Path("runs") / name}
    out = out or SHIPPED / name
    pipe = Pipeline.from_pretrained(runs["generator"])
    changes = {"guidance": guidance, "schedule": schedule, "temperature": temperature}
    pipe.defaults = pipe.defaults.changed(changes)
    pipe.save_pretrained(out, half=True)
    pipe = Pipeline.from_pretrained(out)
    reports = {}
    for title, recipe in RECIPES[name].items():
        reports[title], _ = evaluate_generator(pipe, recipe=recipe)
        print(title, reports[title])
    draw_curves(runs, Path("docs") / f"{name}-curves.png")
    pipe.save_pretrained(out, half=True, card=write_card(name, pipe, runs, reports, note, machines))
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    torch.manual_seed(0)
    typer.run(main)
