"""Parquet files as a source of pictures."""

import datetime
import io
import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from setar.data import parquet
from setar.data.base import open_data
from setar.training.survey import readable, survey

COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), "d": (9, 9, 9)}


def encoded(name):
    stream = io.BytesIO()
    Image.new("RGB", (8, 4), COLOURS[name]).save(stream, "PNG")
    return stream.getvalue()


def write(file, group=2, **columns):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, row_group_size=group)
    return file


def seen(images):
    return [tuple(colour) for colour in images[torch.arange(len(images))][:, :, 0, 0].tolist()]


def test_a_file_as_the_hub_has_them(tmp_path):
    images = [{"bytes": encoded(n), "path": f"{n}.png"} for n in "abcd"]
    file = write(
        tmp_path / "train.parquet",
        3,
        image=images,
        text=["red", None, "blue", " "],
        split=["train", "train", "test", None],
        label=[1, 2, 3, 4],
        box=[[1], [2], [3], [4]],
    )
    data = open_data(str(file), 4)
    assert list(data.paths) == [f"train.parquet/{name}.png" for name in "abd"]
    assert list(data.names) == ["a", "b", "d"]
    assert [list(texts) for texts in data.captions] == [["red"], [], []]
    assert data.meta == {"label": ["1", "2", "4"]}
    assert list(data.uncaptioned) == ["train.parquet/b.png", "train.parquet/d.png"]
    assert data.classes == ("train",)
    assert seen(data.images) == [COLOURS[name] for name in "abd"]
    assert data.heldout is not None
    assert seen(data.heldout) == [COLOURS["c"]]
    assert [list(texts) for texts in data.heldout_captions] == [["blue"]]


def test_files_of_bytes_and_of_several_captions(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "CACHED", 1)
    for number, names in enumerate(("ab", "cd")):
        write(
            tmp_path / f"part-{number}.parquet",
            1,
            image=[encoded(name) for name in names],
            caption=[[name, name * 2] for name in names],
        )
    data = open_data(str(tmp_path), 4)
    assert list(data.paths) == [f"part-{n}.parquet/{row}" for n in (0, 1) for row in (0, 1)]
    assert [list(texts) for texts in data.captions] == [[n, n * 2] for n in "abcd"]
    assert seen(data.images) == [*COLOURS.values()]
    assert len(data.images._groups) == 1
    assert data.images[torch.tensor([3, 0, 3])][:, 0, 0, 0].tolist() == [9, 255, 9]
    assert survey(data, (4, 4)).modes == {"RGB": 4}


def test_folders_in_the_paths_are_classes(tmp_path):
    images = [{"bytes": encoded(n), "path": f"{f}/{n}.png"} for f, n in (("y", "a"), ("x", "b"))]
    data = open_data(str(write(tmp_path / "a.parquet", image=images)), 4)
    assert (data.classes, data.labels.tolist(), data.captions) == (("x", "y"), [1, 0], ())


def test_damaged_pictures_are_found_before_the_training(tmp_path):
    images = [encoded("a"), None, b"no picture", encoded("d")[:-30]]
    data = open_data(str(write(tmp_path / "a.parquet", image=images, text=[*"abcd"])), 4)
    found = survey(data, (4, 4))
    assert list(found.broken) == [f"a.parquet/{row}" for row in (1, 2, 3)]
    assert "row 1 of group 0: it has no bytes" in found.broken["a.parquet/1"]
    assert "truncated" in found.broken["a.parquet/3"]
    kept = readable(data, found, True, tmp_path)
    assert [list(texts) for texts in kept.captions] == [["a"]]


def test_a_group_of_rows_that_is_damaged(tmp_path):
    file = tmp_path / "a.parquet"
    table = pa.table({"text": [*"abcd"], "image": [encoded(n) * 9 for n in "abcd"]})
    pq.write_table(table, file, row_group_size=2, compression="none", use_dictionary=False)
    content = file.read_bytes()
    first = pq.ParquetFile(file).metadata.row_group(1).column(1).data_page_offset
    file.write_bytes(content[:first] + b"\xff" * 40 + content[first + 40 :])
    found = survey(open_data(str(file), 4), (4, 4))
    assert list(found.broken) == ["a.parquet/2", "a.parquet/3"]
    assert all("\n" not in cause for cause in found.broken.values())


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"text": ["a"]}, "it needs a column `image` of bytes, or of a struct with `bytes`; its c"),
        ({"image": [[1, 2]]}, "its columns are image (list<"),
        ({"image": [{"path": "a.png"}]}, "it needs a column `image` of bytes"),
        ({"image": [b"a"], "split": ["dev"]}, "`split` (='dev') must be one of train, heldout"),
        ({"image": pa.array([], pa.binary())}, "holds no picture"),
    ],
)
def test_files_of_something_else(tmp_path, columns, rule):
    file = write(tmp_path / "a.parquet", **columns)
    with pytest.raises(ValueError, match=r"\A[^\n]*a\.parquet[^\n]+\Z") as error:
        open_data(str(file), 4)
    assert rule in str(error.value)


def test_what_is_no_parquet_file(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing more PAR1")
    with pytest.raises(ValueError, match=r"\Acannot read [^\n]*a\.parquet: [^\n]+\Z"):
        open_data(str(tmp_path / "a.parquet"), 4)
    with pytest.raises(ValueError, match=r"cannot read [^\n]*b\.parquet: it does not exist"):
        open_data(str(tmp_path / "b.parquet"), 4)


def test_groups_of_too_many_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_GROUP", 100)
    file = write(tmp_path / "a.parquet", image=[encoded("a")] * 4)
    with pytest.raises(ValueError, match=r"group 0 of its rows has \d+ bytes, more than 100"):
        open_data(str(file), 4)


def test_without_pyarrow(tmp_path, monkeypatch):
    file = write(tmp_path / "a.parquet", image=[encoded("a")])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=re.escape("pip install setar[parquet]")):
        open_data(str(file), 4)


def test_dates_and_views_are_read(tmp_path):
    when = [datetime.datetime(2020, 1, 2, 3, 4, 5), None]
    file = write(
        tmp_path / "t.parquet",
        image=pa.array([encoded("a"), encoded("b")], pa.binary_view()),
        text=pa.array(["red", "green"], pa.string_view()),
        hue=pa.array(["r", "g"], pa.string_view()),
        when=when,
        day=[datetime.date(2020, 1, 2), None],
    )
    data = open_data(str(file), 4)
    assert [list(texts) for texts in data.captions] == [["red"], ["green"]]
    assert data.meta["when"] == ["2020-01-02 03:04:05", ""]
    assert (data.meta["day"], data.meta["hue"]) == (["2020-01-02", ""], ["r", "g"])
    assert seen(data.images) == [COLOURS["a"], COLOURS["b"]]
