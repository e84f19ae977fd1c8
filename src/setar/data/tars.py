"""WebDataset tars: a picture, and ``.txt`` or ``.json`` of the same name beside it.

    00017.jpg   00017.txt    a caption a line
                00017.json   {"caption": ...} or {"text": ...}, a text or several; "split"; others

Members belong together whose names are the same up to the first dot of the last part. The tars are
not compressed.
"""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from setar.data.base import Dataset
from setar.data.captions import MAX_ROW, Row, captions_of, decoded, row_of
from setar.data.crops import Resize
from setar.data.decoding import ENDINGS
from setar.data.images import EncodedImages, Size
from setar.data.shards import dataset_of, shards
from setar.files import open_regular
from setar.registry import one_line, printable

REST = "(rest of the file)"
"""The picture that stands for those behind the end of a tar that was cut off: it is damaged."""


class TarImages(EncodedImages):
    """Pictures that are members of tars.

    Args:
        places: of each picture: its tar, its path in there, its first byte, and how many.
        size: see `EncodedImages`, which raises its errors.
        resize: likewise.
    """

    def __init__(
        self, places: list[tuple[Path, str, int, int]], size: Size | None, resize: Resize
    ) -> None:
        super().__init__(size, resize)
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def title(self, item: int) -> str:
        """The tar and the path in there, printable."""
        file, path, _, _ = self.places[item]
        return f"{printable(file)}: {printable(path)}"

    def start(self, item: int) -> BinaryIO:
        """The bytes of a picture, as far as the tar has them."""
        file, path, first, count = self.places[item]
        if path.endswith(REST):
            raise ValueError("the tar is cut off or damaged here; what comes after it is lost")
        with open_regular(file) as stream:
            there = stream.seek(0, io.SEEK_END) - first
            stream.seek(first)
            return io.BytesIO(stream.read(max(0, min(count, there))))


def load(source: Path, size: Size | None, resize: Resize) -> Dataset:
    """The data set of a tar, or of all tars of a folder.

    Args:
        source: the file or the folder.
        size: of the centre crops in pixels; None takes the pictures as they are.
        resize: how these are made.

    Raises:
        ValueError: a file is no tar, there is no picture, or all are held out.
    """
    places: list[tuple[Path, str, int, int]] = []
    rows: list[Row] = []
    left_out = Counter[str]()
    for file in shards(source, ".tar"):
        for path, first, count, row in _samples(file, left_out):
            places.append((file, path, first, count))
            rows.append(row)
    images = TarImages(places, size, resize)
    named = [(file.name, path) for file, path, _, _ in places]
    return dataset_of(source, images, named, rows, dict(left_out))


def _samples(file: Path, left_out: Counter[str]) -> Iterator[tuple[str, int, int, Row]]:
    """The pictures of a tar in its order: path, first byte, bytes, and what is known of it.

    Of several pictures of one name the first counts; the others, and members that are neither
    picture nor text, are counted in ``left_out``.
    """
    pictures: dict[str, tuple[str, int, int]] = {}
    texts: dict[str, Row] = {}
    for path, member, archive in _members(file):
        if member is None or archive is None:
            pictures[path] = (path, 0, 0)
            continue
        folder, _, name = path.rpartition("/")
        stem, _, ending = name.partition(".")
        ending, key = f".{ending.lower()}" if ending else "", f"{folder}/{stem}"
        if not stem:
            continue
        if ending in ENDINGS and key not in pictures:
            pictures[key] = (path, member.offset_data, member.size)
        elif ending in (".txt", ".json"):
            try:
                found = _text(archive, member, ending)
            except ValueError as error:
                raise ValueError(f"{printable(file)}: {printable(path)}: {error}") from error
            before = texts.get(key, Row())
            meta = {**found.meta, **before.meta}
            captions = (*before.captions, *found.captions)
            texts[key] = Row(captions, before.heldout or found.heldout, meta)
        else:
            left_out[ending] += 1
    left_out[".txt or .json without a picture"] += len(texts.keys() - pictures.keys())
    left_out += Counter()
    for key, (path, first, count) in pictures.items():
        yield path, first, count, texts.get(key, Row())


def _members(file: Path) -> Iterator[tuple[str, tarfile.TarInfo | None, tarfile.TarFile | None]]:
    """The regular members of a tar with their paths; if it is cut off, at last `REST` alone.

    Raises:
        ValueError: it is no tar.
    """
    with _opened(file) as stream:
        last, end = None, b"?"
        try:
            archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115
            while (member := archive.next()) is not None:
                last = member
                archive.members = []  # type: ignore[attr-defined]  # it keeps all otherwise
                if member.isreg() and not member.issparse():
                    yield member.name, member, archive
            stream.seek(archive.offset)  # it also stops, in silence, at what is no header
            end = stream.read(tarfile.BLOCKSIZE)
        except Exception as error:  # also those of hostile numbers
            if last is None:
                reason = one_line(error)[:200] or type(error).__name__
                raise ValueError(f"{printable(file)} is no tar: {reason}") from error
        if last is not None and end.strip(b"\0"):
            folder = last.name.rpartition("/")[0]
            yield f"{folder}/{REST}" if folder else REST, None, None


def _opened(file: Path) -> BinaryIO:
    try:
        return open_regular(file)
    except ValueError as error:
        raise ValueError(f"cannot read {printable(file)}: {error}") from error


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo, ending: str) -> Row:
    """What a ``.txt`` or ``.json`` says, nothing where it is damaged; ValueError as `row_of`."""
    stream = archive.extractfile(member)
    if stream is None or member.size > MAX_ROW:
        return Row()
    try:
        text = decoded(stream.read())
    except tarfile.ReadError:  # it is cut off
        return Row()
    if ending == ".txt":
        return Row(captions_of(text.splitlines()))
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return Row()
    return row_of(values) if isinstance(values, dict) else Row()
