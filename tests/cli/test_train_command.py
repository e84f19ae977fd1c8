"""``setar train``."""

import json
import signal
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

import tiny_runs
from setar.run_folder import CLOCKS, checkpoints


def test_train_then_sample(run, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, shown, err = run("train", config)
    assert (code, err) == (0, "")
    folder = Path("runs") / "tiny digits"
    assert [step.name for step in checkpoints(folder)] == ["step-00000003", "step-00000004"]
    assert shown.splitlines()[-1].endswith(f"-> {folder}/checkpoints/step-00000004")
    code, shown, err = run("sample", folder, "--count", 1, "--out", "digits.png")
    assert (code, err) == (0, "")
    assert "6 images" in shown


def test_a_folder_of_pictures_from_tokenizer_to_samples(run, tmp_path):
    pictures = tiny_runs.save_pictures(tmp_path / "my pictures", 12)
    source = f'data.source="{pictures}"'
    (tmp_path / "tokenizer.toml").write_text(tiny_runs.FOLDER_TOKENIZER)
    (tmp_path / "generator.toml").write_text(tiny_runs.FOLDER_GENERATOR)
    code, _, err = run(
        "train", tmp_path / "tokenizer.toml", "--out", tmp_path / "tokens", "--set", source
    )
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "tokens/samples/step-00000002.png") as picture:
        assert picture.size == (12 * 50 - 2, 2 * 50 - 2)
    code, _, err = run(
        "train", tmp_path / "generator.toml", "--out", tmp_path / "run", "--set", source,
        "--set", f'tokenizer="{tmp_path / "tokens"}"',
    )  # fmt: skip
    assert (code, err) == (0, "")
    code, _, err = run(
        "sample", tmp_path / "run", "--classes", "dogs", "--count", 2, "--out", tmp_path / "a.png",
        "--each", tmp_path / "each",
    )  # fmt: skip
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "each/000001-dogs.png") as picture:
        assert picture.size == (16, 16)


TINY = [
    "model={preset='tiny', width=16, encoder_layers=1, decoder_layers=1}",
    "loop={steps=2, batch_size=4, device='cpu'}",
]


@pytest.mark.parametrize("name", ["digits", "digits.toml", "configs/digits.toml"])
def test_a_shipped_config_trains_anywhere(run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, shown, err = run("train", name, *(word for text in TINY for word in ("--set", text)))
    assert (code, err) == (0, "")
    assert shown.startswith("training digits into runs/digits\n")
    assert shown.splitlines()[-1].endswith("-> runs/digits/checkpoints/step-00000002")
    assert [step.name for step in checkpoints("runs/digits")] == ["step-00000002"]
    settings = json.loads(Path("runs/digits/settings.json").read_text())
    assert settings["recipe"] == "random-16-random"
    assert settings["sampling"]["guidance"]["schedule"] == "power-cosine"


def test_a_config_of_ones_own_goes_before_a_shipped_one(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/digits.toml").write_text(tiny_runs.DIGITS)
    code, _, err = run("train", "configs/digits.toml")
    assert (code, err) == (0, "")
    assert json.loads(Path("runs/digits/settings.json").read_text())["model"]["preset"] == "tiny"


def test_a_run_is_not_overwritten(refused, run, config, tmp_path):
    folder = tmp_path / "run"
    run("train", config, "--out", folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert "--resume" in refused("train", config, "--out", folder)
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_finished_run_says_so(run, config, tmp_path):
    folder = tmp_path / "run"
    run("train", config, "--out", folder)
    code, shown, err = run("train", config, "--out", folder, "--resume")
    assert (code, err) == (0, "")
    assert shown == f"{folder} has its 4 steps; raise loop.steps to train on\n"
    code, shown, _ = run("train", config, "--out", folder, "--resume", "--set", "loop.steps=5")
    assert code == 0
    assert "step 5 of 5" in shown


def test_a_run_is_resumed_as_it_was_started(run, refused, config, tmp_path):
    folder = tmp_path / "run"
    run("train", config, "--out", folder)
    remembered = (folder / "settings.json").read_bytes()
    changed = ("--resume", "--set", "recipe=ar", "--set", "loop.steps=6")
    message = refused("train", config, "--out", folder, *changed)
    assert "was started with recipe = 'random-8-random', not 'raster-N-uniform'" in message
    assert (folder / "settings.json").read_bytes() == remembered
    code, _, _ = run("train", config, "--out", folder, "--resume", "--set", "loop.steps=6")
    assert code == 0
    assert json.loads((folder / "settings.json").read_text())["loop"]["steps"] == 6


def test_resuming_nothing_starts(run, config, tmp_path):
    code, _, shown = run("train", config, "--out", tmp_path / "run", "--resume")
    assert code == 0
    assert "no checkpoint yet: starting from step 0" in shown


def test_a_damaged_checkpoint_is_left_out(run, config, tmp_path):
    run("train", config, "--out", tmp_path)
    file = tiny_runs.state_file(checkpoints(tmp_path)[-1], "model")
    file.write_bytes(file.read_bytes()[:-1])
    code, shown, err = run("train", config, "--out", tmp_path, "--resume")
    assert code == 0
    assert err.startswith(f"setar: {file} is damaged")
    assert err.endswith("step-00000004.damaged, and step-00000003 goes on\n")
    assert f"{tmp_path} goes on from step 3" in shown
    assert [step.name for step in checkpoints(tmp_path)] == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["recipe=rndom-4-random"], "unknown order 'rndom'"),
        (["recipe=random-65-random"], "65"),
        (["loop.stepps=3"], "did you mean 'steps'?"),
        (["loop.steps=0"], "at least 1"),
        (["loop.steps"], "key=value"),
        (["loop.device=toaster"], "no device 'toaster'"),
        (["loop.seed=-1"], "`seed` (=-1)"),
        (["task=[1]"], "unknown `task` [1]; known: tokenizer, generator"),
        (["data.source=/no/where"], "/no/where does not exist"),
        (["tokenizer=/no/where"], "/no/where"),
    ],
)
def test_training_mistakes(refused, config, tmp_path, changes, message):
    words = [word for change in changes for word in ("--set", change)]
    assert message in refused("train", config, "--out", tmp_path / "run", *words)
    assert not checkpoints(tmp_path / "run")


def test_a_config_that_is_not_there(refused, tmp_path):
    assert "none.toml does not exist" in refused("train", tmp_path / "none.toml")
    assert "is a folder, not a file" in refused("train", tmp_path)
    assert (
        "'digist' does not exist: no file, nor a shipped config; did you mean 'digits'?"
        in refused("train", "digist")
    )


def test_a_run_needs_a_folder(refused, config, tmp_path, monkeypatch):
    fail = Mock(side_effect=AssertionError("too late"))
    monkeypatch.setattr("setar.training.run.open_run", fail)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert f"cannot make the folder {out}" in refused("train", config, "--out", out)
    assert (tmp_path / "file").read_text() == "mine"


def test_divergence_ends_in_one_line(refused, config, tmp_path):
    changes = ["optimizer.learning_rate=9e18", "loop.steps=30"]
    words = [word for change in changes for word in ("--set", change)]
    assert "training diverged at step" in refused("train", config, "--out", tmp_path, *words)


def logged(folder):
    file = folder / "metrics.jsonl"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_killed_process_goes_on_as_if_nothing_had_happened(run, in_a_process, config, tmp_path):
    words = ["train", config, "--set", "loop.steps=24", "--set", "data.flips=true", "--out"]
    run(*words, tmp_path / "whole")

    killed = tmp_path / "killed"
    process = in_a_process(*words, killed)
    deadline = time.monotonic() + 300
    while len(logged(killed)) < 7 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 7 <= len(logged(killed)) < 24

    code, _, err = run(*words, killed, "--resume")
    assert (code, err) == (0, "")

    def figures(folder):
        lines = [json.loads(line) for line in logged(folder)]
        return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]

    assert [line["step"] for line in figures(killed)] == list(range(1, 25))
    assert figures(killed) == figures(tmp_path / "whole")
    last = Path("checkpoints/step-00000024")
    ours, theirs = (tiny_runs.digests(folder / last) for folder in (killed, tmp_path / "whole"))
    assert len(ours) > 4
    assert ours == theirs


def test_a_dry_run_trains_nothing(run, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, shown, err = run("train", "digits", "--dry-run")
    assert (code, err) == (0, "")
    assert shown.startswith("digits: a dry run, which trains nothing\n")
    for name in ("images", "tokens", "model", "memory", "training", "missing"):
        assert f"\n  {name} " in shown
    assert not [*tmp_path.iterdir()]
    code, shown, _ = run("train", "digits", "--dry-run", "--devices", 4)
    assert code == 0
    assert "for 16 images on a device" in shown
    message = refused("train", "digits", "--dry-run", "--devices", 7)
    assert "`batch_size` (=64) must be a multiple of the devices (=7)" in message
    refused("train", "digits", "--dry-run", "--set", "recipe=random-65-random")
    assert not [*tmp_path.iterdir()]


def test_a_run_is_repeated_and_gone_on_with_by_its_folder(run, refused, config, tmp_path):
    first = tmp_path / "first"
    run("train", config, "--out", first, "--set", "loop.steps=2")
    said = refused("train", first)
    assert "settings.json is of a run: --out FOLDER repeats it there, --resume goes on" in said
    for source in (first, first / "settings.json"):
        again = tmp_path / f"again-{source.name}"
        assert run("train", source, "--out", again)[0] == 0
        file = "checkpoints/step-00000002/model.safetensors"
        assert (again / file).read_bytes() == (first / file).read_bytes()
    assert run("train", first, "--resume", "--set", "loop.steps=3")[0] == 0
    assert checkpoints(first)[-1].name == "step-00000003"
    assert "lacks" in refused("train", tmp_path / "lacks.json", "--out", tmp_path / "x")
