"""`setar.train`: a run from its settings to its last checkpoint."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from setar.config import build, read_toml, table
from setar.registry import did_you_mean, load_plugins, quoted, require_plugins
from setar.run_folder import SETTINGS, checkpoints
from setar.training.distributed import join
from setar.training.generator import GeneratorRun
from setar.training.loop import Trainer
from setar.training.survey import list_left_out
from setar.training.tokenizer import TokenizerRun

Run = TokenizerRun | GeneratorRun
"""What a config file asks for."""

RUNS: dict[str, type[Run]] = {"tokenizer": TokenizerRun, "generator": GeneratorRun}
"""The kinds of runs by their ``task``."""

FREE = {"steps", "log_every", "sample_every", "checkpoint_every", "keep", "device", "compile"}
"""Keys of ``loop`` that a resumed run may change; the others would make it another run."""


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
    return checkpoints(folder)[-1]


def read_run(path: Path, overrides: list[str]) -> Run:
    """The settings of a config file; ValueError in one line if something in it is wrong."""
    return make_run(read_toml(path, overrides), str(path), path.parent)


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
    if checkpoints(folder) and not resume:
        raise ValueError(
            f"{folder} has checkpoints already: resume it (--resume), or choose another (--out)"
        )
    run = run.completed()
    folder.mkdir(parents=True, exist_ok=True)
    processes = join()
    torch.manual_seed(run.loop.seed)
    trainer = run.trainer(folder, processes)
    if resume:
        check_settings(run, folder)
        trainer.resume()
    processes.wait()  # until all have read the settings of before
    if processes.first:
        text = json.dumps(table(run), indent=2) + "\n"
        (folder / SETTINGS).write_text(text, encoding="utf-8")
        list_left_out(trainer.left_out, folder)
    return trainer


def check_settings(run: Run, folder: Path) -> None:
    """Raise ValueError if a run in ``folder`` was started with settings that differ from these."""
    file = folder / SETTINGS
    if not file.is_file():
        return
    # Through `make_run`, so that a setting that came later has its default.
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold a JSON object")
    started = make_run(values, str(file), load=False).completed()
    before, now = _flat(table(started)), _flat(table(run))
    for settings in (before, now):  # a plugin is known by its file's name, wherever that lies
        settings["plugins"] = [Path(name).name for name in settings["plugins"]]
    free = {"data.skip_broken", *(f"loop.{key}" for key in FREE)}
    for key in sorted((before.keys() | now.keys()) - free):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{folder} was started with {key} = {before.get(key)!r}, not {now.get(key)!r}: "
                "resume it as it was, or choose another --out"
            )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with keys such as ``loop.steps``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat |= {f"{prefix}{key}": value} if inner is None else inner
    return flat
