"""Which texts belong to a picture, in folders."""

import dataclasses
import json
import re
import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setar.data.base import Dataset, open_data
from setar.data.captions import METADATA, captions_of, decoded, plain, read_metadata, row_of
from setar.files import MAX_CHARACTERS
from setar.text import check_text
from setar.training.heldout import hold_out
from setar.training.survey import chosen

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), "d": (9, 9, 9)}


@pytest.fixture
def folder(tmp_path):
    """``one/a.png``, ``one/b.png``, ``two/c.png`` and ``two/d.png``, each of a colour."""
    for name, path in (("a", "one"), ("b", "one"), ("c", "two"), ("d", "two")):
        (tmp_path / "data" / path).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 4), COLOURS[name]).save(tmp_path / "data" / path / f"{name}.png")
    return tmp_path / "data"


def write(folder, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / METADATA).write_text("\n".join(lines) + "\n", encoding="utf-8")


def colours(images):
    return [tuple(picture[:, 0, 0].tolist()) for picture in images[torch.arange(len(images))]]


def test_a_folder_with_metadata(folder):
    write(
        folder,
        {"file_name": "two/d.png", "text": ["a dark one", " dark\n one "], "hue": "grey"},
        {"file_name": "one/a.png", "text": "a red one", "count": 3},
        {"file_name": "one/b.png", "text": "green", "split": "heldout", "hue": "green"},
        {"file_name": "./two/c.png", "caption": "blue", "split": "train"},
    )
    data = open_data(str(folder), 4)
    assert list(data.paths) == ["one/a.png", "two/c.png", "two/d.png"]
    assert [list(texts) for texts in data.captions] == [
        ["a red one"], ["blue"], ["a dark one", "dark one"],
    ]  # fmt: skip
    assert list(data.names) == ["a", "c", "d"]
    assert data.meta == {"count": ["3", "", ""], "hue": ["", "", "grey"]}
    assert colours(data.images) == [COLOURS[name] for name in "acd"]
    assert (data.classes, data.labels.tolist()) == (("one", "two"), [0, 1, 1])
    assert data.heldout is not None
    assert colours(data.heldout) == [COLOURS["b"]]
    assert data.heldout_labels is not None
    assert data.heldout_labels.tolist() == [0]
    assert [list(texts) for texts in data.heldout_captions] == [["green"]]
    assert data.heldout_meta == {"count": [""], "hue": ["green"]}
    assert list(data.heldout_paths) == ["one/b.png"]
    assert (list(data.uncaptioned), list(data.absent), data.left_out) == ([], [], {})


@pytest.mark.parametrize("split", ["heldout", "test", "validation"])
def test_splits_that_are_held_out(folder, split):
    write(folder, {"file_name": "one/a.png", "text": "red", "split": split})
    data = open_data(str(folder), 4)
    assert data.heldout is not None
    assert colours(data.heldout) == [COLOURS["a"]]
    assert len(data) == 3


def test_captions_that_are_missing_are_listed(folder):
    write(
        folder,
        {"file_name": "one/a.png", "text": "red"},
        {"file_name": "one/b.png", "text": ["", None, "  "]},
        {"file_name": "two/c.png", "split": "test"},
        {"file_name": "two/e.png", "text": "gone"},
    )
    (folder / "README").write_text("mine")
    data = open_data(str(folder), 4)
    assert list(data.uncaptioned) == ["one/b.png", "two/c.png", "two/d.png"]
    assert list(data.absent) == ["two/e.png"]
    assert [list(texts) for texts in data.captions] == [["red"], [], []]
    assert [list(texts) for texts in data.heldout_captions] == [[]]
    assert data.left_out == {"": 1}


def test_a_text_beside_each_image(folder):
    (folder / "one/a.txt").write_text("a red one\n\n red \n")
    (folder / "one/b.TXT").write_bytes(b"\xef\xbb\xbfgreen \xff")
    (folder / "two/c.txt").write_text(" \n")
    (folder / "two/notes.txt").write_text("mine")
    (folder / "two/d.jsonl").write_text("mine")
    data = open_data(str(folder), 4)
    assert [list(texts) for texts in data.captions] == [
        ["a red one", "red"],
        ["green \ufffd"],
        [],
        [],
    ]
    assert list(data.uncaptioned) == ["two/c.png", "two/d.png"]
    assert data.left_out == {".txt": 1, ".jsonl": 1}
    assert data.heldout is None


def test_a_folder_without_captions_has_none(folder):
    (folder / "one/notes.txt").write_text("mine")
    data = open_data(str(folder), 4)
    assert (data.captions, data.uncaptioned, data.meta) == ((), (), {})
    assert data.left_out == {".txt": 1}


def test_several_rows_of_a_picture_are_one(folder):
    write(
        folder,
        {"file_name": "one/a.png", "text": "red", "hue": "x", "split": "train"},
        "",
        {"file_name": "one/../one/a.png", "text": ["crimson"], "hue": "y", "split": "test"},
    )
    row = read_metadata(folder / METADATA)["one/a.png"]
    assert (row.captions, row.heldout, row.meta) == (("red", "crimson"), True, {"hue": "x"})


def test_letters_with_accents_are_found_however_they_are_spelt(folder):
    joined, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    for name, asked in ((joined, apart), (apart, joined)):
        (folder / "one/a.png").rename(folder / f"one/{name}.png")
        write(folder, {"file_name": f"one/{asked}.png", "text": "coffee"})
        assert open_data(str(folder), 4).absent == ()
        (folder / f"one/{name}.png").rename(folder / "one/a.png")


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("{", "it is no JSON object: "),
        ("[1]", "it must be a JSON object, not [1]"),
        ("[" * 100_000, "it is no JSON object: "),
        ('"text"', "it must be a JSON object, not 'text'"),
        ({"text": "a"}, "it needs a `file_name`, the picture's path below the folder"),
        ({"file_name": 3}, "it needs a `file_name`"),
        ({"file_name": "../a.png"}, "`file_name` (='../a.png') leaves the folder"),
        ({"file_name": "one/../../a.png"}, "leaves the folder"),
        ({"file_name": "/etc/a.png"}, "leaves the folder"),
        (
            {"file_name": "one/a.png", "split": "dev"},
            "`split` (='dev') must be one of train, heldo",
        ),
        ({"file_name": "one/a.png", "split": ["train"]}, "must be one of train, "),
    ],
)
def test_rows_that_are_malformed(folder, row, rule):
    write(folder, {"file_name": "one/a.png", "text": "red"}, row)
    with pytest.raises(ValueError, match=r"\A[^\n]+metadata\.jsonl: line 2: [^\n]+\Z") as error:
        open_data(str(folder), 4)
    assert rule in str(error.value)


def test_all_pictures_may_not_be_held_out(folder):
    write(folder, *({"file_name": f"{p}.png", "split": "test"} for p in ("one/a", "one/b")))
    assert len(open_data(str(folder), 4)) == 2
    rows = ("one/a", "one/b", "two/c", "two/d")
    write(folder, *({"file_name": f"{path}.png", "split": "test"} for path in rows))
    with pytest.raises(ValueError, match="all 4 pictures are held out: there is nothing to train"):
        open_data(str(folder), 4)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=9))
def test_captions_are_texts_that_say_something(value):
    found = captions_of(value)
    assert all(text == " ".join(text.split()) != "" for text in found)
    if isinstance(value, str):
        assert len(found) == bool(plain(value).split())


def test_some_pictures_keep_their_captions(folder):
    write(
        folder,
        *({"file_name": f"one/{n}.png", "text": f"text {n}", "hue": n} for n in "ab"),
        *({"file_name": f"two/{n}.png", "text": f"text {n}", "hue": n} for n in "cd"),
    )
    some = chosen(open_data(str(folder), 4), torch.tensor([3, 0]))
    assert [list(texts) for texts in some.captions] == [["text d"], ["text a"]]
    assert some.meta == {"hue": ["d", "a"]}
    data = hold_out(open_data(str(folder), 4), 0.5)
    assert data.heldout is not None
    held = [COLOURS[hue] for hue in data.heldout_meta["hue"]]
    assert colours(data.heldout) == held
    assert [f"text {hue}" for hue in data.heldout_meta["hue"]] == [
        t[0] for t in data.heldout_captions
    ]
    assert len(held) + len(data.captions) == 4


def test_what_is_said_must_be_said_of_each_heldout_picture():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    data = Dataset(images, torch.zeros(2).long(), ("a",), heldout=images)
    for changes, rule in (
        ({"heldout_captions": [["a"]]}, "2 held-out pictures have 1 `heldout_captions`"),
        ({"heldout_meta": {"style": ["a"]}}, "2 held-out pictures have 1 `heldout_meta.style`"),
        ({"meta": {"style": ["a"]}}, "2 pictures have 1 `meta.style`"),
    ):
        with pytest.raises(ValueError, match=re.escape(rule)):
            dataclasses.replace(data, **changes)


def test_metadata_in_the_folders_of_the_pictures(folder):
    write(folder, {"file_name": "one/a.png", "text": "red"})
    write(folder / "two", {"file_name": "c.png", "text": "blue"}, {"file_name": "e.png"})
    write(folder / "one", {"file_name": "a.png", "text": "crimson", "split": "test"})
    data = open_data(str(folder), 4)
    assert list(data.paths) == ["one/b.png", "two/c.png", "two/d.png"]
    assert [list(texts) for texts in data.captions] == [[], ["blue"], []]
    assert sorted(data.heldout_captions[0]) == ["crimson", "red"]
    assert list(data.absent) == ["two/e.png"]
    assert data.left_out == {}


@given(st.text(st.characters(), max_size=30))
def test_a_caption_is_what_a_text_encoder_takes(text):
    check_text(plain(text))
    assert plain(plain(text)) == plain(text)


def test_captions_lose_what_is_no_character(folder):
    rows = [{"file_name": "one/a.png", "text": "a\0 red\x1b\x7f \ud83d one"}]
    rows += [{"file_name": "one/b.png", "text": "\0\x07"}]
    rows += [{"file_name": "two/c.png", "text": "blue " * MAX_CHARACTERS}]
    write(folder, *rows)
    data = open_data(str(folder), 4)
    assert list(data.captions[0]) == ["a red one"]
    assert list(data.uncaptioned) == ["one/b.png", "two/d.png"]
    assert data.captions[2][0] == ("blue " * MAX_CHARACTERS)[:MAX_CHARACTERS].strip()
    assert plain("\U0001f431 猫") == "\U0001f431 猫"


def test_the_first_column_that_says_something_counts():
    assert row_of({"text": None, "caption": "red"}).captions == ("red",)
    assert row_of({"text": [" "], "caption": ["red", "crimson"]}).captions == ("red", "crimson")
    assert row_of({"text": "red", "caption": "blue"}).captions == ("red",)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_texts_in_several_codes(folder, code):
    (folder / "one/a.txt").write_bytes("un café\r\n\r\nein Häuschen".encode(code))
    data = open_data(str(folder), 4)
    assert list(data.captions[0]) == ["un café", "ein Häuschen"]
    assert decoded(b"") == ""
