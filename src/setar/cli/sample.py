"""``setar sample``: images of a model, as one labelled picture; or a picture made again."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from setar.cli import like as likeness
from setar.cli import options, prompts
from setar.cli.console import say
from setar.cli.files import (
    prepare_folder,
    prepare_picture,
    save_each,
    save_picture,
    say_where,
    write_new,
)
from setar.cli.models import class_names
from setar.cli.progress import (
    MOST_COLUMNS,
    MOST_SCALE,
    SEPARATOR,
    Animation,
    Layout,
    class_rows,
    described,
    rows_size,
    set_bar,
)
from setar.numbers import counted

if TYPE_CHECKING:
    from setar.generation import PartialImages
    from setar.pictures.memory import Memory
    from setar.pictures.png import Picture
    from setar.pipeline import Pipeline


@options.with_sampling
def sample(
    context: typer.Context,
    model: options.Model = "emoji",
    classes: Annotated[
        str,
        typer.Option(
            help="Class names or ids, with commas, `?` lists them; default: six from all over."
        ),
    ] = "",
    prompt: options.Prompt = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompts", help="A file of prompts, one a line.")
    ] = None,
    negative_prompt: options.Negative = None,
    unconditional: Annotated[
        bool, typer.Option("--unconditional", help="Images of no class, or of no text.")
    ] = False,
    between: Annotated[
        bool,
        typer.Option(
            "--between", help="Images of one seed on the way from the first of two to the second."
        ),
    ] = False,
    size: options.Size = "",
    sampling: options.Sampling = options.AS_TRAINED,
    seed: Annotated[
        int, typer.Option(help="Image i of the call uses seed + i.", callback=options.whole_seed)
    ] = 0,
    count: Annotated[
        int, typer.Option(help="Images per class or prompt.", callback=options.counted(1))
    ] = 8,
    device: options.DeviceOption = "cpu",
    precision: options.Precision = None,
    out: Annotated[
        Path, typer.Option("--out", help="File to write; if it exists, the next free name.")
    ] = Path("outputs/sample.png"),
    scale: Annotated[
        int,
        typer.Option(
            help="Each image so many times its size; 0: as suits a screen.",
            callback=options.counted(0, MOST_SCALE),
        ),
    ] = 0,
    columns: Annotated[
        int,
        typer.Option(
            help="Images side by side at most; 0: as suits a screen.",
            callback=options.counted(0, MOST_COLUMNS),
        ),
    ] = 0,
    animate: Annotated[
        Path | None,
        typer.Option(help="Also write a GIF of the sets appearing, or a WebP with all colours."),
    ] = None,
    each: Annotated[
        Path | None, typer.Option(help="Also write every image as a PNG file of this folder.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Make a picture again exactly: a PNG file that this command wrote."),
    ] = None,
) -> None:
    """Generate images and write them as one labelled picture, a row per class or prompt."""
    if like is not None:
        again = likeness.remembered(context, like, each, animate)
        _prepare(out, each, animate)
        pipe = likeness.load(again, context, like)
        if again.memory.made == "image":
            likeness.write(pipe, again.memory, like, out)
        else:
            _write_sheet(pipe, again.memory, out, each, animate, like)
        return
    shape, names = options.parse_size(size), class_names(model)
    texts = prompts.texts_of(prompt or (), prompt_file)
    if unconditional and (classes or texts or negative_prompt is not None or between):
        raise ValueError("--unconditional asks for nothing: leave out what else is asked for")
    if not unconditional:
        prompts.check_reads(model, names, classes, texts, negative_prompt)
    if classes.strip() == "?":
        say("\n".join(names))
        return
    asked = [None] if unconditional else prompts.chosen(names, classes, texts)
    if between and (len(asked) != 2 or count < 2):
        raise ValueError(
            f"--between shows the way from one to another: give two classes or prompts (not "
            f"{len(asked)}) and a --count of at least 2"
        )
    options.check_seeds(seed, 1 if between else len(asked) * count)
    _prepare(out, each, animate)

    from setar.pictures.memory import Memory

    pipe = options.load_pipeline(model, device, sampling, precision)
    wanted = Memory(
        "sheet",
        asked=tuple(asked),
        negative_prompt=negative_prompt,
        seed=seed,
        count=count,
        size=shape,
        scale=scale,
        columns=columns,
        between=between,
    )
    _write_sheet(pipe, wanted, out, each, animate)


def _prepare(out: Path, each: Path | None, animate: Path | None) -> None:
    if animate:
        prepare_picture(animate, [".gif", ".webp"])
    prepare_picture(out)
    if each:
        prepare_folder(each)


def _write_sheet(
    pipe: "Pipeline",
    wanted: "Memory",
    out: Path,
    each: Path | None,
    animate: Path | None,
    like: Path | None = None,
) -> None:
    """Make the images of a sheet and write it; ``like`` is the one that it shall be again."""
    from setar.pictures.png import checksum
    from setar.pictures.sheets import check_sheet

    shape, seed, count = wanted.size, wanted.seed or 0, wanted.count
    asked: list[Any] = [wanted.asked] if wanted.between else [*wanted.asked]
    title, layout = described(pipe.source, pipe), Layout(wanted.scale, wanted.columns)
    pipe.grid_of(shape)
    check_sheet(rows_size(pipe, asked, count, title, seed, shape, layout), out)
    ending = "" if animate is None else animate.suffix.lower()
    animation = Animation(pipe, asked, count, shape, layout, ending) if ending else None

    began = time.perf_counter()
    with set_bar(len(asked) * count, animation) as on_set:
        images = _images(pipe, wanted, on_set)
    seconds = time.perf_counter() - began

    written: list[tuple[str, Path]] = []
    made_of = counted(len(images), "image")
    try:
        if each:
            save_each(images, each)
            written.append((counted(len(images), "file"), each))
        heading = f"{title}{SEPARATOR}{made_of}"
        drawn = class_rows(pipe, asked, images, count, heading, seed, layout)
        sheet = save_picture(drawn, out, _memory(pipe, wanted, images))
        written.append((f"{made_of} in {seconds:.1f} s", sheet))
        if animate and animation:
            written.append((animation.facts, write_new(animate, animation.save)))
    finally:
        say_where(*written)
    if like is not None:
        likeness.compare(wanted, checksum(drawn), like)


def _images(
    pipe: "Pipeline", wanted: "Memory", on_set: "Callable[[PartialImages], None]"
) -> "list[Picture]":
    how = {"size": wanted.size, "count": wanted.count, "on_set": on_set, "seed": wanted.seed or 0}
    if wanted.asked == (None,):
        return pipe.unconditional(**how)
    how["negative_prompt"] = wanted.negative_prompt
    if wanted.between:
        return pipe.interpolate(*wanted.asked, **how)
    asked: list[Any] = [*wanted.asked]
    return pipe(asked, **how)


def _memory(pipe: "Pipeline", wanted: "Memory", images: "Sequence[Picture]") -> "Memory":
    """What the sheet of some images remembers."""
    width, height = images[0].size
    return pipe.memory_of(
        "sheet",
        asked=wanted.asked,
        negative_prompt=wanted.negative_prompt,
        seed=wanted.seed,
        count=wanted.count,
        size=(height, width),
        scale=wanted.scale,
        columns=wanted.columns,
        between=wanted.between,
    )
