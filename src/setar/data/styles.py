"""The data set `styles`: emoji in six drawing styles, rendered from packages of the npm registry.

    build_styles(Path("data/styles"))

writes an ordinary captioned image folder (`setar.data.captions`): ``STYLE/name.png``,
``metadata.jsonl`` and the licences. The same packages give the same bytes at every run.
"""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from setar.data.captions import METADATA
from setar.durable import write_text

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
    out: Path, tarballs: Path | None = None, size: int = 64, progress: bool = False
) -> Built:
    """Render all drawings of the six packages into a captioned image folder.

    Args:
        out: folder to write; it must not exist yet.
        tarballs: folder with the packages as ``npm pack`` names them; None takes them from the
            registry.
        size: side of the pictures in pixels, 8 to 1024.
        progress: show bars.

    Raises:
        ValueError: ``out`` exists, the size is out of range, or a package is missing or damaged.
        ImportError: the renderer is not installed.
    """
    if not 8 <= size <= 1024:
        raise ValueError(f"`size` (={size}) must be from 8 to 1024 pixels")
    if out.exists():
        raise ValueError(f"{out} exists already: remove it, or write to another folder")
    _check_renderer()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".styles-", dir=out.parent) as temporary:
        beside = Path(temporary) / "styles"
        beside.mkdir()
        found = tarballs or _packed(Path(temporary), progress)
        left_out: dict[str, list[str]] = defaultdict(list)
        notes: list[str] = []
        drawings: list[Drawing] = []
        for style in STYLES:
            tarball, note = _tarball(found, style)
            notes += note
            drawings += read_package(tarball, style, left_out)
        settle_names(drawings)
        pictures = render_all(drawings, size, progress)
        rows = list(_written(drawings, pictures, beside, left_out))
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        write_text(beside / METADATA, "".join(lines))
        _write_licenses(beside)
        beside.rename(out)
    counts = Counter(row["style"] for row in rows)
    heldout = sum(row["split"] == "heldout" for row in rows)
    reasons = {reason: tuple(names) for reason, names in left_out.items()}
    return Built(counts, heldout, reasons, tuple(notes))


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
    file = max(matches)
    return file, [f"{style} is version {matches[file]}, not {known}: its drawings may differ"]


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
    toned = {slug for slug in found if _without_tone(slug) in found}
    for slug in toned:
        found[slug].names = [words(f"{slug}-skin-tone")]
    for alias, entry in sorted(icons.get("aliases", {}).items()):
        parent, drawing = entry["parent"], found.get(entry["parent"])
        if drawing is None:
            reason = "names of drawings that are not there"
            left_out.setdefault(reason, []).append(f"{style}/{alias}")
        elif entry.get("hFlip"):
            named = f"{alias}-skin-tone" if parent in toned else alias
            found[alias] = Drawing(style, alias, drawing.svg, True, [words(named)])
        else:
            drawing.names.append(words(alias))
    return [found[slug] for slug in sorted(found)]


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
        if not all(isinstance(icon["body"], str) for icon in icons["icons"].values()):
            raise ValueError("a drawing has no body")
        return icons
    except (OSError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{tarball} is no package of drawings: {reason}") from error
    except (tarfile.TarError, RecursionError) as error:
        raise ValueError(f"{tarball} is no package of drawings: {error}") from error


def _svg(body: str, box: Iterable[float]) -> str:
    """A drawing of a package as a picture of its own."""
    left, top, width, height = box
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    view = f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}"'
    return f"<svg {names} {view}>{body}</svg>"


def words(slug: str) -> str:
    """A name of a package in words: ``red-apple`` is "red apple".

    The packages write flags in three ways and skin tones in the middle or at the end; here a flag
    is "flag of japan" and a skin tone stands at the end, after a comma.
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
    """Give each drawing the one of its names that most styles know; within a style all differ."""
    styles_of = defaultdict(set)
    for drawing in drawings:
        for name in drawing.names:
            styles_of[name].add(drawing.style)
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


def render_all(drawings: list[Drawing], size: int, progress: bool = False) -> list[bytes | None]:
    """All drawings as RGB bytes, on all cores; None where there is nothing to be seen."""
    with ProcessPoolExecutor() as pool:
        jobs = pool.map(_render_bytes, drawings, [size] * len(drawings), chunksize=64)
        bar = tqdm(jobs, "rendering", len(drawings), unit="drawing", disable=not progress)
        return list(bar)


def _render_bytes(drawing: Drawing, size: int) -> bytes | None:
    picture = render(drawing, size)
    return None if picture is None else picture.tobytes()


def _written(
    drawings: list[Drawing],
    pictures: list[bytes | None],
    folder: Path,
    left_out: dict[str, list[str]],
) -> Iterator[dict[str, Any]]:
    """Write the pictures; gives a row of the metadata for each."""
    styles_of = Counter(drawing.name for drawing in drawings)  # within a style names differ
    splits = [
        "heldout" if styles_of[d.name] >= COMMON and is_heldout(d.style, d.name) else "train"
        for d in drawings
    ]
    secret = {p for p, split in zip(pictures, splits, strict=True) if p and split == "heldout"}
    for drawing, pixels, split in zip(drawings, pictures, splits, strict=True):
        path = f"{drawing.style}/{drawing.slug}.png"
        reason = ""
        if pixels is None:
            reason = "nothing to be seen"
        elif split == "train" and pixels in secret:
            reason = "exact duplicates of held-out drawings"
        if pixels is None or reason:
            left_out[reason].append(f"{drawing.style}/{drawing.slug}")
            continue
        side = int((len(pixels) / 3) ** 0.5)
        (folder / drawing.style).mkdir(exist_ok=True)
        Image.frombytes("RGB", (side, side), pixels).save(folder / path, optimize=True)
        yield {
            "file_name": path,
            "text": captions_of(drawing),
            "name": drawing.name,
            "style": drawing.style,
            "split": split,
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
