"""``setar edit``: part of a picture made anew, as one labelled picture."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from setar.classes import Classes
from setar.cli import options, prompts
from setar.cli.console import say
from setar.cli.files import (
    prepare_folder,
    prepare_picture,
    save_each,
    save_picture,
    say_where,
)
from setar.cli.models import class_names
from setar.cli.progress import SEPARATOR, described, seeds_of, set_bar, side_of
from setar.files import check_file
from setar.numbers import counted

if TYPE_CHECKING:
    from PIL import Image

    from setar.pictures.masks import Task

ROW = 8
"""Results side by side in the picture."""

MOST_MARGIN = 4096
"""That of `setar.pictures.masks`."""


@options.with_sampling
def edit(
    model: options.Model,
    image: Annotated[Path, typer.Argument(help="The picture to edit.")],
    class_: Annotated[str, typer.Option("--class", help="What to make: a class name or id.")] = "",
    prompt: Annotated[
        str | None, typer.Option(help="What to make, for a model that reads texts.")
    ] = None,
    negative_prompt: options.Negative = None,
    mask: Annotated[
        Path | None, typer.Option(help="A picture of the same size, white where to make anew.")
    ] = None,
    box: Annotated[
        str, typer.Option(help="Make anew: LEFT,TOP,RIGHT,BOTTOM in pixels of the picture.")
    ] = "",
    outpaint: Annotated[
        str, typer.Option(help="Make around it: LEFT,TOP,RIGHT,BOTTOM in pixels of the result.")
    ] = "",
    vary: Annotated[
        float | None,
        typer.Option(
            help="Make a random share of its tokens anew, such as 0.3.",
            callback=options.must(lambda share: 0 < share <= 1, "above 0 and at most 1"),
        ),
    ] = None,
    dilate: Annotated[
        int,
        typer.Option(
            help="Pixels by which the mask grows.", callback=options.counted(0, MOST_MARGIN)
        ),
    ] = 0,
    seam: Annotated[
        int,
        typer.Option(
            help="Pixels outside the mask over which the picture turns into what is made.",
            callback=options.counted(0, MOST_MARGIN),
        ),
    ] = 0,
    size: options.Size = "",
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
    """Make part of a picture anew: inpainting, outpainting, a region as something else.

    With --vary, a random share of all of it. A model that makes one size only gets the middle of
    the picture in its shape, or all of it where it is outpainted; others keep its size.
    """
    if sum((mask is not None, bool(box), bool(outpaint), vary is not None)) != 1:
        raise ValueError("give one of --mask, --box, --outpaint and --vary: what is made anew")
    if vary is not None and (dilate or seam):
        raise ValueError("--dilate and --seam belong to a mask; --vary has none")
    text = outpaint or box
    edges = _four("outpaint" if outpaint else "box", text) if text else None
    for file in (image, mask):
        if file is not None:
            check_file(file)
    shape, names = options.parse_size(size), class_names(model)
    chosen, name = _chosen(model, names, class_, prompt, negative_prompt)
    options.check_seeds(seed, count)
    prepare_picture(out)
    if each:
        prepare_folder(each)

    from setar.data.decoding import open_image
    from setar.pictures.masks import fitted, grow, show_mask
    from setar.pictures.sheets import check_sheet, labelled_rows, sheet_size

    pipe, note = options.load_pipeline(model, device, sampling), ""
    title, edited = f"edit{SEPARATOR}{described(model, pipe)}", pipe.edited_size(shape)
    how = {"negative_prompt": negative_prompt, "seed": seed, "count": count}
    if vary is None:
        task, note = _task(image, mask, edges, bool(outpaint), edited)
        task = grow(task, dilate)
        picture, make = task.image, partial(pipe.redraw, task, chosen, seam=seam, **how)
        shown, words = [picture, show_mask(*task)], "grey is made anew"
    else:
        picture = fitted(open_image(image), edited)
        make = partial(pipe.vary, picture, vary, chosen, size=shape, **how)
        shown, words = [picture], f"{100 * vary:g} % made anew"
    rows: list[tuple[str, str, Sequence[Image.Image]]] = [("input", words, shown)]
    side = side_of(picture.size)
    counts = [("input", "", 2), *[(name, "", ROW)] * -(-count // ROW)]
    check_sheet(sheet_size(counts, picture.size, title, side), out)
    with set_bar(count) as on_set:
        results = make(on_set=on_set)
    for first in range(0, len(results), ROW):
        some = results[first : first + ROW]
        rows.append((name, seeds_of(seed + first, len(some)), some))
    written: list[tuple[str, Path]] = []
    try:
        if each:
            save_each(results, each)
            written.append((counted(count, "file"), each))
        sheet = save_picture(labelled_rows(rows, title, side), out, results[0].memory)
        written.append((counted(count, "result"), sheet))
    finally:
        say_where(*written)
    if note:
        say(note)


def _chosen(
    model: str, names: Sequence[str], class_: str, prompt: str | None, negative: str | None
) -> tuple[int | str, str]:
    """What a model is asked with, a class's id or a text; and how that is called.

    Raises:
        ValueError: it is nothing that the model reads.
    """
    texts = [] if prompt is None else [prompt]
    prompts.check_reads(model, names, class_, texts, negative)
    if prompt is not None:
        return prompt, prompt
    if not class_:
        raise ValueError("say what to make: --class, a class name or id")
    chosen = Classes(names).id(class_)
    return chosen, names[chosen]


def _task(
    file: Path,
    mask: Path | None,
    edges: tuple[int, int, int, int] | None,
    around: bool,
    size: tuple[int, int] | None,
) -> "tuple[Task, str]":
    """Picture and mask, and what is to be said of them.

    ``size`` is the (width, height) that they are brought to; None: the picture's own.
    """
    from setar.data.decoding import open_image
    from setar.pictures.masks import box_mask, outpaint, prepare

    picture = open_image(file)
    if around and edges:
        return outpaint(picture, size, edges), ""
    drawn = box_mask(picture.size, edges) if edges else open_image(mask or file)
    note = "" if size is None else _cut_off(picture.size, drawn, size)
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
    rule = f"--{option} reads LEFT,TOP,RIGHT,BOTTOM, pixels of at least 0, such as 0,16,32,32"
    left, top, right, bottom = options.parse_numbers(text, ",", [4], rule)
    return left, top, right, bottom
