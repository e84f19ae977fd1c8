"""Brings into pages what is written elsewhere, before they are parsed.

A fence without content stands for it::

    ```{from-readme} Edit
    ```

from-readme HEADING    the text below a heading of the README, to the next one
from-file PATH         a Markdown file of the repository
model-cards            the cards of all shipped models
config-keys            every table of a config, and every key in it
modules ROOM           the modules below one, each with its public names
notebook PATH          text and code of a notebook
pages-that-are-there   in the contents, those pages of the given ones that have been written
commands               every command of the command line with its options

Headings are moved to the level of the page, and relative links lead where they led.
"""

import importlib
import inspect
import json
import os
import pkgutil
import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from config_keys import Key, config_tables
from public_names import has_moved

ROOT = Path(__file__).parents[2]

FENCE = re.compile(r"^```\{([a-z-]+)\}[ ]?(.*)\n```$", re.MULTILINE)
HEADING = re.compile(r"^(#+) (.*)$")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")

MOVED = {
    "README.md": "index.md",
    "README.md#things-of-your-own": "guides/plugins.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    **{f"src/setar/weights/{name}/README.md": f"models.md#{name}"
       for name in sorted(os.listdir(ROOT / "src" / "setar" / "weights"))},
}  # fmt: skip
"""Pages of the site that have what files elsewhere say."""


def expand(app: Any, page: str, source: list[str]) -> None:
    """Put in place of each fence of a page what it stands for."""

    def brought(match: re.Match[str]) -> str:
        make = MAKERS.get(match[1])
        return match[0] if make is None else make(match[2].strip(), page)

    fences = {match[1]: match[2].strip() for match in FENCE.finditer(source[0])}
    source[0] = FENCE.sub(brought, source[0])
    if fences.keys() & {"config-keys", "commands", "model-cards"}:  # made of many files
        app.env.note_reread()
    for name in [fences.get("from-file"), fences.get("notebook"), "README.md"]:
        if name:
            app.env.note_dependency(str(ROOT / name))


def from_readme(heading: str, page: str) -> str:
    """The part of the README below a heading, to the next one of any level."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    levels = _levels(lines)
    starts = [i for i, level in enumerate(levels) if level and lines[i].lstrip("# ") == heading]
    if len(starts) != 1:
        raise ValueError(f"{page}: the README has {len(starts)} headings {heading!r}, not one")
    [start] = starts
    after = [i for i in range(start + 1, len(lines)) if levels[i]]
    part = lines[start + 1 : after[0] if after else len(lines)]
    return rewritten(part, "README.md", page, 0)


def from_file(name: str, page: str, deeper: int = 0) -> str:
    """A whole file, whose headings may be moved down."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return rewritten(lines, name, page, deeper)


def model_cards(_: str, page: str) -> str:
    """One after the other."""
    cards = sorted((ROOT / "src" / "setar" / "weights").glob("*/README.md"))
    return "\n\n".join(from_file(str(card.relative_to(ROOT)), page, 1) for card in cards)


def config_keys(_: str, page: str) -> str:
    """A section for each table of a config."""
    parts = []
    for keys in config_tables():
        tasks = " and ".join(keys.tasks)
        title = f"`[{keys.path}]`" if keys.path else f"Top level, {tasks}"
        if keys.path == "stages":
            title = "`[[stages]]`"
        runs = f" For a {tasks}." if keys.path and " and " not in tasks else ""
        name = keys.path or f"{tasks}s"
        parts.append(f"## {title}\n\n{keys.meaning}{runs}")
        paths = [key.path for key in keys.keys]
        ordered = sorted(keys.keys, key=lambda key: paths.index(key.path))
        for path, same in groupby(ordered, lambda key: key.path):
            shown = path if keys.path else f"{path} ({name})" if path == "task" else path
            parts.append(_config_key(shown, list(same), again=_at_top_again(keys, path)))
    return "\n\n".join(parts)


def _at_top_again(keys: Any, path: str) -> bool:
    """Whether both kinds of runs have a key of this name, of which the first is linked to."""
    return not keys.path and keys.tasks == ("generator",) and path in ("init", "plugins")


def _config_key(name: str, same: list[Key], again: bool) -> str:
    """One key; of several families, what each makes of it."""
    lines = ["````{confval} " + name]
    lines += [":no-index:"] * again
    lines.append(":type: " + " or ".join(dict.fromkeys(key.takes for key in same)))
    defaults: dict[str, list[str]] = {}
    for key in same:
        defaults.setdefault(key.default, []).append(key.of)
    told = [d + (f" ({', '.join(of)})" if any(of) else "") for d, of in defaults.items()]
    lines += [":default: " + ", ".join(told), ""]
    meanings: dict[str, list[str]] = {}
    for key in same:
        meanings.setdefault(key.meaning, []).append(key.of)
    for meaning, of in meanings.items():
        whose = f"{', '.join(f'`{one}`' for one in of)}: " if len(meanings) > 1 else ""
        lines += [f"{whose}{meaning}", ""]
    return "\n".join([*lines[:-1], "````"])


def modules(room: str, page: str) -> str:
    """A section for each module, with everything public in it."""
    module = importlib.import_module(room)
    names = [room]
    if hasattr(module, "__path__"):
        names += [m.name for m in pkgutil.walk_packages(module.__path__, f"{room}.")]
    parts = []
    for name in names:
        if any(word.startswith("_") for word in name.split(".")) or has_moved(name):
            continue
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```")
    return "\n\n".join(parts)


def notebook(name: str, page: str) -> str:
    """Its cells in turn, the first of which has the title."""
    cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            parts.append(f"```python\n{text}\n```")
        else:
            parts.append(rewritten(text.splitlines(), name, page, 0))
    return "\n\n".join(parts)


def pages_that_are_there(names: str, page: str) -> str:
    """A list of contents; nothing if none is there."""
    there = [name for name in names.split() if (ROOT / "docs" / f"{name}.md").is_file()]
    return "\n".join(["```{toctree}", ":hidden:", "", *there, "```"]) if there else ""


def commands(_: str, page: str) -> str:
    """What `--help` says, of every command."""
    import typer

    from setar.cli import app

    parts: list[str] = []

    def describe(command: Any, name: str) -> None:
        inner = getattr(command, "commands", {})
        if not inner:
            parts.append(f"## {name}\n\n{_paragraphs(command.help)}\n\n{_options(command)}")
        for word, one in inner.items():
            describe(one, f"{name} {word}")

    describe(typer.main.get_command(app), "setar")
    return "\n\n".join(parts)


def _paragraphs(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\b\n", "").replace("\f", "")


def _options(command: Any) -> str:
    rows = []
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
        names = f"`{one.name.upper()}`" if one.param_type_name == "argument" else names
        meaning = (getattr(one, "help", None) or "").replace("|", "\\|").replace("\n", " ")
        rows.append(f"| {names} | {meaning} |")
    return "\n".join(["| | |", "|---|---|", *rows])


def rewritten(lines: list[str], file: str, page: str, deeper: int) -> str:
    """Lines of a file of the repository, for a page of the site.

    Args:
        lines: Markdown.
        file: where they are from, as a path from the root.
        page: where they come to, as Sphinx names it: ``guides/editing``.
        deeper: by how much the level of headings rises.
    """
    levels, made, code = _levels(lines), [], False
    for line, level in zip(lines, levels, strict=True):
        if line.lstrip().startswith("```"):
            code = not code
        elif level:
            line = "#" * (level + deeper) + line.lstrip("#")
        if not code and not line.startswith("    "):
            line = LINK.sub(lambda match: _link(match, file, page), line)
        made.append(line)
    return "\n".join(made)


def _levels(lines: list[str]) -> list[int]:
    """Of each line, the level of the heading that it is; 0 if it is none."""
    levels, code = [], False
    for line in lines:
        code ^= line.lstrip().startswith("```")
        found = None if code else HEADING.match(line)
        levels.append(len(found[1]) if found else 0)
    return levels


def _link(match: re.Match[str], file: str, page: str) -> str:
    picture, text, target = match.groups()
    if re.match(r"[a-z]+:", target):
        return match[0]
    path, _, anchor = target.partition("#")
    path = os.path.normpath(PurePosixPath(file).parent / path) if path else file
    whole = f"{path}#{anchor}" if anchor else path
    moved = MOVED.get(whole, MOVED.get(path))
    here = PurePosixPath("docs") / PurePosixPath(page).parent
    if moved is not None:
        return f"[{text}]({os.path.relpath(f'docs/{moved}', here)})"
    if (ROOT / path).is_dir():
        return text
    tail = f"#{anchor}" if anchor else ""
    return f"{picture}[{text}]({os.path.relpath(path, here)}{tail})"


MAKERS: dict[str, Callable[[str, str], str]] = {
    "from-readme": from_readme,
    "from-file": from_file,
    "model-cards": model_cards,
    "config-keys": config_keys,
    "modules": modules,
    "notebook": notebook,
    "pages-that-are-there": pages_that_are_there,
    "commands": commands,
}


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("source-read", expand)
    return {"parallel_read_safe": True}
