"""Text in pictures: in any script, in one line, and no wider than there is room.

The font that comes with Pillow writes Latin. For all else a font of the system is looked for that
has every letter of the text; without one, letters are written as codes such as U+732B. Nothing is
ever drawn as a box.
"""

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

LONGEST = 400
"""Letters of a text that are looked at."""
FONTS = 400
"""Fonts of the system that are tried at most, which takes about a second."""
PREFERRED = ("notosanscjk", "notosans", "dejavusans", "arialuni", "pingfang", "msyh", "segoeui")
"""Beginnings of the names of files whose fonts have many letters; they are tried first."""
NOWHERE = "\U0010ffff"
"""No letter: what a font draws for it, it draws for all letters that it lacks."""


class Label(NamedTuple):
    """Text as it can be drawn, and the font that draws it."""

    text: str
    font: Font

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.font.getlength(self.text))


def label(text: str, size: float, width: float = float("inf")) -> Label:
    """A text of any script as one line that can be drawn.

    Args:
        text: control characters become spaces.
        size: of the font, in pixels.
        width: what is wider, in pixels, is shortened and ends in dots.
    """
    words, font = _drawable(_one_line(text), size)
    if font.getlength(words) <= width:
        return Label(words, font)
    fits, rest = 0, len(words)  # the longest beginning that fits with its dots
    while rest > fits:
        middle = (fits + rest + 1) // 2
        if font.getlength(f"{words[:middle].rstrip()}...") <= width:
            fits = middle
        else:
            rest = middle - 1
    return Label(f"{_whole_words(words, fits)}...", font)


def _whole_words(text: str, most: int) -> str:
    """The first `most` letters at most; a word is cut only if it is half of them or more."""
    start = text[:most]
    if text[most] != " " and (end := start.rfind(" ")) >= most / 2:
        start = start[:end]
    return start.rstrip(" ,;")


def _one_line(text: str) -> str:
    """Accents joined to their letters, without what has no shape, at most `LONGEST` letters."""
    kinds = ((letter, unicodedata.category(letter)) for letter in text[:LONGEST])
    shaped = "".join(" " if kind[0] in "CZ" else one for one, kind in kinds if kind != "Cf")
    return unicodedata.normalize("NFC", " ".join(shaped.split()))


@lru_cache(maxsize=1024)
def _drawable(text: str, size: float) -> tuple[str, Font]:
    """The text, or its transliteration, with a font that has all its letters."""
    default = _default(size)
    missing = {letter for letter in text if not _has(default, letter)}
    if not missing:
        return text, default
    for file in _system_fonts():
        font = _load(file, size)
        if font is not None and all(_has(font, letter) for letter in text):
            return text, font
    return "".join(
        _spelt(letter, default) if letter in missing else letter for letter in text
    ), default


def _spelt(letter: str, font: Font) -> str:
    """A letter in those that a font has: without its accents if that is enough, else its code."""
    plain = "".join(
        part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part)
    )
    if plain and all(_has(font, part) for part in plain):
        return plain
    return f"[U+{ord(letter):04X}]"


@lru_cache(maxsize=2**14)  # a sheet has thousands of labels, of a few letters
def _has(font: Font, letter: str) -> bool:
    """Whether a font has a shape for a letter."""
    return letter == " " or _shape(font, letter) != _shape(font, NOWHERE)


def _shape(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    """Size and pixels of a letter as a font draws it."""
    _, _, right, bottom = font.getbbox(letter)
    canvas = Image.new("L", (int(right) + 1, int(bottom) + 1))
    ImageDraw.Draw(canvas).text((0, 0), letter, 255, font)
    return canvas.size, canvas.tobytes()


_default = lru_cache(maxsize=64)(ImageFont.load_default)


@lru_cache(maxsize=64)
def _load(file: Path, size: float) -> Font | None:
    try:
        return ImageFont.truetype(str(file), size)
    except Exception:  # damaged, or bitmaps of other sizes
        return None


@cache
def _system_fonts() -> tuple[Path, ...]:
    """Files of fonts, those with most letters first, upright ones before others."""

    def rank(file: Path) -> tuple[int, bool, str]:
        name = file.stem.lower().replace("-", "").replace(" ", "")
        known = [name.startswith(start) for start in PREFERRED]
        styled = any(style in name for style in ("bold", "italic", "oblique", "mono", "serif"))
        return (known.index(True) if any(known) else len(known), styled, name)

    return tuple(sorted(_font_files(), key=rank)[:FONTS])


def _font_files() -> Iterator[Path]:
    home = Path.home()
    folders = {
        "win32": [Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts")],
        "darwin": [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"],
    }.get(sys.platform, [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".fonts"])
    for folder in [*folders, home / ".local/share/fonts"]:
        for file in folder.rglob("*"):
            if file.suffix.lower() in (".ttf", ".otf", ".ttc") and file.is_file():
                yield file
