"""``setar data styles``."""

import pytest

from setar.data import styles
from setar.data.styles import Built


@pytest.fixture
def built(monkeypatch):
    """What the command asked for, instead of rendering."""
    asked = []

    def build(*values):
        asked.append(values)
        names = tuple(f"noto/a{number}" for number in range(7))
        left_out = {"nothing to be seen": names, "hidden by their package": ("noto/b",)}
        return Built({"noto": 3, "twemoji": 12}, 2, left_out, ("noto is version 9",))

    monkeypatch.setattr(styles, "build_styles", build)
    return asked


def test_what_was_made_is_told(run, built, tmp_path):
    (tmp_path / "in").mkdir()
    words = ("--out", tmp_path / "out", "--from", tmp_path / "in", "--size", 32)
    code, out, err = run("data", "styles", *words)
    assert (code, err) == (0, "")
    assert built == [(tmp_path / "out", tmp_path / "in", 32, False)]
    lines = out.splitlines()
    assert lines[0] == f"15 drawings of 32x32 pixels -> {tmp_path / 'out'}"
    assert lines[1].split() == ["noto", "3"]
    assert lines[2].split() == ["twemoji", "12"]
    assert lines[3].split()[:4] == ["held", "out", "2", "pairs"]
    assert lines[4] == (
        "left out: 7 nothing to be seen (noto/a0, noto/a1, noto/a2, noto/a3, noto/a4 and 2 more)"
    )
    assert lines[5] == "left out: 1 hidden by their package (noto/b)"
    assert lines[6] == "note: noto is version 9"


def test_wrong_values_are_refused_at_once(refused, built, tmp_path):
    (tmp_path / "there").write_text("mine")
    assert "exists already" in refused("data", "styles", "--out", tmp_path / "there")
    new = tmp_path / "new"
    assert "no folder" in refused("data", "styles", "--out", new, "--from", tmp_path / "there")
    for size in ("7", "1025", "big"):
        assert "size" in refused("data", "styles", "--out", new, "--size", size)
    assert "--out" in refused("data", "styles")
    assert not built


def test_a_folder_without_packages(refused, tmp_path):
    (tmp_path / "in").mkdir()
    pytest.importorskip("resvg_py")
    line = refused("data", "styles", "--out", tmp_path / "out", "--from", tmp_path / "in")
    assert "has no iconify-json-noto-" in line
    assert not (tmp_path / "out").exists()
