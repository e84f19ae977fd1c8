"""1, 2, 3 and 4 processes learn the same, whatever each of them holds."""

import json
import os
import subprocess
import sys

import pytest
import torch

import training.several_processes as several
from setar import Pipeline, checkpoint
from setar.run_folder import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What all of them left."""
    place = tmp_path_factory.mktemp("several")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, several.__file__, place]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return place


def logged(folder, name="loss"):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines}


def assert_same_losses(ours, theirs, steps=range(1, 21), within=1e-5):
    for name in ("loss", "gradient_norm/model"):
        one, other = logged(ours, name), logged(theirs, name)
        assert [one[step] for step in steps] == pytest.approx(
            [other[step] for step in steps], rel=within
        )


def of(folder, index=0):
    return json.loads((folder / f"process-{index}.json").read_text())


MANY = ["replicate-2", "shard-2", "replicate-3", "shard-3", "replicate-4", "shard-4", "hybrid-4"]


@pytest.mark.parametrize("name", MANY)
def test_the_losses_are_those_of_one_process(place, name):
    losses = logged(place / "alone")
    assert losses[1] - losses[20] > 0.1
    assert_same_losses(place / name, place / "alone")


@pytest.mark.parametrize("name", MANY)
def test_so_are_the_weights_that_users_load(place, name):
    ours, theirs = (
        checkpoint.load_tensors(checkpoints(place / run)[-1], "model") for run in (name, "alone")
    )
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, atol=2e-5, rtol=1e-3)
    assert len(Pipeline.from_pretrained(place / name)("3")) == 1
    assert (place / name / "samples/step-00000020.png").is_file()


@pytest.mark.parametrize(("name", "count"), [("shard-3", 3), ("shard-4", 4), ("hybrid-4", 2)])
def test_each_holds_its_share_and_all_hold_everything(place, name, count):
    held = [of(place / name, index)["held"] for index in range(count)]
    assert sum(held) == of(place / name)["all"]
    assert max(held) < 1.3 * of(place / name)["all"] / count


@pytest.mark.parametrize("name", ["masked", "muon"])
@pytest.mark.parametrize("how", ["alone", "replicate", "shard"])
def test_small_batches_are_weighted_by_what_they_supervise(place, name, how):
    ours, theirs = place / f"{name}-{how}-small", place / f"{name}-alone"
    assert_same_losses(ours, theirs, range(1, 9), within=2e-6)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_what_two_saved_any_number_goes_on_with(place, count):
    assert of(place / f"resumed-{count}")["step"] == 20
    assert_same_losses(place / f"resumed-{count}", place / "muon-alone")


def test_a_process_that_cannot_write_is_told_of_by_all(place):
    told = [of(place / "failing", index)["error"] for index in range(2)]
    assert told[0] == told[1]
    assert "cannot write" in told[0]
    assert "No space left on device" in told[0]
    assert told[0].endswith("the last good checkpoint is " + str(
        place / "failing/checkpoints/step-00000004"
    ))  # fmt: skip
    left = sorted(file.name for file in (place / "failing/checkpoints").iterdir())
    assert left == ["step-00000004"]


def test_nothing_on_disk_is_pickle(place):
    for folder in ("replicate-4", "shard-4"):
        files = [file for file in checkpoints(place / folder)[-1].rglob("*") if file.is_file()]
        assert {file.suffix for file in files} == {".json", ".safetensors"}
        listed = json.loads((checkpoints(place / folder)[-1] / "manifest.json").read_text())
        state = {f"train/{file.name}" for file in files if file.parent.name == "train"}
        assert state < listed["sha256"].keys()
        assert len({name.split("-")[1] for name in state}) == 4
