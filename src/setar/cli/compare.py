"""``setar compare``: models and recipes side by side, in a table and a sheet of pictures."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from setar.cli import options
from setar.cli.console import say, show
from setar.cli.files import prepare_folder, save_picture, say_where, write_new
from setar.cli.recipes import check_recipe

if TYPE_CHECKING:
    from setar.bench.compare import Found


@options.with_sampling
def compare(
    models: Annotated[list[str], typer.Argument(help="Models, as of `setar sample`.")],
    recipe: Annotated[
        str, typer.Option("--recipes", help="Recipes, with commas; default: each model's own.")
    ] = "",
    steps: Annotated[
        str, typer.Option(help="Sets in the place of the recipes' own number: 4,8,16.")
    ] = "",
    guidance: Annotated[
        str,
        typer.Option(
            "--guidance",
            "--scales",
            help="Guidance scales, with commas; default: each model's own.",
        ),
    ] = "",
    out: Annotated[Path, typer.Option(help="The folder of table, sheet and rows.")] = Path(
        "outputs/compare"
    ),
    reference: Annotated[str, typer.Option(help="As of `setar evaluate`.")] = "",
    features: Annotated[str, typer.Option(help="As of `setar evaluate`.")] = "",
    count: Annotated[
        int | None,
        typer.Option(help="Images per class or prompt.", callback=options.counted(1, 10_000_000)),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option(help="As of `setar evaluate`.", callback=options.counted(1)),
    ] = None,
    shown: Annotated[
        list[str] | None,
        typer.Option("--show", help="A class or a text to draw in the sheet; repeatable."),
    ] = None,
    batch: Annotated[
        int, typer.Option(help="Images at once for the time.", callback=options.counted(1, 65_536))
    ] = 8,
    seed: Annotated[
        int, typer.Option(help="Image i uses seed + i.", callback=options.whole_seed)
    ] = 0,
    sampling: options.Sampling = options.AS_TRAINED,
    device: options.DeviceOption = "cpu",
    precision: options.Precision = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no table.")] = False,
) -> None:
    """Measure models under recipes: quality, seconds, images/s, cache bytes; and draw them.

    A comparison that was stopped goes on where it was: the same command measures what is missing.
    """
    texts = split_recipes(recipe)
    for text in texts:
        check_recipe(text)
    counts = [number for part in _parts("steps", steps) for number in _whole("steps", part)]
    guidances = [_scale(part) for part in _parts("guidance", guidance)]
    prepare_folder(out)

    from tqdm import tqdm

    from setar.bench.compare import check_rows, compare, rows_of, sheet
    from setar.device import find_device
    from setar.evaluation.targets import Request

    rows = rows_of(models, texts, guidances, counts, sampling)
    place = str(find_device(device))
    request = Request(
        source="",
        reference=reference,
        features=features,
        count=count,
        prompts=prompts,
        seed=seed,
        device=place,
        precision=precision,
    )
    check_rows(rows, request, shown or ())
    running = compare(rows, out, request, batch, shown or ())
    found = list(tqdm(running, total=len(rows), desc="rows", unit="row", disable=None))
    tables = json.dumps([one.tables for one in found], indent=2) + "\n"
    drawn = sheet(found)
    written = [
        ("", write_new(out / "compare.json", lambda file: file.write_text(tables, "utf-8"))),
        ("", save_picture(drawn, out / "compare.png")),
    ]
    if as_json:
        say(tables, end="")
        return
    show(_drawn(found), 120)
    say_where(*written)


def split_recipes(text: str) -> list[str]:
    """Recipes between commas; numbers after a comma belong to the sizes of the recipe before.

    So does nothing after a comma: ``raster-64,`` is one set of 64.
    """
    _parts("recipes", text)
    found: list[str] = []
    for part in map(str.strip, text.split(",")):
        sized = found and found[-1].rpartition("-")[2].replace(",", "").isdigit()
        if (part.isdigit() and found) or (sized and not part):
            found[-1] += f",{part}"
        elif part:
            found.append(part)
    return found


def _parts(name: str, text: str) -> list[str]:
    """What stands between commas, at least one thing if there is a text."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if text and not found:
        raise ValueError(f"--{name} names nothing: {text[:40]!r}")
    return found


def _whole(name: str, text: str) -> list[int]:
    return options.parse_numbers(text, ",", [1], f"--{name} reads whole numbers such as 4,8,16")


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 <= scale < math.inf:
        rule = "--guidance reads numbers of at least 0 such as 1,2.5"
        raise ValueError(f"{rule}; got {text[:40]!r}")
    return scale


def _drawn(found: "Sequence[Found]") -> Any:
    """A line of each row."""
    from rich.markup import escape
    from rich.table import Table

    quality = list(dict.fromkeys(name for one in found for name in one.figures()))
    names = ["model", "recipe", "guidance", "steps", *quality, "s/image", "images/s", "cache MiB"]
    table = Table(*(escape(name.replace("_", " ")) for name in names))
    for one in found:
        speed, figures = one.tables["speed"], one.figures()
        cells = [
            Path(one.row.model).name,
            one.recipe,
            f"{one.guidance:g}",
            str(one.tables["settings"]["steps"]),
            *(f"{figures[name]:.4g}" if name in figures else "" for name in quality),
            f"{speed['seconds'] / speed['batch']:.3g}",
            f"{speed['images_per_second']:.4g}",
            f"{speed['cache_bytes'] / 2**20:.3g}",
        ]
        table.add_row(*map(escape, cells))
    return table
