"""Pictures from files: which formats, how large, and how any of them becomes RGB.

Every picture that setar opens comes through here, whoever made it. What the file holds decides its
format, whatever its name ends in, and only formats are tried whose decoders are safe: none starts a
program (as EPS does), and none needs far more memory than the picture has pixels (as JPEG 2000
does). The size is checked before anything is decoded.
"""

import ctypes
import logging
import os
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from setar.files import open_regular
from setar.registry import one_line, printable, quoted

try:
    from PIL.AvifImagePlugin import SUPPORTED as AVIF
except ImportError:  # before Pillow 11.3
    AVIF = False

FORMATS = (*(["AVIF"] if AVIF else []), "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names; of moving and of several pictures, the first counts."""
ENDINGS = {
    *((".avif",) if AVIF else ()),
    *(".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
"""What the names of such files end in, in any case."""

MAX_PIXELS = 50_000_000
"""Pixels of a picture at most, unless the environment's ``SETAR_MAX_PIXELS`` says otherwise; half
as many of formats whose pixels count double."""
ALLOWING = "SETAR_MAX_PIXELS=... allows more"
COPIES = {"AVIF": 2, "WEBP": 2}
"""Formats whose decoders hold the picture several times, and how often their pixels count."""
LARGE = 2**22
"""Pixels from which on a picture's memory is given back at once. The C library keeps what a thread
has freed for that thread, which is gigabytes for several threads with large pictures."""
BAND = 2**20
"""Pixels that are converted at once, so that conversions need no memory to speak of."""
TAIL = 4096
"""Bytes at the end of a file in which the mark of its end is looked for."""

ORIENTATION = 0x0112
"""EXIF's tag of how the camera was held."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(file: Path) -> Image.Image:
    """A picture from a file, as a viewer shows it: RGB, upright, transparency on white.

    Raises:
        ValueError: the file is missing, no regular file, of no format in `FORMATS`, larger than
            `max_pixels`, or damaged; one line that begins ``cannot read the image``.
    """
    with opened(file) as image:
        return to_rgb(image)


def check_image(file: Path) -> None:
    """Raise the ValueError of `open_image`, as far as it can be known without decoding.

    Files that are missing, cut off, too large or no pictures are found at the cost of reading
    their first and last bytes. Damage in the middle is only found by `open_image`.
    """
    with opened(file) as image:
        if not _is_whole(partial(open_regular, file)):
            image.load()


def max_pixels() -> int:
    """How many pixels a picture may have; ValueError unless ``SETAR_MAX_PIXELS`` is a number."""
    text = os.environ.get("SETAR_MAX_PIXELS") or str(MAX_PIXELS)
    if not re.fullmatch(r"[1-9]\d{0,11}", text, re.ASCII):
        raise ValueError(
            f"SETAR_MAX_PIXELS (={quoted(text)}) must be a number such as {MAX_PIXELS}"
        )
    return int(text)


def opened(file: Path) -> AbstractContextManager[Image.Image]:
    """A picture in a file: `opened_as` of it."""
    return opened_as(printable(file), partial(open_regular, file))


@contextmanager
def opened_as(name: str, start: Callable[[], BinaryIO]) -> Iterator[Image.Image]:
    """A picture whose header is read and whose size is allowed, to be decoded inside.

    Whatever decoding raises inside becomes one line. Threads wait here, so that together they
    never decode more than `max_pixels`.

    Args:
        name: what messages call it.
        start: opens its bytes, anew each time; raises ValueError, the end of a sentence, if it
            cannot.
    """
    try:
        with start() as stream:
            _silence_pillow()
            _check_size(*_webp_size(stream.read(30)), "WEBP")
            stream.seek(0)
            with Image.open(stream, formats=FORMATS) as image:
                pixels = _check_size(*image.size, image.format or "")
                _check_tiles(image)
                with _decoding.room_for(pixels):
                    yield image
                    image.close()
                    if pixels > LARGE:
                        _free_memory()(0)  # before the next picture takes some
    except Exception as error:  # decoders raise errors of any class
        raise ValueError(f"cannot read the image {name}: {_cause(error, start)}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as a viewer shows it: RGB, upright by its EXIF tag, transparency on white.

    Grey of 16 bits is scaled to 8. Of the modes I and F, which say nothing of their range, the
    largest level decides: white is 255 or 65535, or 1 for floats up to 1.

    Raises:
        ValueError: there are no pixels, or grey levels are negative, above 65535 or not finite.
    """
    _scale_transparency(image)
    image.load()
    if 0 in image.size:
        raise ValueError("it has no pixels")
    white = _white_level(image)
    negative = white and _tag(image, 262) == 0  # which Pillow heeds for 8 bits only
    picture = Image.new("RGB", image.size)
    for top, band in _bands(image):
        part = _narrowed(band, white) if white else _on_white(band)
        picture.paste(ImageOps.invert(part) if negative else part, (0, top))
    turn = _turn(image)
    return picture if turn is None else picture.transpose(turn)


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The picture in bands of whole rows, each with the row of its top."""
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(band: Image.Image) -> Image.Image:
    """A band of at most 8 bits a channel as RGB."""
    if band.mode == "La":  # which Pillow converts to nothing else
        band = band.convert("LA")
    if not band.has_transparency_data:
        return band.convert("RGB")
    level = band.info.get("transparency")
    if isinstance(level, tuple) and max(level) > 255:  # of 16 bits, while the band has 8 of them
        band.info["transparency"] = tuple(part >> 8 for part in level)
    band = band.convert("RGBA")
    white = Image.new("RGBA", band.size, "white")
    return Image.alpha_composite(white, band).convert("RGB")


def _scale_transparency(image: Image.Image) -> None:
    """PNG's grey of 2 or 4 bits is decoded to 8, while its transparent level stays as it was."""
    level, tiles = image.info.get("transparency"), getattr(image, "tile", None)
    scale = {"L;2": 85, "L;4": 17}.get(str(tiles[0][3])) if tiles else None
    if scale and isinstance(level, int) and level * scale <= 255:
        image.info["transparency"] = level * scale


def _white_level(image: Image.Image) -> int:
    """The level that is white in grey of more than 8 bits; 0 for all other pictures."""
    if image.mode.startswith("I;16"):
        return 4095 if _tag(image, 258) in (12, (12,)) else 65535
    if image.mode not in ("I", "F"):
        return 0
    with np.errstate(all="ignore"):  # of values that are no numbers
        levels = map(np.asarray, (band for _, band in _bands(image)))
        lows, highs = np.array([(one.min(), one.max()) for one in levels], dtype=float).T
        lowest, highest = lows.min(), highs.max()
    if not (lowest >= 0 and highest <= 65535):  # nor is it NaN, which compares with nothing
        raise ValueError(f"its grey levels must be from 0 to 65535, not {lowest:g} to {highest:g}")
    if image.mode == "F" and highest <= 1:
        return 1
    wide = image.mode == "I" and image.format in ("PNG", "PPM")  # which Pillow scales to 16 bits
    return 255 if highest <= 255 and not wide else 65535


def _narrowed(band: Image.Image, white: int) -> Image.Image:
    """A band of grey with this level of white as RGB of 8 bits."""
    levels = np.asarray(band)
    exact = white == 65535 and band.mode != "F"
    grey = levels // 257 if exact else np.rint(levels * (255 / white))
    transparent = band.info.get("transparency")
    if isinstance(transparent, int):
        grey = np.where(levels == transparent, 255, grey)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _tag(image: Image.Image, number: int) -> Any:
    """A tag of a TIFF file; None where there is none."""
    return getattr(image, "tag_v2", {}).get(number)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to turn a picture upright, as its EXIF tag says; None where there is none to read."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing of the picture
        return None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in pixels once it is turned as its EXIF tag says."""
    turn, (width, height) = _turn(image), image.size
    sideways = (
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
    )
    return (height, width) if turn in sideways else (width, height)


# Before decoding.


def _silence_pillow() -> None:
    """Keep Pillow's warnings off the console, and its own limit below ours out of the way."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    _silence_libraries()
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels() > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels()


@cache
def _silence_libraries() -> None:
    """Keep what Pillow logs, and what libtiff prints of damaged files, off the console."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(AttributeError, OSError):  # where libtiff cannot be reached, it prints
        libraries = ctypes.CDLL(Image.core.__file__)
        libraries.TIFFSetErrorHandler(None)
        libraries.TIFFSetWarningHandler(None)


def _check_size(width: int, height: int, kind: str) -> int:
    """How many pixels a picture counts as; ValueError if that is too many."""
    copies, limit = COPIES.get(kind, 1), max_pixels()
    if width * height * copies > limit:
        raise ValueError(
            f"{width}x{height} pixels are more than the {limit // copies} that are allowed "
            f"({ALLOWING})"
        )
    return width * height * copies


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height in the first 30 bytes of a WebP file, (0, 0) for any other.

    Pillow's decoder takes the memory for both as soon as it is made.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return 0, 0
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _check_tiles(image: Image.Image) -> None:
    """A TIFF file's tiles can be larger than its picture, and are decoded whole."""
    width, height = _tag(image, 322), _tag(image, 323)
    if isinstance(width, int) and isinstance(height, int):
        _check_size(width, height, "TIFF")


class _Decoding:
    """Pixels that are being decoded in all threads."""

    def __init__(self) -> None:
        self.changed, self.pixels = threading.Condition(), 0

    @contextmanager
    def room_for(self, pixels: int) -> Iterator[None]:
        """Wait until these pixels fit beside the others, or are alone."""
        with self.changed:
            self.changed.wait_for(lambda: self.pixels == 0 or self.pixels + pixels <= max_pixels())
            self.pixels += pixels
        try:
            yield
        finally:
            with self.changed:
                self.pixels -= pixels
                self.changed.notify_all()


_decoding = _Decoding()


@cache
def _free_memory() -> Callable[[int], object]:
    """The function of the GNU C library that gives freed memory back; elsewhere one of nothing."""
    with suppress(AttributeError, OSError, TypeError):
        return ctypes.CDLL(None).malloc_trim
    return lambda _: None


# After it failed.


def _cause(error: Exception, start: Callable[[], BinaryIO]) -> str:
    """Why a picture cannot be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        cause = f"it is empty, damaged, or none of {', '.join(FORMATS)}"
    elif isinstance(error, Image.DecompressionBombError):
        cause = f"it has more than the {max_pixels()} pixels that are allowed ({ALLOWING})"
    elif isinstance(error, MemoryError):
        cause = "there is not enough memory"
    else:
        cause = one_line(error)[:300] or type(error).__name__
    cut = "truncated" not in cause.lower() and _is_whole(start) is False
    return f"{cause}; the file is truncated" if cut else cause


def _is_whole(start: Callable[[], BinaryIO]) -> bool | None:
    """Whether a file ends as its format does; False if it was cut off, None if that is unknown."""
    try:
        stream = start()
    except ValueError:
        return None
    with stream:
        head, length = stream.read(12), stream.seek(0, os.SEEK_END)
        stream.seek(max(0, length - TAIL))
        tail = stream.read(TAIL)
    if head.startswith(b"\x89PNG"):
        return b"IEND\xaeB`\x82" in tail
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"GIF8"):
        return tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 <= length
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:6], "little") <= length
    return None
