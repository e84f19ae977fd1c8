"""``setar configs``."""

import pytest

import tiny_runs
from setar.config import CONFIGS, shipped_configs
from setar.training.run import read_run


def test_all_are_listed_with_what_they_are_for(run):
    code, shown, err = run("configs")
    assert (code, err) == (0, "")
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines] == shipped_configs()
    assert all(len(line.split()) > 3 and "#" not in line for line in lines)


@pytest.mark.parametrize("name", shipped_configs())
def test_one_is_printed_as_it_is(run, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = CONFIGS / f"{name}.toml"
    assert run("configs", name) == (0, file.read_text(encoding="utf-8"), "")


def test_what_is_printed_can_be_changed_and_trained(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, shown, _ = run("configs", "digits")
    (tmp_path / "mine.toml").write_text(shown)
    assert read_run(tmp_path / "mine.toml", []) == read_run(CONFIGS / "digits.toml", [])
    changes = ["model={preset='tiny', width=16}", "loop={steps=1, batch_size=4, device='cpu'}"]
    code, said, err = run("train", "mine.toml", *(w for text in changes for w in ("--set", text)))
    assert (code, err) == (0, "")
    assert said.splitlines()[-1].endswith("-> runs/mine/checkpoints/step-00000001")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digist",
            "'digist' does not exist: no file, nor a shipped config; did you mean 'digits'?",
        ),
        ("zzz", "'zzz' does not exist: no file, nor a shipped config; known: "),
        ("two\nlines", r"'two\nlines' does not exist: no file, nor a shipped config; "),
        ("none.toml", "none.toml"),
    ],
)
def test_unknown_names_are_refused_in_one_line(refused, name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused("configs", name)


def test_a_file_of_ones_own_can_be_printed_too(run, tmp_path):
    (tmp_path / "mine.toml").write_text(tiny_runs.DIGITS)
    assert run("configs", tmp_path / "mine.toml") == (0, tiny_runs.DIGITS, "")


def test_what_is_no_text_is_no_config(refused, tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"a = \xff")
    assert "mine.toml is no config: it is not UTF-8" in refused("configs", tmp_path / "mine.toml")
