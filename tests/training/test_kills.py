"""A run that is killed at any of its writes, or whose newest checkpoint is damaged, goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KILLS = int(os.environ.get("SETAR_KILLS", "5"))
DAMAGES = KILLS // 2 if KILLS > 5 else 0
"""How many; a few of the damages are those of `test_each_damaged_file_is_named`."""


@pytest.mark.slow
def test_killed_and_damaged_runs_end_as_if_nothing_had_happened(tmp_path):
    script = Path(__file__).with_name("killed_runs.py")
    words = [script, tmp_path / "runs", "--kills", KILLS, "--damages", DAMAGES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=60 + 10 * KILLS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{KILLS} kills" in done.stdout
    assert done.stdout.count(": 0 wrong") == 1 + bool(DAMAGES)


def benchmark(name, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(BENCHMARKS / name), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)


@pytest.mark.slow
def test_kills_at_random_instants():
    done = benchmark("kills.py", "--kills", "10")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "10 kills, " in done.stdout
    assert int(done.stdout.split("10 kills, ")[1].split()[0]) >= 5
    assert "all resumed by themselves; logs and weights are the same" in done.stdout


@pytest.mark.slow
def test_each_damaged_file_is_named():
    done = benchmark("damage.py", "--faults", "12")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "12 damaged checkpoints, 0 wrong" in done.stdout
