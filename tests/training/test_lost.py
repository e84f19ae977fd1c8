"""A process that dies or hangs ends the others, soon, and its own error is shown."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("lost_processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
GONE = "setar: process 0 ends, for another one is gone or hangs, whose own message says why; "


def start(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = list(map(str, words))
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What processes left that met without torchrun."""
    place = tmp_path_factory.mktemp("lost")
    done = start(sys.executable, SCRIPT, place)
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def assert_told(said, struck, within):
    assert GONE in said
    assert "RuntimeError" not in said
    assert "there is no checkpoint yet" in said
    assert within - float(struck.read_text()) < 60


def test_the_others_end_within_a_minute(tmp_path):
    done = start(*TORCHRUN, SCRIPT, "kill", tmp_path / "run")
    assert done.returncode != 0
    assert "Signal 9 (SIGKILL) received by PID" in done.stderr
    assert_told(done.stderr, tmp_path / "struck", time.time())


def test_also_after_the_error_of_one(place):
    said = (place / "raise/said").read_text()
    assert (place / "raise/codes").read_text() == "2 2"
    assert "setar: the disk of this node is gone; " in said
    assert_told(said, place / "raise/struck", float((place / "raise/ended").read_text()))


def test_or_soon_after_one_has_hung_for_too_long(place):
    said = (place / "hang/said").read_text()
    assert (place / "hang/codes").read_text() == "2 -9"
    assert "Timed out" in said
    assert_told(said, place / "hang/struck", float((place / "hang/ended").read_text()) - 5)


def test_a_bad_number_of_one_ends_all_with_the_same_words(place):
    said = (place / "nan/said").read_text()
    # Both write into one file: the ends of their lines may come after both.
    lines = [part.splitlines()[0] for part in said.split("setar: ")[1:]]
    assert (place / "nan/codes").read_text() == "2 2"
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert "diverged at step 3: the loss of `model` is nan (in process 1, items " in lines[0]
    assert lines[0].split("items ")[1].split(")")[0].count(",") == 1, "its own two of the four"


def test_or_is_left_out_by_all(place):
    said = (place / "skip/said").read_text()
    assert (place / "skip/codes").read_text() == "0 0", said
    lines = (place / "skip/run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line).get("skipped_steps", 0) for line in lines] == [0, 0, 1, 1]
    assert "step 3 is skipped, 1 of at most 1: the loss of `model` is nan (in process 1" in said
