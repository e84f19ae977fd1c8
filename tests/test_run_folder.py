"""What lies where in the folder of a run."""

import pytest

from setar.run_folder import METRICS, SETTINGS, checkpoint_folder, checkpoints, is_run


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
