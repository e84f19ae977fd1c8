"""What a model was trained on, as its folder or the settings of its run remember it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setar.checkpoint import CONFIG, read_json
from setar.pretrained import locate
from setar.run_folder import CHECKPOINTS, left_out, read_settings


@dataclass(frozen=True)
class Origin:
    """Pictures that a model was trained on."""

    data: str = ""
    """A data set by name or a folder; empty if that is not known."""
    size: tuple[int, int] | None = None
    """(height, width) in pixels at which a folder's pictures were taken, if that is known."""
    left_out: frozenset[str] = frozenset()
    """Paths below that folder, as ``left-out.txt`` has them, of files that could not be read."""


def origin_of(source: str) -> Origin:
    """The origin of a model, as far as it is known; ValueError if there is no such model.

    A tokenizer's folder may not say it; the run whose checkpoint it is does.
    """
    folder = locate(source)
    config, settings, run = _or_nothing(read_json, folder / CONFIG), None, folder.parent.parent
    if folder.parent.name == CHECKPOINTS:
        settings = _or_nothing(read_settings, run).get("data")
    settings = settings if isinstance(settings, Mapping) else {}
    data = config.get("data") or settings.get("source") or ""
    size = config.get("image_size") or settings.get("image_size")
    skipped = frozenset(left_out(run)) if settings.get("skip_broken") else frozenset()
    return Origin(data if isinstance(data, str) else "", _size(size), skipped)


def _size(value: Any) -> tuple[int, int] | None:
    sides = [value, value] if type(value) is int else value
    if not isinstance(sides, list) or len(sides) != 2:
        return None
    height, width = sides
    whole = isinstance(height, int) and isinstance(width, int) and min(height, width) > 0
    return (height, width) if whole else None


def _or_nothing(read: Callable[[Path], Mapping[str, Any]], path: Path) -> Mapping[str, Any]:
    """What is read of a file, or nothing: what is asked here is a help, and no reason to stop."""
    try:
        return read(path)
    except (OSError, ValueError):
        return {}
