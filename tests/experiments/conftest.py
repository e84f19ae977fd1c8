"""The scripts of `experiments` as modules that keep what they make in a folder of the test."""

import importlib
import sys
from pathlib import Path

import pytest

import setar
from setar.models.base import FAMILIES

EXPERIMENTS = Path(setar.__file__).parents[2] / "experiments"
SCRIPTS = [file.stem for file in EXPERIMENTS.glob("*.py")]


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """The workbench; models are not compiled."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    module = importlib.import_module("lab")
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(module, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(module, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(module, "COMPILES", False)
    yield module
    for name in SCRIPTS:
        sys.modules.pop(name, None)
    FAMILIES._entries.pop("fmt-apart", None)


@pytest.fixture
def scaling(lab):
    return importlib.import_module("scaling")


@pytest.fixture
def next_scale(lab):
    return importlib.import_module("next_scale")


@pytest.fixture
def results(lab):
    return importlib.import_module("results")


@pytest.fixture
def backbones(lab, monkeypatch, tmp_path):
    module = importlib.import_module("backbones")
    monkeypatch.setattr(module, "KEPT", tmp_path / "committed")
    return module


@pytest.fixture
def backbones_page(backbones, monkeypatch, tmp_path):
    module = importlib.import_module("backbones_page")
    monkeypatch.setattr(module, "PAGE", tmp_path / "backbones.md")
    return module
