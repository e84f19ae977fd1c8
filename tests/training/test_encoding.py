"""Writing folders of codes; reading them is tested in data/test_codes.py."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_captions
import tiny_codes
import training.killed_encoding as killed
from setar.data.codes import CodeFolder
from setar.training.encoding import encode

SHARDS = 4
"""Of 30 pictures."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tiny_codes.save(tmp_path_factory.mktemp("encoding"))
    tiny_codes.encoded(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """The sums of what an undisturbed run writes."""
    return tiny_codes.sums(folder / "codes")


def test_what_an_encoding_leaves(folder, whole):
    shards = [f"train-16x16/{i:05d}.{end}" for i in range(SHARDS) for end in ("json", "npy")]
    tables = ["train-labels.npy", "train-lines.npy", "train-records.jsonl"]
    others = ["encoding.json", "left-out.txt", "manifest.json", "train-16x16/items.npy"]
    assert sorted(whole) == sorted([*shards, *tables, *others])
    array = np.load(folder / "codes" / "train-16x16" / "00000.npy")
    assert array.dtype == np.uint16
    assert array.shape == (7, 2, 16)  # of the first eight one is broken
    assert array.max() < 32


def test_what_cannot_be_read_is_listed(folder):
    lines = (folder / "codes" / "left-out.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == sorted(tiny_codes.BROKEN)
    assert all("cannot read the image" in line for line in lines)


def test_again_it_is_the_same_to_the_last_byte(folder, whole):
    tiny_codes.encoded(folder, out="again")
    assert tiny_codes.sums(folder / "again") == whole


def test_a_finished_folder_is_left_as_it_is(folder, whole):
    before = {f: f.stat().st_mtime_ns for f in (folder / "codes").rglob("0*")}
    done = encode(tiny_codes.config(folder), folder / "codes")
    assert done.pictures == 0
    assert {f: f.stat().st_mtime_ns for f in (folder / "codes").rglob("0*")} == before
    assert tiny_codes.sums(folder / "codes") == whole


def test_a_deleted_shard_is_made_anew(folder, whole, tmp_path):
    shutil.copytree(folder / "codes", tmp_path / "codes")
    (tmp_path / "codes" / "train-16x16" / "00002.npy").unlink()
    (tmp_path / "codes" / "train-16x16" / "00001.json").write_text("{")
    done = encode(tiny_codes.config(folder), tmp_path / "codes")
    assert done.pictures == 16
    assert tiny_codes.sums(tmp_path / "codes") == whole


def test_the_number_of_threads_changes_nothing(folder, whole):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        tiny_codes.encoded(folder, out="threads")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert tiny_codes.sums(folder / "threads") == whole


# Kills, and several processes


@pytest.fixture(scope="module")
def lives(folder, tmp_path_factory):
    """What processes left that were killed, or shared the work."""
    place = tmp_path_factory.mktemp("lives")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, killed.__file__, str(folder), str(place)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return place


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_killed_at_any_write_it_goes_on_and_ends_with_the_same_bytes(lives, whole, number):
    assert tiny_codes.sums(lives / f"killed-{number}") == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "three"])
def test_several_processes_share_the_work_even_if_some_die(lives, whole, name):
    assert tiny_codes.sums(lives / name) == whole


# What is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": "ten-crop"}, "was started with views = 'crop.flip', not 'ten-crop'"),
        ({"batch_size": 3}, "was started with batch_size = 4, not 3"),
        ({"shard": 9}, "was started with shard = 8, not 9"),
        ({"resize": "adm"}, "was started with resize = 'lanczos', not 'adm'"),
        ({"sizes": (32,)}, "was started with resolutions"),
        ({"heldout": 0.3}, "was started with"),
        ({"tokenizer": "multiscale"}, "was started with tokenizer"),
    ],
)
def test_other_settings_in_the_same_folder(folder, whole, changes, words):
    if "tokenizer" in changes:
        changes = {"tokenizer": folder / changes["tokenizer"]}
    with pytest.raises(ValueError, match=words) as error:
        encode(tiny_codes.config(folder, **changes), folder / "codes")
    assert "choose another --out" in str(error.value)
    assert tiny_codes.sums(folder / "codes") == whole


def test_other_pictures_in_the_same_folder(folder, whole, tmp_path):
    shutil.copytree(folder / "pictures", tmp_path / "pictures")
    moved = tiny_codes.config(folder, source=tmp_path / "pictures")
    encode(moved, folder / "codes")  # the same elsewhere
    (tmp_path / "pictures/cats/00.png").rename(tmp_path / "pictures/cats/000.png")
    with pytest.raises(ValueError, match=r"other pictures or captions.*train-lines\.npy"):
        encode(moved, folder / "codes")
    assert tiny_codes.sums(folder / "codes") == whole


def test_a_folder_of_something_else_is_left_alone(folder):
    with pytest.raises(ValueError, match=r"is no folder of codes and not empty \(cats\)"):
        encode(tiny_codes.config(folder), folder / "pictures")


def test_what_does_not_fit(folder, tmp_path):
    cases = [
        ({"sizes": (18,)}, "multiples of 4"),
        ({"views": "flip"}, "`views`"),
        ({"max_aspect": 9.0}, "`max_aspect`"),
        ({"sizes": ((16, 32),), "max_aspect": 2.0}, "square"),
        ({"sizes": (16, 16)}, "another one"),
        ({"source": folder / "codes"}, "holds codes already"),
        ({"tokenizer": "pixels", "source": folder / "pictures"}, "does not suit"),
        ({"tokenizer": "pixels", "source": "digits", "sizes": (8,)}, "leave out --size"),
        ({"tokenizer": "pixels", "source": "digits", "sizes": (), "features": True}, "no features"),
        ({"tokenizer": "pixels", "source": "digits", "sizes": (), "views": "ten-crop"}, "one size"),
    ]
    for number, (changes, words) in enumerate(cases):
        with pytest.raises(ValueError, match=words):
            encode(tiny_codes.config(folder, **changes), tmp_path / f"out-{number}")


def test_nothing_can_be_read(folder, tmp_path):
    (tmp_path / "pictures/cats").mkdir(parents=True)
    (tmp_path / "pictures/cats/a.png").write_text("no")
    config = tiny_codes.config(folder, source=tmp_path / "pictures")
    with pytest.raises(ValueError, match=r"none of the pictures of .* can be read"):
        encode(config, tmp_path / "out")


def test_a_bomb_and_a_wrong_ending_are_left_out(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SETAR_MAX_PIXELS", "2000")
    (tmp_path / "pictures/cats").mkdir(parents=True)
    Image.new("RGB", (16, 16), "red").save(tmp_path / "pictures/cats/good.png")
    Image.new("1", (3000, 3000)).save(tmp_path / "pictures/cats/bomb.png")
    (tmp_path / "pictures/cats/text.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\nshowpage")
    encode(tiny_codes.config(folder, source=tmp_path / "pictures"), tmp_path / "out")
    lines = (tmp_path / "out/left-out.txt").read_text()
    assert "bomb.png\t" in lines
    assert "9000000" not in lines
    assert "3000x3000 pixels are more than the 2000" in lines
    assert "text.jpg\t" in lines
    assert CodeFolder(tmp_path / "out").manifest.families[0].records == 1


# Kinds of codes


def test_features_are_kept_as_float16(folder):
    out = tiny_codes.encoded(folder, out="features", tokenizer=folder / "multiscale", features=True)
    codes = CodeFolder(out).codes("train", [(16, 16)])
    assert codes is not None
    records = torch.arange(len(codes))
    views = records % 2
    features = codes.features(records, views)
    assert features.dtype == torch.float32
    assert features.shape == (27, 8, 4, 4)
    from setar.pretrained import load_tokenizer

    tokenizer = load_tokenizer(folder / "multiscale")
    assert tokenizer.quantizer is not None
    again = tokenizer.quantizer.encode(features)
    agree = (again == codes.codes(records, views)).double().mean()
    assert agree > 0.9  # float16 moves a code here and there, and with it those after it
    file = out / "train-16x16/00000-features.npy"
    array = np.load(file)
    array[3, 1, 0, 0, 0] = np.inf
    np.save(file, array)
    codes = CodeFolder(out).codes("train", [(16, 16)])
    assert codes is not None
    codes.features(records[3:4], views[:1])
    with pytest.raises(ValueError, match="not finite, of the records 3:"):
        codes.features(records, views)


def test_shapes_have_a_family_each(folder, tmp_path):
    tiny_captions.save(tmp_path, heldout=2)
    out = tiny_codes.encoded(
        tmp_path, tokenizer=folder / "tokenizer", sizes=(16, 24), max_aspect=2.0
    )
    made = CodeFolder(out)
    families = made.encoding.families
    records = {f.folder: s.records for f, s in zip(families, made.manifest.families, strict=True)}
    assert records == {
        "train-16x16": 4, "train-12x20": 3, "train-20x12": 3,
        "train-24x24": 4, "train-20x28": 3, "train-28x20": 3,
        "heldout-16x16": 2, "heldout-24x24": 2,
    }  # fmt: skip
    codes = made.codes("train", made.encoding.resolutions[1])
    assert codes is not None
    assert codes.grids(torch.tensor([0, 4, 9])) == [(6, 6), (5, 7), (7, 5)]
    assert sorted(codes.pictures().tolist()) == list(range(10))
    for record, picture in enumerate(codes.pictures().tolist()):
        assert codes.grids(torch.tensor([record]))[0] == [(6, 6), (5, 7), (7, 5)][picture % 3]
    assert made.codes("heldout", [(24, 24)]) is not None
    with pytest.raises(ValueError, match=r"in 3 shapes \(24x24, 20x28, 28x20\), not in 1 \(24x24"):
        made.codes("train", [(24, 24)])
    assert json.loads((out / "encoding.json").read_text())["views"] == "crop"
    assert Path(out / "train-shapes.npy").is_file()


def test_tars_and_sets_by_name_are_sources_too(folder, tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        for file in sorted((folder / "pictures/cats").iterdir()):
            tar.add(file, f"cats/{file.name}")
    out = tiny_codes.encoded(tmp_path, tokenizer=folder / "tokenizer", source=tmp_path / "some.tar")
    assert CodeFolder(out).manifest.families[0].records == 15 - 2
    plain = {"tokenizer": "pixels", "sizes": (), "shard": 1000, "batch_size": 500}
    out = tiny_codes.encoded(tmp_path, source="digits", out="digits", **plain)
    held = CodeFolder(out).codes("heldout", [(8, 8)])
    assert held is not None
    assert len(held) == 180
