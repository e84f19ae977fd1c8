"""``setar info``."""

import json

import pytest
from PIL import Image

import tiny_runs
from setar.files import fingerprint
from setar.pictures.memory import Memory, recall
from setar.pictures.png import write_png
from setar.pipeline import Pipeline


def told(run, what):
    code, out, err = run("info", what, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_picture_says_what_made_it(run, model, tmp_path):
    file = tmp_path / "a.png"
    words = ("--classes", "dog,cat", "--count", 1, "--seed", 7, "--temperature", 0.5)
    run("sample", model, *words, "--out", file)
    facts = told(run, file)
    assert facts["asked for"] == "dog; cat"
    assert (facts["seed"], facts["sampler"], facts["temperature"]) == (
        "7",
        "random-4-cosine",
        "0.5",
    )
    assert (facts["model"], facts["model hash"]) == (str(model), fingerprint(model))
    assert facts["pixels"] == "as they were made"
    assert facts["size"] == "4x4 pixels (height x width)"
    code, out, _ = run("info", file)
    assert code == 0
    assert ["seed", "7"] in [line.split() for line in out.splitlines()]


def test_a_picture_that_was_changed_is_told(run, tmp_path):
    file = tmp_path / "a.png"
    write_png(Image.new("RGB", (4, 4), "red"), file, Memory("image", asked=(5,), seed=1))
    memory = recall(file)
    again = Image.new("RGB", (4, 4), "blue")
    from setar.pictures.png import _info

    again.save(file, pnginfo=_info(memory))
    facts = told(run, file)
    assert facts["pixels"] == "changed since they were made"
    assert facts["asked for"] == "5", "an id, where no name is known"


def test_a_picture_that_remembers_nothing_is_refused(refused, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert "remembers nothing" in refused("info", tmp_path / "a.png")


def test_a_shipped_model_says_what_it_is(run):
    facts = told(run, "emoji")
    assert facts["size"] == "32x32 pixels (height x width)"
    assert facts["asked with"].startswith("99 classes: face-smiling, ")
    assert facts["parameters"] == {"model": "2.95 M", "tokenizer": "0.82 M"}
    assert (facts["recipe"], facts["tokens"]) == ("random-16-cosine", "8x8 = 64")
    assert "as its config says" in facts["steps trained"]
    assert facts["licence"].startswith("that of the package: MIT")
    text = told(run, "emoji-text")
    assert text["asked with"] == "texts, read by minilm"
    assert text["licence"].startswith("The weights were trained on")


def test_a_run_says_its_steps_and_licence(run, tmp_path, model):
    step = tmp_path / "run" / "checkpoints" / "step-00000030"
    card = "---\nlicense: apache-2.0\n---\n"
    Pipeline.from_pretrained(model).save_pretrained(step, card=card)
    facts = told(run, tmp_path / "run")
    assert (facts["steps trained"], facts["licence"]) == (30, "apache-2.0")
    assert facts["bytes"] == sum(file.stat().st_size for file in step.iterdir())


@pytest.mark.parametrize("what", ["emojy", "./none", ""])
def test_what_is_no_model_is_refused(refused, what):
    assert refused("info", what)


def test_models_are_listed(run, tmp_path, monkeypatch):
    tiny_runs.save_pipeline(tmp_path / "here" / "mine")
    tiny_runs.save_pipeline(tmp_path / "here" / "run" / "checkpoints" / "step-00000002")
    cache = tmp_path / "cache"
    tiny_runs.save_pipeline(cache / "models--owner--name" / "snapshots" / "0123")
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    code, out, err = run("models", tmp_path / "here", "--json")
    assert (code, err) == (0, "")
    rows = {row["model"]: row for row in json.loads(out)}
    places = {name: row["where"] for name, row in rows.items()}
    here = tmp_path / "here"
    assert places == {
        "emoji": "shipped", "emoji-text": "shipped", "emoji-var": "shipped",
        "owner/name": "cached", str(here / "mine"): "here", str(here / "run"): "here",
    }  # fmt: skip
    assert rows["owner/name"]["what"] == "5 classes: cat, dog, sky & sea, ..."
    assert rows["owner/name"]["parameters"] > 1000
    assert "emoji-var" in run("models", here)[1]


def test_a_folder_that_is_none_is_refused(refused, tmp_path):
    assert "is no folder" in refused("models", tmp_path / "none")
