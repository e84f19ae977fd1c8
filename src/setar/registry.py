"""One table for each kind of thing that people add: its name, and where it lives.

    FAMILIES = Table("family", {"fmt": "setar.models.fmt:FullyMaskedTransformer"})
    FAMILIES.find("fmt")           imports that module and gives the class
    @FAMILIES.register("mine")     what a plugin says above a class of its own

A plugin is a Python file that the user names (`load_plugin`, ``plugins`` in a config, ``--plugin``)
or an installed package with an entry point in the group ``setar.plugins``. Whatever is registered
while it runs is its own. A model folder only says which plugins it needs; it never brings code.
"""

import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from threading import RLock
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")
Own = TypeVar("Own")

GROUP = "setar.plugins"
"""The group of entry points in which installed plugins are looked for."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*")


class Table(Generic[Entry]):
    """Named entries of one kind; those given as ``"module:name"`` are imported when first found.

    Args:
        kind: what an entry is, for messages.
        entries: those of this package.
        of: the class of entries, where a decorator of the table's room makes them; else they are
            classes or functions.
    """

    def __init__(
        self, kind: str, entries: Mapping[str, str] | None = None, of: type | None = None
    ) -> None:
        self.kind, self.of = kind, of
        self._entries: dict[str, Any] = dict(entries or {})
        self._plugins: dict[str, str] = {}

    def find(self, name: Any) -> Entry:
        """The entry of this name; ValueError, with the nearest one, if there is none."""
        if not isinstance(name, str) or name not in self:
            hint = "; ".join([did_you_mean(name, self), *_failures])
            raise ValueError(f"unknown {self.kind} {quoted(name)}; {hint}")
        if isinstance(self._entries[name], str):
            module, _, attribute = self._entries[name].partition(":")
            with _running_as(self.plugin_of(name)):
                found = getattr(importlib.import_module(module), attribute)
            # A decorator in that module may have registered something else under the name.
            if isinstance(self._entries[name], str):
                self._entries[name] = found
        return self._entries[name]

    def register(self, name: str) -> Callable[[Own], Own]:
        """Decorator: make a class or a function the entry ``name``; errors are those of `add`."""

        def decorate(entry: Own) -> Own:
            self.add(name, entry)
            return entry

        return decorate

    def add(self, name: str, entry: Any) -> None:
        """Register an entry, or ``"module:name"``, where it is.

        Running the same definition again (a notebook cell) replaces it.

        Raises:
            ValueError: the name is malformed, or belongs to something else.
        """
        if not isinstance(name, str) or len(name) > 40 or not _NAME.fullmatch(name):
            raise ValueError(
                f"{self.kind} name {quoted(name)} must be lower-case words joined by hyphens, "
                f"like my-{self.kind.split()[-1]}"
            )
        fits = callable(entry) if self.of is None else isinstance(entry, self.of)
        if not (fits or isinstance(entry, str)):
            raise ValueError(
                f"{self.kind} {name!r} is a {type(entry).__name__}: register it with the decorator "
                f"for a {self.kind} (see CONTRIBUTING.md)"
            )
        if name in self._entries and _home(self._entries[name]) != _home(entry):
            home = _home(self._entries[name])
            raise ValueError(f"{self.kind} {name!r} is already registered by {home}")
        self._entries[name] = entry
        # A plugin's imports may be the first to load a module of this package.
        own = _home(entry).startswith("setar.")
        if _running and not own:
            self._plugins[name] = _running[-1]

    def name_of(self, entry: Any) -> str:
        """The name of an entry; ValueError if it has none."""
        for same in (lambda known: known is entry, lambda known: _home(known) == _home(entry)):
            for name, known in self._entries.items():
                if same(known):
                    return name
        raise ValueError(f"{_home(entry)} is no {self.kind}; {did_you_mean('', self)}")

    def plugin_of(self, name: str) -> str:
        """The plugin that an entry comes from; empty for those of this package."""
        return self._plugins.get(name, "")

    def __contains__(self, name: object) -> bool:
        return name in self._entries or (_load_installed() and name in self._entries)

    def __iter__(self) -> Iterator[str]:
        _load_installed()
        return iter(list(self._entries))


def _home(entry: Any) -> str:
    """Where an entry is defined, as ``module:name``."""
    if isinstance(entry, str):
        return entry
    entry = getattr(entry, "function", entry)
    return f"{entry.__module__}:{getattr(entry, '__qualname__', entry)}"


def did_you_mean(name: object, names: Iterable[str], count: int = 1) -> str:
    """The most similar names, ``did you mean 'x'?``; if none is similar, ``known: x, y, z``."""
    names = list(names)
    near = difflib.get_close_matches(str(name)[:60], names, count)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known: {', '.join(names[:40]) or 'none'}{', ...' if len(names) > 40 else ''}"


def quoted(value: object, limit: int = 60) -> str:
    """A value for an error message: printable ASCII on one line, cut after ``limit``."""
    text = ascii(value[:limit] if isinstance(value, str) else value)
    cut = isinstance(value, str) and len(value) > limit
    return text[:limit] + "..." if cut or len(text) > limit else text


def printable(text: object) -> str:
    """A text that every console can print: control characters are written out."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))


def one_line(text: object) -> str:
    """A text, such as the message of an error, in one line that every console can print."""
    return printable(" ".join(str(text).split()))


_running: list[str] = []
"""The plugins whose code runs now, the innermost last."""

_files: dict[str, Path] = {}
"""The files of the plugins that were loaded by `load_plugin`, by name."""

_installed: set[str] = set()
"""The entry points that were loaded."""

_failures: list[str] = []
"""What went wrong with installed plugins: said when a name is not known."""

_looked = False
"""Whether the installed plugins were looked for."""

_loading = RLock()
"""Held while plugins are loaded: other threads wait for what they register."""


def load_plugin(file: str | Path) -> str:
    """Run a Python file, so that what it registers can be named; a second time does nothing.

    Returns:
        The name by which configs and model folders remember it: that of the file.

    Raises:
        ValueError: there is no such file, another one of this name was loaded, or it fails.
    """
    path, name = Path(file).resolve(), Path(file).name
    shown = one_line(file)
    if not path.is_file():
        raise ValueError(f"the plugin {shown} does not exist")
    if name in _files and _files[name] != path:
        raise ValueError(f"{path} and {_files[name]} are both called {name}")
    if name not in _files:
        module_name = f"setar_plugin_{Path(file).stem}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise ValueError(f"the plugin {shown} must be a Python file, ending in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # where dataclasses and pickles look their module up
        loader = spec.loader
        _run(name, shown, lambda: loader.exec_module(module))
        _files[name] = path
    return name


def load_plugins(files: Iterable[str], beside: Path | None = None) -> None:
    """Load the plugins that a config names, found in the folder ``beside`` or in this one.

    One that is in neither may have been loaded already: the user named it in another place.
    """
    for file in files:
        near = Path(file) if beside is None else beside / file
        if near.is_file() or Path(file).is_file() or Path(file).name not in _files:
            load_plugin(near if near.is_file() else file)


def plugin_files() -> list[Path]:
    """The files of all plugins loaded by `load_plugin`: what another process has to load too."""
    return list(_files.values())


def require_plugins(names: Iterable[str], source: object) -> None:
    """ValueError unless these plugins are loaded or installed; nothing is searched for.

    ``source`` is what needs them. Its own folder is never looked into: a model that was downloaded
    must not be able to run code.
    """
    for name in names:
        if name not in _files and not (_load_installed() and name in _installed):
            raise ValueError(
                f"{source} needs the plugin {quoted(name)}: name your copy of that file with "
                "--plugin FILE (in Python: setar.load_plugin), or install the package it is of"
            )


def _load_installed() -> bool:
    """Load the installed plugins, once; True. One that fails does not keep others from working."""
    global _looked
    with _loading:
        if not _looked:
            _looked = True
            for point in entry_points(group=GROUP):
                try:
                    _run(point.name, f"{point.name} ({point.value})", point.load)
                    _installed.add(point.name)
                except ValueError as error:
                    _failures.append(str(error))
    return True


def _run(name: str, shown: str, code: Callable[[], object]) -> None:
    """Run a plugin's code; whatever it raises becomes a ValueError of one line."""
    try:
        with _running_as(name):
            code()
    except (Exception, SystemExit) as error:
        reason = one_line(error) or "no reason given"
        raise ValueError(f"the plugin {shown} failed: {type(error).__name__}: {reason}") from error


@contextmanager
def _running_as(plugin: str) -> Iterator[None]:
    """What is registered inside is this plugin's; with an empty name, nobody's in particular."""
    with _loading:
        _running.extend([plugin] if plugin else [])
        try:
            yield
        finally:
            del _running[len(_running) - bool(plugin) :]
