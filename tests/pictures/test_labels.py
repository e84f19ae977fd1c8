"""Text in pictures: every script is drawn or transliterated, in one line, and never as boxes."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from setar.pictures import labels
from setar.pictures.labels import label

SOME = [file for file in labels._system_fonts() if file.stem == "DejaVuSans"]


@pytest.fixture
def no_fonts(monkeypatch):
    """A system without fonts."""
    monkeypatch.setattr(labels, "_system_fonts", tuple)
    labels._drawable.cache_clear()
    yield
    labels._drawable.cache_clear()


def boxes(found):
    """How many letters of a label are drawn as their font draws what it lacks."""
    box = labels._shape(found.font, labels.NOWHERE)
    return sum(labels._shape(found.font, one) == box for one in found.text if one != " ")


def test_latin_is_drawn_as_ever():
    found = label("cat, 9", 20)
    assert found.text == "cat, 9"
    assert found.font.getname() == ImageFont.load_default(20).getname()
    assert found.width == int(ImageFont.load_default(20).getlength("cat, 9"))


@pytest.mark.skipif(not SOME, reason="needs DejaVu Sans")
@pytest.mark.parametrize("name", ["кот", "γάτα", "חתול", "قطة", "café", "Łódź", "½ ✓"])
def test_other_scripts_are_drawn_with_a_font_of_the_system(name):
    found = label(name, 20)
    assert found.text == name
    assert boxes(found) == 0
    assert found.font.getname() != ImageFont.load_default(20).getname()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("猫", "[U+732B]"),
        ("cat 猫!", "cat [U+732B]!"),
        ("Crème brûlée", "Creme brulee"),
        ("①²", "12"),
        ("🐈", "[U+1F408]"),
        ("кот", "[U+043A][U+043E][U+0442]"),
    ],
)
def test_without_a_font_names_are_transliterated(no_fonts, name, expected):
    found = label(name, 20)
    assert found.text == expected
    assert boxes(found) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a\nb\tc\x1b[31m", "a b c [31m"),
        ("  a   b ", "a b"),
        ("\u202eabc\u200b", "abc"),
        ("e\u0301", "\u00e9"),
        ("a\u3000b\u2028c\ud800", "a b c"),
        ("", ""),
        ("\n", ""),
    ],
)
def test_names_are_one_line_of_letters(name, expected):
    assert labels._one_line(name) == expected
    label(name, 20)


def test_long_names_end_in_dots():
    for name in ("a very long name of a class, " * 9, "x" * 100_000, "猫" * 300):
        found = label(name, 20, 300)
        assert 200 < found.width <= 300
        assert found.text.endswith("...")
    assert label("cat", 20, 300).text == "cat"
    exact = label("cat", 20).font.getlength("cat")
    assert label("cat", 20, exact).text == "cat"
    assert label("cat", 20, exact - 1).text in ("c...", "...")
    assert label("cat", 20, 1).text == "..."


def test_no_number_is_cut():
    text = "guidance 1.5, 0.123 s; fd 563.125"
    width = label(text[:-2] + "...", 20).width  # the last number but for two digits
    assert label(text, 20, width).text == "guidance 1.5, 0.123 s; fd..."
    short = label("guidance 1.5,...", 20).width
    assert label(text, 20, short).text == "guidance 1.5..."


def test_a_damaged_font_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    monkeypatch.setattr(labels, "_system_fonts", lambda: (tmp_path / "a.ttf",))
    labels._drawable.cache_clear()
    assert label("кот", 20).text.startswith("[U+")
    labels._drawable.cache_clear()


@pytest.mark.skipif(not SOME, reason="needs DejaVu Sans")
def test_two_names_of_another_script_look_different():
    pictures = []
    for name in ("кот", "дом"):
        canvas = Image.new("L", (80, 30))
        found = label(name, 20)
        ImageDraw.Draw(canvas).text((0, 0), found.text, 255, found.font)
        pictures.append(np.asarray(canvas))
    assert pictures[0].any()
    assert not np.array_equal(*pictures)
