"""Pictures that write what they remember, and nothing that is no longer true."""

import io
import pickle

import pytest
from PIL import Image, ImageDraw

from setar.pictures.memory import Memory, recall
from setar.pictures.png import Picture, checksum, is_png, write_png


@pytest.fixture
def picture():
    image = Image.effect_noise((8, 6), 50).convert("RGB")
    return Picture.of(image, Memory("image", model="emoji", seed=7))


def remembered(image, tmp_path, name="a.png", **params):
    image.save(tmp_path / name, **params)
    try:
        return recall(tmp_path / name).seed
    except ValueError:
        return None


def test_a_picture_says_what_made_it(picture, tmp_path):
    assert remembered(picture, tmp_path) == 7
    with Image.open(tmp_path / "a.png") as read:
        assert checksum(read) == checksum(picture) == recall(tmp_path / "a.png").pixels
        assert read.tobytes() == picture.tobytes()


def test_it_does_so_under_any_name_of_the_format(picture, tmp_path):
    assert remembered(picture, tmp_path, "a.PNG") == 7
    assert remembered(picture, tmp_path, "a.bin", format="png") == 7
    picture.save(str(tmp_path / "b.png"))
    assert recall(tmp_path / "b.png").seed == 7
    with (tmp_path / "c.png").open("wb") as stream:
        picture.save(stream)
    assert recall(tmp_path / "c.png").seed == 7
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    (tmp_path / "d.png").write_bytes(stream.getvalue())
    assert recall(tmp_path / "d.png").seed == 7
    picture.save(tmp_path / "e.jpg")
    assert not is_png(tmp_path / "e.jpg", None)


def test_what_pillow_makes_of_it_remembers_nothing(picture, tmp_path):
    changed = [picture.crop((0, 0, 4, 4)), picture.resize((4, 4)), picture.rotate(90),
               picture.convert("L"), picture.copy()]  # fmt: skip
    assert [remembered(image, tmp_path) for image in changed] == [None] * 5


def test_changed_in_place_it_says_nothing(picture, tmp_path):
    ImageDraw.Draw(picture).point((0, 0), "white" if picture.getpixel((0, 0))[0] < 99 else "black")
    assert remembered(picture, tmp_path) is None
    assert picture.memory.seed == 7


def test_what_the_user_writes_comes_first(picture, tmp_path):
    assert remembered(picture, tmp_path, pnginfo=None) is None


def test_it_is_as_equal_as_an_image_of_pillow(picture):
    plain = picture.copy()
    assert picture == plain
    assert plain == picture
    plain.putpixel((0, 0), tuple(255 - value for value in plain.getpixel((0, 0))))
    assert picture != plain
    assert picture != "cat"


def test_a_pickled_one_is_an_image(picture):
    assert pickle.loads(pickle.dumps(picture)) == picture


def test_the_same_picture_is_the_same_bytes(picture):
    first, second = io.BytesIO(), io.BytesIO()
    write_png(picture, first)
    write_png(Picture.of(picture.copy(), picture.memory), second)
    assert first.getvalue() == second.getvalue()


def test_any_image_is_written_with_a_memory(tmp_path):
    write_png(Image.new("L", (3, 2)), tmp_path / "a.png", Memory("recipe", note="drawn"))
    assert recall(tmp_path / "a.png").note == "drawn"
    write_png(Image.new("L", (3, 2)), tmp_path / "b.png")
    with pytest.raises(ValueError, match="remembers nothing"):
        recall(tmp_path / "b.png")


def test_half_characters_in_names_are_written_as_something(tmp_path):
    write_png(Image.new("L", (3, 2)), tmp_path / "a.png", Memory("recipe", model="\udcff"))
    with Image.open(tmp_path / "a.png") as read:
        assert "Model: ?" in read.info["parameters"]
