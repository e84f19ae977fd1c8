"""Files that commands write: whole or not at all, and never in the place of another."""

import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from setar.cli import files
from setar.pictures.animations import save_animation
from setar.pictures.memory import Memory
from setar.pictures.png import Picture


def write(text):
    return lambda file: file.write_text(text)


def test_a_file_gets_the_next_free_name(tmp_path):
    wanted = tmp_path / "a.b.txt"
    names = [files.write_new(wanted, write(text)).name for text in "xyz"]
    assert names == ["a.b.txt", "a.b-2.txt", "a.b-3.txt"]
    assert [(tmp_path / name).read_text() for name in names] == ["x", "y", "z"]
    assert len(list(tmp_path.iterdir())) == 3


def test_the_same_content_is_not_written_twice(tmp_path):
    for _ in range(2):
        assert files.write_new(tmp_path / "a.txt", write("x")) == tmp_path / "a.txt"
    assert len(list(tmp_path.iterdir())) == 1


def test_whatever_has_the_name_stays(tmp_path):
    (tmp_path / "a-2.txt").mkdir()
    (tmp_path / "a.txt").symlink_to(tmp_path / "nothing")
    assert files.write_new(tmp_path / "a.txt", write("x")).name == "a-3.txt"
    assert (tmp_path / "a.txt").is_symlink()


def test_many_at_once_lose_nothing(tmp_path):
    texts = [str(i) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda t: files.write_new(tmp_path / "a.txt", write(t)), texts))
    assert len(set(names)) == 24
    assert [name.read_text() for name in names] == texts


def test_files_may_be_read_by_others_as_the_mask_says(tmp_path):
    before = os.umask(0o027)
    try:
        file = files.write_new(tmp_path / "a.txt", write("x"))
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o640


@contextmanager
def small_disk(size):
    """Files of more than ``size`` bytes cannot be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp", "tif"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, ending):
    picture = Image.effect_noise((300, 300), 90).convert("RGB")
    file = tmp_path / f"a.{ending}"
    with small_disk(1000), pytest.raises(OSError, match=f"cannot write .*a.{ending}: "):
        files.save_picture(picture, file)
    assert list(tmp_path.iterdir()) == []


def test_an_animation_is_written_whole(tmp_path):
    frames = [Image.effect_noise((50, 50), 90).convert("RGB") for _ in range(3)]
    with small_disk(5000), pytest.raises(OSError, match=r"cannot write .*a\.gif: "):
        files.write_new(tmp_path / "a.gif", lambda file: save_animation(frames, file))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 300 + ".png", "File name too long"),
        ("a" * 252 + ".png", "File name too long"),
        ("file/a.png", "cannot make the folder"),
        ("folder.png", "is a folder, not a file"),
        ("a.txt", "must end in .png or"),
        ("a", "must end in .png or"),
        (".png", "must end in .png or"),
        ("a.psd", "must end in .png or"),
        ("a.eps", "must end in .png or"),
        ("-", "must end in .png or"),
    ],
    ids=lambda text: text[:20],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=message):
        files.prepare_picture(tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.png"]


def test_nothing_is_written_beside_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(ValueError, match="is a device or a pipe, not a file"):
            files.prepare_file(file)


def test_preparing_leaves_no_file_and_takes_capitals(tmp_path):
    files.prepare_picture(tmp_path / "new" / "a.PNG")
    assert list((tmp_path / "new").iterdir()) == []
    picture = files.save_picture(Image.new("RGB", (1, 1)), tmp_path / "new" / "a.PNG")
    with Image.open(picture) as read:
        assert read.format == "PNG"


def test_only_what_pillow_can_write_is_promised(monkeypatch, tmp_path):
    for ending in files.PICTURES:
        try:
            files.prepare_picture(tmp_path / f"a{ending}")
        except ValueError:
            continue
        files.save_picture(Image.new("RGB", (3, 3)), tmp_path / f"a{ending}")
    Image.init()
    monkeypatch.setattr(Image, "SAVE", {k: v for k, v in Image.SAVE.items() if k != "WEBP"})
    with pytest.raises(ValueError, match="must end in"):
        files.prepare_picture(tmp_path / "b.webp")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b", "a-b"),
        ("..", ""),
        ("../../etc/passwd", "-..-etc-passwd"),
        ('a\\b:c*d?e"f<g>h|i', "a-b-c-d-e-f-g-h-i"),
        ("sky & sea", "sky & sea"),
        ("two\nlines\x00\x1b\u202e", "two-lines---"),
        ("猫 é ნ", "猫 é ნ"),
        ("CON", "CON"),
        ("猫" * 1000, "猫" * 33),
        ("\udcff", "-"),
    ],
)
def test_names_of_classes_in_names_of_files(tmp_path, text, name):
    assert files.file_name(text) == name
    files.save_each([remembering(Image.new("RGB", (2, 2)), text, 7)], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [f"000007-{name}.png"]


def remembering(image, text, seed):
    return Picture.of(image, Memory("image", asked=(text,), seed=seed))


def test_each_never_loses_a_picture(tmp_path):
    red, blue = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
    for pictures in ([red, red], [red, blue]):
        first, second = pictures
        files.save_each([remembering(first, "a:b", 0), remembering(second, "a/b", 1)], tmp_path)
    names = ["000000-a-b.png", "000001-a-b-2.png", "000001-a-b.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_a_folder_that_holds_something_gets_the_next_free_name(tmp_path):
    place = tmp_path / "models" / "vq"
    assert files.free_folder(place) == place
    place.mkdir(parents=True)
    assert files.free_folder(place) == place
    (place / "config.json").write_text("{}")
    assert files.free_folder(place) == tmp_path / "models" / "vq-2"
    (tmp_path / "models" / "vq-2").write_text("a file")
    assert files.free_folder(place) == tmp_path / "models" / "vq-3"
