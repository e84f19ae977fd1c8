"""Some of the hostile requests of `benchmarks/hostile_requests.py`, to a studio by itself."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("gradio", reason='the studio needs pip install "setar[web]"')

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def hostile(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield import_module("hostile_requests")
    for name in ("hostile_requests", "studio"):
        sys.modules.pop(name, None)


def test_hostile_requests_are_answered_kindly(hostile, folder, tmp_path):
    (tmp_path / "secret.txt").write_text(hostile.SECRET)
    attacks = hostile.attacks("small")
    assert len(attacks) > 300
    unknown = [one for one in attacks if one[0].startswith("nowhere")]
    with hostile.studio([str(folder)], tmp_path) as here:
        assert hostile.attack(here, "small", [*unknown, *attacks[:40]]) == []


@pytest.mark.parametrize(
    ("kind", "answer", "fault"),
    [
        ("complete", [], "it ended as complete"),
        ("no end", "", "it ended as no end"),
        ("error", {"error": None}, "no kind line"),
        ("error", {"error": "two\nlines"}, "no kind line"),
        ("error", {"error": "that went wrong here (KeyError)"}, "a defect of the studio's"),
        ("status", (500, ""), "status 500"),
        ("status", (200, "root:x:0:0"), "it says root:"),
        ("refused", "Traceback", "it says Traceback"),
        ("error", {"error": "`count` (=17) must be at most 16"}, ""),
        ("status", (404, "nothing here"), ""),
    ],
)
def test_what_counts_as_wrong(hostile, kind, answer, fault):
    assert hostile.wrong(kind, answer) == fault
