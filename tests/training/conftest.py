"""Runs of config texts, in the folder of the test."""

import pytest

from setar.training.run import open_run, read_run


@pytest.fixture
def read(tmp_path):
    """The settings that a config text gives, with overrides."""

    def write_and_read(text, *overrides):
        file = tmp_path / "run.toml"
        file.write_text(text)
        return read_run(file, list(overrides))

    return write_and_read


@pytest.fixture
def make(read, tmp_path):
    """A trainer of a config text, with overrides, in the folder ``out`` of the test's."""

    def trainer(text, *overrides, out="run"):
        return open_run(read(text, *overrides), tmp_path / out)

    return trainer
