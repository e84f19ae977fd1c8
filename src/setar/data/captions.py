"""Captions: which texts belong to a picture, and a data set of pictures that have some.

A folder of images is captioned by ``metadata.jsonl``, as the Hugging Face `imagefolder` has it: at
its root, or in its subfolders. It has a JSON object a line, with

    file_name   the picture, below the folder that the metadata lie in
    text        a caption, or a list of several; ``caption`` means the same
    split       ``train`` (also if left out), or one of `HELD_OUT`: never trained on
    others      what else is known, such as ``name`` and ``style``: `Dataset.meta`

or by a ``.txt`` beside each image, a caption a line. What no text encoder takes is taken out of
captions: control characters and halves of characters, and what comes after very many letters.
"""

import codecs
import json
import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from setar.data.base import Dataset
from setar.data.crops import Resize
from setar.data.images import ChosenImages, FolderImages, Images, Size
from setar.files import MAX_CHARACTERS, open_regular
from setar.registry import one_line, printable, quoted

METADATA = "metadata.jsonl"

TEXTS = ("text", "caption")
"""Columns that hold captions; the first that says something counts."""

HELD_OUT = ("heldout", "test", "validation")
"""Splits that are never trained on."""

MAX_ROW = 2**24
"""Bytes of a row of metadata, and of a ``.txt``, at most."""

_NO_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Controls, and halves of characters, as wrong escapes in JSON give them."""


@dataclass
class Row:
    """What is known of a picture."""

    captions: tuple[str, ...] = ()
    heldout: bool = False
    meta: Mapping[str, str] = field(default_factory=dict)


def load(folder: Path, size: Size | None, resize: Resize) -> Dataset:
    """The data set of a folder of images, captioned or not.

    Args:
        folder: see `setar.data.images.FolderImages`, which raises its errors.
        size: of the centre crops in pixels; None takes the pictures as they are.
        resize: how these are made.

    Raises:
        ValueError: a row of the metadata is malformed, or all pictures are held out.
    """
    images = FolderImages(folder, size, resize)
    left_out = images.left_out.copy()
    paths = [file.relative_to(images.folder).as_posix() for file in images.files]
    used = [text for text in images.texts if posixpath.basename(text) == METADATA]
    if used:
        rows = dict[str, Row]()
        for text in used:
            _add(rows, read_metadata(images.folder / text), posixpath.dirname(text))
        found = [rows.pop(_key(path), None) for path in paths]
    else:
        texts = [text for text in images.texts if text.lower().endswith(".txt")]
        beside = {posixpath.splitext(text)[0]: text for text in texts}
        rows, stems = {}, [posixpath.splitext(path)[0] for path in paths]
        used = {beside[stem] for stem in stems if stem in beside}
        read = {text: Row(_lines(images.folder / text)) for text in used}
        found = [read[beside[stem]] if stem in beside else None for stem in stems]
    for text in used:
        left_out[posixpath.splitext(text)[1].lower()] -= 1
    return described(
        images,
        images.labels,
        images.classes,
        [file.stem for file in images.files],
        paths,
        found if used else None,
        left_out=+left_out,
        empty=images.empty,
        absent=tuple(rows),
    )


def described(
    images: Images,
    labels: Tensor,
    classes: Sequence[str],
    names: Sequence[str],
    paths: Sequence[str],
    rows: Sequence[Row | None] | None,
    **others: Any,
) -> Dataset:
    """A data set of pictures and what is known of each; those that are held out stand apart.

    Args:
        images: n pictures.
        labels: int64 ``[n]``, indices into ``classes``.
        classes: names of the classes.
        names: what each picture is called.
        paths: where each lies.
        rows: what is known of each, None where nothing is; None altogether: there are no captions.
        others: further fields of the `Dataset`.

    Raises:
        ValueError: all pictures are held out.
    """
    if rows is None:
        return Dataset(images, labels, tuple(classes), names, paths=paths, **others)
    full = [row or Row() for row in rows]
    held = torch.tensor([row.heldout for row in full])
    if held.all():
        raise ValueError(f"all {len(full)} pictures are held out: there is nothing to train on")
    parts = {"": (~held).nonzero().flatten(), "heldout_": held.nonzero().flatten()}
    columns = sorted({name for row in full for name in row.meta})
    for prefix, items in parts.items():
        some = [full[item] for item in items.tolist()]
        others[f"{prefix}labels"] = labels[items]
        others[f"{prefix}captions"] = [row.captions for row in some]
        others[f"{prefix}paths"] = [paths[item] for item in items.tolist()]
        others[f"{prefix}meta"] = {
            name: [row.meta.get(name, "") for row in some] for name in columns
        }
    return Dataset(
        ChosenImages(images, parts[""]) if held.any() else images,
        classes=tuple(classes),
        names=[name for name, row in zip(names, full, strict=True) if not row.heldout],
        heldout=ChosenImages(images, parts["heldout_"]) if held.any() else None,
        uncaptioned=[path for path, row in zip(paths, full, strict=True) if not row.captions],
        **others,
    )


def read_metadata(file: Path) -> dict[str, Row]:
    """The rows of a ``metadata.jsonl`` by the picture's path, in one spelling of Unicode.

    Several rows of a picture are one: their captions come one after another, it is held out if one
    of them says so, and of other columns the first counts.

    Raises:
        ValueError: a row is malformed; one line with the file and the number of the line.
    """
    rows: dict[str, Row] = {}
    try:
        with open_regular(file) as stream:
            for number, line in enumerate(iter(lambda: stream.readline(MAX_ROW + 1), b""), 1):
                if not line.strip():
                    continue
                try:
                    path, row = _row(line)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error
                _add(rows, {path: row})
    except ValueError as error:
        raise ValueError(f"{printable(file)}: {error}") from error
    return rows


def _add(rows: dict[str, Row], more: Mapping[str, Row], folder: str = "") -> None:
    """Take in what is known of pictures in a folder; what was known of one before stays."""
    for name, row in more.items():
        path = _key(posixpath.join(folder, name))
        before = rows.get(path)
        if before is None:
            rows[path] = row
        else:
            before.captions += row.captions
            before.heldout |= row.heldout
            before.meta = {**row.meta, **before.meta}


def _row(line: bytes) -> tuple[str, Row]:
    """A line of metadata: the picture's path, and what is known of it."""
    if len(line) > MAX_ROW:
        raise ValueError(f"it has more than {MAX_ROW} bytes")
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON object: {one_line(error)[:200]}") from error
    if not isinstance(values, dict):
        raise ValueError(f"it must be a JSON object, not {quoted(values)}")
    name = values.pop("file_name", None)
    if not isinstance(name, str) or not name:
        raise ValueError("it needs a `file_name`, the picture's path below the folder")
    path = posixpath.normpath(name)
    if path.startswith("/") or path.split("/")[0] == "..":
        raise ValueError(f"`file_name` (={quoted(name)}) leaves the folder")
    return _key(path), row_of(values)


def row_of(values: Mapping[str, Any]) -> Row:
    """What some columns say of a picture; ValueError if its split is unknown."""
    split = values.get("split")
    if split is not None and split not in ("train", *HELD_OUT):
        raise ValueError(f"`split` (={quoted(split)}) must be one of train, {', '.join(HELD_OUT)}")
    captions = next(filter(None, (captions_of(values.get(name)) for name in TEXTS)), ())
    others = {name: value for name, value in values.items() if name not in (*TEXTS, "split")}
    meta = {name: _as_text(value) for name, value in others.items() if value is not None}
    return Row(captions, split in HELD_OUT, meta)


def _as_text(value: object) -> str:
    """A value of a column: texts and dates as they are, others as JSON."""
    if isinstance(value, dict | list | int | float):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def captions_of(value: object) -> tuple[str, ...]:
    """The captions in a value: a text or a list of texts; those that say nothing are none."""
    values = value if isinstance(value, list | tuple) else [value]
    texts = (plain(one) for one in values if isinstance(one, str))
    return tuple(text for text in texts if text)


def plain(text: str) -> str:
    """A text in one line of at most `MAX_CHARACTERS`, of characters alone.

    >>> plain("a\\x00 red\\n  apple")
    'a red apple'
    """
    return " ".join(_NO_CHARACTERS.sub(" ", text).split())[:MAX_CHARACTERS].rstrip()


def decoded(data: bytes) -> str:
    """The text in a file: UTF-8 or UTF-16 if it begins with their mark; or else UTF-8 or, where
    that fails, Windows-1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if data.startswith(codecs.BOM_UTF8):
        return data.decode("utf-8-sig", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _lines(file: Path) -> tuple[str, ...]:
    """The captions in a ``.txt``, one a line; none where it cannot be read."""
    try:
        with open_regular(file) as stream:
            text = decoded(stream.read(MAX_ROW))
    except (ValueError, OSError):
        return ()
    return captions_of(text.splitlines())


def _key(path: str) -> str:
    """A path in one spelling of Unicode: file systems write letters with accents in several."""
    return unicodedata.normalize("NFC", path)
