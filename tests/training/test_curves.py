"""Weights & Biases, by a module that stands for it; TensorBoard is tested in test_report.py."""

import json
import sys
import types

import pytest

import setar
from training.test_training_run import DIGITS


@pytest.fixture
def wandb(monkeypatch):
    """A module that keeps what it is told."""
    module = types.ModuleType("wandb")
    module.runs, module.fails = [], False

    class Run:
        def __init__(self, **about):
            self.about, self.logged, self.ended, self.metrics = about, [], False, []

        def define_metric(self, name, step_metric):
            self.metrics.append((name, step_metric))

        def log(self, values):
            if module.fails:
                raise ConnectionError("no network")
            self.logged.append(values)

        def finish(self):
            self.ended = True

    def init(**about):
        module.runs.append(Run(**about))
        return module.runs[-1]

    module.init, module.Image = init, lambda array: ("image", array.shape)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def values(steps):
    return {**DIGITS, "loop": {**DIGITS["loop"], "steps": steps, "wandb": "mine"}}


def test_it_gets_figures_pictures_and_settings_and_goes_on_in_the_same_run(wandb, tmp_path):
    setar.train(values(2), tmp_path / "run")
    setar.train(values(4), tmp_path / "run", resume=True)
    first, second = wandb.runs
    assert first.about["project"] == "mine"
    assert first.about["name"] == "run"
    assert first.about["id"] == second.about["id"]
    assert second.about["resume"] == "allow"
    assert first.about["config"]["model"]["width"] == 16
    assert first.metrics == [("*", "step")]
    assert first.ended
    assert second.ended
    lines = [json.loads(t) for t in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    figures = [v for run in wandb.runs for v in run.logged if "samples" not in v]
    assert [v["step"] for v in figures] == [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [v["loss"] for v in figures] == [line["loss"] for line in lines]
    [picture] = [v for v in second.logged if "samples" in v]
    assert picture["step"] == 4
    kind, (height, width, channels) = picture["samples"]
    assert (kind, channels) == ("image", 3)
    assert min(height, width) > 8


def test_only_who_asks_is_shown(wandb, tmp_path):
    setar.train({**DIGITS, "loop": {**DIGITS["loop"], "steps": 1}}, tmp_path)
    assert wandb.runs == []


def test_a_training_goes_on_without_it(wandb, tmp_path, capsys):
    wandb.fails = True
    setar.train(values(2), tmp_path)
    err = capsys.readouterr().err
    assert err.splitlines() == ["setar: no curves in wandb from here on: no network"]


def test_where_it_is_not_installed_a_line_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    setar.train(values(1), tmp_path)
    out = capsys.readouterr().out
    assert "no curves, for wandb is not installed (pip install wandb)" in out
