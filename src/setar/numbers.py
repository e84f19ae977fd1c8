"""Numbers that users give: one rule for whole numbers and one for others, with one message each.

Whole numbers are Python's, numpy's and torch's. ``True`` is none, and neither are ``1.0`` and
``"1"``: whoever gives them means something else, or made a mistake.
"""

import math
import operator
from typing import Any

from setar.registry import quoted


def counted(number: int, word: str) -> str:
    """A number of things, of one or of several: ``1 image``, ``2 images``."""
    return f"{number} {word}{'s' * (number != 1)}"


def as_whole(value: Any) -> int | None:
    """A whole number as an int; None if it is something else."""
    kind = str(getattr(value, "dtype", type(value).__name__))
    if "bool" in kind or getattr(value, "ndim", 0):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def whole(name: str, value: Any, low: int, high: int | None = None, why: str = "") -> int:
    """The int of a whole number from ``low`` to ``high``.

    Args:
        name: what it is, for the message.
        value: the number.
        low: the least.
        high: the largest; None: there is none.
        why: the reason of the upper bound, added to the message.

    Raises:
        ValueError: it is no whole number, or beyond the bounds.
    """
    found = as_whole(value)
    if found is None:
        raise ValueError(f"`{name}` (={quoted(value)}) must be a whole number of at least {low}")
    if found < low:
        raise ValueError(f"`{name}` (={quoted(value)}) must be at least {low}")
    if high is not None and found > high:
        reason = f": {why}" if why else ""
        raise ValueError(f"`{name}` (={quoted(value)}) must be at most {high}{reason}")
    return found


def as_real(value: Any) -> float | None:
    """A finite number as a float; None if it is something else."""
    kind = str(getattr(value, "dtype", type(value).__name__))
    if isinstance(value, str | bytes) or "bool" in kind or getattr(value, "ndim", 0):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return found if math.isfinite(found) else None
