"""``setar sample``: images of a model, as one labelled picture."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from setar.cli import options
from setar.cli.files import prepare_folder, prepare_picture, save_each
from setar.cli.progress import class_rows, set_bar

if TYPE_CHECKING:
    from setar.pipeline import PartialImages


@options.with_sampling
def sample(
    model: options.Model = "emoji",
    classes: Annotated[
        str, typer.Option(help="Class names or ids, with commas; `?` lists them.")
    ] = "",
    sampling: options.Sampling = options.AS_TRAINED,
    seed: Annotated[int, typer.Option(help="Image i of the call uses seed + i.")] = 0,
    count: Annotated[int, typer.Option(help="Images per class.")] = 8,
    device: options.DeviceOption = "cpu",
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("outputs/sample.png"),
    animate: Annotated[
        Path | None, typer.Option(help="Also write a GIF of the sets appearing.")
    ] = None,
    each: Annotated[
        Path | None, typer.Option(help="Also write every image as a PNG file of this folder.")
    ] = None,
) -> None:
    """Generate images and write them as one labelled picture, a row per class."""
    from setar.pictures.animations import save_animation

    pipe = options.load_pipeline(model, device, sampling)
    if classes.strip() == "?":
        typer.echo("\n".join(pipe.classes))
        return
    names = [part.strip() for part in classes.split(",") if part.strip()]
    # Six classes from all over the list, unless some are named.
    shown = min(6, len(pipe.classes))
    spread = [pipe.classes[i * len(pipe.classes) // shown] for i in range(shown)]
    ids = [pipe.class_id(name) for name in names or spread]
    prepare_picture(out)
    if animate:
        prepare_picture(animate, {".gif"})
    if each:
        prepare_folder(each)
    frames = []

    def draw(partial: "PartialImages") -> None:
        if not partial.first:  # the first batch alone
            made = partial.images()
            rows = ids[: len(made) // count] or ids[:1]
            title = f"set {partial.step} of {partial.steps}"
            frames.append(class_rows(pipe, rows, made, count, title))

    began = time.perf_counter()
    with set_bar(len(ids) * count, draw if animate else None) as on_set:
        images = pipe(ids, seed=seed, count=count, on_set=on_set)
    seconds = time.perf_counter() - began
    title = f"{pipe.defaults.recipe}   {len(images)} images, {seconds:.1f} s"
    class_rows(pipe, ids, images, count, title, seed).save(out)
    typer.echo(f"{len(images)} images in {seconds:.1f} s -> {out}")
    if animate:
        save_animation(frames, animate)
        typer.echo(f"{len(frames)} steps -> {animate}")
    if each:
        names = [pipe.classes[ids[index // count]] for index in range(len(images))]
        save_each(images, names, seed, each)
