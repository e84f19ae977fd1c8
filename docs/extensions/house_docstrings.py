"""Docstrings of this project as reStructuredText: a drawing stays a drawing.

They are plain text: a paragraph that is indented, or has columns of two spaces or more between
words, is shown as it is written; and |x| or `Name`s mean nothing else.
"""

import re
from typing import Any

SECTION = re.compile(r"^\w[\w ]*:$")
"""The first line of what napoleon reads: ``Args:``, ``Raises:``."""

COLUMNS = re.compile(r"\S {2,}\S")

CODE = re.compile(r"(``.+?``|`.+?`)(\w*)")


def keep_drawings(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make literal blocks of the drawings in ``lines``, in place."""
    generated = lines[:1] and lines[0].startswith("Alias for field number")  # says nothing
    lines[:] = [] if generated else with_drawings(lines)


def with_drawings(lines: list[str]) -> list[str]:
    """The same lines with ``::`` above each drawing, and the drawing indented."""
    made: list[str] = []
    for paragraph in _paragraphs(lines):
        first = next((line for line in paragraph if line.strip()), "")
        in_section = SECTION.match(first) and len(paragraph) > 1 and paragraph[1].startswith("    ")
        announced = bool(made) and _last(made).endswith("::")
        drawn = first.startswith("    ") or first.startswith(">>>")
        drawn |= any(COLUMNS.search(line) for line in paragraph)
        if in_section or announced or not drawn or (_section_open(made) and first[:1] == " "):
            made += paragraph if announced else [as_rst(line) for line in paragraph]
        else:
            made += ["::", "", *(f"    {line}" if line.strip() else line for line in paragraph)]
    return made


def as_rst(line: str) -> str:
    """A line in which bars are bars, and letters may follow code at once."""
    parts = CODE.split(line)
    parts[::3] = [text.replace("|", r"\|") for text in parts[::3]]
    parts[2::3] = [rf"\ {letters}" if letters else "" for letters in parts[2::3]]
    return "".join(parts)


def _paragraphs(lines: list[str]) -> list[list[str]]:
    """Split behind empty lines, which stay with what is before them."""
    found: list[list[str]] = [[]]
    for line in lines:
        found[-1].append(line)
        if not line.strip():
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def _last(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "")


def _section_open(lines: list[str]) -> bool:
    """Whether an indented paragraph here would belong to a section such as ``Args:``."""
    for line in reversed(lines):
        if line.strip() and not line.startswith(" "):
            return bool(SECTION.match(line))
    return False


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx; before napoleon."""
    app.connect("autodoc-process-docstring", keep_drawings, priority=400)
    return {"parallel_read_safe": True}
