"""The folder of a training run: what lies where.

settings.json    what it was started with
metrics.jsonl    the log, a JSON object a line
tensorboard/     the same as curves
samples/         pictures on the way
checkpoints/     model folders, step-00000500 and so on
left-out.txt     files of the data that could not be read, if they were to be skipped
"""

import os
from pathlib import Path

from setar.checkpoint import CONFIG

SETTINGS, METRICS, CHECKPOINTS = "settings.json", "metrics.jsonl", "checkpoints"
LEFT_OUT = "left-out.txt"


def checkpoints(run: str | Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    # os.path answers False where pathlib raises: names too long, folders one may not enter.
    if not is_run(run):
        return []
    return [found.parent for found in sorted((Path(run) / CHECKPOINTS).glob(f"step-*/{CONFIG}"))]


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / CHECKPOINTS / f"step-{step:08d}"


def is_run(folder: str | Path) -> bool:
    """Whether a folder is that of a run."""
    return os.path.isdir(Path(folder) / CHECKPOINTS)
