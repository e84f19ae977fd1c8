"""What a page is given while pictures are made, and the files of those that are finished."""

import shutil
from collections import deque
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from setar.pictures.animations import save_animation
from setar.pictures.memory import Memory, chunks
from setar.pictures.png import Picture
from setar.pictures.sheets import tile, to_pil

KEPT = 400
"""Results whose files are kept; a page that still shows older ones cannot download them again."""
ENLARGED = 128
"""Pixels across each picture of an animation, at least."""


class Result(NamedTuple):
    """Pictures, finished or not."""

    pictures: Sequence[Image.Image | Path]
    """Files of finished ones."""
    captions: Sequence[str]
    words: str
    """How far it is, and what it took."""
    animation: Path | None = None

    @property
    def done(self) -> bool:
        """Whether the pictures are finished."""
        return all(isinstance(picture, Path) for picture in self.pictures)


class Desk:
    """The folder that a studio writes to: a folder of its own for each result, of which the oldest
    are removed. Nothing else is ever written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._numbers = folder, count()
        self._results: deque[Path] = deque()
        self._changing = Lock()

    def place(self) -> Path:
        """A new empty folder."""
        with self._changing:
            place = self.folder / f"result-{next(self._numbers)}"
            place.mkdir(parents=True)
            self._results.append(place)
            old = self._results.popleft() if len(self._results) > KEPT else None
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        return place

    def save(self, pictures: Sequence[Image.Image], names: Sequence[str]) -> list[Path]:
        """PNG files of pictures, in a folder of their own."""
        place = self.place()
        files = [place / f"{name}.png" for name in names]
        for picture, file in zip(pictures, files, strict=True):
            picture.save(file)
        return files


def told(picture: Image.Image, memory: Memory) -> Picture:
    """A picture that says what made it in the file too that Gradio writes of it."""
    made = Picture.of(picture, memory)
    assert made.memory is not None
    made.info.update(chunks(made.memory))  # Gradio makes text chunks of these, and of nothing else
    return made


def animated(frames: Sequence[Sequence[Image.Image]], file: Path) -> Path | None:
    """A GIF of frames of several pictures each, side by side; None of a single frame."""
    if len(frames) < 2:
        return None
    save_animation([side_by_side(pictures) for pictures in frames], file)
    return file


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size as one, in up to four columns, enlarged where they are small."""
    arrays = [np.asarray(picture.convert("RGB")) for picture in pictures]
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    scale = max(1, -(-ENLARGED // images.shape[-1]))
    return to_pil(tile(images, min(4, len(images)), scale)[None])[0]
