import contextlib
import io
import os
import re
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from setar.data.crops import centre_crop
from setar.data.images import (
    CLASS_NAMES,
    FolderImages,
    MirroredImages,
    height_and_width,
    read_image,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


def save(file, colour=RED, size=(8, 8), mode="RGB", **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file, **options)
    return file


def only(folder, size=4):
    """The single picture of a folder, uint8 [3, height, width]."""
    images = FolderImages(folder, size)
    assert len(images) == 1
    return images[torch.tensor([0])][0]


def colours(picture):
    return set(map(tuple, picture.flatten(1).T.tolist()))


# Folders


def test_a_subfolder_is_a_class(tmp_path):
    for name in ("zebra/1.png", "ape/2.JPG", "ape/deep/er/3.webp", "ape/notes.txt", "empty/x.txt"):
        if name.endswith("txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("no picture")
        else:
            save(tmp_path / name)
    images = FolderImages(tmp_path, 8)
    assert len(images) == 3
    assert images.classes == ("ape", "zebra")
    assert images.labels.tolist() == [0, 0, 1]
    assert images[torch.tensor([2, 0])].shape == (2, 3, 8, 8)
    assert images[torch.tensor([2, 0])].dtype == torch.uint8


def test_a_file_says_what_classes_are_called(tmp_path):
    for name in ("n02/a.png", "n01/b.png", "n03/c.png", "caf\u00e9/d.png"):
        save(tmp_path / name)
    lines = "\ufeffn02\tant\r\nn01\tzebra, grey one\n\nn99\tnobody\ncafe\u0301\tbar\n"
    file = tmp_path / CLASS_NAMES
    file.write_text(lines, encoding="utf-8")
    images = FolderImages(tmp_path, 8)
    assert images.classes == ("bar", "zebra, grey one", "ant", "n03")  # as folders are sorted
    assert [images.files[i].name for i in (0, 1)] == ["d.png", "b.png"]
    assert images.labels.tolist() == [0, 1, 2, 3]
    assert not images.left_out


@pytest.mark.parametrize("line", ["n01 ant", "n01\t ", "\tant", "n01\ta\x07nt", "n01\tant\tbee"])
def test_a_line_that_calls_no_class_anything_is_refused(tmp_path, line):
    save(tmp_path / "n01" / "a.png")
    (tmp_path / CLASS_NAMES).write_text(f"n01\tant\n{line}\n")
    with pytest.raises(ValueError, match=r"classes.tsv: line 2 .* must be a folder, a tab and"):
        FolderImages(tmp_path, 8)


def test_pictures_alone_are_one_class(tmp_path, monkeypatch):
    save(tmp_path / "my cats" / "a.png")
    save(tmp_path / "my cats" / "b.png")
    assert FolderImages(tmp_path / "my cats", 8).classes == ("my cats",)
    monkeypatch.chdir(tmp_path / "my cats")
    here = FolderImages(".", 8)
    assert here.classes == ("my cats",)
    assert here.labels.tolist() == [0, 0]


def test_what_is_hidden_or_no_file_is_left_out(tmp_path):
    save(tmp_path / "cats" / "a.png")
    save(tmp_path / "cats" / "._a.png")
    save(tmp_path / ".ipynb_checkpoints" / "a-checkpoint.png")
    (tmp_path / "cats" / "folder.png").mkdir()
    images = FolderImages(tmp_path, 8)
    assert images.classes == ("cats",)
    assert len(images) == 1


def test_a_folder_below_a_hidden_one_is_fine(tmp_path):
    save(tmp_path / ".cache" / "data" / "cats" / "a.png")
    assert len(FolderImages(tmp_path / ".cache" / "data", 8)) == 1


def test_nothing_to_train_on(tmp_path):
    folder = tmp_path / "some data"
    with pytest.raises(ValueError, match=r".*some data does not exist"):
        FolderImages(folder, 8)
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"some data holds no image \(\.apng, "):
        FolderImages(folder, 8)


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png is no folder"):
        FolderImages(save(tmp_path / "a.png"), 8)


def test_a_size_of_nothing_or_too_much_is_refused(tmp_path):
    save(tmp_path / "a.png")
    for size, shown in (
        *((0, "0"), ((4, 0), "[4, 0]"), ((4,), "[4]"), ((1, 2, 3), "[1, 2, 3]"), (True, "True")),
        *(
            (2.5, "2.5"),
            ("16", "'16'"),
            ((4, "8"), "[4, '8']"),
            ((4, None), "[4, None]"),
            ({}, "{}"),
        ),
        *((8000, "8000"), (10**30, f"{10**30}"), ((1, 10**8), f"[1, {10**8}]")),
    ):
        with pytest.raises(ValueError, match=re.escape(f"`image_size` (={shown}) must be")):
            FolderImages(tmp_path, size)


def test_all_endings_of_the_formats_are_found_and_others_counted(tmp_path):
    kinds = {
        "jfif": "JPEG",
        "jpe": "JPEG",
        "TIF": "TIFF",
        "tiff": "TIFF",
        "pgm": "PPM",
        "Png": "PNG",
    }
    for ending, kind in kinds.items():
        save(tmp_path / "cats" / f"a.{ending}", format=kind)
    for name in ("cats/a.heic", "cats/b.HEIC", "dogs/deep/a.svg", "cats/notes", "cats/.hidden.raw"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("no picture")
    (tmp_path / "birds").mkdir()
    (tmp_path / ".git").mkdir()
    images = FolderImages(tmp_path, 8)
    assert len(images) == 6
    assert images[torch.arange(6)].shape == (6, 3, 8, 8)
    assert images.left_out == {".heic": 2, ".svg": 1, "": 1}
    assert images.empty == ("birds", "dogs")
    assert images.classes == ("cats",)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with names")
def test_pipes_and_devices_are_left_out(tmp_path):
    save(tmp_path / "cats" / "a.png")
    os.mkfifo(tmp_path / "cats" / "b.png")
    (tmp_path / "cats" / "c.png").symlink_to("/dev/zero")
    (tmp_path / "cats" / "d.png").symlink_to("nothing")
    (tmp_path / "cats" / "e.png").symlink_to("e.png")
    images = FolderImages(tmp_path, 8)
    assert [file.name for file in images.files] == ["a.png"]
    assert images.left_out == {"special": 4}


def test_links_are_followed_and_loops_are_not(tmp_path):
    save(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data" / "cats" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "cats" / "deep" / "up").symlink_to("../..", target_is_directory=True)
    (tmp_path / "data" / "cats" / "b.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data" / "dogs").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    images = FolderImages(tmp_path / "data", 8)
    assert [file.name for file in images.files] == ["b.png", "a.png"]
    assert images.classes == ("cats", "dogs")


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\x85", "caf\udce9", "a\u2028b"])
def test_class_names_that_cannot_be_printed_are_refused(tmp_path, name):
    save(tmp_path / "cats" / "a.png")
    save(tmp_path / name / "a.png")
    with pytest.raises(
        ValueError, match=r"\Athe folder '[ -~]+' cannot be the name of a class: .+\Z"
    ):
        FolderImages(tmp_path, 8)


def test_one_name_in_two_spellings_of_unicode_is_one_class(tmp_path):
    joined, apart = "caf\u00e9", "cafe\u0301"
    save(tmp_path / joined / "a.png")
    save(tmp_path / apart / "b.png")
    save(tmp_path / "猫　犬" / "c.png")
    images = FolderImages(tmp_path, 8)
    assert images.classes == (joined, "猫　犬")
    assert images.labels.tolist() == [0, 0, 1]
    assert images.empty == ()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    save(tmp_path / "cats" / "a.png")
    (tmp_path / "dogs").mkdir()
    scanned = os.scandir

    def refuse(folder):
        if str(folder).endswith("dogs"):
            raise PermissionError(13, "Permission denied")
        return scanned(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"cannot read the folder .*dogs: Permission denied"):
        FolderImages(tmp_path, 8)


def test_sizes_may_be_numbers_of_numpy():
    assert height_and_width(np.int64(4)) == (4, 4)
    assert height_and_width([np.int32(4), 8]) == (4, 8)


# Pictures


def test_the_centre_is_cropped_to_a_square(tmp_path):
    for name, turned in (("wide", False), ("tall", True)):
        pixels = np.zeros((6, 18, 3), dtype=np.uint8)
        pixels[:, 6:12] = RED
        pixels = pixels.transpose(1, 0, 2) if turned else pixels
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
        assert colours(only(tmp_path / name, 6)) == {RED}


@pytest.mark.parametrize(
    ("whole", "size", "box"),
    [
        ((16, 16), (4, 8), (slice(4, 12), slice(0, 16))),
        ((16, 32), (8, 4), (slice(0, 16), slice(12, 20))),
        ((16, 32), (4, 4), (slice(0, 16), slice(8, 24))),
        ((16, 32), (32, 64), (slice(0, 16), slice(0, 32))),
    ],
)
def test_the_centre_is_cropped_to_any_shape(tmp_path, whole, size, box):
    """What lies outside of the crop is red, what lies inside blue."""
    pixels = np.full((*whole, 3), RED, dtype=np.uint8)
    pixels[box] = BLUE
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = only(tmp_path, size)
    assert picture.shape == (3, *size)
    # At its edge the filter reads a little of what lies outside; half a pixel off would be 64.
    blue = torch.tensor(BLUE)[:, None, None]
    assert (picture.int() - blue).abs().max() < 40


@pytest.mark.parametrize("shape", [(9, 9), (5, 12), (12, 5)])
def test_a_picture_of_the_wanted_size_is_untouched(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(only(tmp_path, shape).permute(1, 2, 0), pixels)
    assert np.array_equal(only(tmp_path, None).permute(1, 2, 0), pixels)
    assert np.array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0), pixels)


def test_a_wide_crop_of_gradients_is_where_it_should_be():
    """Rows 12 to 20 of 32, at half their size: the means of two rows."""
    levels = np.repeat(np.arange(32, dtype=np.uint8)[:, None], 16, 1) * 8
    crop = np.asarray(centre_crop(Image.fromarray(levels), 4, 8))
    assert crop.shape == (4, 8)
    assert np.abs(crop[:, 0].astype(int) - [100, 116, 132, 148]).max() <= 2


sides = st.integers(1, 40)


@given(st.tuples(sides, sides), st.tuples(sides, sides))
@settings(max_examples=40)
def test_any_shape_becomes_any_other(tmp_path_factory, found, size):
    folder = tmp_path_factory.mktemp("odd")
    save(folder / "a.png", (10, 200, 30), found)
    picture = only(folder, size)
    assert picture.shape == (3, *size)
    assert colours(picture) == {(10, 200, 30)}


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("L", 77, "a.png", (77, 77, 77)),
        ("1", 1, "a.png", (255, 255, 255)),
        ("LA", (0, 0), "a.png", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 0), "a.png", (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), "a.webp", (255, 0, 0)),
        ("RGBA", (0, 0, 0, 128), "a.png", (127, 127, 127)),
        ("CMYK", (0, 0, 0, 255), "a.jpg", (0, 0, 0)),
        ("CMYK", (0, 0, 0, 0), "a.jpg", (255, 255, 255)),
        ("P", 0, "a.gif", (0, 0, 0)),
        ("I;16", 65535, "a.png", (255, 255, 255)),
        ("I;16", 257 * 20, "a.png", (20, 20, 20)),
    ],
)
def test_any_mode_becomes_rgb_on_white(tmp_path, mode, colour, name, expected):
    options = {"lossless": True} if name.endswith("webp") else {}
    save(tmp_path / name, colour, mode=mode, **options)
    (found,) = colours(only(tmp_path))
    assert found == pytest.approx(expected, abs=2)


def test_a_transparent_palette_is_put_on_white(tmp_path):
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "a.gif", transparency=1)
    assert colours(only(tmp_path)) == {(255, 255, 255)}


def test_a_broken_file_is_named(tmp_path):
    save(tmp_path / "good.png")
    content = save(tmp_path / "cut.jpg", size=(64, 64)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.webp").write_text("this is no picture")
    images = FolderImages(tmp_path, 8)
    for index, file in enumerate(images.files):
        if file.name == "good.png":
            images[torch.tensor([index])]
            continue
        with pytest.raises(ValueError, match=rf"cannot read the image .*{file.name}"):
            images[torch.tensor([index])]


@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_file_is_read_or_named(tmp_path_factory, data):
    ending = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]))
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), RED).save(buffer, ending)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / f"a.{ending.lower()}").write_bytes(content[: data.draw(st.integers(1, 2000))])
    images = FolderImages(folder, 4)
    with contextlib.suppress(ValueError):
        assert images[torch.tensor([0])].shape == (1, 3, 4, 4)
        return
    with pytest.raises(ValueError, match="cannot read the image"):
        images[torch.tensor([0])]


# Mirror images


def test_the_second_half_is_mirrored():
    images = torch.randint(256, (5, 3, 4, 6), dtype=torch.uint8)
    both = MirroredImages(images)
    assert len(both) == 10
    batch = both[torch.tensor([7, 2, 2])]
    assert torch.equal(batch[0], images[2].flip(-1))
    assert torch.equal(batch[1], images[2])
    assert torch.equal(batch[1], batch[2])
    assert not torch.equal(batch[0], batch[1])


def test_a_folder_can_be_mirrored(tmp_path):
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[:, :2] = RED
    Image.fromarray(pixels).save(tmp_path / "a.png")
    plain, mirrored = MirroredImages(FolderImages(tmp_path, 4))[torch.tensor([0, 1])]
    assert torch.equal(plain.flip(-1), mirrored)
    assert plain[0, 0].tolist() == [255, 255, 0, 0]
