"""``setar sample``: images of a model, as one labelled picture."""

import time
from pathlib import Path
from typing import Annotated

import typer

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
    SEPARATOR,
    Animation,
    class_rows,
    described,
    named,
    rows_size,
    set_bar,
)
from setar.numbers import counted


@options.with_sampling
def sample(
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
    animate: Annotated[
        Path | None, typer.Option(help="Also write a GIF of the sets appearing.")
    ] = None,
    each: Annotated[
        Path | None, typer.Option(help="Also write every image as a PNG file of this folder.")
    ] = None,
) -> None:
    """Generate images and write them as one labelled picture, a row per class or prompt."""
    shape, names = options.parse_size(size), class_names(model)
    texts = prompts.texts_of(prompt or (), prompt_file)
    prompts.check_reads(model, names, classes, texts, negative_prompt)
    if classes.strip() == "?":
        say("\n".join(names))
        return
    asked = prompts.chosen(names, classes, texts)
    options.check_seeds(seed, len(asked) * count)
    if animate:
        prepare_picture(animate, [".gif"])
    prepare_picture(out)
    if each:
        prepare_folder(each)

    from setar.pictures.sheets import check_sheet

    pipe = options.load_pipeline(model, device, sampling, precision)
    title = described(model, pipe)
    pipe.grid_of(shape)
    check_sheet(rows_size(pipe, asked, count, title, seed, shape), out)
    animation = Animation(pipe, asked, count, shape) if animate else None

    began = time.perf_counter()
    with set_bar(len(asked) * count, animation) as on_set:
        how = {"size": shape, "negative_prompt": negative_prompt, "on_set": on_set}
        images = pipe(asked, seed=seed, count=count, **how)
    seconds = time.perf_counter() - began

    written: list[tuple[str, Path]] = []
    try:
        if each:
            made = [named(pipe, asked[index // count]) for index in range(len(images))]
            save_each(images, made, seed, each)
            written.append((counted(len(images), "file"), each))
        made_of = counted(len(images), "image")
        title = f"{title}{SEPARATOR}{made_of}, {seconds:.1f} s"
        sheet = save_picture(class_rows(pipe, asked, images, count, title, seed), out)
        written.append((f"{made_of} in {seconds:.1f} s", sheet))
        if animate and animation:
            written.append((animation.facts, write_new(animate, animation.save)))
    finally:
        say_where(*written)
