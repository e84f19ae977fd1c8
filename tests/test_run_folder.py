"""What lies where in the folder of a run."""

import pytest

from setar.run_folder import (
    METRICS,
    SETTINGS,
    checkpoint_folder,
    checkpoints,
    is_run,
    prune,
    step_folders,
    sweep,
)


@pytest.fixture
def run(tmp_path):
    """A run of three checkpoints, with what processes that died have left."""
    for step in (900, 1000, 20):
        folder = checkpoint_folder(tmp_path / "run", step)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "manifest.json").write_text("{}")
    for name in ("step-00002000", ".step-00003000.partial", ".step-00000900.old", "notes"):
        (tmp_path / "run/checkpoints" / name).mkdir()
    for name in (".step-00003000.partial", ".step-00000900.old", "notes"):
        (tmp_path / "run/checkpoints" / name / "config.json").write_text("{}")
        (tmp_path / "run/checkpoints" / name / "manifest.json").write_text("{}")
    return tmp_path / "run"


def test_checkpoints_are_the_complete_ones_oldest_first(run):
    names = ["step-00000020", "step-00000900", "step-00001000"]
    assert checkpoints(run) == [run / "checkpoints" / name for name in names]
    assert checkpoints(str(run)) == checkpoints(run)


def test_the_names_of_checkpoints_sort_by_step(tmp_path):
    steps = [0, 9, 10, 99_999, 1_501_400]
    folders = [checkpoint_folder(tmp_path, step) for step in steps]
    assert folders == sorted(folders)
    assert folders[2] == tmp_path / "checkpoints" / "step-00000010"


def test_a_run_is_a_folder_with_a_place_for_checkpoints(run, tmp_path):
    assert is_run(run)
    assert is_run(str(run))
    (tmp_path / "started/checkpoints").mkdir(parents=True)
    assert is_run(tmp_path / "started")
    assert checkpoints(tmp_path / "started") == []


@pytest.mark.parametrize("name", ["none", "file", "file/deeper", "", "x" * 5000, "a\0b"])
def test_what_is_no_run_has_no_checkpoints(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert not is_run(name)
    assert checkpoints(name) == []


def test_the_files_of_a_run_have_names():
    assert (SETTINGS, METRICS) == ("settings.json", "metrics.jsonl")


OWN = ("step-00001000-best", "step-00001000.zip", "step-0001", "step-000010000", "Step-00000001")
"""What a user may keep beside the checkpoints."""


@pytest.fixture
def own(run):
    """The run, with folders and files of the user's."""
    for name in OWN:
        folder = run / "checkpoints" / name
        folder.mkdir()
        for file in ("config.json", "manifest.json"):
            (folder / file).write_text("{}")
    return run


def test_copies_of_checkpoints_are_none(own):
    assert [folder.name for folder in checkpoints(own)][-1] == "step-00001000"
    assert len(checkpoints(own)) == 3


def test_a_checkpoint_without_its_manifest_is_not_complete(run):
    (run / "checkpoints/step-00001000/manifest.json").unlink()
    assert [folder.name for folder in checkpoints(run)] == ["step-00000020", "step-00000900"]
    assert len(step_folders(run)) == 4


def test_steps_of_nine_digits_come_after_those_of_eight(tmp_path):
    for step in (100_000_000, 99_999_999):
        checkpoint_folder(tmp_path, step).mkdir(parents=True)
    assert [folder.name for folder in step_folders(tmp_path)] == [
        "step-99999999", "step-100000000",
    ]  # fmt: skip


def test_pruning_keeps_the_newest_up_to_a_step_and_what_is_not_ours(own):
    (own / "checkpoints/step-00000010").symlink_to(own / "checkpoints/step-00001000-best")
    prune(own, 900, 1)
    left = {path.name for path in (own / "checkpoints").iterdir()}
    assert left >= {*OWN, "step-00000010", "step-00000900", "step-00001000", "notes"}
    assert "step-00000020" not in left


def test_a_checkpoint_that_is_half_deleted_counts_no_more(run, monkeypatch):
    monkeypatch.setattr("setar.run_folder.shutil.rmtree", lambda *_, **__: None)
    prune(run, 1000, 1)
    assert [folder.name for folder in checkpoints(run)] == ["step-00001000"]
    monkeypatch.undo()
    assert (run / "checkpoints/.step-00000020.pruned").exists()
    sweep(run)
    assert not (run / "checkpoints/.step-00000020.pruned").exists()


def test_sweeping_takes_what_we_left_and_nothing_else(own, tmp_path):
    place = own / "checkpoints"
    (place / ".step-00000020.old").mkdir()
    (place / ".step-00000777.old").mkdir()  # the process died between two renames
    (place / ".mine.partial").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (place / ".step-00000005.partial").symlink_to(tmp_path / "elsewhere")
    (own / "samples").mkdir()
    for name in (".step-00000002.partial.png", ".mine.partial.png", "step-00000002.png"):
        (own / "samples" / name).write_text("")
    (own / ".settings.partial.json").write_text("{")
    sweep(own)
    hidden = {path.name for path in place.iterdir() if path.name.startswith(".")}
    assert hidden == {".mine.partial", ".step-00000005.partial"}
    assert (tmp_path / "elsewhere").is_dir()
    assert {*OWN, "step-00000777"} <= {path.name for path in place.iterdir()}
    assert {f.name for f in (own / "samples").iterdir()} == {
        ".mine.partial.png",
        "step-00000002.png",
    }
    assert not (own / ".settings.partial.json").exists()
