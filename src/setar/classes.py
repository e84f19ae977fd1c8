"""Classes by name or id, as a user writes them."""

import unicodedata
from collections.abc import Sequence

from setar.registry import did_you_mean


class Classes:
    """Names of classes, in one of the several ways in which Unicode writes the same letters."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self._ids = names, dict[str, list[int]]()
        for index, name in enumerate(names):
            self._ids.setdefault(unicodedata.normalize("NFC", name), []).append(index)

    def id(self, text: str) -> int:
        """The id of one class: its name as a whole, or its id; a name that is a number comes first.

        Raises:
            ValueError: there is none, or several have this name.
        """
        found, number = self._find(text), text.strip()
        if found is not None:
            return found
        if number.isascii() and number.isdecimal():
            raise ValueError(f"class id {number[:60]} is not in 0..{len(self.names) - 1}")
        raise ValueError(f"unknown class {text[:60]!r}; {did_you_mean(text, self.names, 3)}")

    def ids(self, text: str) -> list[int]:
        """The ids of classes with commas between them.

        A name may hold commas itself: `tench, Tinca tinca` is one class if there is a class of that
        name. Of several ways to read a text, the one with the longest names at its beginning is
        taken.

        Raises:
            ValueError: a class is unknown, several have its name, or there is none.
        """
        pieces = text.split(",")
        longest = 1 + max((name.count(",") for name in self.names), default=0)
        # From the end: how the pieces from each one on can be read, None if they cannot.
        read: list[list[int] | None] = [None] * len(pieces) + [[]]
        for first in reversed(range(len(pieces))):
            for after in range(min(first + longest, len(pieces)), first, -1):
                part, rest = ",".join(pieces[first:after]), read[after]
                if rest is None:
                    continue
                found = self._find(part)
                if found is not None or not part.strip():  # nothing between two commas is nothing
                    read[first] = rest if found is None else [found, *rest]
                    break
        if read[0] == []:
            raise ValueError(f"there is no class in {text[:60]!r}")
        return read[0] or [self.id(piece.strip()) for piece in pieces if piece.strip()]

    def _find(self, text: str) -> int | None:
        """The id of a name or an id, None if it is neither; ValueError if the name is ambiguous."""
        for name in (text, text.strip()):
            found = self._ids.get(unicodedata.normalize("NFC", name), ())
            if len(found) > 1:
                ids = ", ".join(map(str, found[:5]))
                raise ValueError(f"several classes are called {name[:60]!r}: give an id, {ids}")
            if found:
                return found[0]
        number = text.strip()
        if number.isascii() and number.isdecimal() and len(number) < 12:
            return int(number) if int(number) < len(self.names) else None
        return None
