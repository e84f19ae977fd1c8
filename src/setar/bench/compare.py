"""Models and recipes side by side: the quality, the time and the caches of each pair.

    OUT/rows/KEY/figures.json    all that was measured of a row, and what it was
    OUT/rows/KEY/samples.npy     some of its pictures, the same conditions and seeds in every row
    OUT/rows/KEY/memory.json     what made these, for the sheet

A row that is there is not measured again, so that a comparison that was stopped goes on, and one
that is asked for more measures only what is new. KEY is a hash of all that the figures depend on;
files of orders, reference, features and plugins enter it with their sizes and times.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from setar import config
from setar.bench.recorder import clock_of
from setar.bench.sampling import cache_bytes
from setar.durable import replacing, write_text
from setar.evaluation.run import run
from setar.evaluation.targets import Request
from setar.files import fingerprint
from setar.origin import origin_of
from setar.pictures.memory import Memory
from setar.pictures.png import Picture
from setar.pictures.sheets import labelled_rows, to_pil
from setar.pipeline import Pipeline, load_for_sampling
from setar.pretrained import locate, read_config, read_newest
from setar.recipes.recipe import Recipe
from setar.registry import plugin_files

MEMORY = "memory.json"
SHOWN = 10
"""Pictures of a row in the sheet."""
ASKED = ("a red apple", "a dog face", "a blue car", "a smiling face", "a tree", "a pizza")
"""What models of texts are asked for in the sheet and for the time, unless told."""
TIMED = 3
"""Batches that are sampled; the fastest counts."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A model with what it is sampled with."""

    model: str
    sampling: Mapping[str, Any]
    """Changes of the model's defaults, see `SamplingDefaults.changed`."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What was measured of a row."""

    row: Row
    tables: dict[str, dict[str, Any]]
    """Of `setar evaluate`, and ``speed``."""
    pictures: Tensor
    """Some samples, uint8 ``[n, 3, H, W]``."""
    memory: Memory
    """What they remember."""

    @property
    def recipe(self) -> str:
        """The recipe that it was sampled with, the model's own if none was asked for."""
        return self.tables["settings"]["recipe"]

    @property
    def guidance(self) -> float:
        """The scale that it was sampled with."""
        return self.tables["settings"]["guidance"]["scale"]

    def figures(self) -> dict[str, float]:
        """The first number under each heading of quality, by its name."""
        found = {}
        for heading, table in self.tables.items():
            if heading not in ("settings", "speed"):
                numbers = {k: v for k, v in table.items() if isinstance(v, float)}
                found.update(list(numbers.items())[:1])
        return found


def rows_of(
    models: Sequence[str],
    recipes: Sequence[str] = (),
    guidances: Sequence[float] = (),
    steps: Sequence[int] = (),
    sampling: Mapping[str, Any] | None = None,
) -> list[Row]:
    """All combinations, models first; what is named twice comes once.

    Args:
        models: as of `Pipeline.from_pretrained`.
        recipes: by their texts; none: each model's own.
        guidances: scales; none: each model's own.
        steps: sets in the place of the recipes' own number of them; a recipe that says no number,
            such as ``ar``, or the sizes of all sets, comes once.
        sampling: further changes of the defaults, for all rows.

    Raises:
        ValueError: a recipe cannot be read, or `steps` without recipes.
    """
    if steps and not recipes:
        raise ValueError("`steps` change recipes: name these too")
    texts = dict.fromkeys(str(one) for text in recipes for one in _stepped(text, steps))
    scales = dict.fromkeys(guidances)
    return [
        Row(model, {**(sampling or {}), **_given(recipe=recipe, scale=scale)})
        for model, recipe, scale in product(
            dict.fromkeys(models), texts or [None], scales or [None]
        )
    ]


def _stepped(text: str, steps: Sequence[int]) -> list[Recipe]:
    recipe = Recipe.parse(text)
    if not steps or recipe.sets is None:
        return [recipe]
    return [dataclasses.replace(recipe, sets=count) for count in steps]


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def check_rows(rows: Sequence[Row], request: Request, asked: Sequence[str] = ()) -> None:
    """ValueError, naming the row, unless every model can be sampled as its rows say."""
    for model, its in groupby(rows, lambda row: row.model):
        pipe = load_for_sampling(model, request.device, None, request.precision)
        for row in its:
            try:
                chosen = pipe.defaults.changed(row.sampling)
                pipe.check_sampling(chosen)
                pipe.model.check(chosen.recipe.sampling_plan(pipe.grid, [torch.Generator()]))
                pipe.condition_of(_asked(pipe, asked))
            except ValueError as error:
                said = ", ".join(f"{name} {value}" for name, value in row.sampling.items())
                raise ValueError(f"{model} with {said or 'its own settings'}: {error}") from error
        del pipe  # before the next one is read


def compare(
    rows: Sequence[Row],
    folder: Path,
    request: Request,
    batch: int = 8,
    asked: Sequence[str] = (),
) -> Iterator[Found]:
    """Measure rows, one after the other; those that lie in the folder are read.

    Args:
        rows: of `rows_of`.
        folder: in which they are kept.
        request: how quality is measured; its source and sampling are those of the rows.
        batch: images at once when the time is taken.
        asked: classes or texts of the pictures in the sheet; none: some of all classes.

    Raises:
        ValueError: a model, the reference or the request is wrong.
    """
    for row in rows:
        of = dataclasses.replace(request, source=row.model, sampling=dict(row.sampling))
        place = folder / "rows" / _key(of, batch, asked)
        if not all((place / file).is_file() for file in ("figures.json", MEMORY)):
            _measure(row, of, place, batch, asked)
        tables, memory = (
            json.loads((place / file).read_text("utf-8")) for file in ("figures.json", MEMORY)
        )
        samples = torch.from_numpy(np.load(place / "samples.npy"))
        yield Found(row, tables, samples, config.build(Memory, memory, str(place / MEMORY)))


def _key(request: Request, batch: int, asked: Sequence[str]) -> str:
    """A hash of all that the figures depend on, the model's weights too."""
    model = fingerprint(locate(request.source))
    fields = dataclasses.asdict(request)
    for unimportant in ("source", "processes", "progress", "save_samples", "save_statistics"):
        del fields[unimportant]
    reference = request.reference or origin_of(request.source).data
    own = read_newest(request.source, read_config).get("sampling", {}).get("recipe")
    recipe = request.sampling.get("recipe") or own
    order = Recipe.parse(recipe).order if recipe else ""  # which may be a file
    used = [order, reference, request.features.partition(":")[2], request.clip, *plugin_files()]
    states = [_state(Path(file)) for file in used if file]
    of = [model, reference, fields, batch, list(asked), states]
    text = json.dumps(of, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _state(path: Path) -> list[Any]:
    """Names, sizes and times of a file, or of those of a folder; nothing of what is neither."""
    if not os.path.exists(path):
        return []
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = ((file, file.lstat()) for file in files)
    return [[str(file), state.st_size, state.st_mtime_ns] for file, state in states]


def _measure(row: Row, request: Request, place: Path, batch: int, asked: Sequence[str]) -> None:
    """Measure a row; the figures are written last, so a row that has them is whole."""
    tables = run(request)
    pipe = load_for_sampling(row.model, request.device, row.sampling, request.precision)
    wanted = _asked(pipe, asked)
    speed = _speed(pipe, wanted, batch, request.seed)
    codes = pipe.sample_codes(wanted[:SHOWN], seed=request.seed)
    place.mkdir(parents=True, exist_ok=True)
    with replacing(place / "samples.npy") as draft:
        np.save(draft, pipe.decode(codes).cpu().numpy())
    shown = tuple(one if pipe.reads == "text" else pipe.class_id(one) for one in wanted[:SHOWN])
    memory = pipe.memory_of("grid", asked=shown, seed=request.seed)
    write_text(place / MEMORY, json.dumps(config.table(memory), indent=2) + "\n")
    row_facts = {"row": {"model": row.model, **row.sampling}, **tables, "speed": speed}
    write_text(place / "figures.json", json.dumps(row_facts, indent=2) + "\n")


def _asked(pipe: Pipeline, asked: Sequence[str]) -> list[Any]:
    """Conditions of the pictures that are shown: at least as many as that."""
    if asked:
        chosen: list[Any] = list(asked)
    elif pipe.reads == "text":
        chosen = list(ASKED)
    else:
        classes = len(pipe.classes)
        chosen = [number * classes // SHOWN for number in range(SHOWN)]
    return (chosen * SHOWN)[: max(SHOWN, len(chosen))]


def _speed(pipe: Pipeline, asked: Sequence[Any], batch: int, seed: int) -> dict[str, Any]:
    """Seconds of the codes of a batch, and bytes of the caches of an image."""
    clock = clock_of(pipe.device)
    wanted = [asked[number % len(asked)] for number in range(batch)]
    best = float("inf")
    for _ in range(TIMED):
        began = clock()
        pipe.sample_codes(wanted, seed=seed, batch_size=batch)
        best = min(best, clock() - began)
    return {
        "batch": batch,
        "seconds": best,
        "images_per_second": batch / best,
        "cache_bytes": _caches(pipe, wanted[:1]),
        "threads": torch.get_num_threads(),
        "measured": time.strftime("%Y-%m-%d"),
    }


def _caches(pipe: Pipeline, asked: Sequence[Any]) -> int:
    """Bytes of the caches of one image, of its unconditional side too."""
    chosen, (rows, columns) = pipe.defaults, pipe.grid
    grid = (pipe.grid,) if pipe.model.any_grid else ()
    how = (chosen.settings.attention, chosen.settings.cache, *grid)
    with torch.inference_mode():
        decoding = pipe.model.start(pipe.condition_of(list(asked)), rows * columns, *how)
    return cache_bytes(decoding) * (1 if chosen.guidance.off else 2)


def sheet(found: Sequence[Found]) -> Image.Image:
    """A row of pictures for each row of the comparison, its figures beside it."""
    rows = []
    for one in found:
        quality = ", ".join(f"{name} {value:.4g}" for name, value in one.figures().items())
        seconds = one.tables["speed"]["seconds"] / one.tables["speed"]["batch"]
        heading = f"{Path(one.row.model).name} {one.recipe}"
        detail = f"guidance {one.guidance:g}, {seconds:.3g} s; {quality}"
        pictures = [Picture.of(picture, one.memory) for picture in to_pil(one.pictures)]
        rows.append((heading, detail, pictures))
    side = max(64, max(row[2][0].width for row in rows))
    return labelled_rows(rows, "The same conditions and seeds in every row", side, across=SHOWN)
