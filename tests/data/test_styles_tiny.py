"""The drawings that ship for tests."""

import json
from pathlib import Path

import torch

from setar.data.base import open_data
from setar.data.styles import STYLES, is_heldout
from setar.data.styles_tiny import FOLDER


def test_two_hundred_drawings_of_six_styles():
    data = open_data("styles-tiny:all")
    assert data.images[torch.arange(2)].shape == (2, 3, 32, 32)
    assert len(data) == 200
    assert data.classes == tuple(sorted(STYLES))
    assert [data.classes[label] for label in data.labels] == data.meta["style"]
    assert all(len(texts) >= 4 for texts in data.captions)
    assert len({*data.names}) == 200


def test_its_splits_are_those_of_the_whole():
    train, heldout = open_data("styles-tiny"), open_data("styles-tiny:heldout")
    assert (len(train), len(heldout)) == (187, 13)
    assert torch.equal(train.heldout, heldout.images)
    assert list(train.heldout_captions) == list(heldout.captions)
    assert train.heldout_meta == heldout.meta
    pairs = list(zip(heldout.meta["style"], heldout.meta["name"], strict=True))
    assert all(is_heldout(*pair) for pair in pairs)
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in heldout.images)


def test_it_is_small_and_says_whose_it_is():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    notice = (FOLDER / "LICENSES.md").read_text()
    for style in STYLES.values():
        assert style.author in notice
        assert Path(FOLDER, f"../LICENSE-{style.license}").is_file()
    rows = map(json.loads, (FOLDER / "metadata.jsonl").read_text().splitlines())
    assert {row["file_name"] for row in rows} == {
        file.relative_to(FOLDER).as_posix() for file in files if file.suffix == ".png"
    }
