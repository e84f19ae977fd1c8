"""WebDataset tars as a source of pictures."""

import io
import json
import tarfile

import pytest
import torch
from PIL import Image

import setar
from setar.data.base import kind_of_source, open_data
from setar.data.tars import REST
from setar.training.survey import readable, survey

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), "d": (9, 9, 9)}


def encoded(name, kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (8, 4), COLOURS[name]).save(stream, kind)
    return stream.getvalue()


def write(file, **members):
    """A tar of members by path; texts stand for themselves, other values for their JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for path, value in members.items():
            if not isinstance(value, bytes):
                value = (value if isinstance(value, str) else json.dumps(value)).encode()
            info = tarfile.TarInfo(path)
            info.size = len(value)
            archive.addfile(info, io.BytesIO(value))
    return file


@pytest.fixture
def pair(tmp_path):
    """A folder of two tars."""
    write(
        tmp_path / "shards/0.tar",
        **{"cats/a.x.json": {"x": 1}, "cats/a.txt": "red\n\n crimson", "cats/a.png": encoded("a")},
        **{"dogs/b.webp": encoded("b", "WEBP"), "dogs/b.json": {"text": ["green"], "hue": "g"}},
    )
    write(
        tmp_path / "shards/1.tar",
        **{"dogs/c.json": {"caption": "blue", "split": "test"}, "dogs/c.JPG": encoded("c", "JPEG")},
        **{"dogs/d.png": encoded("d"), "dogs/d.jpg": encoded("d"), "dogs/e.txt": "gone"},
        **{"notes": "mine", "dogs/.hidden.png": "mine"},
    )
    (tmp_path / "shards/README.md").write_text("mine")
    return tmp_path / "shards"


def test_tars_are_a_data_set(pair):
    data = open_data(str(pair), 4)
    paths = ["0.tar/cats/a.png", "0.tar/dogs/b.webp", "1.tar/dogs/d.png"]
    assert list(data.paths) == paths
    assert list(data.names) == ["a", "b", "d"]
    assert (data.classes, data.labels.tolist()) == (("cats", "dogs"), [0, 1, 1])
    assert [list(texts) for texts in data.captions] == [["red", "crimson"], ["green"], []]
    assert data.meta == {"hue": ["", "g", ""]}
    assert list(data.uncaptioned) == ["1.tar/dogs/d.png"]
    seen = data.images[torch.arange(3)][:, :, 0, 0].tolist()
    assert seen[0] == list(COLOURS["a"])
    assert seen[2] == list(COLOURS["d"])
    assert data.heldout is not None
    assert list(data.heldout_paths) == ["1.tar/dogs/c.JPG"]
    assert [list(texts) for texts in data.heldout_captions] == [["blue"]]
    assert (
        data.heldout[torch.tensor([0])][0, :, 0, 0] - torch.tensor(COLOURS["c"])
    ).abs().max() < 5
    kinds = {".x.json": 1, ".jpg": 1, "": 1, ".txt or .json without a picture": 1}
    assert data.left_out == kinds
    assert survey(data, (4, 4)).modes == {"RGB": 4}


def test_one_tar_without_captions(tmp_path):
    data = open_data(str(write(tmp_path / "my cats.TAR", **{"a.png": encoded("a")})), 4)
    assert (data.classes, data.captions, data.uncaptioned) == (("my cats",), (), ())


@pytest.mark.parametrize("damage", ["in the picture", "in the next header", "of the header"])
def test_a_tar_that_is_damaged_is_readable_up_to_there(tmp_path, damage):
    file = write(tmp_path / "t.tar", **{f"{n}.png": encoded(n) for n in "abc"})
    content = bytearray(file.read_bytes())
    if damage == "in the picture":
        content = content[: 2 * 512 + 512 + 40]
    elif damage == "in the next header":
        content = content[: 2 * 512 + 100]
    else:
        content[2 * 512 + 148 : 2 * 512 + 156] = b"notasum!"
    file.write_bytes(content)
    data = open_data(str(file), 4)
    assert data.paths[0] == "t.tar/a.png"
    found = survey(data, (4, 4))
    assert found.broken
    damaged = {"in the picture": "b.png", "in the next header": REST, "of the header": REST}
    assert damaged[damage] in [path.split("/")[-1] for path in found.broken]
    assert all("\n" not in cause for cause in found.broken.values())
    with pytest.raises(ValueError, match=r"pictures cannot be read .*cannot read the image"):
        readable(data, found, False, tmp_path, speak=False)
    kept = readable(data, found, True, tmp_path)
    assert list(kept.paths) == ["t.tar/a.png"]
    assert kept.images[torch.tensor([0])][0, :, 0, 0].tolist() == list(COLOURS["a"])


def test_damaged_members_are_left_out_of_a_training(pair, tmp_path):
    file = pair / "0.tar"
    content = file.read_bytes()
    file.write_bytes(content.replace(encoded("b", "WEBP"), bytes(len(encoded("b", "WEBP")))))
    values = {
        "task": "tokenizer",
        "tokenizer": {
            "channels": 8, "multipliers": [1, 2], "blocks": 1, "latent_channels": 8,
            "codebook_size": 16,
        },
        "loop": {"steps": 1, "batch_size": 2, "device": "cpu"},
        "data": {"source": str(pair), "image_size": 16},
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"1 of 4 pictures cannot be read .*0\.tar: dogs/b\.webp"):
        setar.train(values, tmp_path / "run")
    values["data"]["skip_broken"] = True
    setar.train(values, tmp_path / "run")
    assert (tmp_path / "run/left-out.txt").read_text().startswith("0.tar/dogs/b.webp\t")


def test_captions_that_cannot_be_read_are_missing(tmp_path):
    file = write(
        tmp_path / "t.tar",
        **{"a.png": encoded("a"), "a.json": "{", "b.png": encoded("b"), "b.json": "[" * 99_999},
        **{"c.png": encoded("c"), "c.json": [1], "d.png": encoded("d"), "d.txt": b"d \xff"},
    )
    data = open_data(str(file), 4)
    assert [list(texts) for texts in data.captions] == [[], [], [], ["d ÿ"]]
    assert list(data.uncaptioned) == ["t.tar/a.png", "t.tar/b.png", "t.tar/c.png"]


@pytest.mark.parametrize("ending", ["txt", "json"])
def test_a_tar_that_is_cut_off_in_a_caption(tmp_path, ending):
    file = write(tmp_path / "t.tar", **{"a.png": encoded("a"), f"a.{ending}": "x" * 3000})
    content = file.read_bytes()
    file.write_bytes(content[: content.index(b"xxx") + 1000])
    data = open_data(str(file), 4)
    assert list(data.paths) == ["t.tar/a.png", f"t.tar/{REST}"]
    assert list(survey(data, (4, 4)).broken) == [f"t.tar/{REST}"]


def test_a_tar_of_names_with_dots_says_what_it_holds(tmp_path):
    file = write(tmp_path / "t.tar", **{"a.b.png": encoded("a"), "a.b.txt": "red"})
    with pytest.raises(
        ValueError, match=r"t\.tar holds no picture; left out: 1 \.b\.png, 1 \.b\.txt"
    ):
        open_data(str(file), 4)


def test_a_tar_that_is_gone_is_named(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/0.tar").symlink_to(tmp_path / "gone.tar")
    with pytest.raises(ValueError, match=r"cannot read .*shards/0\.tar: it does not exist"):
        open_data(str(tmp_path / "shards"), 4)


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b" + bytes(600), bytes(100)])
def test_what_is_no_tar(tmp_path, content):
    (tmp_path / "t.tar").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"\A[^\n]*t\.tar[^\n]* (is no tar|holds no picture)[^\n]*\Z"
    ):
        open_data(str(tmp_path / "t.tar"), 4)


def test_a_split_that_is_unknown_is_refused(tmp_path):
    file = write(tmp_path / "t.tar", **{"a.png": encoded("a"), "a.json": {"split": "dev"}})
    with pytest.raises(ValueError, match=r"t\.tar: a\.json: `split` \(='dev'\) must be one of"):
        open_data(str(file), 4)


def test_a_folder_of_pictures_stays_one_beside_tars(tmp_path):
    write(tmp_path / "all.tar", **{"a.png": encoded("a")})
    assert kind_of_source(tmp_path) == "tar"
    (tmp_path / "b.parquet").write_text("")
    with pytest.raises(ValueError, match="holds several kinds of files: parquet, tar"):
        kind_of_source(tmp_path)
    (tmp_path / "c.png").write_bytes(encoded("c"))
    assert kind_of_source(tmp_path) == "folder"
    (tmp_path / "c.png").unlink()
    (tmp_path / "cats").mkdir()
    assert kind_of_source(tmp_path) == "folder"
    assert kind_of_source(tmp_path / "all.zip") == "folder"
