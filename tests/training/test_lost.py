"""A process that dies or hangs ends the others, soon, and its own error is shown."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("lost_processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
GONE = "setar: process 0 ends, for another one is gone or hangs, whose own message says why; "


def start(kind, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*TORCHRUN, str(SCRIPT), kind, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("raise", "setar: the disk of this node is gone; "),
        ("kill", "Signal 9 (SIGKILL) received by PID"),
        ("hang", "Timed out"),
    ],
)
def test_the_others_end_within_a_minute(tmp_path, kind, said):
    done = start(kind, tmp_path / "run")
    ended = time.time()
    assert done.returncode != 0
    assert said in done.stderr
    assert GONE in done.stderr
    assert "RuntimeError" not in done.stderr
    struck = float((tmp_path / "struck").read_text())
    assert ended - struck < 60 + (5 if kind == "hang" else 0)
    left = "there is no checkpoint yet" in done.stderr
    assert left


@pytest.mark.slow
def test_a_bad_number_of_one_ends_all_with_the_same_words(tmp_path):
    done = start("nan", tmp_path / "run")
    lines = [line for line in done.stderr.splitlines() if line.startswith("setar: ")]
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert "diverged at step 3: the loss of `model` is nan (in process 1, items " in lines[0]
    assert lines[0].split("items ")[1].split(")")[0].count(",") == 1, "its own two of the four"


@pytest.mark.slow
def test_or_is_left_out_by_all(tmp_path):
    done = start("skip", tmp_path / "run")
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(t) for t in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line.get("skipped_steps", 0) for line in lines] == [0, 0, 1, 1]
    assert "step 3 is skipped, 1 of at most 1: the loss of `model` is nan (in process 1" in (
        done.stderr
    )
