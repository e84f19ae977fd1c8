"""Two processes on a CPU train what one trains."""

import json
import os
import subprocess
import sys

import pytest
import torch

import tiny_runs
import training.two_processes as two
from setar import Pipeline, checkpoint
from setar.run_folder import checkpoints
from setar.training.distributed import ALONE, join, place
from setar.training.run import open_run


def test_alone_nothing_is_exchanged():
    assert join() == ALONE
    tensor = torch.tensor([1.0, 2.0])
    ALONE.highest(tensor)
    ALONE.copy_first([tensor])
    ALONE.wait()
    assert tensor.tolist() == [1.0, 2.0] == ALONE.mean([1.0, 2.0])
    assert ALONE.rows(5) == slice(0, 5)
    with pytest.raises(OSError, match="mine"):
        ALONE.all_raise(OSError("mine"))


@pytest.mark.parametrize(
    ("index", "count"), [("", "2"), ("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0"), ("0", "two")]
)
def test_a_place_that_cannot_be_waits_for_nobody(monkeypatch, index, count):
    monkeypatch.setenv("RANK", index)
    monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(ValueError, match=f"WORLD_SIZE='{count}' and RANK='{index}'"):
        place()


def test_the_place_that_torchrun_says(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert place() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert place() == (1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes left."""
    folder = tmp_path_factory.mktemp("two")
    tiny_runs.save_pictures(folder / "pictures", 16)
    (folder / "odd.toml").write_text(tiny_runs.DIGITS.replace("batch_size = 4", "batch_size = 5"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, two.__file__, folder]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "train.codes").read_text() == "0 0", (folder / "train.said").read_text()
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return [json.loads((folder / f"process-{i}.json").read_text()) for i in range(2)]


@pytest.mark.slow
def test_they_exchange_numbers(found):
    for index, process in enumerate(found):
        assert process["count"] == 2
        assert process["mean"] == [0.5, 4.0]
        assert process["highest"] == [[1.0, 1.0], [1.0, 1.0]]
        assert process["first"] == [[0.0, 0.0], [0.0, 0.0]]
        assert process["share"] == [[0, 1, 2], [3, 4, 5]][index]
        assert (process["told"], process["first's"]) == ("mine", "of the first")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generator", "tokenizer"])
def test_they_end_with_the_same_weights(found, name):
    first, second = (process[name] for process in found)
    assert first == second
    assert found[0][f"{name} state"] == found[1][f"{name} state"]


@pytest.mark.slow
def test_together_they_train_what_one_trains(folder, tmp_path):
    alone = open_run(two.generator(), tmp_path)
    alone.run()
    [ours], [theirs] = checkpoints(tmp_path)[-1:], checkpoints(folder / "generator")[-1:]
    before, after = (checkpoint.load_tensors(run, "model") for run in (ours, theirs))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=2e-5, rtol=1e-3)
    logs = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path, folder / "generator")
    ]
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)
    assert len(Pipeline.from_pretrained(folder / "generator")("3")) == 1


@pytest.mark.slow
def test_one_of_them_speaks(folder):
    lines = [
        line for line in (folder / "train.said").read_text().splitlines() if "step 4 of 4" in line
    ]
    assert len(lines) == 1


@pytest.mark.slow
def test_they_stop_at_the_same_step(folder):
    """One of them gets the signal, in its second step; both end, and that step is saved."""
    assert (folder / "stop.codes").read_text() == "143 143"
    assert "stopped after step 2" in (folder / "stop.said").read_text()
    assert [step.name for step in checkpoints(folder / "stopped")] == ["step-00000002"]


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared(folder):
    assert (folder / "command.codes").read_text() == "2 2"
    said = (folder / "command.said").read_text()
    assert "`batch_size` (=5) must be a multiple of the processes (=2)" in said
