"""What a picture remembers of how it was made, and how that is written into PNG files.

Two text chunks, before the pixels:

``parameters``   for people and their tools: the text that most programs for generated pictures
                 write and read, first the prompt, then ``Negative prompt:``, then one line of
                 ``Name: value`` with commas. It cannot be read back exactly: a prompt may hold
                 such lines itself, and there is no word in it for a batch or an interval.
``setar``        for this package: the same and all else as JSON in ASCII, from which `recall` and
                 `setar.Pipeline.again` make the picture again, to the byte.

Text chunks are the PNG specification's own place for that: every viewer skips them, and most
programs that edit pictures drop them, so that a changed picture says nothing wrong.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Literal

from setar.config import build, table
from setar.files import open_regular
from setar.registry import one_line

VERSION: str = import_module("setar").__version__

SIGNATURE = b"\x89PNG\r\n\x1a\n"

PARAMETERS, OWN = "parameters", "setar"
"""Keywords of the two chunks."""

LONGEST = 2**20
"""Bytes of our chunk at most: what needs more (ten thousand prompts) is not remembered whole."""

Whom = int | str | None
"""One that is asked for: the id of a class, a text, or nothing at all."""

Asked = Whom | tuple[Whom, Whom, float]
"""The same, or what lies between two of them, and how far on the way from the first."""

NOTHING = "(nothing)"
"""How it is called that nothing was asked for."""

Made = Literal["image", "sheet", "edit", "recipe", "reconstruction", "training", "export", "grid",
               "comparison"]  # fmt: skip
"""What kinds of pictures there are; an ``image`` is as the model made it."""


@dataclass(frozen=True)
class Memory:
    """What made a picture."""

    made: Made
    version: str = VERSION
    """Of this package."""
    model: str = ""
    """How it was named: a shipped model, a folder, a hub id."""
    manifest: str = ""
    """SHA-256 of the manifest of the model's folder, in which its files' own sums are; empty of a
    model that lay in no folder."""
    asked: tuple[Asked, ...] = ()
    """What the model was asked for, a row each on a sheet."""
    names: tuple[str, ...] = ()
    """How that is called, of a model that has classes."""
    negative_prompt: str | None = None
    seed: int | None = None
    """Of the image, or of the first of a sheet."""
    count: int = 1
    """Images of each class or text on a sheet."""
    size: tuple[int, int] | None = None
    """Height and width of an image in pixels; None: the model's own."""
    sampling: dict[str, Any] = field(default_factory=dict)
    """All settings, named as `SamplingDefaults.changed` reads them."""
    precision: str = ""
    """Of the products, if weights were laid out for one; empty: float32 in ordinary layers."""
    device: str = "cpu"
    plugins: tuple[str, ...] = ()
    """That the settings need."""
    row: int = 0
    """Which of its batch the image was. Matrix kernels add up in another order for other numbers of
    rows, so a batch of as many makes the same image, whatever the other rows hold."""
    rows: int = 1
    """Of that batch."""
    tokens: int = 0
    """To which texts were padded."""
    schedule_seed: int | None = None
    """The first seed of the call, which draws random schedules; None: the image's own."""
    scale: int = 0
    """Pixels across each image of a sheet, in images; 0: as many as suit a screen."""
    between: bool = False
    """Whether a sheet shows ``count`` images of one seed on the way between the two asked for."""
    columns: int = 0
    """Images side by side on a sheet; 0: as many as suit a screen."""
    note: str = ""
    """What else there is to say."""
    pixels: str = ""
    """CRC-32 of the RGB pixels as they were made."""
    parts: tuple["Memory", ...] = ()
    """Of a comparison, what each of its rows remembers; its own fields say what they share."""

    @property
    def repeatable(self) -> bool:
        """Whether it says all that is needed to make the picture again."""
        return self.made in ("image", "sheet") and bool(self.manifest and self.asked)

    @property
    def prompt(self) -> str:
        """What was asked for, in words, a line each."""
        return "\n".join(self.names or map(called, self.asked))


def called(asked: Asked | tuple[Whom, Whom], classes: Sequence[str] = ()) -> str:
    """What somebody asked for, in words; ``classes`` are the names of a model that has them."""
    if isinstance(asked, tuple):
        first, second, *share = asked
        ends = f"{called(first, classes)} to {called(second, classes)}"
        return f"{ends}, {100 * share[0]:.3g} %" if share else ends
    if asked is None:
        return NOTHING
    if isinstance(asked, int) and 0 <= asked < len(classes):
        return classes[asked]
    return str(asked)


def in_common(memories: Sequence[Memory | None]) -> Memory | None:
    """What a grid of images remembers: how they all were sampled; None if that differs."""
    known = [memory for memory in memories if memory is not None]
    first = known[0] if known else None
    if first is None or len(known) != len(memories):
        return None
    shared = ("model", "manifest", "sampling", "precision", "negative_prompt", "size")
    if any(getattr(one, name) != getattr(first, name) for one in known for name in shared):
        return None
    asked = tuple(dict.fromkeys(one for memory in known for one in memory.asked))
    names = tuple(dict.fromkeys(name for memory in known for name in memory.names))
    return replace(
        first, made="grid", asked=asked, names=names, note=f"grid of {len(known)} images"
    )


def of_rows(rows: Sequence[Sequence[Any]]) -> Memory | None:
    """What a sheet remembers of the images in its rows: as `in_common`, or as `compared` if the
    rows were sampled differently; None if the images of one row were.

    Images without memory, such as masks, are passed over.
    """
    found = [[getattr(image, "memory", None) for image in row] for row in rows]
    kept = [row for row in ([one for one in row if one is not None] for row in found) if row]
    shared = in_common([memory for row in kept for memory in row])
    if shared is not None or not kept:
        return shared
    each = [memory for row in kept if (memory := in_common(row)) is not None]
    return compared(each) if len(each) == len(kept) else None


def compared(rows: Sequence[Memory]) -> Memory:
    """What a sheet remembers whose rows were sampled differently: what they share, and each row."""
    first = rows[0]
    shared = {
        f.name: getattr(first, f.name)
        for f in fields(first)
        if all(getattr(row, f.name) == getattr(first, f.name) for row in rows)
    }
    sampling = {
        name: value
        for name, value in first.sampling.items()
        if all(row.sampling.get(name) == value for row in rows)
    }
    note = f"comparison of {len(rows)} rows"
    own = {"made": "comparison", "sampling": sampling, "note": note, "parts": tuple(rows)}
    return Memory(**{**shared, **own, "pixels": ""})


def facts(memory: Memory) -> dict[str, str]:
    """Name and value of all that is known, for people; the prompts are not among it.

    What differs between the rows of a comparison is said of each.
    """
    if memory.parts:
        rows = [facts(part) for part in memory.parts]
        names = dict.fromkeys(name for row in rows for name in row)
        each = {name: [row.get(name, "none") for row in rows] for name in names}
        joined = {n: v[0] if len(set(v)) == 1 else "; ".join(v) for n, v in each.items()}
        return joined | {"Made": memory.note, "Version": f"setar {memory.version}"}
    sampling = memory.sampling
    recipe = str(sampling.get("recipe", ""))
    found = {
        "Steps": _sets(recipe),
        "Sampler": recipe,
        "Schedule type": sampling.get("schedule"),
        "CFG scale": sampling.get("scale"),
        "Seed": memory.seed,
        "Size": None if memory.size is None else f"{memory.size[1]}x{memory.size[0]}",
        "Model hash": memory.manifest[:10],
        "Model": memory.model,
        **{name.replace("_", " ").capitalize(): value for name, value in _unusual(sampling)},
        "Images": f"{len(memory.asked)} x {memory.count}" if memory.made == "sheet" else None,
        "Precision": "" if memory.precision == "float32" else memory.precision,
        "Plugins": " ".join(memory.plugins),
        "Made": memory.note or (None if memory.made == "image" else memory.made),
        "Version": f"setar {memory.version}",
    }
    return {name: _number(value) for name, value in found.items() if value not in (None, "")}


def _sets(recipe: str) -> str:
    """The number of sets that a recipe says; empty of one that says it by name."""
    parts = recipe.split("-")
    if "," in parts[-1]:
        return str(len(list(filter(None, parts[-1].split(",")))))
    return parts[-2] if len(parts) > 1 and parts[-2].isdigit() else ""


USUAL = {"interval": [0.0, 1.0], "top_k": 0, "top_p": 1.0, "min_p": 0.0, "attention": "causal"}
USUAL |= {"cache": True, "smoothing": False}
"""Settings of which nothing is said where they are off."""


def _unusual(sampling: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    said = {"recipe", "schedule", "scale"}
    if sampling.get("schedule") != "power-cosine":
        said.add("power")
    for name in sorted(sampling.keys() - said):
        if USUAL.get(name) != sampling[name]:
            yield name, sampling[name]


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def parameters(memory: Memory) -> str:
    """The text of the chunk of that name."""
    lines = [memory.prompt] if memory.asked else []
    if memory.negative_prompt is not None:
        lines.append(f"Negative prompt: {memory.negative_prompt}")
    pairs = [f"{name}: {_quoted(value)}" for name, value in facts(memory).items()]
    return "\n".join([*lines, ", ".join(pairs)])


def _quoted(value: str) -> str:
    """As the convention has it: what holds its punctuation is written as a JSON string."""
    return json.dumps(value) if set(value) & set(',:\n"') else value


def chunks(memory: Memory) -> dict[str, str]:
    """Keyword and text of both chunks; prompts that are too long for ours are left out of it."""
    own = _json(memory)
    if len(own) > LONGEST:
        short = {f.name: getattr(memory, f.name) for f in fields(memory)}
        short |= {"asked": (), "names": (), "negative_prompt": None, "parts": ()}
        memory = Memory(**short)
        own = _json(memory)
    return {PARAMETERS: parameters(memory), OWN: own}


def _json(memory: Memory) -> str:
    """All that is not as in a memory of nothing, in the order of the fields."""
    blank = table(Memory("image", ""))
    return json.dumps({k: v for k, v in table(memory).items() if k == "made" or v != blank[k]})


def recall(file: Path) -> Memory:
    """What made the picture of a PNG file.

    Only the chunks before the pixels are read, and nothing is unpacked.

    Raises:
        ValueError: it is no such file, is damaged, or remembers nothing.
    """
    try:
        with open_regular(file) as stream:
            text = _own_text(stream)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if text is None:
        raise ValueError(
            f"{file} remembers nothing: setar did not write it, or a program wrote it anew since"
        )
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: what it remembers is damaged ({one_line(error)})") from error
    return build(Memory, values, str(file))


def _own_text(stream: BinaryIO) -> bytes | None:
    """The text of our chunk; None if there is none before the pixels."""
    if stream.read(len(SIGNATURE)) != SIGNATURE:
        raise ValueError("it is no PNG file, and others remember nothing")
    keyword = OWN.encode() + b"\0"
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return None
        if kind != b"tEXt" or length > LONGEST + len(keyword):
            stream.seek(length + 4, 1)
            continue
        data, check = stream.read(length), stream.read(4)
        if not data.startswith(keyword):
            continue
        if check != struct.pack(">I", zlib.crc32(kind + data)):
            raise ValueError("what it remembers is damaged: its checksum is another")
        return data[len(keyword) :]
    raise ValueError("it is cut off")
