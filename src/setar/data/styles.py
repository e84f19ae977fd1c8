"""The data set `styles`: emoji in six drawing styles, rendered from packages of the npm registry.

    build_styles(Path("data/styles"))

writes an ordinary captioned image folder (`setar.data.captions`): ``STYLE/name.png``,
``metadata.jsonl`` and the licences. The same packages give the same bytes at every run.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from setar.data.captions import METADATA
from setar.durable import write_text
from setar.registry import quoted

LICENSES = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Style:
    """A package of drawings."""

    version: str
    """That is taken from the registry; another one from a folder works, with other drawings."""
    words: str
    """What captions call it."""
    license: str
    """SPDX identifier."""
    author: str
    url: str
    """Where its drawings come from."""


STYLES = {
    "noto": Style(
        "1.2.9", "Noto", "Apache-2.0", "Google Inc", "https://github.com/googlefonts/noto-emoji"
    ),
    "twemoji": Style(
        "1.2.5", "Twemoji", "CC-BY-4.0", "Twitter", "https://github.com/jdecked/twemoji"
    ),
    "fluent-emoji": Style(
        "1.2.7", "Fluent", "MIT", "Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    "fluent-emoji-flat": Style(
        "1.2.6", "Fluent flat", "MIT", "Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    "noto-v1": Style(
        "1.2.5", "old Noto", "Apache-2.0", "Google Inc",
        "https://github.com/googlefonts/noto-emoji",
    ),
    "emojione": Style(
        "1.2.3", "EmojiOne", "CC-BY-4.0", "Emoji One", "https://github.com/EmojiTwo/emojitwo"
    ),
}  # fmt: skip
"""Packages ``@iconify-json/NAME`` by name."""

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
"""Of skin; two packages end their names in these alone."""

COMMON = 4
"""A pair of name and style may be held out if so many styles draw the name."""

HELD_OUT_OF = 20
"""One pair in so many is held out, by a hash."""

MAX_ICONS = 2**28
"""Bytes of a package's ``icons.json``; the largest has 104 MB."""


SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""Names of drawings in the packages."""


@dataclass
class Drawing:
    """A drawing of a package, before it is rendered."""

    style: str
    slug: str
    """Its own name, which no other drawing of the package has."""
    svg: str
    mirrored: bool = False
    names: list[str] = field(default_factory=list)
    """All its names in words, its own first."""
    name: str = ""
    """The one of them that most styles know."""
    heldout: bool = False
    """Whether it is never trained on."""


@dataclass(frozen=True)
class Built:
    """What was written."""

    drawings: Mapping[str, int]
    """How many of each style."""
    heldout: int
    left_out: Mapping[str, tuple[str, ...]]
    """Names of drawings that were left out, as ``style/name``, by the reason."""
    notes: tuple[str, ...]


def build_styles(
    out: Path,
    tarballs: Path | None = None,
    size: int = 64,
    progress: bool = False,
    names: Collection[str] | None = None,
) -> Built:
    """Render the drawings of the six packages into a captioned image folder.

    Args:
        out: folder to write; it must not exist yet.
        tarballs: folder with the packages as ``npm pack`` names them; None takes them from the
            registry.
        size: side of the pictures in pixels, 8 to 1024.
        progress: show bars.
        names: render drawings of these names alone, such as "red apple"; None renders all.

    Raises:
        ValueError: ``out`` exists, the size is out of range, or a package is missing or damaged.
        ImportError: the renderer is not installed.
    """
    if not 8 <= size <= 1024:
        raise ValueError(f"`size` (={size}) must be from 8 to 1024 pixels")
    if os.path.lexists(out):
        raise ValueError(f"{out} exists already: remove it, or write to another folder")
    _check_renderer()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".styles-", dir=out.parent) as temporary:
        beside = Path(temporary) / "styles"
        found = tarballs or _packed(Path(temporary), progress)
        drawings, left_out, notes = read_packages(found)
        drawings = [one for one in drawings if names is None or one.name in names]
        for style in STYLES:
            (beside / style).mkdir(parents=True)
        digests = _render_all(drawings, size, beside, progress)
        rows = list(_kept(drawings, digests, beside, left_out))
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        write_text(beside / METADATA, "".join(lines))
        _write_licenses(beside)
        beside.rename(out)
    counts = Counter(row["style"] for row in rows)
    heldout = sum(row["split"] == "heldout" for row in rows)
    reasons = {reason: tuple(slugs) for reason, slugs in left_out.items()}
    return Built(counts, heldout, reasons, tuple(notes))


def read_packages(folder: Path) -> tuple[list[Drawing], dict[str, list[str]], list[str]]:
    """All drawings, named and with their split; what was left out, by the reason; and notes.

    Raises:
        ValueError: a package is missing or damaged.
    """
    drawings, notes = list[Drawing](), list[str]()
    left_out: dict[str, list[str]] = defaultdict(list)
    for style in STYLES:
        tarball, note = _tarball(folder, style)
        notes += note
        drawings += read_package(tarball, style, left_out)
    settle_names(drawings)
    styles_of = _styles_by(drawings, lambda drawing: [drawing.name])
    for one in drawings:
        common = len(styles_of[one.name]) >= COMMON
        one.heldout = common and is_heldout(one.style, one.name)
    return drawings, left_out, notes


def is_heldout(style: str, name: str) -> bool:
    """Whether a hash holds out this pair, if the name is common enough (`COMMON`)."""
    digest = hashlib.sha256(f"{style}/{name}".encode()).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_OF == 0


def _packed(folder: Path, progress: bool) -> Path:
    """A folder with all packages, from the npm registry."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            "npm is not installed, which fetches the drawings: install it, or name a folder with "
            "the packages (npm pack @iconify-json/noto, ...) with --from"
        )
    packages = folder / "packages"
    packages.mkdir()
    for style, about in tqdm(STYLES.items(), "fetching", disable=not progress):
        command = [npm, "pack", "--silent", f"@iconify-json/{style}@{about.version}"]
        done = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it says nothing"]
            raise ValueError(f"{' '.join(command[1:])} failed: {lines[0][:200]}")
    return packages


def _tarball(folder: Path, style: str) -> tuple[Path, list[str]]:
    """The package of a style in a folder, and a note if it is another version than is known."""
    pattern = re.compile(rf"iconify-json-{style}-(\d[\w.-]*)\.tgz")
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    matches = {file: m[1] for file in folder.iterdir() if (m := pattern.fullmatch(file.name))}
    known = STYLES[style].version
    if not matches:
        raise ValueError(
            f"{folder} has no iconify-json-{style}-{known}.tgz: "
            f"npm pack @iconify-json/{style}@{known} makes it"
        )
    for file, version in matches.items():
        if version == known:
            return file, []
    file = max(matches, key=lambda file: _version(matches[file]))
    return file, [f"{style} is version {matches[file]}, not {known}: its drawings may differ"]


def _version(text: str) -> tuple[list[int], bool]:
    """What versions are compared by: their numbers, and that there is no word after these."""
    numbers, _, word = text.partition("-")
    return [int(number) for number in re.findall(r"\d+", numbers)], not word


def read_package(
    tarball: Path, style: str, left_out: dict[str, list[str]] | None = None
) -> list[Drawing]:
    """The drawings of a package, sorted by name, each with all the names that it has.

    Args:
        tarball: as ``npm pack`` wrote it.
        style: which package it is.
        left_out: gets what is no drawing of its own, by the reason.

    Raises:
        ValueError: it is no such package.
    """
    icons = _icons(tarball)
    width, height = icons.get("width", 16), icons.get("height", 16)
    left_out = {} if left_out is None else left_out
    found: dict[str, Drawing] = {}
    for slug, icon in sorted(icons["icons"].items()):
        if icon.get("hidden"):
            left_out.setdefault("hidden by their package", []).append(f"{style}/{slug}")
            continue
        box = [icon.get("left", 0), icon.get("top", 0)]
        box += [icon.get("width", width), icon.get("height", height)]
        found[slug] = Drawing(style, slug, _svg(icon["body"], box), names=[words(slug)])
    # A police car light is no police car of light skin: tones come together.
    toned = {
        slug for slug in found if {plain := _without_tone(slug), f"{plain}-medium"} <= found.keys()
    }
    for slug in toned:
        found[slug].names = [words(f"{slug}-skin-tone")]
    known, aliases = dict(found), icons.get("aliases", {})
    for alias in sorted(aliases, key=lambda alias: (_depth(alias, aliases), alias)):
        entry = aliases[alias]
        parent, drawing = entry["parent"], known.get(entry["parent"])
        if entry.keys() - {"parent", "hFlip"}:
            left_out.setdefault("turned or cut by their package", []).append(f"{style}/{alias}")
        elif drawing is None:
            reason = "names of drawings that are not there"
            left_out.setdefault(reason, []).append(f"{style}/{alias}")
        elif entry.get("hFlip"):
            named = f"{alias}-skin-tone" if parent in toned else alias
            mirrored = not drawing.mirrored
            found[alias] = Drawing(style, alias, drawing.svg, mirrored, [words(named)])
            known[alias] = found[alias]
        else:
            known[alias] = drawing
            if words(alias) not in drawing.names:
                drawing.names.append(words(alias))
    return [found[slug] for slug in sorted(found)]


def _depth(alias: str, aliases: Mapping[str, Any]) -> int:
    """Of how many others an alias is one, each of the next; they may go round in a circle."""
    above = list[str]()
    while (alias := aliases[alias]["parent"]) in aliases and alias not in above:
        above.append(alias)
    return len(above)


def _icons(tarball: Path) -> dict[str, Any]:
    """The content of a package's ``icons.json``."""
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            member = archive.extractfile("package/icons.json")
            if member is None:
                raise ValueError("package/icons.json is no file")
            data = member.read(MAX_ICONS + 1)
        if len(data) > MAX_ICONS:
            raise ValueError(f"package/icons.json has more than {MAX_ICONS} bytes")
        icons = json.loads(data)
        _check_icons(icons)
        return icons
    except (OSError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{tarball} is no package of drawings: {reason}") from error
    except (tarfile.TarError, RecursionError) as error:
        raise ValueError(f"{tarball} is no package of drawings: {error}") from error


def _check_icons(icons: Any) -> None:
    """ValueError, or an error of a wrong type, unless this is what an ``icons.json`` holds."""
    aliases = icons.get("aliases", {})
    for slug in (*icons["icons"], *aliases):  # they become names of files
        if not SLUG.fullmatch(slug):
            raise ValueError(f"the name {quoted(slug)} is not of lower-case words and hyphens")
    for icon in (icons, *icons["icons"].values()):
        sides = [icon.get(side, 0) for side in ("left", "top", "width", "height")]
        if not all(isinstance(side, int | float) for side in sides):
            raise ValueError(f"sides of a drawing must be numbers, not {quoted(sides)}")
    if not all(isinstance(icon["body"], str) for icon in icons["icons"].values()):
        raise ValueError("a drawing has no body")
    if not all(isinstance(entry["parent"], str) for entry in aliases.values()):
        raise ValueError("an alias has no parent")


def _svg(body: str, box: Iterable[float]) -> str:
    """A drawing of a package as a picture of its own."""
    left, top, width, height = box
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    view = f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}"'
    return f"<svg {names} {view}>{body}</svg>"


def words(slug: str) -> str:
    """A name of a package in words: ``red-apple`` is "red apple".

    The packages write flags in several ways and skin tones in the middle or at the end; here a flag
    is "flag of japan" or "rainbow flag", and a skin tone stands at the end, after a comma.
    """
    place = re.fullmatch(r"flag-(?:for-)?(?:flag-)?(?!in-)([a-z].*)", slug)
    text = slug
    if place:  # the one of a place, or one such as the "black flag"
        text = place[1] if re.search("flags?$", place[1]) else f"flag-of-{place[1]}"
    tones = re.findall(rf"(?:^|-)((?:{'|'.join(TONES[::-1])})-skin-tone)", text)
    if tones and not text.startswith(tones[0]):
        for tone in tones:
            text = text.replace(f"-{tone}", "", 1)
        listed = " and ".join(tone.removesuffix("-skin-tone") for tone in tones)
        return f"{text.replace('-', ' ')}, {listed} skin tone"
    return text.replace("-", " ")


def _without_tone(slug: str) -> str:
    for tone in sorted(TONES, key=len, reverse=True):
        if slug.endswith(f"-{tone}"):
            return slug.removesuffix(f"-{tone}")
    return ""


def settle_names(drawings: list[Drawing]) -> None:
    """Give each drawing the one of its names that most styles know; within a style all differ.

    Only drawings whose own names are the same in words share a name.
    """
    styles_of = _styles_by(drawings, lambda drawing: drawing.names)
    own = {(drawing.style, drawing.names[0]) for drawing in drawings}
    taken = set[tuple[str, str]]()
    for drawing in drawings:
        # Another drawing's own name is never taken from it.
        free = [
            name
            for name in drawing.names
            if (drawing.style, name) not in taken
            and (name == drawing.names[0] or (drawing.style, name) not in own)
        ]
        drawing.name = max(free or drawing.names[:1], key=lambda name: len(styles_of[name]))
        taken.add((drawing.style, drawing.name))


def _styles_by(
    drawings: Iterable[Drawing], names_of: Callable[[Drawing], list[str]]
) -> dict[str, set[str]]:
    """The styles that have a drawing of each name."""
    styles_of: dict[str, set[str]] = defaultdict(set)
    for drawing in drawings:
        for name in names_of(drawing):
            styles_of[name].add(drawing.style)
    return styles_of


def captions_of(drawing: Drawing) -> list[str]:
    """Texts about a drawing, with and without its style, by all its names."""
    style, texts = STYLES[drawing.style].words, []
    others = [name for name in drawing.names if name != drawing.name]
    for name in [drawing.name, *others[:2]]:
        thing = with_article(name)
        texts += [f"{thing}, {style} style", f"{style} drawing of {thing}"]
        texts += [f"{name} in the style of {style}", thing]
    return texts


def with_article(name: str) -> str:
    """ "an apple" of "apple"; plurals and names of their own have none."""
    first, last = name.split(",")[0].split()[0], name.split(",")[0].split()[-1]
    if name.startswith("flag of"):
        return f"the {name}"
    if (
        first in ("a", "an")
        or (last.endswith("s") and not last.endswith(("ss", "us", "is")))
        or first[0].isdigit()
    ):
        return name
    return f"{'an' if first[0] in 'aeiou' else 'a'} {name}"


def _check_renderer() -> None:
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        message = "the renderer of drawings is not installed: pip install setar[styles]"
        raise ImportError(message) from None


def render(drawing: Drawing, size: int) -> Image.Image | None:
    """A drawing as a square RGB picture on white; None if there is nothing to be seen.

    It is drawn at twice the size and then made smaller: edges are smoother than the renderer's.
    """
    import resvg_py

    try:
        encoded = resvg_py.svg_to_bytes(
            svg_string=drawing.svg, width=2 * size, height=2 * size, skip_system_fonts=True
        )
    except ValueError:
        return None
    with Image.open(io.BytesIO(bytes(encoded))) as drawn:
        layer = drawn.convert("RGBA")
    # A drawing that is not square comes at the width or height asked for: it goes to the middle.
    layer.thumbnail((2 * size, 2 * size))
    picture = Image.new("RGBA", (2 * size, 2 * size), "white")
    corner = (size - layer.width // 2, size - layer.height // 2)
    picture.alpha_composite(layer, corner)
    picture = picture.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    if drawing.mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return None if picture.getextrema() == ((255, 255),) * 3 else picture


def _render_all(
    drawings: list[Drawing], size: int, folder: Path, progress: bool = False
) -> list[str]:
    """Write all pictures, on all cores; gives a hash of each one's pixels.

    It is empty where there is nothing to be seen, of which there is no picture.
    """
    with ProcessPoolExecutor() as pool:
        jobs = pool.map(partial(_render_to, folder, size), drawings, chunksize=64)
        bar = tqdm(jobs, "rendering", len(drawings), unit="drawing", disable=not progress)
        return list(bar)


def _render_to(folder: Path, size: int, drawing: Drawing) -> str:
    picture = render(drawing, size)
    if picture is None:
        return ""
    picture.save(folder / _file_of(drawing), "PNG", optimize=True)  # a drawing: no model made it
    return hashlib.sha256(picture.tobytes()).hexdigest()


def _file_of(drawing: Drawing) -> str:
    return f"{drawing.style}/{drawing.slug}.png"


def _kept(
    drawings: list[Drawing], digests: list[str], folder: Path, left_out: dict[str, list[str]]
) -> Iterator[dict[str, Any]]:
    """A row of the metadata for each picture; what would give a held-out one away is removed."""
    pairs = list(zip(drawings, digests, strict=True))
    secret = {digest for drawing, digest in pairs if drawing.heldout}
    for drawing, digest in pairs:
        known = f"{drawing.style}/{drawing.slug}"
        if not digest:
            left_out["nothing to be seen"].append(known)
        elif digest in secret and not drawing.heldout:
            left_out["exact duplicates of held-out drawings"].append(known)
            (folder / _file_of(drawing)).unlink()
        else:
            yield {
                "file_name": _file_of(drawing),
                "text": captions_of(drawing),
                "name": drawing.name,
                "style": drawing.style,
                "split": "heldout" if drawing.heldout else "train",
            }


def _write_licenses(folder: Path) -> None:
    lines = ["# Licences of these drawings\n\n"]
    for name, style in STYLES.items():
        lines.append(
            f"- `{name}/`: by {style.author}, {style.url}, through the npm package "
            f"`@iconify-json/{name}` {style.version}; {style.license} (`LICENSE-{style.license}`). "
            "Rendered to pixels, otherwise unchanged.\n"
        )
    write_text(folder / "LICENSES.md", "".join(lines))
    for license in sorted({style.license for style in STYLES.values()}):
        shutil.copyfile(LICENSES / f"LICENSE-{license}", folder / f"LICENSE-{license}")
