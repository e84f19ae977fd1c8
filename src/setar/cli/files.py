"""Files that commands read and write.

What cannot be read or written is refused before the work. What is written is there as a whole or
not at all, and never takes the place of another file: it gets the next free name.
"""

import filecmp
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from setar.cli.console import say

if TYPE_CHECKING:
    from PIL import Image

    from setar.pictures.memory import Memory
    from setar.pictures.png import Picture

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
"""Endings of pictures that commands write, where the installed Pillow can."""

SEE_THROUGH = ("PNG", "WEBP", "AVIF", "TIFF")
"""Formats of pictures without paper; in others they get white one."""

NAME_BYTES = 100
"""Of a class in the name of a file; file systems allow 255 for all of it."""


def prepare_picture(file: Path, endings: "Sequence[str] | None" = None) -> None:
    """Make the folder of a file whose ending must be one of ``endings``; default: pictures.

    Raises:
        ValueError: the ending is another, or the file cannot be written.
    """
    allowed = endings or _writable()
    if file.suffix.lower() not in allowed:
        raise ValueError(f"{file} must end in {' or '.join(allowed)}")
    prepare_file(file)


def _writable() -> list[str]:
    """Those of `PICTURES` that the installed Pillow can write."""
    from PIL import Image

    Image.init()
    formats = Image.registered_extensions()
    return [ending for ending in PICTURES if formats.get(ending) in Image.SAVE]


def prepare_file(file: Path) -> None:
    """Make the folder of a file; ValueError if the file cannot be written."""
    if os.path.isdir(file):
        raise ValueError(f"{file} is a folder, not a file")
    if os.path.exists(file) and not os.path.isfile(file):
        raise ValueError(f"{file} is a device or a pipe, not a file")
    if file.name in ("", "-"):
        raise ValueError(f"{str(file)!r} is no name of a file")
    prepare_folder(file.parent)
    try:  # its name may be too long, the disk full, the folder read-only
        new_name(file).unlink()
    except OSError as error:
        raise ValueError(f"cannot write {file}: {error.strerror}") from error


def prepare_folder(folder: Path) -> None:
    """Make a folder; ValueError if that is impossible or nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cannot write into the folder {folder}")


def free_folder(folder: Path) -> Path:
    """The first name of a folder under which there is nothing, or an empty folder."""
    return next(name for name in _names(folder) if not os.path.lexists(name) or _is_empty(name))


def _is_empty(folder: Path) -> bool:
    return os.path.isdir(folder) and not os.listdir(folder)


def write_new(file: Path, write: "Callable[[Path], object]") -> Path:
    """Let ``write`` write a file, which never takes the place of another.

    Args:
        file: the name that it gets if that is free.
        write: gets the path of a draft, whose ending is the same.

    Returns:
        Its name: ``sample.png``, or ``sample-2.png`` if there was such a file with other content.

    Raises:
        OSError: the disk is full, or something else is in the way; nothing is left behind then.
    """
    try:
        with TemporaryDirectory(prefix=".setar-", dir=file.parent) as beside:
            draft = Path(beside) / f"draft{file.suffix}"
            write(draft)
            if file.is_file() and filecmp.cmp(draft, file, shallow=False):
                return file
            name = new_name(file)
            os.replace(draft, name)
            return name
    except OSError as error:
        raise OSError(f"cannot write {file}: {error.strerror or error}") from error


def new_name(file: Path) -> Path:
    """The first free name of a file, taken: it is there now, empty. OSError if it cannot be."""
    for name in _names(file):
        try:
            name.open("xb").close()
        except FileExistsError:
            continue
        return name
    raise AssertionError("there is always another name")


def _names(file: Path) -> Iterator[Path]:
    yield file
    for number in itertools.count(2):
        yield file.with_name(f"{file.stem}-{number}{file.suffix}")


def save_picture(picture: "Image.Image", file: Path, memory: "Memory | None" = None) -> Path:
    """Write a picture; gives the name it got, see `write_new`.

    A PNG file says what made it: ``memory``, or what the picture itself remembers.
    """
    from PIL import Image

    from setar.pictures.png import write_png

    # Into memory first: of a disk that is full in mid-file Pillow itself may say nothing.
    Image.init()
    encoded, kind = io.BytesIO(), Image.registered_extensions()[file.suffix.lower()]
    if picture.mode == "RGBA" and kind not in SEE_THROUGH:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    if kind == "PNG":
        write_png(picture, encoded, memory)
    else:
        picture.save(encoded, kind)
    return write_new(file, lambda draft: draft.write_bytes(encoded.getvalue()))


def save_each(images: "Sequence[Picture]", folder: Path) -> None:
    """Write every image as a PNG file named after its seed and its class or text."""
    for image in images:
        memory = image.memory
        assert memory is not None, "the pipeline made it"
        save_picture(image, folder / f"{memory.seed:06d}-{file_name(memory.prompt)}.png")


def file_name(text: str) -> str:
    """A text as part of a file's name, on any file system.

    Letters of any script stay; what some system gives another meaning, or does not print, becomes a
    hyphen, and what is too long is cut.
    """
    plain = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "-" for c in text)
    encoding = sys.getfilesystemencoding()
    return plain.encode(encoding, "replace")[:NAME_BYTES].decode(encoding, "ignore").strip(" .")


def say_where(*written: tuple[str, Path]) -> None:
    """Say what was written, and under which names."""
    for what, file in written:
        say(f"{what} -> {file}".lstrip())
