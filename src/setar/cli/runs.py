"""``setar runs``: the trainings below a folder, in a table."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from setar.cli.console import say, say_mistake, show
from setar.numbers import as_real
from setar.registry import printable

DEPTH = 3
"""Folders below the one that is looked into, one in another."""

READ = 2**26
"""Bytes at the end of a log that are read: a hundred thousand lines."""

BARS, WIDTH = "▁▂▃▄▅▆▇█", 16


def runs(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or one with runs below.")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """List trainings: how far they are, and how they do."""
    if not os.path.isdir(folder):
        raise ValueError(f"{folder} is no folder: `setar train` makes runs/NAME")
    found = [look(run, folder) for run in runs_below(folder)]
    if as_json:
        tables = [asdict(one) for one in found]
        for table in tables:
            del table["losses"]
        say(json.dumps(tables, indent=2))
        return
    if not found:
        say_mistake(f"{folder} has no runs: `setar train` makes them")
        return
    show(table_of(found), width=200)
    for one in found:
        if one.trouble:
            say(f"{printable(one.folder)}: {one.trouble}")


@dataclass(frozen=True)
class RunState:
    """What the files of a run say."""

    name: str
    folder: str
    kind: str
    """Its task and its family."""
    state: str
    """``running``, ``stopped``, ``done`` or ``broken``."""
    holder: str
    """Who trains in it now."""
    step: int
    steps: int | None
    loss: float | None
    heldout_loss: float | None
    images_per_second: float | None
    when: str | None
    """When it last logged something: ISO 8601, local time."""
    trouble: str
    """What of it cannot be read."""
    losses: tuple[float, ...] = ()


def runs_below(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Folders of runs, by name; what is in one is not looked into."""
    from setar.run_folder import METRICS, SETTINGS, is_run

    if is_run(folder) or any(os.path.lexists(folder / name) for name in (SETTINGS, METRICS)):
        yield folder
        return
    try:
        inner = sorted(f for f in folder.iterdir() if os.path.isdir(f) and not f.is_symlink())
    except OSError:
        return
    for below in inner if depth else ():
        if not below.name.startswith("."):
            yield from runs_below(below, depth - 1)


def look(run: Path, above: Path) -> RunState:
    """What there is to say of a run; what cannot be read is told in ``trouble``."""
    from setar.run_folder import METRICS, checkpoints, read_settings, step_of
    from setar.training.lock import holder

    trouble, settings, lines, step = [], {}, [], 0
    try:
        settings = read_settings(run)
    except ValueError as error:
        trouble.append(f"settings.json: {error}")
    try:
        lines = read_log(run / METRICS)
    except ValueError as error:
        trouble.append(f"metrics.jsonl: {error}")
    try:
        step = max(map(step_of, checkpoints(run)), default=0)
    except ValueError as error:
        trouble.append(str(error))
    step = max(step, *(line["step"] for line in lines[-1:]), 0)
    loop, held = _part(settings, "loop"), holder(run)
    steps = loop.get("steps") if isinstance(loop.get("steps"), int) else None
    done = steps is not None and step >= steps
    state = "running" if held else "broken" if trouble else "done" if done else "stopped"
    losses = _values(lines, "loss")
    return RunState(
        name=printable(str(run.relative_to(above)) if run != above else run.resolve().name),
        folder=str(run),
        kind=_kind(settings),
        state=state,
        holder=held,
        step=step,
        steps=steps,
        loss=_last(losses),
        heldout_loss=_last(_values(lines, "heldout_loss")),
        images_per_second=_last(_values(lines, "images_per_second")),
        when=_changed(run / METRICS),
        trouble="; ".join(map(printable, trouble)),
        losses=tuple(losses),
    )


def read_log(file: Path) -> list[dict[str, Any]]:
    """The lines of a log; no log is an empty one.

    Raises:
        ValueError: it cannot be read, or a line that is not its last one is no figures.
    """
    from setar.files import open_regular

    if not os.path.lexists(file):
        return []
    with open_regular(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - READ))
        texts = stream.read().split(b"\n")[size > READ :]
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or type(line.get("step")) is not int:
                raise ValueError
            lines.append(line)
        except (ValueError, RecursionError) as error:
            if text.strip() and number < len(texts):  # the last one may be just being written
                raise ValueError(f"line {number} is no figures of a step") from error
    return lines


def table_of(found: Sequence[RunState]) -> Any:
    """A table for the console."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "kind", "step", "state", "loss", "", "held out", "images/s", "last log"):
        right = name in ("step", "loss", "held out", "images/s")
        wraps = name in ("run", "kind", "last log")
        table.add_column(name, justify="right" if right else "left", no_wrap=not wraps)
    colours = {"running": "green", "broken": "red", "stopped": "yellow"}
    for one in found:
        cells = (
            Text(one.name),
            Text(one.kind),
            f"{one.step}/{'?' if one.steps is None else one.steps}",
            Text(one.state, colours.get(one.state, "")),
            _figure(one.loss),
            sparkline(one.losses),
            _figure(one.heldout_loss),
            _figure(one.images_per_second, 4),
            (one.when or "-").replace("T", " ")[:16],
        )
        table.add_row(*cells)
    return table


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """The course of some values in one line: means of equal stretches, from least to most."""
    if not values:
        return ""
    width = min(width, len(values))
    cuts = [i * len(values) // width for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    least, most = min(means), max(means)
    scale = (len(BARS) - 1) / (most - least) if most > least else 0.0
    return "".join(BARS[round((mean - least) * scale)] for mean in means)


def _values(lines: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The numbers of this name, in turn."""
    found = [line.get(name) for line in lines]
    return [value for value in map(as_real, found) if value is not None]


def _last(values: Sequence[float]) -> float | None:
    return values[-1] if values else None


def _figure(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _part(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = settings.get(name)
    return part if isinstance(part, Mapping) else {}


def _kind(settings: Mapping[str, Any]) -> str:
    """Such as ``generator fmt``."""
    task = settings.get("task")
    if not isinstance(task, str):
        return "?"
    part = _part(settings, "model" if task == "generator" else "tokenizer")
    family = part.get("family", "fmt" if task == "generator" else "vqgan")
    return printable(f"{task} {family}"[:40])


def _changed(file: Path) -> str | None:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime).isoformat(timespec="seconds")
    except (OSError, ValueError, OverflowError):
        return None
