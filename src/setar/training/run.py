"""`setar.train`: a run from its settings to its last checkpoint."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from setar.config import build, read_config, table
from setar.durable import write_text
from setar.registry import did_you_mean, load_plugins, one_line, quoted, require_plugins
from setar.run_folder import (
    HISTORY,
    LEFT_OUT,
    SETTINGS,
    UNCAPTIONED,
    checkpoint_folder,
    read_history,
    read_settings,
    step_folders,
    sweep,
)
from setar.training.distributed import join
from setar.training.generator import GeneratorRun
from setar.training.identity import different, flat
from setar.training.lock import locked
from setar.training.loop import Trainer
from setar.training.provenance import session
from setar.training.report import say
from setar.training.survey import list_files
from setar.training.tokenizer import TokenizerRun

Run = TokenizerRun | GeneratorRun
"""What a config file asks for."""

RUNS: dict[str, type[Run]] = {"tokenizer": TokenizerRun, "generator": GeneratorRun}
"""The kinds of runs by their ``task``."""

FREE = {
    "loop": {"steps", "log_every", "sample_every", "checkpoint_every", "keep", "device", "compile"}
    | {"fd_every", "fd_samples", "wandb", "parallel", "micro_batch", "checkpointing"},
    "data": {"skip_broken"},
}
"""Settings that a resumed run may change without a word, by their table."""

SAID = {
    "loop": {"precision", "skip_bad_steps"},
    "optimizer": {"learning_rate", "muon_rate", "clip", "weight_decay"}
    | {"schedule", "warmup_steps", "final_rate"},
    "sampling": {"recipe", "guidance", "settings"},
    "stages": {""},
}
"""Those of which a line is said: what helps a run that diverged, and how pictures are drawn."""

REMEMBERED = 100
"""Resumptions that ``settings.json`` tells of, beside the start."""

BY_CHECKPOINT = ("model", "tokenizer")
"""Tables that are compared with what the checkpoint holds (`setar.training.identity`)."""


def train(run: Run | Mapping[str, Any], folder: str | Path, resume: bool = False) -> Path:
    """Train a tokenizer or a generator, as ``setar train`` does.

    In several processes, started by ``torchrun``, each calls it and takes a share of each batch.

    >>> setar.train({"task": "generator", "recipe": "ar", "data": {"source": "digits"}}, "runs/ar")

    Args:
        run: the settings, or what a config file would say, as dicts.
        folder: of the run; gets checkpoints, samples, ``metrics.jsonl``, TensorBoard files.
        resume: go on from the newest checkpoint; without one, start. A finished run is left as it
            is.

    Ctrl-C, SIGTERM and SIGHUP end it after the present step, which is saved; a second one at once.

    Returns:
        The newest checkpoint. It is a model folder; ``folder`` stands for it wherever a model or a
        tokenizer is named.

    Raises:
        ValueError: a setting is wrong, the folder has a run that is not to be resumed, that goes on
            in another process or that was started with other settings, or all of its checkpoints
            are damaged.
        FloatingPointError: a loss, gradient or weight is not finite.
        OSError: something cannot be written; the disk is full, for example.
        KeyboardInterrupt, SystemExit: it was stopped.
    """
    run = make_run(run, "settings") if isinstance(run, Mapping) else run
    trainer = open_run(run, Path(folder), resume)
    trainer.run()
    return checkpoint_folder(Path(folder), trainer.step)


def read_run(path: Path, overrides: list[str]) -> Run:
    """The settings of a config file, or of the ``settings.json`` of a run.

    Raises:
        ValueError: something in it is wrong, in one line.
    """
    values = read_config(path, overrides)
    plugins = values.get("plugins")
    if isinstance(plugins, list) and all(isinstance(name, str) for name in plugins):
        # As a path, so that a run that is repeated finds what lies beside its config.
        near = [path.parent / name for name in plugins]
        values["plugins"] = [
            str(file) if file.is_file() else name for file, name in zip(near, plugins, strict=True)
        ]
    return make_run(values, str(path), path.parent)


def make_run(
    values: Mapping[str, Any], source: str, beside: Path | None = None, load: bool = True
) -> Run:
    """The settings of nested tables; its plugins are loaded first.

    Args:
        values: the tables.
        source: where they come from, for messages.
        beside: the folder in which plugins are looked for before the working directory.
        load: False only asks for plugins, as of a folder whose code must not run.

    Raises:
        ValueError: something is wrong.
    """
    values = dict(values)
    values.pop(HISTORY, None)  # of a `settings.json`
    if values.get("task") == "multiscale-tokenizer":  # what runs were called before version 0.2
        tokenizer = values.get("tokenizer", {})
        if isinstance(tokenizer, Mapping):
            tokenizer = {"family": "multiscale", **tokenizer}
        values |= {"task": "tokenizer", "tokenizer": tokenizer}
    task = values.get("task")
    if not isinstance(task, str) or task not in RUNS:
        hint = did_you_mean(task, RUNS)
        raise ValueError(f"{source}: unknown `task` {quoted(task)}; {hint}")
    plugins = values.get("plugins", [])
    if not isinstance(plugins, list | tuple) or not all(isinstance(name, str) for name in plugins):
        raise ValueError(f"{source}: `plugins` must be a list of Python files, not {plugins!r:.60}")
    if load:
        load_plugins(plugins, beside)
    else:
        require_plugins([Path(name).name for name in plugins], source)
    return build(RUNS[task], values, source)


def open_run(run: Run, folder: Path, resume: bool = False) -> Trainer:
    """The trainer of a run, at the newest checkpoint if it is resumed; errors as `train`.

    Everything random in it follows from the config's seed.
    """
    run = run.completed()
    folder.mkdir(parents=True, exist_ok=True)
    processes = join()
    with locked(folder, processes.first):
        if processes.first:
            sweep(folder)
        processes.wait()
        started = bool(step_folders(folder))
        if started and not resume:
            raise ValueError(
                f"{folder} has checkpoints already: resume it (--resume), or choose another (--out)"
            )
        changes = check_settings(run, folder) if resume else []
        torch.manual_seed(run.loop.seed)
        trainer = run.trainer(folder, processes)
        if started:
            trainer.resume()
        processes.wait()  # until all have read the settings of before
        if processes.first and trainer.step < run.loop.steps:
            if started:
                say(f"{folder} goes on from step {trainer.step}")
            for change in changes:
                say(f"{change} from step {trainer.step} on")
            _remember(run, folder, trainer.step)
            list_files(trainer.left_out, folder / LEFT_OUT)
            list_files(trainer.uncaptioned, folder / UNCAPTIONED)
    return trainer


def check_settings(run: Run, folder: Path) -> list[str]:
    """Compare the settings with those that the run in ``folder`` was started with.

    What the checkpoint holds is not compared here.

    Returns:
        What is said of each change that is worth a line.

    Raises:
        ValueError: one differs that may not, or ``settings.json`` cannot be read.
    """
    if not os.path.lexists(folder / SETTINGS):
        return []
    before, now = _settings(_read_settings(folder / SETTINGS)), _settings(run)
    changes = []
    for key in sorted(before.keys() | now.keys()):
        was, is_ = before.get(key), now.get(key)
        words = key.split(".")
        if was == is_ or words[0] in BY_CHECKPOINT or _is_in(FREE, words):
            continue
        if not _is_in(SAID, words):
            raise ValueError(different(folder, key, was, is_))
        lists = isinstance(was, list | tuple)
        changes.append(f"{key} are others" if lists else f"{key}: {was} -> {is_}")
    return changes


def _is_in(tables: Mapping[str, set[str]], words: list[str]) -> bool:
    """Whether a key, in words, is one of some tables; ``""`` stands for a list as a whole."""
    return [*words, ""][1] in tables.get(words[0], ())


def _read_settings(file: Path) -> Run:
    """The settings in a file; a setting that came later than the file has its default."""
    try:
        values = read_settings(file.parent)
    except ValueError as error:
        reason = one_line(error)
        raise ValueError(
            f"{file} is damaged ({reason}): delete it, and --resume goes on with the settings that "
            "are given now"
        ) from error
    return make_run(values, str(file), load=False).completed()


def _remember(run: Run, folder: Path, step: int) -> None:
    """Write the settings of a run, and by which program it goes on."""
    first, *later = [*read_history(folder), session(step)]
    history = [first, *later[-REMEMBERED:]]
    text = json.dumps({**table(run), HISTORY: history}, indent=2) + "\n"
    write_text(folder / SETTINGS, text)


def _settings(run: Run) -> dict[str, Any]:
    """The settings of a run by keys such as ``loop.steps``."""
    settings = flat(table(run))
    # A plugin is known by its file's name, wherever that lies.
    return settings | {"plugins": [Path(name).name for name in settings["plugins"]]}
