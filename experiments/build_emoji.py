"""Render the embedded emoji data set: `python experiments/build_emoji.py --out FILE`.

Source pictures are the glyphs of Noto Color Emoji, names and classes are those of Unicode's
emoji-test.txt. Every fully-qualified emoji becomes one 32x32 RGB picture on white. Dropped are

- emoji that the font cannot draw as one glyph,
- the grey family pictograms: members of the `family` subgroup without any colour,
- exact duplicates: of equal pictures a held-out one survives, otherwise the first in file order.

The same inputs give the same bytes: the archive carries no time stamps.
"""

import argparse
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
EMOJI_TEST = Path("/usr/share/unicode/emoji/emoji-test.txt")
FONT_SIZE = 109  # the only size of the font's bitmaps
CELL = 136  # side of the square that holds one 136x128 bitmap, in pixels
SIDE = 32  # side of the finished picture, in pixels
EMOJI_LINE = re.compile(r"([0-9A-F ]+?) *; fully-qualified +# \S+ E[\d.]+ (.+)")


@dataclass(frozen=True)
class Emoji:
    """One fully-qualified emoji: its code points, CLDR name, and place in the Unicode order."""

    text: str
    name: str
    group: str
    subgroup: str

    @property
    def skin_tone(self) -> bool:
        """Whether the sequence holds a skin tone modifier, U+1F3FB to U+1F3FF."""
        return any("\U0001f3fb" <= character <= "\U0001f3ff" for character in self.text)

    @property
    def split(self) -> str:
        """`heldout` for one in ten of the skin-tone emoji, chosen by their name, else `train`."""
        return "heldout" if self.skin_tone and name_hash(self.name) % 10 == 0 else "train"


def name_hash(name: str) -> int:
    """SHA-256 of the UTF-8 name as a big-endian integer: a random number that never changes."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")


def parse_emoji_test(text: str) -> Iterator[Emoji]:
    """Yield the fully-qualified emoji of an emoji-test.txt, in file order."""
    group = subgroup = ""
    for line in text.splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ").strip()
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ").strip()
        elif match := EMOJI_LINE.fullmatch(line):
            characters = "".join(chr(int(point, 16)) for point in match[1].split())
            yield Emoji(characters, match[2].strip(), group, subgroup)


def open_font(path: Path = FONT) -> ImageFont.FreeTypeFont:
    """Open the bitmap font with the shaping that joins emoji sequences into one glyph.

    Raises:
        ValueError: when this Pillow has no raqm, without which sequences fall apart.
        OSError: when the file is no font with bitmaps of size 109.
    """
    if not features.check("raqm"):
        raise ValueError("Pillow must be built with raqm to join emoji sequences; this one is not")
    return ImageFont.truetype(str(path), FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)


def is_one_glyph(text: str, font: ImageFont.FreeTypeFont) -> bool:
    """Whether the font draws the sequence inside one cell (two unjoined glyphs are wider)."""
    return 0 < font.getlength(text) <= CELL


def render(text: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Draw one emoji on white, centred in a square cell: uint8 [32, 32, 3]."""
    cell = Image.new("RGB", (CELL, CELL), "white")
    left, top, right, bottom = font.getbbox(text)
    corner = ((CELL - left - right) / 2, (CELL - top - bottom) / 2)
    ImageDraw.Draw(cell).text(corner, text, font=font, embedded_color=True)
    return np.asarray(cell.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def drop_reasons(
    emoji: list[Emoji], images: list[np.ndarray], font: ImageFont.FreeTypeFont
) -> list[str]:
    """Say for each emoji why it is dropped; an empty string keeps it."""
    reasons = [""] * len(emoji)
    seen: set[bytes] = set()
    # Held-out emoji go first, so that a duplicate is always dropped from the training side.
    for index in sorted(range(len(emoji)), key=lambda index: emoji[index].split):
        pixels = images[index].tobytes()
        if not is_one_glyph(emoji[index].text, font):
            reasons[index] = "not one glyph"
        elif emoji[index].subgroup == "family" and np.ptp(images[index], axis=-1).max() == 0:
            reasons[index] = "grey family pictogram"
        elif pixels in seen:
            reasons[index] = "exact duplicate"
        else:
            seen.add(pixels)
    return reasons


def write_archive(path: Path, emoji: list[Emoji], images: list[np.ndarray]) -> None:
    """Write the columns image, name, group, subgroup, skin_tone and split as one .npz."""
    with path.open("wb") as file:  # an open file, because numpy appends .npz to bare names
        np.savez_compressed(
            file,
            image=np.stack(images),
            name=np.array([one.name for one in emoji]),
            group=np.array([one.group for one in emoji]),
            subgroup=np.array([one.subgroup for one in emoji]),
            skin_tone=np.array([one.skin_tone for one in emoji]),
            split=np.array([one.split for one in emoji]),
        )


def build(out: Path, font_path: Path = FONT, emoji_test_path: Path = EMOJI_TEST) -> str:
    """Render all emoji into the archive `out` and return a summary of what was kept and dropped.

    Raises:
        ValueError: when an input is missing, or emoji-test.txt lists no fully-qualified emoji.
    """
    require(font_path, "fonts-noto-color-emoji")
    require(emoji_test_path, "unicode-data")
    emoji = list(parse_emoji_test(emoji_test_path.read_text(encoding="utf-8")))
    if not emoji:
        raise ValueError(f"{emoji_test_path} must list fully-qualified emoji; it has none")
    font = open_font(font_path)
    images = [render(one.text, font) for one in emoji]
    reasons = drop_reasons(emoji, images, font)
    kept = [index for index, reason in enumerate(reasons) if not reason]
    write_archive(out, [emoji[index] for index in kept], [images[index] for index in kept])
    return summary(emoji, reasons)


def require(path: Path, package: str) -> None:
    """Raise a ValueError that names the Debian package when a source file is missing."""
    if not path.is_file():
        raise ValueError(f"{path} is missing; on Debian install the package {package}")


def summary(emoji: list[Emoji], reasons: list[str]) -> str:
    """Count what was found, dropped (by reason and split) and kept (by split)."""
    found = Counter(one.split for one in emoji)
    dropped = Counter(
        (reason, one.split) for one, reason in zip(emoji, reasons, strict=True) if reason
    )
    kept = found - Counter(split for _, split in dropped.elements())
    lines = [f"found {len(emoji)}: {found['train']} train, {found['heldout']} heldout"]
    lines += [f"dropped {n} {split}: {reason}" for (reason, split), n in sorted(dropped.items())]
    lines += [f"kept {kept.total()}: {kept['train']} train, {kept['heldout']} heldout"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line: build the archive and print the summary; exit 2 with one line on bad input."""
    parser = argparse.ArgumentParser(prog="python experiments/build_emoji.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    parser.add_argument("--font", type=Path, default=FONT, help="default: %(default)s")
    parser.add_argument("--emoji-test", type=Path, default=EMOJI_TEST, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        print(build(options.out, options.font, options.emoji_test))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
