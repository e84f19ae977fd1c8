"""Names that moved: the old places still give them, with a warning that says the new.

A module that lost names says ``__getattr__ = moved(__name__, {"name": "setar.its.new_module"})``.
"""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module


def moved(old: str, places: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of the module ``old``, whose names now live in other modules."""

    def find(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        message = f"{old}.{name} is now {places[name]}.{name}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(import_module(places[name]), name)

    return find
