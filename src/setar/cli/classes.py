"""Classes by name or id, as a user writes them on the command line."""

import unicodedata
from collections.abc import Mapping, Sequence

from setar.registry import did_you_mean


def class_id(text: str, names: Sequence[str]) -> int:
    """The id of one class: its name as a whole, or its id; a name that is a number comes first.

    Raises:
        ValueError: there is none.
    """
    ids = _ids(names)
    for known in (_plain(text), _plain(text.strip())):
        if known in ids:
            return ids[known]
    number = text.strip()
    if number.isascii() and number.isdecimal():
        if len(number) < 12 and int(number) < len(names):
            return int(number)
        raise ValueError(f"class id {number[:60]} is not in 0..{len(names) - 1}")
    raise ValueError(f"unknown class {text[:60]!r}; {did_you_mean(text, names, 3)}")


def class_ids(text: str, names: Sequence[str]) -> list[int]:
    """The ids of classes with commas between them.

    A name may hold commas itself: `tench, Tinca tinca` is one class if there is a class of that
    name. Of several ways to read a text, the one with the longest names at its beginning is taken.

    Raises:
        ValueError: a class is unknown.
    """
    ids, pieces = _ids(names), text.split(",")
    longest = 1 + max((name.count(",") for name in names), default=0)
    # From the end: how the pieces from each one on can be read, None if they cannot.
    read: list[list[int] | None] = [None] * len(pieces) + [[]]
    for first in reversed(range(len(pieces))):
        for after in range(min(first + longest, len(pieces)), first, -1):
            rest, found = read[after], _known(",".join(pieces[first:after]), ids)
            if rest is not None and found is not None:
                read[first] = found + rest
                break
    if read[0] == []:
        raise ValueError(f"there is no class in {text[:60]!r}")
    if read[0] is not None:
        return read[0]
    return [class_id(piece.strip(), names) for piece in pieces if piece.strip()]


def _known(text: str, ids: Mapping[str, int]) -> list[int] | None:
    """The class of a text as a list, an empty list of nothing between two commas, else None."""
    stripped = text.strip()
    for name in (_plain(text), _plain(stripped)):
        if name in ids:
            return [ids[name]]
    if stripped.isascii() and stripped.isdecimal() and len(stripped) < 12:
        return [int(stripped)] if int(stripped) < len(ids) else None
    return None if stripped else []


def _ids(names: Sequence[str]) -> dict[str, int]:
    return {_plain(name): index for index, name in reversed(list(enumerate(names)))}


def _plain(text: str) -> str:
    """One of the several ways in which Unicode writes the same letters."""
    return unicodedata.normalize("NFC", text)
