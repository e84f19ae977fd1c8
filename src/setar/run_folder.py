"""The folder of a training run: what lies where.

settings.json    what it was started with; under `history` by which program, and when it went on
metrics.jsonl    the log, a JSON object a line
tensorboard/     the same as curves
samples/         pictures on the way
checkpoints/     model folders, step-00000500 and so on
left-out.txt     files of the data that could not be read, if they were to be skipped
.lock            held by the process that trains in it, whose host and id it says

Whatever else lies there is the user's: it is not read, and never deleted.
"""

import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from setar.durable import partial_of
from setar.files import CONFIG, MANIFEST, MAX_JSON, open_regular

SETTINGS, METRICS, LEFT_OUT = "settings.json", "metrics.jsonl", "left-out.txt"
UNCAPTIONED = "uncaptioned.txt"
CHECKPOINTS, SAMPLES = "checkpoints", "samples"

HISTORY = "history"
"""Key of ``settings.json`` that is no setting: a table for each start and each resumption."""

CLOCKS = ("seconds", "images_per_second", "mfu")
"""Figures of the log that follow from the machine; all others are the same whenever a run was
stopped or killed and resumed."""

STEP = r"step-([0-9]{8}|[1-9][0-9]{8,})"
"""Name of a checkpoint, exactly as `checkpoint_folder` writes it."""


def checkpoints(run: str | Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first; ValueError if they cannot be looked for.

    A copy that the user named ``step-00000500-best`` is none of them.
    """
    found = step_folders(run)
    return [f for f in found if os.path.isfile(f / CONFIG) and os.path.isfile(f / MANIFEST)]


def step_folders(run: str | Path) -> list[Path]:
    """Whatever lies where a checkpoint does, oldest first, complete or not; errors as above."""
    # os.path answers False where pathlib raises: names too long, folders one may not enter.
    if not is_run(run):
        return []
    place = Path(run) / CHECKPOINTS
    try:
        names = os.listdir(place)
    except FileNotFoundError:  # deleted at this moment
        return []
    except OSError as error:
        raise ValueError(f"cannot look into {place}: {error.strerror}") from error
    return sorted((place / name for name in names if re.fullmatch(STEP, name)), key=step_of)


def left_out(run: str | Path) -> dict[str, str]:
    """Why files of the data were left out, by their paths as the file writes them; see the top."""
    try:
        with open_regular(Path(run) / LEFT_OUT) as stream:
            lines = stream.read().decode("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    return {path: cause for path, _, cause in (line.partition("\t") for line in lines)}


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / CHECKPOINTS / f"step-{step:08d}"


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(checkpoint.name.removeprefix("step-"))


def is_run(folder: str | Path) -> bool:
    """Whether a folder is that of a run."""
    return os.path.isdir(Path(folder) / CHECKPOINTS)


def read_settings(run: str | Path) -> dict[str, Any]:
    """The settings of a run as nested tables, unchecked, without their history.

    Raises:
        ValueError: why they cannot be read, as the end of a sentence about the file.
    """
    values = read_settings_file(Path(run) / SETTINGS)
    values.pop(HISTORY, None)
    return values


def read_history(run: str | Path) -> list[dict[str, Any]]:
    """When and by which program a run was started and resumed; what cannot be read is left out."""
    try:
        found = read_settings_file(Path(run) / SETTINGS).get(HISTORY)
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def read_settings_file(file: Path) -> dict[str, Any]:
    """All of a ``settings.json``; errors as of `read_settings`."""
    with open_regular(file) as stream:
        text = stream.read(MAX_JSON + 1)
    if len(text) > MAX_JSON:
        raise ValueError(f"it has more than {MAX_JSON} bytes")
    try:
        values = json.loads(text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("it must hold a JSON object")
    return values


def is_model(folder: str | Path) -> bool:
    """Whether a folder is a model's or a run's, rather than one of pictures."""
    return os.path.isfile(Path(folder) / CONFIG) or is_run(folder)


def prune(run: Path, step: int, keep: int) -> None:
    """Delete all but the last ``keep`` checkpoints up to a step.

    Each is renamed first, so that none counts that is half deleted.
    """
    for old in [found for found in checkpoints(run) if step_of(found) <= step][:-keep]:
        if not old.is_symlink():  # made by the user
            away = old.with_name(f".{old.name}.pruned")
            _delete(away)
            old.rename(away)
            _delete(away)


def sweep(run: Path) -> None:
    """Delete what processes that died left half written or half deleted."""
    for folder in _entries(run / CHECKPOINTS):
        match = re.fullmatch(rf"\.({STEP})\.(partial|old|pruned)", folder.name)
        if match and match[3] == "old" and not folder.with_name(match[1]).exists():
            folder.rename(folder.with_name(match[1]))  # whole: see `setar.checkpoint.save`
        elif match:
            _delete(folder)
    pictures = [file for file in _entries(run / SAMPLES) if _is_partial_picture(file)]
    for file in (partial_of(run / SETTINGS), partial_of(run / METRICS), *pictures):
        with suppress(OSError):
            file.unlink()


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _is_partial_picture(file: Path) -> bool:
    return re.fullmatch(rf"\.{STEP}\.partial\.png", file.name) is not None


def _delete(folder: Path) -> None:
    """Delete a folder of ours; of what cannot be deleted the next sweep takes care."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
