"""``setar edit``: part of a picture made anew, as one labelled picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from setar.cli import options
from setar.cli.files import prepare_folder, prepare_picture, save_each
from setar.cli.progress import set_bar

if TYPE_CHECKING:
    from setar.pictures.masks import Task

ROW = 8
"""Results side by side in the picture."""


@options.with_sampling
def edit(
    model: options.Model,
    image: Annotated[Path, typer.Argument(help="The picture to edit.")],
    class_: Annotated[str, typer.Option("--class", help="What to make: a class name or id.")],
    mask: Annotated[
        Path | None, typer.Option(help="A picture of the same size, white where to make anew.")
    ] = None,
    box: Annotated[
        str, typer.Option(help="Make anew: LEFT,TOP,RIGHT,BOTTOM in pixels of the picture.")
    ] = "",
    outpaint: Annotated[
        str, typer.Option(help="Make around it: LEFT,TOP,RIGHT,BOTTOM in pixels of the result.")
    ] = "",
    sampling: options.Sampling = options.AS_TRAINED,
    seed: Annotated[int, typer.Option(help="Result i uses seed + i.")] = 0,
    count: Annotated[int, typer.Option(help="Results.")] = ROW,
    device: options.DeviceOption = "cpu",
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("outputs/edit.png"),
    each: Annotated[
        Path | None, typer.Option(help="Also write every result as a PNG file of this folder.")
    ] = None,
) -> None:
    """Make part of a picture anew: inpainting, outpainting, or a region as another class."""
    from setar.pictures.masks import show_mask
    from setar.pictures.sheets import labelled_rows

    pipe = options.load_pipeline(model, device, sampling)
    class_id = pipe.class_id(class_)
    task = _task(image, mask, box, outpaint, pipe.size)
    prepare_picture(out)
    if each:
        prepare_folder(each)
    with set_bar(count) as on_set:
        results = pipe.redraw(task, class_id, seed=seed, count=count, on_set=on_set)
    name, picture = pipe.classes[class_id], task.image
    rows = [("input", "grey is made anew", [picture, show_mask(*task)])]
    for first in range(0, len(results), ROW):
        some = results[first : first + ROW]
        seeds = f"seeds {seed + first} to {seed + first + len(some) - 1}"
        rows.append((name, seeds, some))
    title = f"edit   {pipe.defaults.recipe}"
    labelled_rows(rows, title, side=max(96, picture.width)).save(out)
    typer.echo(f"{count} results -> {out}")
    if each:
        save_each(results, [name] * count, seed, each)


def _task(file: Path, mask: Path | None, box: str, margins: str, size: tuple[int, int]) -> "Task":
    """Picture and mask, both of the model's ``size`` (width, height)."""
    from setar.data.images import open_image
    from setar.pictures.masks import box_mask, outpaint, prepare

    if (mask is not None) + bool(box) + bool(margins) != 1:
        raise ValueError("give one of --mask, --box and --outpaint: what is made anew")
    picture = open_image(file)
    if margins:
        return outpaint(picture, size, _four("outpaint", margins))
    if mask is not None:
        return prepare(picture, open_image(mask), size)
    return prepare(picture, box_mask(picture.size, _four("box", box)), size)


def _four(option: str, text: str) -> tuple[int, int, int, int]:
    rule = f"--{option} reads LEFT,TOP,RIGHT,BOTTOM, such as 0,16,32,32"
    left, top, right, bottom = options.parse_numbers(text, ",", [4], rule)
    return left, top, right, bottom
