"""Pictures that remember what made them, and the one place that writes PNG files."""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from setar.pictures.memory import Memory, chunks


class Picture(Image.Image):
    """A PIL image that remembers what made it, and says so in PNG files.

    Whatever Pillow makes of it (a crop, a copy, another size) is a plain image without memory; and
    if its own pixels are changed in place, they are no longer what was made, and nothing is said.

    >>> images = pipe("cat-face", seed=7)
    >>> images[0].save("cat.png")  # and `setar sample --like cat.png` makes it again

    Attributes:
        memory: None of one that Pillow made by itself.
    """

    memory: Memory | None = None

    @classmethod
    def of(cls, image: Image.Image, memory: Memory) -> "Picture":
        """An image with what made it; its pixels are summed up, so that changes are noticed."""
        picture = cls()
        picture.__setstate__(image.__getstate__())
        picture.memory = replace(memory, pixels=checksum(image))
        return picture

    def __eq__(self, other: object) -> bool:
        """Whether the pixels are the same, of an image of Pillow's too."""
        if not isinstance(other, Image.Image):
            return NotImplemented
        mine, others = ((one.mode, one.size, one.tobytes()) for one in (self, other))
        return mine == others

    __hash__ = None  # type: ignore[assignment]

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """As of `PIL.Image.Image`; a PNG file gets the memory, if no ``pnginfo`` is given."""
        remembered = self.memory is not None and self.memory.pixels == checksum(self)
        if remembered and is_png(fp, format) and "pnginfo" not in params:
            params["pnginfo"] = _info(self.memory)  # type: ignore[arg-type]
        super().save(fp, format, **params)


def is_png(fp: Any, format: str | None) -> bool:
    """Whether `PIL.Image.Image.save` writes a PNG file with these arguments."""
    if format is not None:
        return format.upper() == "PNG"
    name = fp if isinstance(fp, str | Path) else getattr(fp, "name", "")
    return str(name).lower().endswith(".png")


def _info(memory: Memory) -> PngInfo:
    info = PngInfo()
    for keyword, text in chunks(memory).items():
        plain = text.encode("utf-8", "replace").decode("utf-8")
        info.add_text(keyword, plain)  # in tEXt if Latin-1 has its letters, else in iTXt
    return info


def checksum(image: Image.Image) -> str:
    """CRC-32 of an image's RGB pixels, as 8 letters."""
    return f"{zlib.crc32(image.convert('RGB').tobytes()):08x}"


def write_png(
    image: Image.Image, file: Path | BinaryIO, memory: Memory | None = None, optimize: bool = False
) -> None:
    """Write a PNG file; all that the package writes for people to look at are written here.

    Args:
        image: if it is a `Picture`, what it remembers is written too.
        file: a path, or what is open for writing.
        memory: what made it, of an image that does not say it itself.
        optimize: look for the smallest file.
    """
    picture = image if memory is None else Picture.of(image, memory)
    picture.save(file, "PNG", optimize=optimize)
