"""What a page's functions make, and what they refuse, each in one line."""

import struct
import zlib
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from PIL import Image

from setar.pictures.memory import facts, recall
from setar.recipes.recipe import Recipe
from setar.web import comparing, drawing, editing, inside
from setar.web.limits import MOST_LETTERS, MOST_PICTURES, margins_of, size_of
from setar.web.results import KEPT, Desk
from setar.web.shelf import Shelf
from setar.web.wishes import Wish

WISH = Wish("small", "dog", seed=3, count=2)
NAN, INFINITY = float("nan"), float("inf")


def drawn(shelf, desk, wish=WISH, size=""):
    return list(drawing.draw(shelf, desk, wish, size, Event()))


def refused(call, *arguments):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as caught:
        list(call(*arguments))
    return str(caught.value)


def pixels(files):
    return pictures(Image.open(file).convert("RGB") for file in files)


def pictures(images):
    return [image.tobytes() for image in images]


def huge(file):
    """A PNG file of a few bytes that says it has 20000x20000 pixels."""
    header = struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return file


def test_pictures_are_those_of_the_pipeline(shelf, desk):
    *earlier, last = drawn(shelf, desk)
    expected = shelf.pipe("small")("dog", seed=3, count=2)
    assert pixels(last.pictures) == [picture.tobytes() for picture in expected]
    assert last.captions == ["seed 3", "seed 4"]
    assert last.done
    assert not any(result.done for result in earlier)
    assert "2 pictures" in last.words
    assert "4 sets" in last.words
    with Image.open(last.animation) as moving:
        assert moving.n_frames == 4


def test_a_wish_changes_what_is_made(shelf, desk):
    pipe = shelf.pipe("small")
    base = pixels(drawn(shelf, desk)[-1].pictures)
    changes = {"class_name": "3", "recipe": "raster-N-uniform", "guidance": 3.0, "seed": 9.0}
    changes |= {"temperature": 0.3, "top_k": 2.0, "top_p": 0.2}
    for field, value in changes.items():
        wish = replace(WISH, **{field: value})
        assert pictures(pipe(wish.asked(pipe), **wish.options(pipe))) != base, field
    typed = {"guidance": "1.5", "temperature": "1", "top_k": " 0 ", "top_p": "1.0"}
    assert pictures(pipe("dog", **replace(WISH, **typed).options(pipe))) == base
    empty = dict.fromkeys(typed, "")
    assert pictures(pipe("dog", **replace(WISH, **empty).options(pipe))) == base
    same = replace(WISH, guidance=1.5, schedule="constant", recipe="random-4-cosine")
    assert pictures(pipe(same.asked(pipe), **same.options(pipe))) == base


WRONG = {
    "model": ["other", None, 3, "../small", "/etc", ["small"]],
    "class_name": ["", None, "no-such", "99", "-1", ["dog"], "x" * 10**6, 5],
    "recipe": ["a-b-c", "random-0-cosine", "random-65-cosine", "mar", "9" * 10**5, {}, "raster-1,"],
    "guidance": [NAN, INFINITY, -1, "much", "nan", "1e999", 1e300, []],
    "schedule": ["none-such", 7],
    "temperature": [NAN, INFINITY, -0.1, "hot", []],
    "top_k": [-1, 1.5, NAN, "all", "1.5", "9" * 10**6, 2**80],
    "top_p": [0, 1.1, NAN, -INFINITY, "all"],
    "seed": [-1, 0.5, NAN, INFINITY, 2**53, 2**70, None, "dice", True],
    "count": [0, -3, MOST_PICTURES + 1, 10**9, 1.5, NAN, None, "many", []],
}


@pytest.mark.parametrize(("field", "value"), [(k, v) for k, vs in WRONG.items() for v in vs])
def test_what_cannot_be_is_refused_in_a_line(shelf, desk, field, value):
    refused(drawing.draw, shelf, desk, replace(WISH, **{field: value}), "", Event())
    assert not list(desk.folder.glob("*/*"))


def test_sizes_are_read_as_people_write_them(shelf):
    for text in ("16x16", " 16 X 16 ", "16×16", ""):
        assert size_of(shelf.pipe("small"), text) == (16, 16)


@pytest.mark.parametrize("size", ["0x0", "16", "1e3x16", "99999x99999", "16x17", 16, "x", [16, 16]])
def test_sizes_that_cannot_be(shelf, desk, size):
    told = refused(drawing.draw, shelf, desk, WISH, size, Event())
    assert "size" in told or "pixels" in told


def test_a_small_model_says_what_it_draws(shelf, desk):
    assert "unknown class 'cta'" in refused(
        drawing.draw, shelf, desk, replace(WISH, class_name="cta"), "", Event()
    )
    assert "this studio has no model" in refused(
        drawing.draw, shelf, desk, replace(WISH, model="emoji"), "", Event()
    )


def test_painted_parts_are_made_anew_and_all_else_stays(shelf, desk, picture, tmp_path):
    layer = Image.new("RGBA", (40, 40))
    layer.paste((255, 0, 0, 150), (0, 0, 20, 40))
    layer.save(tmp_path / "layer.png")
    painting = {"background": str(picture), "layers": [str(tmp_path / "layer.png")]}
    call = (shelf, desk, WISH, painting, (0, 0, 0, 0), 0, "", Event())
    last = list(editing.edit(*call))[-1]
    task = editing.task_of(shelf.pipe("small"), painting, (0, 0, 0, 0), "")
    before, after = np.asarray(task.image), np.asarray(Image.open(last.pictures[0]))
    mask = np.asarray(task.mask) > 0
    assert mask[:, :8].all()
    assert not mask[:, 8:].any()
    assert (before[~mask] == after[~mask]).all()
    assert (before[mask] != after[mask]).any()
    assert len(last.pictures) == 2


def test_a_mask_without_transparency_is_white_where_it_is_made_anew(tmp_path):
    mask = Image.new("L", (40, 40))
    mask.paste(255, (0, 0, 10, 10))
    mask.save(tmp_path / "mask.png")
    found = editing.painted([str(tmp_path / "mask.png")], (40, 40))
    assert found.getbbox() == (0, 0, 10, 10)


def test_outpainting_keeps_the_picture_in_the_middle(shelf, desk, picture):
    painting = {"background": str(picture), "layers": []}
    margins = (25, 25, 25, 25)
    last = list(editing.edit(shelf, desk, WISH, painting, margins, 0, "", Event()))[-1]
    task = editing.task_of(shelf.pipe("small"), painting, margins, "")
    kept = (4, 4, 12, 12)
    made = Image.open(last.pictures[0])
    assert made.crop(kept).tobytes() == task.image.crop(kept).tobytes()


def test_a_frame_shows_the_picture_in_the_shape_of_the_result(shelf, picture):
    painting = {"background": str(picture), "layers": []}
    shown = editing.frame(shelf, "small", painting, "")
    assert (shown["width"], shown["height"]) == (16, 16)
    kind, data = shown["picture"].split(",")
    assert kind == "data:image/png;base64"
    with Image.open(BytesIO(b64decode(data))) as small, Image.open(picture) as own:
        assert small.tobytes() == own.tobytes()
    for nothing in (None, {}, {"background": None}, "x"):
        assert editing.frame(shelf, "small", nothing, "")["picture"] == ""


@pytest.mark.parametrize(
    "values", [(91, 0, 0, 0), (50, 0, 50, 0), (-1, 0, 0, 0), (NAN, 0, 0, 0), (1.5, 0, 0, 0)]
)
def test_margins_leave_room(values):
    assert "margin" in refused(margins_of, values, (100, 100))


def test_margins_are_percent_of_the_result():
    assert margins_of((10, 20, 0, 50), (100, 200)) == (20, 20, 0, 50)


def test_paintings_that_cannot_be(shelf, desk, picture, tmp_path):
    bomb = huge(tmp_path / "bomb.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:60])
    files = [bomb, tmp_path / "text.png", tmp_path / "cut.png", tmp_path]
    paintings = [None, {}, {"background": None, "layers": []}, {"background": str(picture)}]
    paintings += [{"background": str(file), "layers": []} for file in files]
    paintings += [{"background": str(picture), "layers": [str(file)]} for file in files]
    paintings += [{"background": str(picture), "layers": [str(picture)] * 9}]
    for painting in paintings:
        call = (shelf, desk, WISH, painting, (0, 0, 0, 0), 0, "", Event())
        assert str(tmp_path) not in refused(editing.edit, *call)


def test_recipes_side_by_side(shelf, desk):
    recipes = "raster-N-uniform\n\nrandom-2-cosine"
    *earlier, (sheet, words) = comparing.compare(shelf, desk, WISH, recipes, "", Event())
    assert len(earlier) == 1
    assert words == "2 of 2 recipes"
    assert Image.open(sheet).height > earlier[0][0].height
    memory = recall(sheet)
    assert memory.manifest == shelf.pipe("small").manifest
    assert (memory.model, memory.seed, memory.names) == ("small", 3, ("dog",))
    assert facts(memory)["Sampler"] == "raster-N-uniform; random-2-cosine"
    for wrong in ("", None, "raster-N-uniform\n" * 7, "nonsense", "random-2-cosine\nmar", 5):
        refused(comparing.compare, shelf, desk, WISH, wrong, "", Event())


def test_what_is_inside(shelf, picture):
    drawn, words = inside.sets(shelf, "small", "raster-1,3,12", "", 0)
    assert words == "raster-1,3,12: 16 tokens in 3 sets of 1, 3, 12"
    assert drawn.width > 300
    assert inside.masks(shelf, "small", "", "", 0).width > drawn.width
    sheet, words = inside.reconstructed(shelf, "small", str(picture), "")
    assert words.startswith("16x16 pixels as 16 tokens: PSNR ")
    assert sheet.width > 200


def test_what_is_drawn_of_the_inside_says_so_in_the_files_that_gradio_writes(
    shelf, picture, tmp_path
):
    processing = pytest.importorskip("gradio.processing_utils")
    pictures = {
        "recipe": inside.sets(shelf, "small", "raster-1,3,12", "", 5)[0],
        "reconstruction": inside.reconstructed(shelf, "small", str(picture), "")[0],
    }
    for made, drawn in pictures.items():
        memory = recall(Path(processing.save_pil_to_cache(drawn, str(tmp_path), format="png")))
        assert (memory.made, memory.model) == (made, "small")
        assert memory.manifest == shelf.pipe("small").manifest
        assert memory.seed == (5 if made == "recipe" else None)


def test_the_slider_goes_from_one_at_a_time_to_all_at_once(shelf):
    pipe = shelf.pipe("small")
    assert [inside.sets_at(pipe, "", share) for share in (0, 50, 100.0)] == [16, 4, 1]
    assert inside.share_of(pipe, Recipe.parse("random-4-cosine")) == 50
    assert inside.built(shelf, "small", "roll", 0, "uniform", "") == "roll-16-uniform"
    assert inside.built(shelf, "small", "next-scale", 0, "uniform", "") == "next-scale"
    for wrong in (-1, 101, NAN, None, "half"):
        with pytest.raises(ValueError, match="the slider goes from 0"):
            inside.sets_at(pipe, "", wrong)
    for order, schedule in (("none", "cosine"), ("roll", "none"), (None, None)):
        with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z"):
            inside.built(shelf, "small", order, 50, schedule, "")


def test_a_desk_keeps_the_newest_results(tmp_path, monkeypatch):
    monkeypatch.setattr("setar.web.results.KEPT", 2)
    assert KEPT > 2
    desk = Desk(tmp_path / "desk")
    files = [desk.save([Image.new("RGB", (4, 4))], ["a"])[0] for _ in range(4)]
    assert [file.exists() for file in files] == [False, False, True, True]


def test_folders_are_shown_by_their_names(folder):
    assert Shelf([str(folder)]).names == ("small",)
    assert Shelf([str(folder), f"{folder}/.", "emoji"]).names == ("small", "small (2)", "emoji")
    assert "emoji" in Shelf().names


def test_long_texts_are_refused_before_they_are_read(shelf, desk):
    wish = replace(WISH, negative_prompt="x" * (MOST_LETTERS + 1))
    assert "1001 characters" in refused(drawing.draw, shelf, desk, wish, "", Event())
