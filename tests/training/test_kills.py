"""A run that is killed at any of its writes, or whose newest checkpoint is damaged, goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("SETAR_KILLS", "8"))
"""How many; half as many checkpoints are damaged."""


@pytest.mark.slow
def test_killed_and_damaged_runs_end_as_if_nothing_had_happened(tmp_path):
    script = Path(__file__).with_name("killed_runs.py")
    words = [script, tmp_path / "runs", "--kills", KILLS, "--damages", KILLS // 2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=60 + 10 * KILLS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{KILLS} kills" in done.stdout
    assert done.stdout.count(": 0 wrong") == 2
