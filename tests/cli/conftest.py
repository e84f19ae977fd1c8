"""Fixtures of the commands' tests."""

import os
import subprocess
import sys

import pytest
import torch

import tiny_runs
import tiny_text


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a tiny model."""
    return tiny_runs.save_pipeline(tmp_path_factory.mktemp("models") / "grey model")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    """The folder of a tiny model of texts, whose own pictures are 16x16."""
    folder = tmp_path_factory.mktemp("text models")
    tiny_text.text_pipeline(folder / "encoder").save_pretrained(folder / "drawn")
    return folder / "drawn"


@pytest.fixture
def config(tmp_path):
    """The file of a tiny training."""
    file = tmp_path / "tiny digits.toml"
    file.write_text(tiny_runs.DIGITS)
    return file


@pytest.fixture
def one_thread():
    """As many threads in this process as in `in_a_process`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def in_a_process():
    """Starts the command line in a process of its own."""

    def start(*words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "setar.cli", *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, **pipes)

    return start
