"""Training from Python; what runs are made of is tested beside."""

import json
import tomllib

import pytest

import setar
import tiny_runs
from setar.training.settings import make_run

DIGITS = tomllib.loads(tiny_runs.DIGITS)


def with_steps(steps):
    return {**DIGITS, "loop": {**DIGITS["loop"], "steps": steps}}


def test_a_run_gives_a_model(tmp_path):
    last = setar.train(DIGITS, tmp_path / "new" / "run")
    assert last == tmp_path / "new" / "run" / "checkpoints" / "step-00000004"
    for folder in (last, tmp_path / "new" / "run"):
        assert len(setar.Pipeline.from_pretrained(folder)("3")) == 1


def test_resumed_as_if_never_stopped(tmp_path):
    setar.train(with_steps(2), tmp_path / "parts", resume=True)
    parts = setar.train(make_run(DIGITS, ""), tmp_path / "parts", resume=True)
    whole = setar.train(DIGITS, str(tmp_path / "whole"))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (parts, whole)]
    assert weights[0] == weights[1]
    log = (tmp_path / "parts" / "metrics.jsonl").read_text()
    assert setar.train(DIGITS, tmp_path / "parts", resume=True) == parts
    assert (tmp_path / "parts" / "metrics.jsonl").read_text() == log


def test_a_run_is_not_overwritten(tmp_path):
    setar.train(with_steps(1), tmp_path)
    with pytest.raises(ValueError, match="has checkpoints already"):
        setar.train(DIGITS, tmp_path)
    with pytest.raises(ValueError, match="was started with recipe = 'random-8-random', not 'ar'"):
        setar.train({**DIGITS, "recipe": "ar"}, tmp_path, resume=True)


def test_a_run_goes_on_that_is_older_than_a_setting(tmp_path):
    setar.train(with_steps(2), tmp_path)
    file = tmp_path / "settings.json"
    values = json.loads(file.read_text())
    del values["self_correction"], values["sampling"]["settings"]["smoothing"]
    file.write_text(json.dumps(values))
    assert setar.train(DIGITS, tmp_path, resume=True).name == "step-00000004"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"task": "tokeniser"}, "settings: `task` must be one of tokenizer, "),
        ({"recipee": "ar"}, "did you mean `recipe`"),
        ({"loop": {"steps": 0}}, "at least 1"),
    ],
)
def test_wrong_settings(tmp_path, changes, rule):
    with pytest.raises(ValueError, match=rule):
        setar.train({**DIGITS, **changes}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
