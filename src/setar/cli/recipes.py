"""What can be said of a recipe before torch is imported: whether its names exist."""

import re
from importlib.metadata import entry_points

from setar.registry import GROUP, did_you_mean, plugin_files

ORDERS = (
    "raster", "reversed-raster", "roll", "reversed-roll", "fixed-random", "random", "next-scale",
    "halton", "locality", "lpd", "lpd-wide", "lpd-proximity", "lpd-repulsion",
)  # fmt: skip
SCHEDULES = (
    "cosine", "arccos", "randar", "uniform", "lpd", "random",
    "masked", "masked-causal", "masked-both",
)  # fmt: skip
"""Names of `setar.recipes`, whose tables are beside their code for torch; a test compares both."""

SHORT = ("ar", "mar", "next-scale")
"""Recipes of one word."""

FORM = r"([a-z]+(?:-[a-z]+)*)-(?:(?:N|[0-9]+)-([a-z]+(?:-[a-z]+)*)|[0-9,]+)"
"""An order, and a number and a schedule or the sizes of sets."""


def check_recipe(text: str) -> None:
    """ValueError of a name that does not exist; all else is checked where recipes are made.

    Where there are plugins nothing is refused: they may have brought the name.
    """
    if plugin_files() or entry_points(group=GROUP):
        return
    if re.fullmatch("[a-z]+", text) and text not in (*SHORT, *ORDERS):
        raise ValueError(
            f"unknown recipe {text[:60]!r}, write order-sets-schedule, such as random-16-cosine; "
            f"{did_you_mean(text, SHORT)}"
        )
    if named := re.fullmatch(FORM, text):
        order, schedule = named.groups()
        if order not in ORDERS:
            raise ValueError(f"unknown order {order[:60]!r}; {did_you_mean(order, ORDERS)}")
        if schedule and schedule not in SCHEDULES:
            hint = did_you_mean(schedule, SCHEDULES)
            raise ValueError(f"unknown schedule {schedule[:60]!r}; {hint}")
