"""Run every experiment, or those that are named, and write ``docs/results.md``.

python experiments/results.py                   all: minutes, if all figures are kept
python experiments/results.py table6 figure9    these; the other sections stay as they are
python experiments/results.py emoji             the claims once more, on emoji
python experiments/results.py backbones         docs/backbones.md, a page of its own

`text` needs the drawings of `setar data styles`; without them its section stays as it is.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import backbones_page
import figure6
import figure7
import figure8
import figure9
import figure14
import next_scale
import scaling
import table4
import table5
import table6
import text
from lab import (
    CLAIMS_HEAD,
    EMOJI,
    EMOJI_TEMPERATURE,
    NoData,
    Section,
    count_of_seeds,
    floor,
    mean,
    shown,
    trained_how,
)

import sampling

PAGE = Path("docs/results.md")

SCRIPTS: dict[str, Any] = {
    "table4": table4,
    "next_scale": next_scale,
    "table5": table5,
    "table6": table6,
    "figure6": figure6,
    "figure7": figure7,
    "figure8": figure8,
    "figure9": figure9,
    "figure14": figure14,
    "sampling": sampling,
    "scaling": scaling,
    "text": text,
}

BOTH = ("table4", "table5", "table6", "figure6", "figure8", "figure9", "figure14")
"""Scripts that test the paper's claims on any bed."""

EMOJI_SCRIPTS = {f"emoji-{name}": SCRIPTS[name] for name in BOTH}
"""The same on emoji, where their sections come behind all others."""

SCRIPTS |= EMOJI_SCRIPTS

ON_EMOJI = " (on emoji)"
"""What a claim's text ends with there."""

SECOND = f"""The claims with these numbers are tested a second time, "{ON_EMOJI.strip()[1:-1]}", by the same rules: {{claims}}. There: {trained_how(EMOJI)}, guidance 1.5, temperature {EMOJI_TEMPERATURE:g}; the 64 tokens have
512 codes there and the 99 subgroups are the classes. Distances are FD-EffLite0, and class share takes the place of the right digit. After so short a training all of these models are far
from the data (see the distances below; two halves of the real emoji are {{apart}} apart), so rules in multiples of a distance are harder to meet there than on digits.

"""
"""For the page, if some are."""

PAGES = {"backbones": backbones_page}
"""Experiments that have a page of their own."""


def main(names: list[str]) -> None:
    names = [one for name in names for one in (EMOJI_SCRIPTS if name == "emoji" else [name])]
    if unknown := {*names} - {*SCRIPTS, *PAGES}:
        sys.exit(f"no experiment {min(unknown)!r}; known: {', '.join([*SCRIPTS, 'emoji', *PAGES])}")
    for name in PAGES:
        if name in names or not names:
            PAGES[name].write()
    if sections := [name for name in names or SCRIPTS if name in SCRIPTS]:
        write_sections(sections, everything=not names)


def write_sections(names: list[str], everything: bool) -> None:
    """Write `PAGE`; unless it is everything, its other sections stay as they are."""
    before = sections_of(PAGE.read_text(encoding="utf-8"))
    sections = {} if everything else dict(before)
    for name in names:
        try:
            section = made(name)
        except NoData as error:
            if not everything:
                sys.exit(str(error))
            print(f"the section {name} stays as it is: {error}", flush=True)
            title = SCRIPTS[name].TITLE
            sections |= {title: before[title]} if title in before else {}
        else:
            sections[section.title] = section.markdown()
    claims = claims_of(sections.values())
    PAGE.write_text(head(claims) + "\n".join(sections.values()), encoding="utf-8")
    print(f"{held(claims)} of {len(claims)} statements hold -> {PAGE}")


def made(name: str) -> Section:
    """The section of a script; on emoji, its claims say so."""
    if name not in EMOJI_SCRIPTS:
        return SCRIPTS[name].section()
    section = SCRIPTS[name].section(EMOJI)
    claims = tuple(replace(claim, text=claim.text + ON_EMOJI) for claim in section.claims)
    return replace(section, claims=claims)


def sections_of(page: str) -> dict[str, str]:
    """The sections of a page by their titles."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part.rstrip() + "\n" for part in parts}


def claims_of(sections: Iterable[str]) -> list[str]:
    """The rows of the tables of claims that end sections, in the order of their numbers.

    One on emoji comes just behind the same one on digits.
    """
    tables = [part.partition(CLAIMS_HEAD)[2].strip() for part in sections]
    rows = [row for rows in tables if rows for row in rows.splitlines()]
    texts = [row.split("|")[2].strip().removesuffix(ON_EMOJI) for row in rows]
    places = [(number(row), texts.index(text)) for row, text in zip(rows, texts, strict=True)]
    return [row for _, row in sorted(zip(places, rows, strict=True), key=lambda pair: pair[0])]


def number(claim: str) -> int:
    """That of a claim's row."""
    return int(claim.split("|")[1])


def held(claims: list[str]) -> int:
    """How many hold."""
    return sum(claim.endswith("**holds** |") for claim in claims)


def second(claims: list[str]) -> str:
    """What is said of the claims that were tested on emoji too; nothing if there are none."""
    numbers = sorted({number(claim) for claim in claims if ON_EMOJI in claim})
    if not numbers:
        return ""
    return SECOND.format(claims=", ".join(map(str, numbers)), apart=f"{mean(floor(EMOJI)):.0f}")


def head(claims: list[str]) -> str:
    """The page before its first section."""
    lines, count = "\n".join(claims), len({*map(number, claims)})
    return f"""# What the paper claims, and what we measure

The experiments of *Customize Your Visual Autoregressive Recipe with Set Autoregressive Modeling* (arXiv 2410.10511) at the scale of a laptop:
models of 0.3 M parameters on scikit-learn's handwritten digits (64 tokens of 17 grey levels), 400 steps of 64 images each; next-scale prediction
and the scaling law of VAR's paper (claims 11 and 12) on the embedded emoji, and steps and guidance of the shipped model of texts (claim 13). `make experiments` writes this page from the figures of `experiments/kept`, and trains and measures what is missing there (the last
only where its drawings are).

**How to read the figures.** FD-digits is the Frechet distance of 1,000 samples to the 1,617 training digits in the features of a small digit
classifier; lower is better. Two random halves of the real digits are {shown(floor())} apart. "Right digit" is how often that
classifier sees the digit that was asked for. FD-EffLite0 is the distance of emoji in the features of EfficientNet-Lite0. ± is the standard deviation over seeds of the model and of its samples; this page was made with {count_of_seeds()}. A *recipe* such as
`random-16-cosine` is an order, a number of sets and a schedule of their sizes; see the README. None of these figures is an FID.

Of the {len(claims)} statements that the {count} claims make, {held(claims)} hold here. Each has a rule that was written before it was measured.
Where one does not hold, mind the scale: on digits 64 tokens of 17 codes and 16 epochs here, 256 tokens of 16,384 codes and 200 epochs in the paper.

{second(claims)}{CLAIMS_HEAD}
{lines}

"""


if __name__ == "__main__":
    main(sys.argv[1:])
