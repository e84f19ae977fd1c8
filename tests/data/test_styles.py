"""Drawings of six styles, from tiny packages made here."""

import io
import json
import re
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setar.data import styles
from setar.data.base import open_data
from setar.data.styles import (
    STYLES,
    TONES,
    Drawing,
    build_styles,
    captions_of,
    is_heldout,
    read_package,
    settle_names,
    with_article,
    words,
)

pytest.importorskip("resvg_py")


def square(colour, x=0):
    return {"body": f'<path fill="{colour}" d="M{x} 0h8v16h-8z"/>'}


def pack(folder, style, icons, aliases=None, version=None, **others):
    """A package of drawings of 16x16, as ``npm pack`` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"prefix": style, "icons": icons, "aliases": aliases or {}, **others}
    content = {"width": 16, "height": 16, **content}
    data = json.dumps(content).encode()
    file = folder / f"iconify-json-{style}-{version or STYLES[style].version}.tgz"
    with tarfile.open(file, "w:gz") as archive:
        info = tarfile.TarInfo("package/icons.json")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file


@pytest.fixture(scope="module", autouse=True)
def one_process():
    """Rendering in this process: starting others takes longer than these few drawings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(styles, "ProcessPoolExecutor", InThisProcess)
        yield


class InThisProcess:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def map(self, function, items, chunksize):
        return map(function, items)


HELD = next(name for name in map("thing-{}".format, range(999)) if is_heldout("noto", words(name)))
"""A name whose drawing by Noto is held out, if it is common enough."""


@pytest.fixture
def packages(tmp_path):
    """Six packages: ``apple`` and `HELD` in all, and what only some of them have."""
    folder = tmp_path / "packages"
    for index, style in enumerate(STYLES):
        icons = {"apple": square(f"#f00{index}00"), HELD: square(f"#00{index}0ff")}
        aliases = {"red-apple": {"parent": "apple"}} if index < 5 else {}
        if style == "noto":
            icons |= {"secret": {**square("#123"), "hidden": True}, "blank": {"body": "<g/>"}}
            icons |= {"twin": icons[HELD], "wide": {**square("#345"), "width": 32}}
            aliases |= {"nobody": {"parent": "nothing"}, "turned": {"parent": "apple", "rotate": 1}}
        if style == "fluent-emoji":
            icons |= {"walker": square("#111"), "police-car": square("#222")}
            icons |= {f"walker-{tone}": square(f"#33{n}") for n, tone in enumerate(TONES)}
            icons |= {"police-car-light": square("#444")}
            aliases |= {"walker-facing-right": {"parent": "walker", "hFlip": True}}
            aliases |= {"walker-facing-right-dark": {"parent": "walker-dark", "hFlip": True}}
        pack(folder, style, icons, aliases)
    return folder


def rows_of(folder):
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["file_name"]: row for row in map(json.loads, lines)}


def test_a_folder_of_drawings(packages, tmp_path):
    out = tmp_path / "new" / "styles"
    built = build_styles(out, packages, 8)
    rows = rows_of(out)
    assert built.drawings == {"noto": 3, "fluent-emoji": 12, **dict.fromkeys(
        ("twemoji", "fluent-emoji-flat", "noto-v1", "emojione"), 2
    )}  # fmt: skip
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.png")} == {*rows}
    assert built.left_out == {
        "hidden by their package": ("noto/secret",),
        "names of drawings that are not there": ("noto/nobody",),
        "turned or cut by their package": ("noto/turned",),
        "nothing to be seen": ("noto/blank",),
        "exact duplicates of held-out drawings": ("noto/twin",),
    }
    held = {path for path, row in rows.items() if row["split"] == "heldout"}
    assert f"noto/{HELD}.png" in held
    assert held == {p for p, r in rows.items() if r["name"] in ("apple", words(HELD), "red apple")
                    and is_heldout(r["style"], r["name"])}  # fmt: skip
    assert built.heldout == len(held)
    apple = rows["noto/apple.png"]
    assert (apple["name"], apple["style"]) == ("apple", "noto")
    assert apple["text"][:4] == [
        "an apple, Noto style", "Noto drawing of an apple", "apple in the style of Noto",
        "an apple",
    ]  # fmt: skip
    assert "a red apple, Noto style" in apple["text"]
    assert built.notes == ()
    data = open_data(str(out))
    assert len(data) + built.heldout == len(rows)
    assert {*data.meta} == {"name", "style"}


def test_pictures_are_as_they_were_drawn(packages, tmp_path):
    build_styles(tmp_path / "out", packages, 8)

    def pixels(path):
        with Image.open(tmp_path / "out" / path) as picture:
            assert picture.mode == "RGB"
            return np.asarray(picture)

    walker, mirrored = (pixels(f"fluent-emoji/walker{end}.png") for end in ("", "-facing-right"))
    assert (walker[:, 0] < 64).all()
    assert (walker[:, -1] > 250).all()
    assert np.array_equal(mirrored, walker[:, ::-1])
    # Twice as wide as high: a quarter of the width, in the middle of the height.
    wide = pixels("noto/wide.png")
    assert wide.shape == (8, 8, 3)
    assert (wide[3:5, 0] < 128).all()
    assert (wide[[0, -1]] > 250).all()


def test_variants_in_skin_tone_are_named(packages, tmp_path):
    build_styles(tmp_path / "out", packages, 8)
    names = {path: row["name"] for path, row in rows_of(tmp_path / "out").items()}
    assert names["fluent-emoji/walker.png"] == "walker"
    assert names["fluent-emoji/walker-medium-dark.png"] == "walker, medium-dark skin tone"
    turned = names["fluent-emoji/walker-facing-right-dark.png"]
    assert turned == "walker facing right, dark skin tone"
    assert names["fluent-emoji/police-car-light.png"] == "police car light"


def test_the_same_packages_give_the_same_bytes(packages, tmp_path):
    for name in ("one", "two"):
        build_styles(tmp_path / name, packages, 8)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
             for name in ("one", "two")]  # fmt: skip
    assert len(files[0]) > 25
    for first, second in zip(*files, strict=True):
        assert first.relative_to(tmp_path / "one") == second.relative_to(tmp_path / "two")
        assert first.read_bytes() == second.read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".styles-")]


def test_licences_lie_beside_the_drawings(packages, tmp_path):
    build_styles(tmp_path / "out", packages, 8)
    notice = (tmp_path / "out/LICENSES.md").read_text()
    for name, style in STYLES.items():
        assert f"- `{name}/`: by {style.author}, {style.url}" in notice
        assert (tmp_path / f"out/LICENSE-{style.license}").stat().st_size > 1000


def test_some_names_alone(packages, tmp_path):
    assert sum(build_styles(tmp_path / "out", packages, 8, names=["wide"]).drawings.values()) == 1


def test_another_version_is_noted(packages, tmp_path):
    (packages / f"iconify-json-noto-{STYLES['noto'].version}.tgz").unlink()
    pack(packages, "noto", {"apple": square("#f00")}, version="9.0.0")
    built = build_styles(tmp_path / "out", packages, 8)
    assert built.notes == (
        f"noto is version 9.0.0, not {STYLES['noto'].version}: its drawings may differ",
    )


def test_of_other_versions_the_newest_counts(packages, tmp_path):
    (packages / f"iconify-json-noto-{STYLES['noto'].version}.tgz").unlink()
    for version in ("9.0.0", "10.0.0", "10.0.0-beta"):
        pack(packages, "noto", {"apple": square("#f00")}, version=version)
    [note] = build_styles(tmp_path / "out", packages, 8).notes
    assert note.startswith("noto is version 10.0.0, not")


def test_aliases_of_aliases(tmp_path):
    aliases = {
        "a": {"parent": "z"},
        "z": {"parent": "apple"},
        "b": {"parent": "turned"},
        "turned": {"parent": "z", "hFlip": True},
        "back": {"parent": "turned", "hFlip": True},
        "round": {"parent": "circle"},
        "circle": {"parent": "round"},
        "self": {"parent": "self"},
    }
    left_out = {}
    file = pack(tmp_path, "noto", {"apple": square("#f00")}, aliases)
    found = {one.slug: one for one in read_package(file, "noto", left_out)}
    assert {slug: one.names for slug, one in found.items()} == {
        "apple": ["apple", "z", "a"], "turned": ["turned", "b"], "back": ["back"],
    }  # fmt: skip
    assert [found[slug].mirrored for slug in ("apple", "turned", "back")] == [False, True, False]
    lost = left_out["names of drawings that are not there"]
    assert sorted(lost) == ["noto/circle", "noto/round", "noto/self"]


def test_what_is_there_is_not_overwritten(packages, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="out exists already: remove it"):
        build_styles(tmp_path / "out", packages, 8)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ValueError, match="link exists already"):
        build_styles(tmp_path / "link", packages, 8)
    for size in (7, 1025):
        with pytest.raises(ValueError, match=rf"`size` \(={size}\) must be from 8 to 1024"):
            build_styles(tmp_path / "new", packages, size)
    assert not (tmp_path / "new").exists()


def test_a_package_that_is_missing(packages, tmp_path):
    next(packages.glob("*twemoji*")).unlink()
    with pytest.raises(ValueError, match=r"has no iconify-json-twemoji-[\d.]+\.tgz: npm pack @"):
        build_styles(tmp_path / "out", packages, 8)
    with pytest.raises(ValueError, match="nowhere is no folder"):
        build_styles(tmp_path / "out", tmp_path / "nowhere", 8)
    assert [path.name for path in tmp_path.iterdir()] == ["packages"]


def test_without_the_renderer_or_npm(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="npm is not installed, which fetches the drawings"):
        build_styles(tmp_path / "out", None, 8)
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ImportError, match=re.escape("pip install setar[styles]")):
        build_styles(tmp_path / "out", packages, 8)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"icons": {"../../up": square("#f00")}}, "the name '../../up' is not of lower-case words"),
        ({"icons": {"a": square("#f00")}, "aliases": {"/b": {"parent": "a"}}}, "the name '/b'"),
        ({"icons": {"a": {"body": 3}}}, "a drawing has no body"),
        ({"icons": {"a": {**square("#f00"), "width": "8"}}}, "sides of a drawing must be numbers"),
        ({"icons": {"a": square("#f00")}, "aliases": {"b": {"parent": 1}}}, "alias has no parent"),
        ({"icons": {"a": square("#f00")}, "aliases": {"b": {}}}, "'parent'"),
        ({"icons": [1]}, ""),
        ({"icons": {"a": 1}}, ""),
    ],
)
def test_packages_of_something_else(tmp_path, content, rule):
    file = pack(tmp_path, "noto", **{"aliases": {}, **content})
    with pytest.raises(ValueError, match=r"\A[^\n]*\.tgz is no package of drawings: [^\n]+\Z") as e:
        read_package(file, "noto")
    assert rule in str(e.value)


def test_a_tarball_that_is_damaged(tmp_path):
    file = pack(tmp_path, "noto", {f"n{i}": square(f"#{i:06x}") for i in range(500)})
    content = file.read_bytes()
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/readme"))
    garbled = content[:200] + bytes(100) + content[300:]
    for damaged in (b"", b"no tarball", content[: len(content) // 2], garbled, other.getvalue()):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"\A[^\n]*\.tgz is no package of drawings: [^\n]+\Z"):
            read_package(file, "noto")


@pytest.mark.parametrize(
    ("slug", "text"),
    [
        ("red-apple", "red apple"),
        ("flag-japan", "flag of japan"),
        ("flag-for-japan", "flag of japan"),
        ("flag-for-flag-japan", "flag of japan"),
        ("flag-in-hole", "flag in hole"),
        ("flag-for-rainbow-flag", "rainbow flag"),
        ("flag-for-crossed-flags", "crossed flags"),
        ("black-flag", "black flag"),
        ("waving-hand-dark-skin-tone", "waving hand, dark skin tone"),
        ("man-medium-dark-skin-tone-red-hair", "man red hair, medium-dark skin tone"),
        ("kiss-light-skin-tone-dark-skin-tone", "kiss, light and dark skin tone"),
        ("medium-light-skin-tone", "medium light skin tone"),
    ],
)
def test_names_in_words(slug, text):
    assert words(slug) == text


WORD = st.sampled_from(["man", "red", "flagged", "hair", "woman", "2", "lights"])


@given(st.lists(WORD, min_size=1), st.lists(st.sampled_from(TONES), max_size=2))
def test_skin_tones_come_last(parts, tones):
    marks = [f"{tone}-skin-tone" for tone in tones]
    found = words("-".join([parts[0], *marks, *parts[1:]]))
    ending = f", {' and '.join(tones)} skin tone" if tones else ""
    assert found == " ".join(parts) + ending


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("apple", "an apple"),
        ("red apple", "a red apple"),
        ("dancers", "dancers"),
        ("glasses, dark skin tone", "glasses, dark skin tone"),
        ("compass", "a compass"),
        ("octopus", "an octopus"),
        ("iris", "an iris"),
        ("flag of japan", "the flag of japan"),
        ("flag in hole", "a flag in hole"),
        ("rainbow flag", "a rainbow flag"),
        ("a button blood type", "a button blood type"),
        ("an hour", "an hour"),
        ("1st place medal", "1st place medal"),
        ("artist, dark skin tone", "an artist, dark skin tone"),
    ],
)
def test_articles(name, text):
    assert with_article(name) == text


@given(st.from_regex(r"[a-z0-9]+( [a-z0-9]+)*", fullmatch=True))
def test_captions_name_the_thing_once(name):
    drawing = Drawing("twemoji", "x", "", names=[name, "other", "third", "fourth"], name=name)
    texts = captions_of(drawing)
    assert len(texts) == 12
    assert all(name in text for text in texts[:4])
    assert not any(re.match(r"(a|an|the) (a|an|the) ", text) for text in texts if name[:1] > "b")
    assert not any("fourth" in text for text in texts)


def test_a_drawing_has_the_name_that_most_styles_know():
    drawings = [
        Drawing("noto", "a", "", names=["puma", "cougar"]),
        Drawing("noto", "b", "", names=["cougar"]),
        Drawing("twemoji", "a", "", names=["cat", "cougar"]),
        Drawing("emojione", "a", "", names=["lion", "cougar", "cat"]),
    ]
    settle_names(drawings)
    assert [drawing.name for drawing in drawings] == ["puma", "cougar", "cougar", "cougar"]


def test_a_share_of_the_pairs_is_held_out():
    held = sum(is_heldout("noto", f"name {number}") for number in range(4000))
    assert abs(held - 200) < 70  # five standard deviations
    # SHA-256 of "noto/adhesive bandage" is 0 modulo 20.
    assert is_heldout("noto", "adhesive bandage")
    assert not is_heldout("noto", "abacus")


def test_the_renderer_is_asked_in_processes(packages, tmp_path, monkeypatch):
    from concurrent.futures import ProcessPoolExecutor

    monkeypatch.setattr(styles, "ProcessPoolExecutor", ProcessPoolExecutor)
    build_styles(tmp_path / "many", packages, 8)
    monkeypatch.setattr(styles, "ProcessPoolExecutor", InThisProcess)
    build_styles(tmp_path / "one", packages, 8)
    one, many = (sorted(Path(tmp_path / name).rglob("*.png")) for name in ("one", "many"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in many]
