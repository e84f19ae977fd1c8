"""Fails a strict build for each public name that has no entry in the API reference."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, TypeVar

LEFT_OUT = ("setar.cli", "setar.web")
"""Rooms whose names are for nobody's programs: commands have a page of their own, and so has what
`setar serve` shows."""


def public_modules() -> list[str]:
    """The modules of the package that a program may import from."""
    import setar

    names = ["setar", *(m.name for m in pkgutil.walk_packages(setar.__path__, "setar."))]
    return [
        name
        for name in names
        if not any(word.startswith("_") for word in name.split("."))
        and not any(name == room or name.startswith(f"{room}.") for room in LEFT_OUT)
        and not has_moved(name)
    ]


def has_moved(module: str) -> bool:
    """Whether a module only says where its names are now."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    forwards = any(isinstance(n, ast.ImportFrom) and n.module == "setar.moved" for n in body)
    return forwards and not any(isinstance(n, ast.ClassDef | ast.FunctionDef) for n in body)


def public_names() -> Iterator[str]:
    """Full names of classes and functions where they are defined, and of `setar.__all__`."""
    import setar

    for name in setar.__all__:
        value = getattr(setar, name)
        yield f"{value.__module__}.{value.__qualname__}"
    for module in public_modules():
        for name, value in vars(importlib.import_module(module)).items():
            own = getattr(value, "__module__", None) == module
            named = inspect.isclass(value) or inspect.isfunction(value)
            if own and named and not name.startswith("_"):
                yield f"{module}.{name}"


def check(app: Any, env: Any) -> None:
    """Warn of each name that the pages do not have."""
    from sphinx.util import logging

    log = logging.getLogger(__name__)
    described = {entry[0] for entry in env.get_domain("py").get_objects()}
    for name in dict.fromkeys(public_names()):
        if name not in described:
            log.warning("the public name %s is undocumented: it needs a docstring", name)


def without_page(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Private names and type variables in signatures are words, no links."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if not module.startswith("setar"):
        return None
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    return content if name.startswith("_") or isinstance(found, TypeVar) else None


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("env-check-consistency", check)
    app.connect("missing-reference", without_page)
    return {"parallel_read_safe": True}
