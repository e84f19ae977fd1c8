"""The models of a studio: each is loaded when somebody first asks for it, and no others are."""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from setar.pictures.memory import Memory
from setar.pipeline import Pipeline, load_for_sampling
from setar.pretrained import shipped
from setar.registry import did_you_mean, quoted


class Shelf:
    """Models by the names that a page shows: of folders the last part, which is all that visitors
    learn of where they lie.

    Args:
        names: models as of `Pipeline.from_pretrained`; none: those that are shipped.
        device: where they compute.
    """

    def __init__(self, names: Sequence[str] = (), device: str = "cpu") -> None:
        self._sources = _named(names or shipped())
        self.names, self.device = tuple(self._sources), device
        self._loaded: dict[str, Pipeline] = {}
        self._loading = Lock()

    def pipe(self, name: Any) -> Pipeline:
        """A model; ValueError if it is not of this studio, or cannot be loaded."""
        if not isinstance(name, str) or name not in self.names:
            hint = did_you_mean(name, self.names)
            raise ValueError(f"this studio has no model {quoted(name)}; {hint}")
        with self._loading:
            if name not in self._loaded:
                pipe = load_for_sampling(self._sources[name], self.device)
                pipe.source = name  # which its pictures repeat to whoever downloads them
                self._loaded[name] = pipe
            return self._loaded[name]

    def that_made(self, memory: Memory) -> str:
        """The name of the model that made a picture; ValueError if it is not of this studio."""
        for name in sorted(self.names, key=lambda name: name != memory.model):
            if self.pipe(name).manifest == memory.manifest:
                return name
        raise ValueError(
            f"this studio does not have the model that made the picture, {quoted(memory.model)} "
            f"(its manifest's SHA-256 begins with {quoted(memory.manifest[:10])})"
        )


def _named(sources: Sequence[str]) -> dict[str, str]:
    """The source of each model by its name; of folders of one name, the later ones get a number."""
    found: dict[str, str] = {}
    for source in dict.fromkeys(sources):
        own = Path(source).resolve().name if os.path.isdir(source) else source
        name, number = own, 1
        while name in found:
            number += 1
            name = f"{own} ({number})"
        found[name] = source
    return found
