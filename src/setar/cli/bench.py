"""``setar bench``: how fast sampling or training is, beside what the machine can do."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from setar.cli import options
from setar.cli.console import say, show

if TYPE_CHECKING:
    from setar.bench.sampling import Measured

PARTLY = 0.01
"""Places with less than this share of the time are shown together."""


@options.with_sampling
def bench(
    model: Annotated[
        str, typer.Argument(help="family:preset such as fmt:B (random weights), or a model.")
    ] = "emoji",
    batch: Annotated[
        int, typer.Option(help="Images at once.", callback=options.counted(1, 65_536))
    ] = 8,
    sampling: options.Sampling = options.AS_TRAINED,
    precision: options.Precision = None,
    threads: Annotated[
        int, typer.Option(help="0: torch's own number.", callback=options.counted(0, 4096))
    ] = 0,
    repeats: Annotated[
        int, typer.Option(help="Runs; the best counts.", callback=options.counted(1, 1000))
    ] = 3,
    cpu_time: Annotated[
        bool,
        typer.Option(help="Count CPU time of one thread: on a machine that is busy otherwise."),
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="On CUDA: compiled steps, recorded as graphs.")
    ] = False,
    training: Annotated[bool, typer.Option("--train", help="A training step.")] = False,
    peers: Annotated[
        Path | None, typer.Option(help="A folder of Python files: others' code, timed beside.")
    ] = None,
    device: options.DeviceOption = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure seconds per image, the floor of the same arithmetic, where time goes, and memory."""
    if training and peers:
        raise ValueError("--peers are other systems that sample: not with --train")
    if training and precision == "int8":
        raise ValueError("--precision int8 is for sampling: not with --train")
    if compiled and training:
        raise ValueError("--compile is for sampling: not with --train")
    if cpu_time and (device != "cpu" or threads > 1):
        raise ValueError("--cpu-time counts one thread of a CPU: not with --device or --threads")

    import torch

    from setar.bench.peers import load_peers
    from setar.bench.recorder import clock_of
    from setar.bench.sampling import measure_sampling
    from setar.bench.subject import load_subject
    from setar.bench.training import measure_training
    from setar.device import find_device

    before, place = torch.get_num_threads(), find_device(device)
    if compiled and place.type == "cpu":
        raise ValueError("--compile is for CUDA; on a CPU weights are laid out for its kernels")
    if cpu_time or threads:
        torch.set_num_threads(threads or 1)
    used = torch.get_num_threads()
    try:
        others = load_peers(peers, model) if peers else {}
        subject, chosen = load_subject(model, place, dict(sampling), precision, training)
        clock = clock_of(place, cpu_time)
        if training:
            recipe = chosen.recipe
            found = measure_training(subject, recipe, batch, clock, repeats, precision or "float32")
        else:
            how = (clock, repeats, others, compiled)
            found = measure_sampling(subject, chosen, batch, *how)
    finally:
        torch.set_num_threads(before)
    of = {
        "model": model,
        "work": "training step" if training else "sampling",
        "recipe": str(chosen.recipe),
        "guidance": None if training else chosen.guidance.scale,
        "precision": precision or subject.packing or "float32",
        "compiled": compiled,
        "device": str(place),
        "threads": used,
        "clock": "CPU time" if cpu_time else "wall",
        "torch": torch.__version__,
    }
    if as_json:
        say(json.dumps({**of, **found.to_table()}, indent=2))
    else:
        show(_drawn(of, found), 100)


def _drawn(of: dict[str, Any], found: "Measured") -> Any:
    """All figures as a table."""
    from rich.markup import escape
    from rich.table import Table

    guidance = "" if of["guidance"] is None else f", guidance {of['guidance']:g}"
    precision = of["precision"] + ", compiled" * of["compiled"]
    title = (
        f"{of['work']} of {of['model']}, {found.images} at once, {of['recipe']}{guidance}, "
        f"{precision}, {of['device']}, threads {of['threads']}, {of['clock']}"
    )
    table = Table(title=escape(title), show_header=False, title_justify="left")
    each = found.seconds / found.images
    rows = [
        ("seconds", f"{found.seconds:.4g}", f"best of all, the slowest {found.spread:.2f} x"),
        ("seconds per image", f"{each:.4g}", f"{1 / each:.4g} images/s, {found.steps} steps"),
        ("floor", f"{found.floor:.4g}", f"of which products {found.products:.4g}"),
        ("ratio", f"{found.ratio:.3f}", "seconds over floor"),
        *((name, f"{value:.4g}", f"{100 * share:.1f} %") for name, value, share in _places(found)),
        ("peak memory", _megabytes(found.peak), _formula(found.expected)),
        *((f"peer {name}", *_peer(value, found)) for name, value in found.peers.items()),
    ]
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _places(found: "Measured") -> list[tuple[str, float, float]]:
    """Seconds and share by place; small ones together."""
    total = sum(found.breakdown.values())
    rows = [(name, value, value / total) for name, value in found.breakdown.items()]
    shown = [row for row in rows if row[2] >= PARTLY]
    small = sum(value for _, value, share in rows if share < PARTLY)
    return [*shown, ("others", small, small / total)]


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _formula(expected: dict[str, int]) -> str:
    parts = " + ".join(f"{name} {count / 2**20:.1f}" for name, count in expected.items())
    return f"{parts} = {_megabytes(sum(expected.values()))}"


def _peer(value: Any, found: "Measured") -> tuple[str, str]:
    if isinstance(value, str):
        return "failed", value
    return f"{value:.4g}", f"{value / found.seconds:.2f} x ours"
