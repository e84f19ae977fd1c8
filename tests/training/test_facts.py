"""What a training says of itself before its first step."""

import json

import pytest
import torch
from PIL import Image

import setar
import tiny_runs
from setar.data.base import open_data
from setar.recipes.recipe import Recipe
from setar.run_folder import checkpoints
from setar.tokenizers.base import TOKENIZERS
from setar.tokenizers.multiscale import PRESETS, MultiScaleVQ
from setar.training import facts
from setar.training.data import DataConfig
from setar.training.generator import ModelConfig
from setar.training.loop import LoopConfig
from setar.training.survey import survey

RUN = {
    "task": "tokenizer",
    "tokenizer": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "latent_channels": 8,
                  "codebook_size": 16},
    "loop": {"steps": 2, "batch_size": 4, "device": "cpu"},
}  # fmt: skip


def of(folder, **changes):
    config = DataConfig(str(folder), **{"image_size": 16, **changes})
    data = open_data(str(folder), config.image_size)
    return facts.of_data(config, data, survey(data, config.size()))


def test_a_folder(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 13)
    assert of(pictures) == [
        ("images", "13; 2 classes, 6 to 7 images each; 16x16 pixels (data.image_size)"),
        ("held out", "none; data.heldout = 0.1 holds out a tenth, to measure on"),
    ]


def test_what_looks_odd_is_said(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 12, ["many"] * 11 + ["few"])
    (pictures / "none").mkdir()
    (pictures / "a.heic").write_text("")
    Image.new("L", (8, 30)).save(pictures / "many/grey.png")
    found = dict(of(pictures)[2:])
    assert found.keys() == {"left out", "note"}
    texts = [text for _, text in of(pictures)]
    assert "1 file without a picture's ending (1 .heic)" in texts
    assert "folders without a picture (none)" in texts
    assert "1 of the images smaller than 16x16, so enlarged" in texts
    assert "not all of the images are RGB: 12 RGB, 1 grey" in texts


def test_uneven_classes_are_said_of_a_generator(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 12, ["many"] * 11 + ["few"])
    data = open_data(str(pictures), 16)
    note = ("note", "uneven classes; data.balance = 1 shows each as often")
    assert facts.of_balance(DataConfig(str(pictures)), data) == [note]
    assert facts.of_balance(DataConfig(str(pictures), balance=0.5), data) == []


def test_images_beside_the_folders_are_said(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 4)
    (pictures / "cats/00.png").rename(pictures / "00.png")
    note = ("note", "images beside the folders of the classes are a class, pictures")
    assert note in of(pictures)
    one = tiny_runs.save_pictures(tmp_path / "one", 3, ["."])
    assert "note" not in dict(of(one))


def test_a_preset_that_was_changed_is_not_named():
    tiny = {"preset": "tiny"}
    assert ModelConfig.from_table(tiny, "model").named() == "fmt, preset tiny"
    assert ModelConfig.from_table({**tiny, "width": 16}, "model").named() == "fmt"


def test_one_is_told_in_the_singular(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 2)
    assert "2 classes, 1 image each" in of(pictures)[0][1]
    loop, cpu = LoopConfig(steps=1, batch_size=1), torch.device("cpu")
    assert facts.of_loop(loop, 2, 0, cpu)[1].startswith("1 step of 1 image, ")


def test_kinds_of_images_are_told_in_words(tmp_path):
    (tmp_path / "a").mkdir()
    for index, mode in enumerate(["RGBA", "L", "1", "P", "LA", "CMYK"]):
        ending = "tif" if mode == "CMYK" else "png"
        Image.new(mode, (20, 20)).save(tmp_path / f"a/{index}.{ending}")
    text = "2 transparent (on white), 2 grey, 1 with a palette, 1 CMYK"
    assert ("note", f"not all of the images are RGB: {text}") in of(tmp_path)


def test_any_name_is_told_in_one_line(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 4)
    (pictures / "emp\nty").mkdir()
    (pictures / "cats/a.b\x1b[31m").write_text("")
    (pictures / "cats/00.png").rename(pictures / "cats/caf\udce9\n.png")
    (pictures / "cats/caf\udce9\n.png").write_bytes(b"")
    for _, text in of(pictures):
        assert text.isprintable()
    assert "1 file that cannot be read (cats/caf\\udce9\\n.png), see left-out.txt" in [
        text for _, text in of(pictures)
    ]


def test_one_class_is_said(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 3, ["cats"])
    assert of(pictures, flips=True)[0][1].startswith("3, and their mirror images; one class, cats;")


def test_how_long_and_on_what():
    loop = LoopConfig(steps=30, batch_size=8, compile=True)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert facts.of_loop(loop, 60, 0, cpu) == (
        "training",
        "30 steps of 8 images, 4 epochs, on cpu in float32; compiling first, a minute or more",
    )
    assert "steps 10 to 30 of 8 images" in facts.of_loop(loop, 60, 10, cpu)[1]
    shared = facts.of_loop(loop, 60, 0, cpu, 4)[1]
    assert "on 4 processes (replicate), each on cpu in float32" in shared
    assert "cuda in bfloat16;" in facts.of_loop(loop, 60, 0, gpu)[1]


@pytest.mark.parametrize("able", [True, False])
def test_a_slow_precision_is_told(monkeypatch, able):
    flags = {"architecture": "x86_64", "amx_bf16": able, "avx512_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    half, cpu = LoopConfig(precision="bfloat16"), torch.device("cpu")
    told = facts.of_loop(half, 60, 0, cpu)[1]
    assert ("slow on this CPU: --set loop.precision=float32" in told) != able
    assert "slow" not in facts.of_loop(LoopConfig(), 60, 0, cpu)[1]


def test_memory_is_told_with_its_parts():
    held = {"weights": 2.0**30, "optimiser": 2.0**31, "gathered": 0.0, "buffers": 2.0**20}
    told = "3.0 GiB on each device: 1.0 GiB weights, 2.0 GiB optimiser, 1 MiB buffers"
    assert facts.of_memory(held) == ("memory", told)
    short = "3.0 GiB on each device for weights, optimiser, buffers; activations on top"
    assert facts.of_state(held) == ("memory", short)


def test_a_run_says_it_once_and_a_finished_one_nothing(tmp_path, capsys):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures")
    values = {**RUN, "data": {"source": str(pictures), "image_size": 16}}
    setar.train(values, tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    names = [line[2:12].strip() for line in lines if line.startswith("  ")]
    assert names == ["images", "held out", "tokens", "model", "memory", "training"]
    assert "  tokens    64 (8x8) of 16 codes" in lines
    assert max(map(len, lines)) < 120
    setar.train(values, tmp_path / "run", resume=True)
    assert capsys.readouterr().out == ""
    assert checkpoints(tmp_path / "run")


@pytest.mark.parametrize("family", ["vqgan", "pixels"])
def test_tokens_and_sets(family):
    kind = TOKENIZERS.find(family)
    tokenizer = kind(kind.presets["tiny"])
    text = f"64 (8x8) of {tokenizer.vocabulary} codes, in 16 sets: random-16-random"
    assert facts.of_tokens(tokenizer, (8, 8), Recipe.parse("random-16-random")) == ("tokens", text)


def test_scales():
    text = "30 (4 scales, 1x1 to 4x4) of 32 codes"
    assert facts.of_tokens(MultiScaleVQ(PRESETS["tiny"]), (1, 30)) == ("tokens", text)


def test_captions_are_counted_and_those_that_are_missing_are_named(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 3, ["cats"])
    assert "captions" not in dict(of(pictures))
    rows = [("00", ["a cat", "a pet"]), ("01", []), ("09", ["gone"])]
    lines = [json.dumps({"file_name": f"cats/{name}.png", "text": text}) for name, text in rows]
    (pictures / "metadata.jsonl").write_text("\n".join(lines))
    assert dict(of(pictures))["captions"] == (
        "2 captions; 2 images without one (cats/01.png, cats/02.png); "
        "1 captioned file not there (cats/09.png)"
    )
    tiny_runs.save_pictures(pictures, 9, ["dogs"])
    assert "; all are in uncaptioned.txt" in dict(of(pictures))["captions"]
