"""`setar.train`: a run from its settings to its last checkpoint, from Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setar.training.runs import make_trainer
from setar.training.settings import Run, check_settings, make_run, write_settings
from setar.training.trainer import Trainer, checkpoints


def train(run: Run | Mapping[str, Any], folder: str | Path, resume: bool = False) -> Path:
    """Train a tokenizer or a generator, as ``setar train`` does.

    In several processes, started by ``torchrun``, each calls it and takes a share of each batch.

    >>> setar.train({"task": "generator", "recipe": "ar", "data": {"source": "digits"}}, "runs/ar")

    Args:
        run: the settings, or what a config file would say, as dicts.
        folder: of the run; gets checkpoints, samples, ``metrics.jsonl``, TensorBoard files.
        resume: go on from the newest checkpoint; without one, start. A finished run is left as it
            is.

    Returns:
        The newest checkpoint. It is a model folder; ``folder`` stands for it wherever a model or a
        tokenizer is named.

    Raises:
        ValueError: a setting is wrong, the folder has a run that is not to be resumed or that was
            started with other settings, or its checkpoint is damaged.
        FloatingPointError: a loss or gradient is not finite.
    """
    run = make_run(run, "settings") if isinstance(run, Mapping) else run
    open_run(run, Path(folder), resume).run()
    return checkpoints(Path(folder))[-1]


def open_run(run: Run, folder: Path, resume: bool = False) -> Trainer:
    """The trainer of a run, at the newest checkpoint if it is resumed; errors as `train`."""
    if checkpoints(folder) and not resume:
        raise ValueError(
            f"{folder} has checkpoints already: resume it (--resume), or choose another (--out)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    trainer = make_trainer(run, folder)
    if resume:
        check_settings(run, folder)
        trainer.resume()
    trainer.processes.wait()  # until all have read the settings of before
    if trainer.processes.first:
        write_settings(run, folder)
    return trainer
