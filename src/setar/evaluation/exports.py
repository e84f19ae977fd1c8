"""Samples for other people's benchmarks of text models: their prompt files in, their folders out.

GenEval reads a folder for each line of its ``evaluation_metadata.jsonl``::

    00000/metadata.jsonl        that line
    00000/samples/0000.png ..   the samples, four as a rule

DPG-Bench reads a picture for each of its prompts' files ``ID.txt``: ``ID.png``, four samples two by
two, or one; its script is told the side of one sample (``--resolution``).

An export that was stopped goes on where it was: what is finished is not made again. How the samples
are made is remembered beside the folder, as ``FOLDER.json``, so that they are never of two kinds.
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from tqdm.auto import tqdm

from setar.config import table
from setar.durable import replacing, write_text
from setar.files import open_regular
from setar.numbers import counted, whole
from setar.pictures.memory import Memory
from setar.pictures.png import Picture, write_png
from setar.pipeline import Pipeline
from setar.registry import Table, quoted
from setar.text import check_text

LARGEST = 2**26
"""Bytes of a file of prompts; GenEval's has 90 thousand."""
LONGEST = 10_000
"""Characters of a prompt."""
AT_ONCE = 32
"""Samples that are made together; an export that is stopped loses as many at most."""


@dataclass(frozen=True)
class Item:
    """One prompt of a benchmark."""

    name: str
    """Of its folder or its picture."""
    prompt: str
    line: str = ""
    """All that the benchmark knows of it, for formats that want it back."""


class Export(ABC):
    """The format of a benchmark."""

    counts: ClassVar[str]
    """How many samples of a prompt it takes, in words."""

    @abstractmethod
    def read(self, source: Path) -> list[Item]:
        """The prompts of its file or folder, in its order; ValueError if it is none."""

    @abstractmethod
    def check(self, count: int, size: tuple[int, int]) -> None:
        """ValueError unless it takes so many samples of (height, width) pixels."""

    @abstractmethod
    def files(self, folder: Path, item: Item, count: int) -> list[Path]:
        """What there is of a finished item."""

    @abstractmethod
    def write(self, folder: Path, item: Item, pictures: Sequence[Picture]) -> None:
        """Write an item; each file is there whole or not at all."""


EXPORTS: Table[type[Export]] = Table("export")
"""Formats by name, as ``setar export`` has them."""


@EXPORTS.register("geneval")
class GenEval(Export):
    """The layout of GenEval (Ghosh et al. 2023)."""

    counts = "any number of"

    def read(self, source: Path) -> list[Item]:
        """Of a file with a JSON object in each line, whose ``prompt`` is a text."""
        lines = _text(source).rstrip().split("\n")
        if lines == [""]:
            raise ValueError(f"{source} holds no prompts, which are JSON objects, one a line")
        return [_geneval_item(source, number, line) for number, line in enumerate(lines)]

    def check(self, count: int, size: tuple[int, int]) -> None:
        """It takes all."""

    def files(self, folder: Path, item: Item, count: int) -> list[Path]:
        """The samples, and the line that they are of."""
        here = folder / item.name
        samples = [here / "samples" / f"{number:04d}.png" for number in range(count)]
        return [here / "metadata.jsonl", *samples]

    def write(self, folder: Path, item: Item, pictures: Sequence[Picture]) -> None:
        """Write the line and the samples."""
        metadata, *files = self.files(folder, item, len(pictures))
        (folder / item.name / "samples").mkdir(parents=True, exist_ok=True)
        write_text(metadata, item.line + "\n")
        for file, picture in zip(files, pictures, strict=True):
            _save(picture, file)


def _geneval_item(source: Path, number: int, line: str) -> Item:
    where = f"{source}, line {number + 1}"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {quoted(line)}") from error
    prompt = found.get("prompt") if isinstance(found, dict) else None
    if not isinstance(prompt, str):
        raise ValueError(f'{where} must be an object with a text "prompt", not {quoted(line)}')
    return Item(f"{number:05d}", _checked(prompt, where), line.strip())


@EXPORTS.register("dpg")
class DPGBench(Export):
    """The layout of DPG-Bench (Hu et al. 2024, ELLA)."""

    counts = "one or four"

    def read(self, source: Path) -> list[Item]:
        """Of a folder with a text file for each prompt."""
        if not source.is_dir():
            raise ValueError(f"{source} is no folder: DPG-Bench has a folder of prompts, ID.txt")
        files = sorted(file for file in source.iterdir() if file.suffix == ".txt")
        if not files:
            raise ValueError(f"{source} holds no prompts, which are files that end in .txt")
        return [Item(file.stem, _checked(_text(file), str(file))) for file in files]

    def check(self, count: int, size: tuple[int, int]) -> None:
        """It is told one side, and looks at one sample, or at four."""
        if count not in (1, 4):
            raise ValueError(f"DPG-Bench looks at 1 or 4 samples of a prompt, not at {count}")
        if size[0] != size[1]:
            height, width = size
            raise ValueError(f"DPG-Bench takes square pictures, not {height}x{width}")

    def files(self, folder: Path, item: Item, count: int) -> list[Path]:
        """One picture."""
        return [folder / f"{item.name}.png"]

    def write(self, folder: Path, item: Item, pictures: Sequence[Picture]) -> None:
        """Write the samples side by side, two in a row."""
        width, height = pictures[0].size
        across = 1 if len(pictures) == 1 else 2
        grid = Image.new("RGB", (width * across, height * -(-len(pictures) // across)))
        for index, picture in enumerate(pictures):
            grid.paste(picture, (index % across * width, index // across * height))
        memory = getattr(pictures[0], "memory", None)
        if memory is not None:
            note = f"{counted(len(pictures), 'sample')} in one picture"
            memory = replace(memory, made="export", note=note)
        _save(grid, self.files(folder, item, len(pictures))[0], memory)


@dataclass(frozen=True)
class Exported:
    """What was done."""

    prompts: int
    """That the benchmark has."""
    made: int
    """Of them, now; the others were there already."""
    size: tuple[int, int]
    """(height, width) of a sample in pixels."""


def export(
    name: str,
    pipeline: Pipeline,
    source: Path,
    out: Path,
    count: int = 4,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    negative_prompt: str | None = None,
    model: str = "",
    progress: bool = False,
) -> Exported:
    """Make the samples that a benchmark looks at.

    Sample j of prompt i has the seed ``seed + i * count + j``, so that stopping and going on does
    not change them.

    Args:
        name: the benchmark, of `EXPORTS`.
        pipeline: a model that reads text.
        source: the benchmark's prompts, a file or a folder.
        out: folder to write, new or of the same export.
        count: samples of each prompt.
        seed: of the first.
        size: (height, width) of a sample in pixels; None: the model's own.
        negative_prompt: what samples are led away from, as in the pipeline's call.
        model: what the pipeline is called, to be remembered.
        progress: show a bar.

    Raises:
        ValueError: the model reads no text, the prompts cannot be read, the benchmark does not take
            such samples, or ``out`` holds something else.
    """
    form = EXPORTS.find(name)()
    if pipeline.reads != "text":
        raise ValueError(f"{model or 'this model'} makes classes; {name} has prompts in words")
    items = form.read(source)
    count = whole("count", count, 1, 1000)
    width, height = pipeline.size
    shape = size or (height, width)
    form.check(count, shape)
    settings = {
        "format": name,
        "model": model,
        "prompts": hashlib.sha256(repr(items).encode("utf-8", "surrogatepass")).hexdigest(),
        "count": count,
        "seed": seed,
        "size": list(shape),
        "negative_prompt": negative_prompt,
        "sampling": table(pipeline.defaults),
    }
    _remember(out, settings)
    waiting = [
        index
        for index, item in enumerate(items)
        if not all(file.is_file() for file in form.files(out, item, count))
    ]
    each = max(1, AT_ONCE // count)
    with tqdm(total=len(waiting), unit="prompt", disable=not progress) as bar:
        for first in range(0, len(waiting), each):
            batch = waiting[first : first + each]
            prompts = [items[index].prompt for index in batch]
            seeds = [seed + index * count + sample for index in batch for sample in range(count)]
            how = {"count": count, "seed": seeds, "size": shape, "negative_prompt": negative_prompt}
            made = pipeline(prompts, **how)
            for position, index in enumerate(batch):
                form.write(out, items[index], made[position * count : (position + 1) * count])
            bar.update(len(batch))
    return Exported(len(items), len(waiting), shape)


def _remember(out: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings beside the folder, or compare them with those of pictures in it."""
    out = Path(os.path.abspath(out))
    if not out.name:
        raise ValueError(f"{out} is no folder to write to: its settings are to lie beside it")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; an export is a folder")
    beside, begun = out.with_name(f"{out.name}.json"), out.is_dir() and any(out.iterdir())
    before = _settings_in(beside, out) if beside.is_file() else None
    now = json.loads(json.dumps(settings))
    if before is not None and before.keys() != now.keys():
        raise ValueError(f"{beside} is of something else; it is to say how {out} was made")
    if begun:
        if before is None:
            raise ValueError(f"{out} holds files, and no {beside.name} says how they were made")
        for key, value in now.items():
            if before[key] != value:
                raise ValueError(
                    f"{out} holds pictures of another `{key}`: {quoted(before[key])}, not "
                    f"{quoted(value)}; go on with the same, or write to another folder"
                )
    out.mkdir(parents=True, exist_ok=True)
    if before != now:  # of an export that has made nothing
        write_text(beside, json.dumps(settings, indent=2) + "\n")


def _settings_in(beside: Path, out: Path) -> dict[str, Any]:
    try:
        before = json.loads(_text(beside))
    except (ValueError, RecursionError):
        before = None
    if not isinstance(before, dict):
        raise ValueError(f"{beside} is damaged; it says how the pictures of {out} were made")
    return before


def _text(file: Path) -> str:
    """The text of a file that a user names; ValueError if it is none."""
    try:
        with open_regular(file) as stream:
            data = stream.read(LARGEST + 1)
    except ValueError as error:
        raise ValueError(f"cannot read {file}: {error}") from error
    if len(data) > LARGEST:
        raise ValueError(f"{file} has more than {LARGEST} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {error.reason}") from error


def _checked(prompt: str, where: str) -> str:
    text = " ".join(prompt.split())  # some of the prompts in files are broken into lines
    if not 1 <= len(text) <= LONGEST:
        raise ValueError(f"{where}: a prompt has 1 to {LONGEST} characters, not {len(text)}")
    try:
        check_text(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return text


def _save(picture: Image.Image, file: Path, memory: Memory | None = None) -> None:
    with replacing(file) as draft:
        write_png(picture, draft, memory)
