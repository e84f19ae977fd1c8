"""The models of a studio: each is loaded when somebody first asks for it, and no others are."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

from setar.pipeline import Pipeline, load_for_sampling
from setar.pretrained import shipped
from setar.registry import did_you_mean, quoted


class Shelf:
    """Models by the names that a page shows.

    Args:
        names: models as of `Pipeline.from_pretrained`; none: those that are shipped.
        device: where they compute.
    """

    def __init__(self, names: Sequence[str] = (), device: str = "cpu") -> None:
        self.names, self.device = tuple(dict.fromkeys(names)) or tuple(shipped()), device
        self._loaded: dict[str, Pipeline] = {}
        self._loading = Lock()

    def pipe(self, name: Any) -> Pipeline:
        """A model; ValueError if it is not of this studio, or cannot be loaded."""
        if not isinstance(name, str) or name not in self.names:
            hint = did_you_mean(name, self.names)
            raise ValueError(f"this studio has no model {quoted(name)}; {hint}")
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = load_for_sampling(name, self.device)
            return self._loaded[name]
