import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from setar.pictures.memory import Memory
from setar.pictures.png import Picture, checksum
from setar.pictures.sheets import (
    check_sheet,
    enlarge,
    grid,
    labelled_rows,
    sheet_size,
    stack,
    tile,
    to_pil,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_tiles_lie_in_rows_with_white_between():
    images = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 3, 1, 2)
    canvas = tile(images, columns=2, scale=2, gap=1)
    w = 255
    expected = [
        [0, 0, 0, 0, w, 1, 1, 1, 1],
        [0, 0, 0, 0, w, 1, 1, 1, 1],
        [w, w, w, w, w, w, w, w, w],
        [2, 2, 2, 2, w, w, w, w, w],
        [2, 2, 2, 2, w, w, w, w, w],
    ]
    assert canvas.dtype == torch.uint8
    assert torch.equal(canvas, torch.tensor(expected, dtype=torch.uint8).expand(3, -1, -1))


def test_tiles_keep_every_pixel():
    images = torch.randint(256, (6, 3, 4, 5), dtype=torch.uint8)
    canvas = tile(images, columns=3)
    assert canvas.shape == (3, 2 * 4 + 2, 3 * 5 + 2 * 2)
    assert torch.equal(canvas[:, 6:10, 7:12], images[4])


def test_pictures_are_stacked_on_white():
    wide, narrow = (torch.randint(255, (3, 2, width), dtype=torch.uint8) for width in (5, 3))
    both = stack([narrow, wide, narrow], gap=1)
    assert both.shape == (3, 8, 5)
    assert torch.equal(both[:, :2, :3], narrow)
    assert torch.equal(both[:, 3:5], wide)
    assert torch.equal(both[:, 6:, :3], narrow)
    white = both.eq(255).all(0)
    assert white.sum() == 2 * 5 + 4 * 2


def test_bytes_become_pictures():
    images = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    for picture, image in zip(to_pil(images), images, strict=True):
        assert (picture.mode, picture.size) == ("RGB", (5, 4))
        assert np.array_equal(np.asarray(picture), image.permute(1, 2, 0))


def test_a_picture_grows_smoothly():
    picture = Image.new("RGB", (2, 1), RED)
    picture.putpixel((1, 0), BLUE)
    row = np.asarray(enlarge(picture, 8))[0]
    assert row.shape == (8, 3)
    assert tuple(row[0]) == RED
    assert tuple(row[-1]) == BLUE
    assert (np.diff(row[:, 2].astype(int)) >= 0).all()
    assert len(np.unique(row[:, 2])) > 2


def test_larger_pictures_keep_their_shape():
    assert enlarge(Image.new("RGB", (32, 16)), 96).size == (96, 48)


def area(canvas, colour):
    """Left, top, right, bottom of the pixels of a colour, and how many there are."""
    rows, columns = np.nonzero((np.asarray(canvas) == colour).all(-1))
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), len(rows)


def inked(canvas):
    """Columns with text: grey pixels that are not white."""
    pixels = np.asarray(canvas).astype(int)
    text = (np.ptp(pixels, axis=-1) < 12) & (pixels.max(-1) < 200)
    return np.nonzero(text.any(0))[0]


def test_labelled_rows_put_pictures_right_of_the_labels():
    red, blue = Image.new("RGB", (20, 10), RED), Image.new("RGB", (20, 10), BLUE)
    rows = [("short", "", [red]), ("a much longer heading", "seeds 0 to 7", [blue, blue])]
    canvas = labelled_rows(rows, title="title", side=96)
    first, pixels = area(canvas, RED)
    assert pixels == 96 * 48
    second, pixels = area(canvas, BLUE)
    assert pixels == 2 * 96 * 48, "nothing is written over a picture"
    assert first[0] == second[0]
    assert second[1] == first[3] + 96 // 16
    assert second[2] - second[0] == 2 * 96 + 96 // 16
    assert inked(canvas).max() < first[0]
    assert canvas.width > second[2]
    assert canvas.height > second[3]


def test_labels_of_flat_pictures_do_not_touch():
    picture = Image.new("RGB", (80, 10), RED)
    canvas = labelled_rows([("cat", "seeds 0 to 7", [picture])] * 3, side=96)
    pixels = np.asarray(canvas.crop((0, 0, 100, canvas.height))).astype(int)
    ink = ((np.ptp(pixels, axis=-1) < 12) & (pixels.max(-1) < 200)).any(1)
    lines = np.flatnonzero(np.diff(ink.astype(int)) == 1)
    assert len(lines) >= 6, "two lines of text a row, with white between all of them"


def test_columns_can_have_headings():
    picture = Image.new("RGB", (8, 8), RED)
    plain = labelled_rows([("cat", "", [picture] * 2)], "title", 96)
    headed = labelled_rows([("cat", "", [picture] * 2)], "title", 96, ["", "a very long name"])
    assert headed.width == plain.width
    (left, top, right, _), pixels = area(headed, RED)
    assert pixels == 2 * 96 * 96
    band = headed.crop((0, area(plain, RED)[0][1], headed.width, top))
    columns = inked(band)
    assert left + 90 < columns.min(), "no heading, no ink"
    assert left + 96 < columns.max() < right + 6, "a long heading is made to fit its column"


def test_a_long_title_is_not_cut_off():
    picture = Image.new("RGB", (8, 8), RED)
    title = "random-16-cosine   1 images, 0.3 s"
    narrow = labelled_rows([("cat", "", [picture])], title, side=64)
    wide = labelled_rows([("cat", "", [picture] * 12)], title, side=64)
    assert narrow.width - inked(narrow).max() > 8
    assert inked(narrow).max() == inked(wide).max()


def coloured(count, size=(8, 8)):
    return [Image.new("RGB", size, (255, index + 1, 0)) for index in range(count)]


def place(canvas, picture):
    """Left and top of a picture of one colour."""
    (left, top, _, _), pixels = area(canvas, picture.getpixel((0, 0)))
    assert pixels
    return left, top


def test_long_rows_go_on_below():
    pictures, others = coloured(7), [Image.new("RGB", (8, 8), BLUE)]
    canvas = labelled_rows([("cat", "", pictures), ("dog", "", others)], side=96, across=3)
    step = 96 + 96 // 16
    left, top = place(canvas, pictures[0])
    for index, picture in enumerate(pictures):
        assert place(canvas, picture) == (left + index % 3 * step, top + index // 3 * step)
    assert place(canvas, others[0]) == (left, top + 3 * step)
    assert canvas.width == left + 3 * step + 24
    assert canvas.height == top + 4 * step + 24


def test_rows_of_twelve_are_one_line_and_of_thirteen_two():
    twelve, thirteen = (labelled_rows([("cat", "", coloured(count))]) for count in (12, 13))
    assert twelve.width == thirteen.width
    assert thirteen.height == twelve.height + 96 + 6


def test_rows_with_headings_of_columns_are_not_wrapped():
    names = [str(number) for number in range(14)]
    canvas = labelled_rows([("cat", "", coloured(14))], "", 96, names)
    assert len({place(canvas, picture)[1] for picture in coloured(14)}) == 1


@pytest.mark.parametrize(
    "options",
    [{}, {"title": "a title"}, {"side": 64, "across": 2}, {"columns": ["a", "b", "c", "d", "e"]}],
)
@pytest.mark.parametrize("size", [(8, 8), (16, 4), (4, 16)])
def test_the_size_of_a_sheet_is_known_before(options, size):
    rows = [("cat", "seeds 0 to 4", 5), ("a much longer name", "", 2), ("x" * 500, "", 1)]
    drawn = [(first, second, coloured(count, size)) for first, second, count in rows]
    assert labelled_rows(drawn, **options).size == sheet_size(rows, size, **options)


def test_a_long_name_is_shortened_and_leaves_room():
    canvas = labelled_rows([("x" * 100_000, "y" * 1000, coloured(1))], side=96)
    left, _ = place(canvas, coloured(1)[0])
    assert inked(canvas).max() < left <= 24 + 3 * 96 + 24


@pytest.mark.parametrize(
    ("size", "file", "rule"),
    [
        ((100, 16384), "a.webp", r"would have 100x16384 pixels, and \.webp files at most 16383"),
        ((66000, 100), "a.JPG", r"\.jpg files at most 65500 a side"),
        ((100, 65536), "a.gif", r"\.gif files at most 65535 a side"),
        ((15000, 15000), "a.png", "more than 150000000: draw fewer"),
    ],
)
def test_sheets_that_are_too_large_are_refused(size, file, rule):
    with pytest.raises(ValueError, match=rule) as error:
        check_sheet(size, Path(file))
    assert "\n" not in str(error.value)
    check_sheet((100, 66000), Path("a.png"))
    check_sheet((100, 16383), Path(file))


def test_a_sheet_of_too_many_rows_is_refused_before_it_is_drawn():
    rows = [("cat", "", coloured(12))] * 1300
    with pytest.raises(ValueError, match="more than 150000000"):
        labelled_rows(rows)
    with pytest.raises(ValueError, match=r"`across` \(=0\) must be at least 1"):
        labelled_rows(rows[:1], across=0)


@pytest.mark.parametrize(("count", "first"), [(1, (40 - 3) // 2), (3, 40 // 2 - (3 + 6 + 3) // 2)])
def test_pictures_lower_than_two_lines_of_text_lie_in_their_middle(count, first):
    flat = Image.new("RGB", (96, 3), "red")
    sheet = np.asarray(labelled_rows([("a", "b", [flat] * count)], "title", across=2)).astype(int)
    red = np.flatnonzero((sheet[:, :, 0] - sheet[:, :, 1] > 200).any(1))
    below = 24 + 48  # margin and title
    assert red[0] == below + first
    dark = (sheet.max(2) < 100).any(1)
    gap = dark.nonzero()[0]
    assert (np.diff(gap) > 10).sum() == 1  # the heading does not run into the title


# Grids


def shaded(count, size=(4, 2)):
    return [Image.new("RGB", size, (20 * index, 0, 0)) for index in range(count)]


def test_a_grid_has_its_images_in_rows():
    made = grid(shaded(5), columns=3, gap=1)
    assert made.size == (3 * 5 - 1, 2 * 3 - 1)
    corners = [made.getpixel((5 * (i % 3), 3 * (i // 3)))[0] for i in range(5)]
    assert corners == [0, 20, 40, 60, 80]
    assert made.getpixel((13, 4)) == (255, 255, 255)
    assert grid(shaded(5), gap=0).size == (12, 4), "about square: three side by side"
    assert grid(shaded(1), columns=9, scale=3).size == (12, 6)


def test_a_grid_remembers_how_its_images_were_sampled():
    memory = Memory("image", model="emoji", asked=("a cat",), seed=1)
    made = grid([Picture.of(image, memory) for image in shaded(2)])
    assert isinstance(made, Picture)
    assert made.memory.note == "grid of 2 images"
    mixed = [*shaded(1), Picture.of(shaded(1)[0], memory)]
    assert not isinstance(grid(mixed), Picture)


def test_a_labelled_sheet_remembers_how_its_rows_were_sampled():
    def row(recipe):
        memory = Memory("image", model="emoji", sampling={"recipe": recipe})
        return (recipe, "", [Picture.of(image, memory) for image in shaded(2)])

    assert labelled_rows([row("ar"), row("ar")]).memory.sampling == {"recipe": "ar"}
    sheet = labelled_rows([("input", "", shaded(1)), row("ar"), row("mar")])
    assert [part.sampling["recipe"] for part in sheet.memory.parts] == ["ar", "mar"]
    assert sheet.memory.pixels == checksum(sheet)
    assert not isinstance(labelled_rows([("input", "", shaded(1))]), Picture)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "at least one PIL image"),
        (["a.png"], {}, "at least one PIL image"),
        ([*shaded(1), *shaded(1, (5, 5))], {}, "(width x height), another 5x5"),
        (shaded(2), {"columns": -1}, "`columns` (=-1)"),
        (shaded(2), {"scale": 0}, "`scale` (=0)"),
        (shaded(2), {"scale": 10_000}, "more than 150000000"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_refused(images, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        grid(images, **options)
