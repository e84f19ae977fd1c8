"""A disk that is full ends a training with one line; what was saved before is whole."""

import json
import subprocess

import pytest

import setar
from setar import checkpoint
from setar.run_folder import CLOCKS, checkpoints
from training.test_training_run import DIGITS

STEPS = 24
LOOP = {**DIGITS["loop"], "steps": STEPS, "checkpoint_every": 1, "keep": STEPS}


@pytest.fixture
def disk(tmp_path):
    """A small file system in memory, and how to make it larger."""

    def mount(*options):
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
        return subprocess.run(words, capture_output=True, check=False)

    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = mount("size=3m")
    except OSError:
        pytest.skip("no program to mount with")
    if done.returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield folder, lambda: mount("remount", "size=200m")
    subprocess.run(["umount", str(folder)], check=False)


def figures(folder):
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]


def test_the_last_checkpoint_is_whole_and_the_run_goes_on_when_there_is_room(disk, tmp_path):
    folder, enlarge = disk
    values = {**DIGITS, "data": {"source": "digits:heldout"}, "loop": LOOP}
    with pytest.raises(OSError, match="No space left") as error:
        setar.train(values, folder / "run")
    found = checkpoints(folder / "run")
    assert 1 <= len(found) < STEPS
    assert "\n" not in str(error.value)
    assert str(error.value).count(f"the last good checkpoint is {found[-1]}") == 1
    for one in found:
        checkpoint.verify(one)
    assert sorted(f.name for f in (folder / "run/checkpoints").iterdir()) == [
        one.name for one in found
    ]
    assert enlarge().returncode == 0
    setar.train(values, folder / "run", resume=True)
    setar.train(values, tmp_path / "whole")
    assert figures(folder / "run") == figures(tmp_path / "whole")
