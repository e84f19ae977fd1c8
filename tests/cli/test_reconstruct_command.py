"""``setar reconstruct``: any tokenizer, any pictures, one labelled picture."""

import dataclasses
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_runs
from random_weights import randomise
from setar import pretrained
from setar.pictures.reconstructions import reconstruction_sheet
from setar.tokenizers.multiscale import PRESETS, MultiScaleVQ
from setar.tokenizers.vqgan import PRESETS as VQGAN_PRESETS
from setar.tokenizers.vqgan import VQGAN


def save_tokenizer(folder, tokenizer):
    pretrained.save_tokenizer(randomise(tokenizer), folder)
    return folder


@pytest.fixture
def wide(tmp_path):
    """Pictures of 8x16 pixels in two scales."""
    config = dataclasses.replace(PRESETS["tiny"], scales=((1, 2), (2, 4)), phis=1)
    return save_tokenizer(tmp_path / "wide", MultiScaleVQ(config))


@pytest.fixture
def vqgan(tmp_path):
    """Any size that 4 divides."""
    return save_tokenizer(tmp_path / "vqgan", VQGAN(VQGAN_PRESETS["tiny"]))


@pytest.fixture
def photos(tmp_path):
    noise = np.random.default_rng(0)
    for index in range(5):
        size = (int(noise.integers(9, 30)), int(noise.integers(9, 30)), 3)
        file = tmp_path / "photos" / f"photo-{index}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, size, dtype=np.uint8)).save(file)
    return tmp_path / "photos"


def test_a_multi_scale_tokenizer_crops_to_its_own_size(run, wide, photos, tmp_path):
    out = tmp_path / "new" / "sheet.png"
    code, said, _ = run("reconstruct", wide, photos, photos / "photo-0.png", "--out", out)
    assert code == 0
    assert said.startswith("6 pictures, ")
    assert said.rstrip().endswith(f"dB on average -> {out}")
    with Image.open(out) as sheet:
        assert sheet.height > 6 * 48
        assert sheet.width > 3 * 96


def test_another_tokenizer_takes_any_size(run, vqgan, photos, tmp_path):
    out = tmp_path / "sheet.png"
    words = ("reconstruct", vqgan, photos, "--count", 2, "--out", out)
    for size in ("16", "8X12"):
        code, said, _ = run(*words, "--size", size)
        assert code == 0
        assert said.startswith("2 pictures, ")


def test_a_generators_tokenizer_is_used_at_the_generators_size(run, model, photos, tmp_path):
    assert run("reconstruct", model, photos, "--out", tmp_path / "sheet.png")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{wide}", "emoji:heldout"], "32x32 pixels has 8x8 tokens at its last scale, but"),
        (["{wide}", "{photos}", "--size", "16"], "16x16 pixels has 4x4 tokens at its last scale"),
        (["{wide}", "nowhere"], "nowhere does not exist"),
        (["{wide}", "nowhere.png"], "nowhere.png does not exist"),
        (["{wide}", "{photos}", "--count", "0"], "`count` (=0) must be from 1 to"),
        (["{wide}", "--out", "sheet.txt"], "sheet.txt must end in"),
        (["{vqgan}", "{photos}"], "whole images must be of one (width, height)"),
        (["{vqgan}", "{photos}", "--size", "10"], "multiples of 4 pixels, got 10x10"),
        (["{vqgan}", "emoji:heldout", "digits:heldout"], "another size than emoji:heldout"),
        (
            ["{vqgan}", "{photos}", "--size", "0"],
            "128x256, of 1 to 65536 pixels",
        ),
        (["{vqgan}", "{photos}", "--size", "1x2x3"], "--size reads 256, or height x width"),
        (["{vqgan}", "{photos}", "--size", "-4"], "--size reads 256"),
        (["{photos}"], "is a folder of pictures, no model"),
    ],
)
def test_mistakes_are_one_line(refused, wide, vqgan, photos, monkeypatch, words, message):
    monkeypatch.chdir(wide.parent)
    names = {"wide": wide, "vqgan": vqgan, "photos": photos}
    assert message in refused("reconstruct", *[word.format(**names) for word in words])


@pytest.fixture
def tokenizer_run(run, tmp_path, monkeypatch):
    """The run of a tokenizer on a folder of pictures of several sizes, beside that folder."""
    monkeypatch.chdir(tmp_path)
    tiny_runs.save_pictures(tmp_path / "mine")
    (tmp_path / "t.toml").write_text(tiny_runs.FOLDER_TOKENIZER)
    code, _, err = run("train", "t.toml", "--out", "tok", "--set", "data.source=mine")
    assert code == 0, err
    return tmp_path


def test_a_folders_tokenizer_shows_that_folder(run, refused, tokenizer_run, monkeypatch):
    made = []

    def noted(tokenizer, images, names, title):
        made.append((images.shape, list(names)))
        return reconstruction_sheet(tokenizer, images, names, title)

    monkeypatch.setattr("setar.pictures.reconstructions.reconstruction_sheet", noted)
    code, said, err = run("reconstruct", "tok")
    assert (code, err) == (0, "")
    assert said.startswith("8 pictures, ")
    [(shape, names)] = made
    assert shape == (8, 3, 16, 16), "the size it was trained at"
    assert set(names) <= {f"{i:02d}" for i in range(12)}
    code, said, _ = run("reconstruct", "tok", "--size", "8")
    assert "-> outputs/reconstruct-2.png" in said
    assert made[-1][0] == (8, 3, 8, 8)
    assert run("reconstruct", "tok", "digits:heldout", "--size", "8")[0] == 0

    (tokenizer_run / "mine").rename(tokenizer_run / "elsewhere")
    said = refused("reconstruct", "tok")
    assert "tok was trained on mine, which does not exist here: name those" in said


def test_pictures_that_do_not_fit_say_what_to_do(refused, vqgan, photos):
    assert "resize them with --size" in refused("reconstruct", vqgan, photos)
    Image.new("RGB", (9, 9)).save(photos / "a.png")
    assert "resize the pictures with --size" in refused("reconstruct", vqgan, photos / "a.png")


def test_limits_of_formats_are_known_before_the_work(refused, vqgan, monkeypatch, tmp_path):
    late = Mock(side_effect=AssertionError("too late"))
    monkeypatch.setattr("setar.pictures.reconstructions.reconstruction_sheet", late)
    words = ("emoji:heldout", "--count", 300, "--size", 32, "--out", tmp_path / "a.webp")
    assert ".webp files at most 16383" in refused("reconstruct", vqgan, *words)


def test_torch_is_left_as_it_was(run, wide, photos, tmp_path):
    run("reconstruct", wide, photos, "--out", tmp_path / "sheet.png")
    assert torch.is_grad_enabled()
