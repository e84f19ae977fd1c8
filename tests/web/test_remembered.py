"""Pictures that remember, uploaded: what the controls say, and the same bytes again."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from PIL import Image

from setar.pictures.memory import recall
from setar.pictures.png import Picture, write_png
from setar.web import drawing
from setar.web.limits import MOST_TOKENS
from setar.web.remembered import remembered
from setar.web.wishes import Wish

WISH = Wish(
    "small",
    "dog",
    recipe="random-3-random",
    guidance="2.5",
    schedule="linear",
    temperature="0.8",
    top_k="20",
    top_p="0.9",
    seed=7,
    count=3,
)


def drawn(shelf, desk, wish, size="", known=None):
    return list(drawing.draw(shelf, desk, wish, size, Event(), known))[-1]


@pytest.fixture
def file(shelf, desk):
    """The last of three pictures that were drawn at once."""
    return drawn(shelf, desk, WISH).pictures[2]


def test_what_a_picture_says_is_what_was_asked(shelf, file):
    known = remembered(shelf, file)
    expected = replace(WISH, guidance="2.5", temperature="0.8", seed=9, count=1)
    assert known.wish == expected
    assert known.size == "16x16"
    assert known.words == "dog, seed 9: Draw makes it again, to the byte"


def test_the_same_settings_make_the_same_bytes_again(shelf, desk, file):
    known = remembered(shelf, file)
    last = drawn(shelf, desk, known.wish, known.size, known)
    assert [Path(one).read_bytes() for one in last.pictures] == [file.read_bytes()]
    assert last.captions == ["seed 9"]
    assert "made again" in last.words


def test_a_page_may_send_nothing_for_an_empty_text(shelf, file):
    known = remembered(shelf, file)
    assert known.is_asked(replace(known.wish, prompt=None, seed=9.0), "16x16")


@pytest.mark.parametrize("change", [{"seed": 10}, {"top_p": "0.5"}, {"class_name": "cat"}])
def test_whatever_is_changed_is_drawn_as_it_says(shelf, desk, file, change):
    known = remembered(shelf, file)
    wish = replace(known.wish, **change)
    last = drawn(shelf, desk, wish, known.size, known)
    assert "made again" not in last.words
    assert recall(last.pictures[0]).seed == wish.seed
    assert Path(last.pictures[0]).read_bytes() != file.read_bytes()


def test_of_what_cannot_be_made_again_the_settings_are_taken(shelf, desk, file, tmp_path):
    memory = recall(file)
    for change, lacking in (
        ({"made": "sheet", "count": 3}, "no single picture"),
        ({"precision": "bfloat16"}, "made in bfloat16"),
        ({"rows": MOST_TOKENS}, "a larger batch"),
        ({"asked": ()}, "what was asked for"),
    ):
        write_png(Image.open(file), tmp_path / "other.png", replace(memory, **change))
        known = remembered(shelf, tmp_path / "other.png")
        assert lacking in known.words
        assert known.wish.top_k == "20"
        assert not known.is_asked(known.wish, known.size)


def test_nothing_is_asked_for_again_too(shelf, desk, tmp_path):
    [image] = shelf.pipe("small").unconditional(seed=5)
    image.save(tmp_path / "free.png")
    known = remembered(shelf, tmp_path / "free.png")
    last = drawn(shelf, desk, known.wish, known.size, known)
    assert Path(last.pictures[0]).read_bytes() == (tmp_path / "free.png").read_bytes()


def test_pictures_that_cannot_be_taken_over(shelf, file, picture, tmp_path):
    memory, place = recall(file), tmp_path / "wrong.png"

    def refused(source):
        with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as caught:
            remembered(shelf, source)
        assert str(tmp_path) not in str(caught.value)
        return str(caught.value)

    assert "the picture remembers nothing" in refused(picture)
    (tmp_path / "text.png").write_text("no picture")
    for source in (None, "", 3, tmp_path / "text.png"):
        refused(source)
    for change in (
        {"manifest": "0" * 64},
        {"manifest": "", "model": "/etc/passwd"},
        {"size": (4096, 4096)},
        {"size": (-1, 16)},
        {"seed": 2**60},
        {"seed": None},
        {"sampling": {"on_set": 3}},
        {"sampling": {"recipe": "random-999-cosine-x"}},
        {"sampling": {"temperature": -1.0}},
        {"asked": (99,)},
        {"asked": ("x" * 1001,)},
        {"count": 10**9, "made": "sheet", "rows": -1, "asked": ("x" * 1001,)},
    ):
        write_png(Image.open(file), place, replace(memory, **change))
        refused(place)


def test_pictures_of_a_folder_do_not_say_where_it_lies(shelf, folder, file):
    assert recall(file).model == "small"
    assert str(folder).encode() not in file.read_bytes()
    assert isinstance(shelf.pipe("small")("dog")[0], Picture)
