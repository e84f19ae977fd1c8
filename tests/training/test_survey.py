"""All files are read before the first step."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import setar
import tiny_runs
from setar.data.base import open_data
from setar.run_folder import LEFT_OUT, checkpoints
from setar.training.data import DataConfig
from setar.training.run import make_run, open_run
from setar.training.survey import chosen, left_out_before, list_files, survey

TOKENIZER = {
    "task": "tokenizer",
    "tokenizer": {
        "channels": 8, "multipliers": [1, 2], "blocks": 1, "latent_channels": 8,
        "codebook_size": 16,
    },
    "loop": {"steps": 2, "batch_size": 4, "device": "cpu"},
}  # fmt: skip


def settings(folder, **data):
    return {**TOKENIZER, "data": {"source": str(folder), "image_size": 16, **data}}


@pytest.fixture
def pictures(tmp_path):
    return tiny_runs.save_pictures(tmp_path / "pictures", 12)


def cut_off(*files):
    for file in files:
        file.write_bytes(file.read_bytes()[:-200])


def look(folder, size=16):
    return survey(open_data(str(folder), size), (size, size))


def test_pictures_that_can_be_read(pictures):
    found = look(pictures)
    assert found.broken == {}
    assert found.modes == {"RGB": 12}
    assert found.small == 0
    sizes = [Image.open(file).size for file in pictures.rglob("*.png")]
    assert look(pictures, 30).small == sum(min(size) < 30 for size in sizes) > 0


def test_what_is_odd_is_found(pictures):
    cut_off(pictures / "cats/00.png", pictures / "dogs/11.png")
    (pictures / "cats/notes.txt").write_text("mine")
    (pictures / "README").write_text("mine")
    (pictures / ".hidden").mkdir()
    (pictures / "birds/eggs").mkdir(parents=True)
    Image.new("RGBA", (20, 20)).save(pictures / "dogs/clear.png")
    Image.new("L", (20, 20)).save(pictures / "dogs/grey.png")
    found = look(pictures)
    assert list(found.broken) == ["cats/00.png", "dogs/11.png"]
    assert all(path in found.broken[path] for path in found.broken)
    assert found.modes == {"RGB": 10, "RGBA": 1, "L": 1}


@pytest.mark.parametrize("task", ["tokenizer", "generator"])
def test_all_that_cannot_be_read_is_told_before_the_first_step(pictures, tmp_path, capsys, task):
    files = sorted(pictures.rglob("*.png"))
    cut_off(*files[:11])
    values = settings(pictures)
    if task == "generator":
        model = {"preset": "tiny", "width": 16, "encoder_layers": 1, "decoder_layers": 1}
        values = {"task": task, "data": values["data"], "loop": values["loop"], "model": model}
        values["tokenizer"] = "emoji"
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as error:
        setar.train(values, tmp_path / "run")
    text = str(error.value)
    assert text.startswith("11 of 12 pictures cannot be read")
    assert "data.skip_broken = true leaves them out" in text
    assert str(files[0]) in text
    listed = capsys.readouterr().out.splitlines()
    assert [str(file) in line for file, line in zip(files[:10], listed, strict=False)] == [
        True
    ] * 10
    assert listed[10:] == ["..."]
    assert not checkpoints(tmp_path / "run")


def test_one_file_needs_no_list(pictures, tmp_path, capsys):
    cut_off(pictures / "cats/02.png")
    with pytest.raises(ValueError, match=r"1 of 12 pictures cannot be read .*02\.png"):
        setar.train(settings(pictures), tmp_path / "run")
    assert capsys.readouterr().out == ""


def test_broken_files_are_left_out_if_that_is_wished(pictures, tmp_path, capsys):
    cut_off(pictures / "cats/00.png", pictures / "dogs/03.png")
    setar.train(settings(pictures, skip_broken=True), tmp_path / "run")
    shown = capsys.readouterr().out
    assert "images    10; 2 classes, 5 images each" in shown
    assert "2 files that cannot be read (cats/00.png, dogs/03.png), see left-out.txt" in shown
    lines = (tmp_path / "run" / LEFT_OUT).read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["cats/00.png", "dogs/03.png"]
    assert all("cannot read the image" in line.split("\t")[1] for line in lines)


def test_what_was_left_out_stays_out(pictures, tmp_path):
    """Also when it is mended: the run would be another one."""
    whole = tmp_path / "whole"
    before = (pictures / "cats/00.png").read_bytes()
    cut_off(pictures / "cats/00.png")
    values = settings(pictures, skip_broken=True)
    short = {**values, "loop": {**values["loop"], "steps": 1}}
    setar.train(short, tmp_path / "run")
    setar.train(values, whole)
    (pictures / "cats/00.png").write_bytes(before)
    trainer = open_run(make_run(values, ""), tmp_path / "run", resume=True)
    assert trainer.objective.samples == 11
    trainer.run()
    ours, theirs = (checkpoints(run)[-1] for run in (tmp_path / "run", whole))
    name = "tokenizer.safetensors"
    assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert (tmp_path / "run" / LEFT_OUT).read_text().startswith("cats/00.png\t")
    assert open_run(make_run(values, ""), tmp_path / "new").objective.samples == 12


def test_a_class_of_which_nothing_is_left(pictures, tmp_path):
    cut_off(*(pictures / "cats").iterdir())
    with pytest.raises(ValueError, match="no picture of the class 'cats' can be read"):
        setar.train(settings(pictures, skip_broken=True), tmp_path / "run")
    cut_off(*(pictures / "dogs").iterdir())
    with pytest.raises(ValueError, match="no picture of the class 'cats' can be read"):
        setar.train(settings(pictures, skip_broken=True), tmp_path / "run")


def test_skipping_may_be_turned_on_later(pictures, tmp_path):
    values = settings(pictures)
    setar.train({**values, "loop": {**values["loop"], "steps": 1}}, tmp_path / "run")
    cut_off(pictures / "cats/00.png")
    with pytest.raises(ValueError, match="1 of 12 pictures cannot be read"):
        setar.train(values, tmp_path / "run", resume=True)
    setar.train(settings(pictures, skip_broken=True), tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run/settings.json").read_text())["data"]["skip_broken"]


def test_the_list_takes_any_name(tmp_path):
    broken = {"a\tb/ä\n.png": "cut\noff", "caf\udce9.png": "empty", "plain.png": ""}
    list_files(broken, tmp_path / LEFT_OUT)
    lines = (tmp_path / LEFT_OUT).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "a\\tb/ä\\n.png\tcut\\noff"
    assert len(lines) == 3
    assert [*left_out_before(tmp_path, [*broken, "other.png"])] == [*broken]
    list_files({}, tmp_path / LEFT_OUT)
    assert not (tmp_path / LEFT_OUT).exists()
    assert left_out_before(tmp_path, [*broken]) == {}


def test_some_of_a_data_set(pictures):
    data = open_data(str(pictures), 16)
    some = chosen(data, torch.tensor([7, 1]))
    assert some.labels.tolist() == [1, 0]
    assert list(some.paths) == [data.paths[7], data.paths[1]]
    assert list(some.names) == [data.names[7], data.names[1]]
    assert torch.equal(some.images[torch.arange(2)], data.images[torch.tensor([7, 1])])
    digits = chosen(open_data("digits:all"), torch.tensor([5]))
    assert (len(digits), digits.tokenizer["family"]) == (1, "pixels")


@pytest.mark.parametrize("kind", ["a file", "a model", "empty"])
def test_what_is_no_folder_of_pictures(tmp_path, kind):
    (tmp_path / "a file").write_text("mine")
    (tmp_path / "a model" / "checkpoints").mkdir(parents=True)
    np.save(tmp_path / "a model" / "x.npy", np.zeros(1))
    source = "" if kind == "empty" else str(tmp_path / kind)
    with pytest.raises(ValueError, match=re.escape(f"{source!r} is {kind}")):
        DataConfig(source, 16).open()
    assert Path(tmp_path / "a file").read_text() == "mine"
