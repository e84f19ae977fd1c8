"""The notebooks run from top to bottom, and are kept without outputs."""

import json
from pathlib import Path

import pytest
from PIL import Image

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))
SMALLER = {
    "draw": {"COUNT": 1},
    "train_on_folder": {"STEPS": 2, "BATCH": 4},
    "compare_recipes": {"RECIPES": ["random-4-cosine", "halton-2-cosine"], "COUNT": 1},
}
"""What takes the place of values in the cell with the tag `parameters`, as papermill does it."""


def cells(file):
    return json.loads(file.read_text(encoding="utf-8"))["cells"]


def last_value(code, names):
    """Run a cell; the value of the expression at its end is what a notebook shows."""
    import ast

    tree = ast.parse(code)
    shown = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        shown = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "<cell>", "exec"), names)
    return None if shown is None else eval(compile(shown, "<cell>", "eval"), names)


def test_each_is_tried():
    assert {file.stem for file in NOTEBOOKS} == SMALLER.keys()


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_outputs_are_cleared(file):
    for cell in cells(file):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_runs(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, shown, changed = {"__name__": "__main__"}, [], 0
    for cell in cells(file):
        if cell["cell_type"] != "code":
            continue
        shown.append(last_value("".join(cell["source"]), names))
        if "parameters" in cell["metadata"].get("tags", ()):
            assert SMALLER[file.stem].keys() <= names.keys()
            names |= SMALLER[file.stem]
            changed += 1
    assert changed == 1
    pictures = [value for value in shown if isinstance(value, Image.Image)]
    assert pictures
    assert all(picture.width > 96 for picture in pictures)
