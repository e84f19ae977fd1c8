"""``setar sample``: images of a model, as one labelled picture."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from setar.cli import options
from setar.cli.files import prepare_folder, prepare_picture, save_each
from setar.cli.progress import Frames, class_rows, set_bar

if TYPE_CHECKING:
    from setar.pipeline import Pipeline


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
    from setar.evaluation.models import load_pipeline
    from setar.training.trainer import find_device

    pipe = load_pipeline(model, str(find_device(device)), sampling)
    if classes.strip() == "?":
        typer.echo("\n".join(pipe.classes))
        return
    names = [part.strip() for part in classes.split(",") if part.strip()]
    ids = [pipe.class_id(name) for name in names or _spread(pipe)]
    _prepare(out, animate, each)
    frames = Frames(pipe, ids, count)
    began = time.perf_counter()
    with set_bar(len(ids) * count, frames.add if animate else None) as on_set:
        images = pipe(ids, seed=seed, count=count, on_set=on_set)
    seconds = time.perf_counter() - began
    title = f"{pipe.defaults.recipe}   {len(images)} images, {seconds:.1f} s"
    class_rows(pipe, ids, images, count, title, seed).save(out)
    typer.echo(f"{len(images)} images in {seconds:.1f} s -> {out}")
    if animate:
        _save_frames(frames, animate)
    if each:
        names = [pipe.classes[ids[index // count]] for index in range(len(images))]
        save_each(images, names, seed, each)


def _spread(pipe: "Pipeline") -> list[str]:
    """Six classes from all over the list."""
    shown = min(6, len(pipe.classes))
    return [pipe.classes[i * len(pipe.classes) // shown] for i in range(shown)]


def _prepare(out: Path, animate: Path | None, each: Path | None) -> None:
    prepare_picture(out)
    if animate:
        prepare_picture(animate, {".gif"})
    if each:
        prepare_folder(each)


def _save_frames(frames: Frames, file: Path) -> None:
    from setar.pictures import save_animation

    save_animation(frames.pictures, file)
    typer.echo(f"{len(frames.pictures)} steps -> {file}")
