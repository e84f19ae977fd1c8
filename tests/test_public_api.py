"""The public names resolve lazily, and everything public says what it does."""

import ast
import inspect
from pathlib import Path

import pytest

import setar

SOURCE = Path(setar.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("name", setar.__all__)
def test_public_names_resolve_and_are_documented(name):
    value = getattr(setar, name)
    assert inspect.getdoc(value)
    assert value.__name__ == name
    assert name in dir(setar)


def test_public_names_are_declared_once():
    """For the interpreter, for type checkers and for ``from setar import *`` alike."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == setar._PUBLIC
    assert sorted(setar.__all__) == sorted(typed)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="module 'setar' has no attribute 'Pipelin'"):
        _ = setar.Pipelin  # pyright: ignore[reportAttributeAccessIssue]


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert setar.__version__ == version("setar")


def undocumented(node, path):
    """Names of public functions, classes and methods below ``node`` without a docstring."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            if not ast.get_docstring(child) and "overload" not in ast.unparse(child):
                yield f"{path}:{child.lineno} {child.name}"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, path)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_everything_public_has_a_docstring(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert list(undocumented(tree, file.name)) == []
