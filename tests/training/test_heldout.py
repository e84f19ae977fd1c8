"""Pictures that are held out, and the loss on them."""

import dataclasses
import json
import math
import unicodedata

import pytest
import torch

import setar
import tiny_runs
from random_weights import randomise
from setar.data.base import Dataset, open_data
from setar.models.fmt import PRESETS, FullyMaskedTransformer
from setar.recipes.recipe import Recipe
from setar.run_folder import CLOCKS
from setar.training.data import DataConfig
from setar.training.heldout import MEASURED, HeldOutCodes, held_beside, hold_out, measured
from setar.training.run import make_run, open_run


def data_of(count, classes=2, paths=True):
    names = [f"class/{index}.png" for index in range(count)] if paths else ()
    images = torch.arange(count).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).to(torch.uint8)
    return Dataset(images, torch.arange(count) % classes, ("a", "b", "c")[:classes], paths=names)


def numbers(images):
    """Which pictures these are."""
    return set(images[torch.arange(len(images))][:, 0, 0, 0].tolist())


@pytest.mark.parametrize("paths", [True, False])
def test_a_share_is_held_out_and_the_rest_is_trained_on(paths):
    data = hold_out(data_of(200, paths=paths), 0.25)
    trained, held = numbers(data.images), numbers(data.heldout)
    assert trained | held == set(range(200))
    assert not trained & held
    assert 30 < len(held) < 70  # odds of 10^-3 and less
    shown = data.heldout[torch.arange(len(held))][:, 0, 0, 0].long()
    assert torch.equal(data.heldout_labels, shown % 2)
    assert len(data.labels) == len(trained)


def test_pictures_of_another_folder_are_held_out():
    other = dataclasses.replace(data_of(4, 2), classes=("c", "a"))
    data = held_beside(data_of(9, 3), other, "somewhere/val")
    assert data.classes == ("a", "b", "c")
    assert data.heldout_labels.tolist() == [2, 0, 2, 0]
    assert data.heldout_paths[3] == "val/class/3.png"
    assert len(data.labels) == 9
    assert numbers(data.heldout) == {0, 1, 2, 3}
    same = dataclasses.replace(other, classes=("crane", "crane"))  # as ImageNet has them
    assert held_beside(same, same, "val").heldout_labels.tolist() == [0, 1, 0, 1]
    one = dataclasses.replace(data_of(3, 1), classes=("train",))
    alone = dataclasses.replace(data_of(3, 1), classes=("val",))
    assert held_beside(one, alone, "val").heldout_labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "a", "b")])
def test_a_class_that_is_not_trained_on_is_refused(classes):
    data = dataclasses.replace(data_of(6, len(classes)), classes=classes)
    other = dataclasses.replace(data_of(4, 2), classes=("b", "x"))
    with pytest.raises(ValueError, match=f"the class 'x' of val must be one of the {len(classes)}"):
        held_beside(data, other, "val")
    if len(classes) == 3:
        other = dataclasses.replace(other, classes=("b", "a"))
        with pytest.raises(ValueError, match="the class 'a'"):
            held_beside(data, other, "val")


def test_a_validation_folder_is_measured(tmp_path):
    tiny_runs.save_pictures(tmp_path / "train", 8)
    tiny_runs.save_pictures(tmp_path / "val", 4, classes=("dogs", "cats"))
    config = DataConfig(str(tmp_path / "train"), 16, validation=str(tmp_path / "val"))
    data = config.open()
    assert (len(data), len(data.heldout)) == (8, 4)
    assert data.heldout_labels.tolist() == [0, 0, 1, 1]
    assert data.heldout_paths[0] == "val/cats/01.png"
    for changes, message in (
        ({"heldout": 0.1}, "give `heldout` or `validation`, not both"),
        ({"validation": "emoji"}, "must be pictures in files"),
        ({"source": "emoji"}, "must be pictures in files"),
        ({"validation": str(tmp_path / "no")}, "does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(config, **changes).open()


def test_pictures_that_are_added_change_nothing():
    before, after = (numbers(hold_out(data_of(n), 0.2).heldout) for n in (100, 140))
    assert before == {number for number in after if number < 100}
    larger = numbers(hold_out(data_of(100), 0.4).heldout)
    assert before < larger


def test_one_of_each_class_is_always_trained_on():
    data = hold_out(data_of(6, classes=3), 0.5)
    for seed in range(20):
        names = [f"{seed}/{index}.png" for index in range(6)]
        data = hold_out(dataclasses.replace(data_of(6, classes=3), paths=names), 0.5)
        assert {*data.labels.tolist()} == {0, 1, 2}


def test_accents_may_be_written_in_two_ways():
    data = data_of(40)
    composed = [f"café/ñ{index}.png" for index in range(40)]
    ways = [[unicodedata.normalize(form, name) for name in composed] for form in ("NFC", "NFD")]
    assert ways[0] != ways[1]
    held = [numbers(hold_out(dataclasses.replace(data, paths=way), 0.3).heldout) for way in ways]
    assert held[0] == held[1]
    odd = [f"caf\udce9/{index}.png" for index in range(40)]
    assert len(numbers(hold_out(dataclasses.replace(data, paths=odd), 0.3).heldout)) > 0


def test_of_very_few_none_may_be_held_out():
    data = data_of(2)
    assert hold_out(data, 0.5) is data or hold_out(data, 0.5).heldout is not None
    assert hold_out(data, 1e-9) is data


def test_a_data_set_with_heldout_pictures_keeps_them(tmp_path):
    config = DataConfig("digits", heldout=0.5)
    data, found = config.prepare(config.open(), tmp_path)
    assert found is None
    assert (len(data), len(data.heldout)) == (1617, 180)
    config = DataConfig("digits:all", heldout=0.5)
    data, _ = config.prepare(config.open(), tmp_path)
    assert len(data) + len(data.heldout) == 1797


def test_those_measured_are_few_and_of_all_classes():
    assert measured(data_of(4)) is None
    many = data_of(3000, classes=3)
    some = measured(dataclasses.replace(many, heldout=many.images, heldout_labels=many.labels))
    assert len(some) == MEASURED
    counts = torch.bincount(some.labels)
    assert max(counts) - min(counts) <= 1
    numbers = some.images[torch.arange(3)][:, 0, 0, 0].long()
    assert torch.equal(numbers % 3, some.labels[:3])
    assert len(measured(dataclasses.replace(many, heldout=many.images))) == MEASURED


@pytest.fixture
def codes():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(32, (70, 16), generator=generator)


def fmt(seed=None):
    model = FullyMaskedTransformer(PRESETS["tiny"]).eval()
    return model if seed is None else randomise(model, seed).eval()


@pytest.mark.parametrize("recipe", ["random-4-random", "mar", "ar"])
def test_a_new_models_loss_is_that_of_chance(codes, recipe):
    heldout = HeldOutCodes(codes, torch.arange(70) % 5, Recipe.parse(recipe))
    loss = heldout.measure(fmt(), torch.device("cpu"))["heldout_loss"]
    assert loss == pytest.approx(math.log(32), abs=1e-5)


def test_the_loss_is_a_function_of_the_weights_alone(codes):
    heldout = HeldOutCodes(codes, torch.arange(70) % 5, Recipe.parse("random-4-random"))
    losses = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        losses.append(heldout.measure(fmt(1), torch.device("cpu")))
        assert seed == 3 or losses[0] == losses[1]
    assert heldout.measure(fmt(2), torch.device("cpu")) != losses[0]
    torch.set_rng_state(before)
    model = fmt(1)
    state = torch.get_rng_state()
    heldout.measure(model, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)


DIGITS = {
    "task": "generator", "data": {"source": "digits"},
    "model": {"preset": "tiny", "width": 16, "encoder_layers": 1, "decoder_layers": 1},
    "optimizer": {"learning_rate": 1e-2, "ema": 0.5},
    "loop": {"steps": 6, "batch_size": 4, "log_every": 4, "checkpoint_every": 3, "device": "cpu"},
}  # fmt: skip


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_is_measured_at_every_checkpoint(tmp_path, capsys):
    setar.train(DIGITS, tmp_path)
    lines = logged(tmp_path)
    assert [line["step"] for line in lines] == [3, 4, 6]
    assert ["heldout_loss" in line for line in lines] == [True, False, True]
    assert all("loss" in line for line in lines)
    assert lines[-1]["heldout_loss"] < lines[0]["heldout_loss"] < math.log(17)
    assert f"heldout_loss {lines[-1]['heldout_loss']:.3g}" in capsys.readouterr().out
    trainer = open_run(make_run(DIGITS, ""), tmp_path, resume=True)
    with trainer._as_exported():
        again = trainer.objective.validate()["heldout_loss"]
        # Memory that lies otherwise may choose other kernels: the last digit of a float32.
        assert again == pytest.approx(lines[-1]["heldout_loss"], rel=1e-6)
    assert trainer.objective.heldout.codes.shape == (180, 64)


def test_measuring_changes_nothing_of_the_training(tmp_path, monkeypatch):
    setar.train(DIGITS, tmp_path / "with")
    monkeypatch.setattr("setar.training.generator.measured", lambda data: None)
    setar.train(DIGITS, tmp_path / "without")
    ours, theirs = (tmp_path / name / "checkpoints/step-00000006" for name in ("with", "without"))
    assert len(tiny_runs.digests(ours)) > 4
    assert tiny_runs.digests(ours) == tiny_runs.digests(theirs)
    without = logged(tmp_path / "without")
    assert [line["step"] for line in without] == [4, 6]
    own = {*CLOCKS, *(name for name in logged(tmp_path / "with")[0] if "heldout" in name)}
    plain = [
        [{k: v for k, v in line.items() if k not in own} for line in logged(tmp_path / name)]
        for name in ("without", "with")
    ]
    assert plain[0] == plain[1][1:]


def test_a_resumed_run_measures_the_same(tmp_path):
    setar.train({**DIGITS, "loop": {**DIGITS["loop"], "steps": 3}}, tmp_path / "parts")
    setar.train(DIGITS, tmp_path / "parts", resume=True)
    setar.train(DIGITS, tmp_path / "whole")
    found = [
        [{k: v for k, v in line.items() if k not in CLOCKS} for line in logged(tmp_path / name)]
        for name in ("parts", "whole")
    ]
    assert found[0] == found[1]


def test_a_tokenizer_is_measured_too(tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "pictures", 24)
    values = {
        "task": "tokenizer", "data": {"source": str(pictures), "image_size": 16, "heldout": 0.5},
        "tokenizer": {"family": "multiscale", "channels": 8, "multipliers": [1, 1, 2],
                      "blocks": 1, "codebook_size": 32, "codebook_dim": 8},
        "loop": {"steps": 2, "batch_size": 4, "device": "cpu"},
    }  # fmt: skip
    setar.train(values, tmp_path / "run")
    line = logged(tmp_path / "run")[-1]
    assert 0 < line["heldout_psnr"] < 30
    assert 0 < line["heldout_loss"] < 10
    trainer = open_run(make_run(values, ""), tmp_path / "run", resume=True)
    held = {image.numpy().tobytes() for image in trainer.objective.heldout[torch.arange(6)]}
    everything = open_data(str(pictures), 16)
    assert len(trainer.objective.heldout) + trainer.objective.samples == len(everything) == 24
    trained = trainer.objective.images[torch.arange(trainer.objective.samples)]
    assert not held & {image.numpy().tobytes() for image in trained}
