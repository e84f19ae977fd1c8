"""Part of a picture made anew: what is painted over, or what lies around it."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from threading import Event
from typing import Any

from PIL import Image, ImageChops

from setar.numbers import whole
from setar.pictures.masks import Task, outpaint, prepare
from setar.pipeline import Pipeline
from setar.web.drawing import shown
from setar.web.limits import check_work, margins_of, number, read_picture, size_of
from setar.web.results import Desk, Result
from setar.web.shelf import Shelf
from setar.web.wishes import Wish

SIDES = ("left", "top", "right", "bottom")
THUMBNAIL = 320
"""Pixels across the picture in a frame, at most."""
MOST_SEAM = 64
"""Pixels over which the picture turns into what is made."""
MOST_LAYERS = 8
"""Of a painting."""


def edit(
    shelf: Shelf,
    desk: Desk,
    wish: Wish,
    picture: Any,
    margins: Sequence[Any],
    seam: Any,
    size: Any,
    stop: Event,
) -> Iterator[Result]:
    """Several results, as they appear; the last are files.

    Args:
        shelf: of models.
        desk: where files are written.
        wish: what is asked.
        picture: a painting, as of `task_of`.
        margins: percent of the result to make at the left, top, right and bottom.
        seam: pixels around the mask over which the picture turns into what is made.
        size: (height, width) of the results as text, empty: the model's own.
        stop: ends it.

    Raises:
        ValueError: something cannot be done.
        Stopped: of `setar.web.watched`.
    """
    pipe = shelf.pipe(wish.model)
    asked, options = wish.asked(pipe), wish.options(pipe)
    wide = whole("seam", number(seam), 0, MOST_SEAM, "pictures here are small")
    task = task_of(pipe, picture, margins, size)
    check_work(pipe, (task.image.height, task.image.width), options["count"])
    make = partial(_redrawn, pipe, task, asked, {"seam": wide, **options})
    yield from shown(make, desk, options["seed"], f"asked for {wish.named(pipe)}", stop)


def _redrawn(
    pipe: Pipeline, task: Task, asked: Any, options: Mapping[str, Any], on_set: Any
) -> Sequence[Image.Image]:
    return pipe.redraw(task, asked, on_set=on_set, **options)


def frame(shelf: Shelf, model: Any, picture: Any, size: Any) -> dict[str, Any]:
    """What a frame shows of a painting, in the shape of the result, see `framed`."""
    shape = size_of(shelf.pipe(model), size)
    background = picture.get("background") if isinstance(picture, Mapping) else None
    return framed(read_picture(background) if background else None, shape)


def framed(picture: Image.Image | None, size: tuple[int, int]) -> dict[str, Any]:
    """What a page shows in a frame: the picture that is kept, small, as a data URL.

    Args:
        picture: None: there is none yet.
        size: (height, width) of the result.
    """
    shown = {"picture": "", "width": size[1], "height": size[0]}
    if picture is not None:
        small, stream = picture.copy(), BytesIO()
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        small.save(stream, "PNG")
        shown["picture"] = "data:image/png;base64," + b64encode(stream.getvalue()).decode()
    return shown


def task_of(pipe: Pipeline, picture: Any, margins: Sequence[Any], size: Any) -> Task:
    """What is to be made anew of a painting.

    Args:
        pipe: of the model that shall do it.
        picture: ``{"background": FILE, "layers": [FILE, ...]}``: a picture, and layers that are
            painted over it. Where a layer is not transparent, the picture is made anew; of one
            without transparency, where it is light.
        margins: as of `edit`; if there are any, the whole picture is kept and moved inside them.
        size: as of `edit`.

    Raises:
        ValueError: nothing is to be made, or a file or a number is wrong.
    """
    if not isinstance(picture, Mapping) or not picture.get("background"):
        raise ValueError("choose a picture first")
    image, shape = read_picture(picture["background"]), size_of(pipe, size)
    around = margins_of(margins, shape)
    canvas = (shape[1], shape[0])
    if any(around):
        return outpaint(image, canvas, around)
    mask = painted(picture.get("layers") or (), image.size)
    if mask.getbbox() is None:
        raise ValueError("paint over the part to make anew, or choose how much to make around it")
    return prepare(image, mask, canvas)


def painted(layers: Any, size: tuple[int, int]) -> Image.Image:
    """A mask (L) of ``size``, 255 wherever a layer is painted on; ValueError if one is wrong."""
    if not isinstance(layers, list | tuple) or len(layers) > MOST_LAYERS:
        raise ValueError(f"a painting has at most {MOST_LAYERS} layers")
    mask = Image.new("L", size)
    for file in layers:
        layer = read_picture(file, "RGBA")
        alpha = layer.getchannel("A")
        if alpha.getextrema()[0] == 255:  # a mask that somebody drew elsewhere
            alpha = layer.convert("L").point([255 * (level > 127) for level in range(256)])
        if alpha.size != size:
            alpha = alpha.resize(size, Image.Resampling.NEAREST)
        mask = ImageChops.lighter(mask, alpha.point([255 * (level > 0) for level in range(256)]))
    return mask
