"""Images that are decoded when a batch asks for them; a folder of them, a subfolder per class."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from copy import copy
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from setar.data.crops import RESIZES, Resize, check_resize
from setar.data.decoding import (
    ENDINGS,
    MAX_PIXELS,
    opened,
    opened_as,
    to_rgb,
    upright_size,
)
from setar.data.decoding import check_image as check_image  # also found here
from setar.data.decoding import open_image as open_image
from setar.files import MAX_CHARACTERS, is_text, open_regular
from setar.numbers import as_whole
from setar.registry import one_line, printable, quoted

CLASS_NAMES = "classes.tsv"
"""A file beside the folders of the classes that says what these are called: a line each, with the
folder, a tab and the name. Others are called as their folders are."""

TEXTS = {".txt", ".jsonl"}
"""What the names of files with captions end in."""


class Images(Protocol):
    """Pictures to train on, whether they lie in one tensor or in files."""

    def __len__(self) -> int: ...

    def __getitem__(self, items: Tensor, /) -> Tensor:
        """The pictures with these indices ``[B]``: uint8 ``[B, 3, H, W]``."""
        ...


Size = int | tuple[int, ...]
"""Of pictures in pixels: the side of a square, or height and width."""


def height_and_width(size: Size) -> tuple[int, int]:
    """Both sides of a size; ValueError unless there are one or two whole numbers of at least 1.

    Together they may have `setar.data.decoding.MAX_PIXELS` pixels, as pictures in files.
    """
    pair = size if isinstance(size, tuple | list) else (size, size)
    sides = [as_whole(side) or 0 for side in pair]
    if len(sides) != 2 or min(sides) < 1 or sides[0] * sides[1] > MAX_PIXELS:
        given = list(size) if isinstance(size, tuple) else size
        raise ValueError(
            f"`image_size` (={given!r:.60}) must be at least 1, or [height, width] of that, "
            f"and at most {MAX_PIXELS} pixels"
        )
    return sides[0], sides[1]


class MirroredImages:
    """Images followed by their mirror images."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return 2 * len(self.images)

    def __getitem__(self, items: Tensor) -> Tensor:
        """The pictures with these indices ``[B]``; the second half is mirrored."""
        batch = self.images[items % len(self.images)]
        mirrored = (items >= len(self.images))[:, None, None, None]
        return torch.where(mirrored, batch.flip(-1), batch)


class ChosenImages:
    """Some of other images: those with the indices ``items`` ``[n]``, in this order."""

    def __init__(self, images: Images, items: Tensor) -> None:
        self.images, self.items = images, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, items: Tensor) -> Tensor:
        """The pictures with these indices ``[B]``: uint8 ``[B, 3, H, W]``."""
        return self.images[self.items[items]]

    def at(self, size: Size) -> "ChosenImages":
        """The same as centre crops of another size, of images that can be cropped anew."""
        return ChosenImages(self.images.at(size), self.items)  # type: ignore[attr-defined]

    def header(self, item: int) -> tuple[int, int, str]:
        """Width and height in pixels and Pillow's mode of an image that has a header."""
        return self.images.header(int(self.items[item]))  # type: ignore[attr-defined]


class EncodedImages:
    """Images that are decoded when a batch asks for them, as centre crops or whole.

    A kind of them says how many there are, what each is called, and what its bytes are.

    Args:
        size: side of square crops in pixels, or their (height, width); None leaves the images
            whole, which must then be of one size.
        resize: how crops are made: a name of `setar.data.crops.RESIZES`.

    Raises:
        ValueError: the size is below 1, or there is no such resize.
    """

    def __init__(self, size: Size | None, resize: Resize) -> None:
        self.size = None if size is None else height_and_width(size)
        check_resize(resize)
        self.resize: Resize = resize

    def __len__(self) -> int:
        raise NotImplementedError

    def at(self, size: Size) -> Self:
        """The same as centre crops of another size."""
        other = copy(self)
        other.size = height_and_width(size)
        return other

    def title(self, item: int) -> str:
        """What messages call an image."""
        raise NotImplementedError

    def start(self, item: int) -> BinaryIO:
        """The bytes of an image; ValueError, the end of a sentence, if they cannot be read."""
        raise NotImplementedError

    def header(self, item: int) -> tuple[int, int, str]:
        """Width and height in pixels, upright, and Pillow's mode; ValueError as of a batch."""
        with self._opened(item) as image:
            return *upright_size(image), image.mode

    def __getitem__(self, items: Tensor) -> Tensor:
        """The images with these indices ``[B]``: uint8 ``[B, 3, height, width]``.

        Raises:
            ValueError: one of them cannot be read, see `setar.data.decoding.open_image`.
        """
        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(self._read, items.tolist())))

    def _opened(self, item: int) -> AbstractContextManager[Image.Image]:
        return opened_as(self.title(item), partial(self.start, item))

    def _read(self, item: int) -> Tensor:
        with self._opened(item) as encoded:
            image = _as_tensor(encoded, self.size, self.resize)
        size = (image.shape[2], image.shape[1])
        if self.size is None and size != self._whole_size:
            sizes = f"{self.title(item)} has {size}, {self.title(0)} {self._whole_size}"
            raise ValueError(f"whole images must be of one (width, height): {sizes}")
        return image

    @cached_property
    def _whole_size(self) -> tuple[int, int]:
        with self._opened(0) as encoded:
            _, height, width = _as_tensor(encoded, None, self.resize).shape
        return width, height


class FolderImages(EncodedImages):
    """The images below a folder, as centre crops or whole, transparent ones on white.

    Hidden files and folders, whose names begin with a dot, are left out. Links are followed, but
    not into a folder that they lie in.

    Args:
        folder: has a subfolder per class with images in it (or images only: one class).
        size: side of square crops in pixels, or their (height, width); None leaves the images
            whole, which must then be of one size.
        resize: how crops are made: a name of `setar.data.crops.RESIZES`.

    Attributes:
        files: of the images, sorted.
        labels: int64 ``[n]``.
        classes: what the subfolders are called, or `CLASS_NAMES` calls them, in the order of the
            sorted subfolders; those that differ in their Unicode form only are one.
        left_out: how many files are no images, by what their names end in, in lower case; those
            that are no regular files at all stand under ``special``.
        texts: paths, below the folder, of those that may hold captions.
        empty: names of subfolders without any image, which are no classes.

    Raises:
        ValueError: the size is below 1, there is no such resize, the folder is missing, unreadable
            or holds no image, or a class's name cannot be printed; a line of `CLASS_NAMES` is none.
    """

    def __init__(self, folder: Path, size: Size | None, resize: Resize = "lanczos") -> None:
        super().__init__(size, resize)
        self.folder = Path(folder)
        if not os.path.isdir(folder):
            what = "is no folder" if os.path.exists(folder) else "does not exist"
            raise ValueError(f"{printable(folder)} {what}")
        self.files, self.texts, self.left_out = list[Path](), list[str](), Counter[str]()
        for file, regular in sorted(_files_below(self.folder)):
            if file == self.folder / CLASS_NAMES:
                continue
            ending = file.suffix.lower() if regular else "special"
            if ending in ENDINGS:
                self.files.append(file)
            else:
                self.left_out[ending] += 1
            if ending in TEXTS:
                self.texts.append(file.relative_to(self.folder).as_posix())
        if not self.files:
            endings = ", ".join(sorted(ENDINGS))
            raise ValueError(f"{printable(folder)} holds no image ({endings})")
        depth, own = len(self.folder.parts), self.folder.resolve().name or "images"
        self.classes, self.labels = classes_of(
            file.parts[depth] if len(file.parts) > depth + 1 else own for file in self.files
        )
        called = _class_names(self.folder / CLASS_NAMES)
        self.classes = tuple(called.get(name, name) for name in self.classes)
        folders = {name for name in os.listdir(folder) if os.path.isdir(self.folder / name)}
        filled = {file.parts[depth] for file in self.files}
        self.empty = tuple(sorted(name for name in folders - filled if name[0] != "."))

    def __len__(self) -> int:
        return len(self.files)

    def title(self, item: int) -> str:
        """The image's file, printable."""
        return printable(self.files[item])

    def start(self, item: int) -> BinaryIO:
        """The image's file, opened."""
        return open_regular(self.files[item])


def read_image(
    file: Path, size: tuple[int, int] | None = None, resize: Resize = "lanczos"
) -> Tensor:
    """A file as uint8 ``[3, H, W]``: whole, or its centre at (height, width) pixels.

    Raises:
        ValueError: the file cannot be read, see `setar.data.decoding.open_image`.
    """
    check_resize(resize)
    with opened(file) as encoded:
        return _as_tensor(encoded, size, resize)


def _as_tensor(encoded: Image.Image, size: tuple[int, int] | None, resize: Resize) -> Tensor:
    """An opened picture as uint8 ``[3, H, W]``."""
    image = to_rgb(encoded)
    if size is not None:
        image = RESIZES[resize](image, *size)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def _files_below(folder: Path) -> Iterator[tuple[Path, bool]]:
    """All that lies below a folder and is neither a folder nor hidden: is it a regular file?

    Links to folders are followed, but not back into one that they lie in, which would never end.
    """
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while waiting:
        here, above = waiting.pop()
        try:
            state, entries = os.stat(here), list(os.scandir(here))
        except OSError as error:
            raise ValueError(
                f"cannot read the folder {printable(here)}: {error.strerror}"
            ) from error
        if (state.st_dev, state.st_ino) in above:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _holds(entry.is_dir):
                waiting.append((here / entry.name, above | {(state.st_dev, state.st_ino)}))
            else:
                yield here / entry.name, _holds(entry.is_file)


def _holds(asked: Callable[[], bool]) -> bool:
    """The answer of an entry of a folder; False where there is none, as of a link to itself."""
    try:
        return asked()
    except OSError:
        return False


def by_ending(left_out: Mapping[str, int]) -> list[str]:
    """How many files of each ending are no images, in words such as ``3 .txt``."""
    return [f"{count} {ending or 'without'}" for ending, count in left_out.items()]


def classes_of(folders: Iterable[str]) -> tuple[tuple[str, ...], Tensor]:
    """The classes of pictures in these folders, sorted, and the label of each, int64 ``[n]``.

    Raises:
        ValueError: a name cannot be printed.
    """
    names = [_class_name(folder) for folder in folders]
    classes = tuple(sorted(set(names)))
    ids = {name: index for index, name in enumerate(classes)}
    return classes, torch.tensor([ids[name] for name in names])


def _class_names(file: Path) -> dict[str, str]:
    """What folders of classes are called, by their names; empty if there is no such file."""
    called = dict[str, str]()
    if not os.path.lexists(file):
        return called
    try:
        with open_regular(file) as stream:
            for number, line in enumerate(iter(lambda: stream.readline(MAX_CHARACTERS), b""), 1):
                folder, _, name = line.decode("utf-8-sig").strip("\r\n").partition("\t")
                if not (folder or name):
                    continue
                if not (folder and name.strip() and is_text(name)):
                    rule = "must be a folder, a tab and what its class is called"
                    raise ValueError(f"line {number} (={quoted(f'{folder} {name}')}) {rule}")
                called[unicodedata.normalize("NFC", folder)] = name.strip()
    except ValueError as error:
        raise ValueError(f"{printable(file)}: {one_line(error)}") from error
    return called


@lru_cache
def _class_name(folder: str) -> str:
    """The name of a class whose images lie in a folder of this name.

    One name can be spelt with letters and accents joined or apart, which nobody sees: they are one.
    """
    if not is_text(folder):
        raise ValueError(
            f"the folder '{printable(folder)}' cannot be the name of a class: "
            "it holds bytes that are no text, or control characters"
        )
    return unicodedata.normalize("NFC", folder)
