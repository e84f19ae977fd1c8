"""``setar edit``: part of a picture made anew, as one labelled picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from setar.classes import Classes
from setar.cli import options
from setar.cli.console import say
from setar.cli.files import (
    prepare_folder,
    prepare_picture,
    save_each,
    save_picture,
    say_where,
)
from setar.cli.models import class_names
from setar.cli.progress import SEPARATOR, described, seeds_of, set_bar
from setar.files import check_file
from setar.numbers import counted

if TYPE_CHECKING:
    from PIL import Image

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
    seed: Annotated[
        int, typer.Option(help="Result i uses seed + i.", callback=options.whole_seed)
    ] = 0,
    count: Annotated[int, typer.Option(help="Results.", callback=options.counted(1))] = ROW,
    device: options.DeviceOption = "cpu",
    out: Annotated[
        Path, typer.Option("--out", help="File to write; if it exists, the next free name.")
    ] = Path("outputs/edit.png"),
    each: Annotated[
        Path | None, typer.Option(help="Also write every result as a PNG file of this folder.")
    ] = None,
) -> None:
    """Make part of a picture anew: inpainting, outpainting, or a region as another class.

    The picture is cropped in the middle to the model's shape, unless it is outpainted.
    """
    if (mask is not None) + bool(box) + bool(outpaint) != 1:
        raise ValueError("give one of --mask, --box and --outpaint: what is made anew")
    edges = _four("outpaint" if outpaint else "box", outpaint or box) if mask is None else None
    for file in (image, mask):
        if file is not None:
            check_file(file)
    names = class_names(model)
    chosen = Classes(names).id(class_)
    options.check_seeds(seed, count)
    prepare_picture(out)
    if each:
        prepare_folder(each)

    from setar.pictures.masks import show_mask
    from setar.pictures.sheets import check_sheet, labelled_rows, sheet_size

    pipe = options.load_pipeline(model, device, sampling)
    side, title = max(96, pipe.size[0]), f"edit{SEPARATOR}{described(model, pipe)}"
    counts = [("input", "", 2), *[(names[chosen], "", ROW)] * -(-count // ROW)]
    check_sheet(sheet_size(counts, pipe.size, title, side), out)
    task, note = _task(image, mask, edges, bool(outpaint), pipe.size)
    with set_bar(count) as on_set:
        results = pipe.redraw(task, chosen, seed=seed, count=count, on_set=on_set)
    rows = [("input", "grey is made anew", [task.image, show_mask(*task)])]
    for first in range(0, len(results), ROW):
        some = results[first : first + ROW]
        rows.append((names[chosen], seeds_of(seed + first, len(some)), some))
    written: list[tuple[str, Path]] = []
    try:
        if each:
            save_each(results, [names[chosen]] * count, seed, each)
            written.append((counted(count, "file"), each))
        sheet = save_picture(labelled_rows(rows, title, side), out)
        written.append((counted(count, "result"), sheet))
    finally:
        say_where(*written)
    if note:
        say(note)


def _task(
    file: Path,
    mask: Path | None,
    edges: tuple[int, int, int, int] | None,
    around: bool,
    size: tuple[int, int],
) -> "tuple[Task, str]":
    """Picture and mask, both of the model's ``size`` (width, height), and what is to be said."""
    from setar.data.decoding import open_image
    from setar.pictures.masks import box_mask, outpaint, prepare

    picture = open_image(file)
    if around and edges:
        return outpaint(picture, size, edges), ""
    drawn = box_mask(picture.size, edges) if edges else open_image(mask or file)
    note = _cut_off(picture.size, drawn, size)
    return prepare(picture, drawn, size), note


def _cut_off(picture: tuple[int, int], mask: "Image.Image", size: tuple[int, int]) -> str:
    """What is to be said of a mask that lies partly outside the middle, where the model looks.

    Raises:
        ValueError: it lies outside as a whole.
    """
    white = mask.convert("L").point([0] * 128 + [255] * 128).getbbox()
    if white is None or mask.size != picture:
        return ""  # `prepare` has words for both
    across = min(picture[0], picture[1] * size[0] / size[1])
    down = min(picture[1], picture[0] * size[1] / size[0])
    left, top = int((picture[0] - across) // 2), int((picture[1] - down) // 2)
    right, bottom = round(left + across), round(top + down)
    seen = (
        f"the model sees {left},{top},{right},{bottom} of the picture, its middle in the shape of "
        f"{size[0]}x{size[1]}"
    )
    if white[0] >= right or white[2] <= left or white[1] >= bottom or white[3] <= top:
        raise ValueError(f"nothing to make anew: {seen}, and the mask or box lies outside of that")
    inside = white[0] >= left and white[2] <= right and white[1] >= top and white[3] <= bottom
    return "" if inside else f"{seen}: what lies outside is not made"


def _four(option: str, text: str) -> tuple[int, int, int, int]:
    rule = f"--{option} reads LEFT,TOP,RIGHT,BOTTOM, such as 0,16,32,32"
    left, top, right, bottom = options.parse_numbers(text, ",", [4], rule)
    return left, top, right, bottom
