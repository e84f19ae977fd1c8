"""Parquet files: a row per picture, as the Hugging Face Hub has them.

    image            the encoded picture: bytes, or {bytes, path}
    text or caption  a text, or a list of several
    split            ``train`` (also if null), or one of `setar.data.captions.HELD_OUT`
    others           texts and numbers: `Dataset.meta`

Parquet is read a group of rows at a time, so a file for pictures has small groups (100 rows, as the
`datasets` library writes them). The groups that were used last stay in memory.
"""

import io
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from setar.data.base import Dataset
from setar.data.captions import TEXTS, Row, row_of
from setar.data.crops import Resize
from setar.data.images import EncodedImages, Size
from setar.data.shards import dataset_of, shards
from setar.files import open_regular
from setar.registry import one_line, printable

IMAGE = "image"

CACHED = 2**28
"""Bytes of encoded pictures that stay in memory."""

MAX_GROUP = 2**31
"""Bytes of the pictures of a group of rows, at most."""


class ParquetImages(EncodedImages):
    """Pictures that are rows of parquet files.

    Args:
        files: the files.
        places: of each picture: which file, which group of its rows, which row of these.
        size: see `EncodedImages`, which raises its errors.
        resize: likewise.
    """

    def __init__(
        self,
        files: list[Path],
        places: list[tuple[int, int, int]],
        size: Size | None,
        resize: Resize,
    ) -> None:
        super().__init__(size, resize)
        self.files, self.places = files, places
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.places)

    def title(self, item: int) -> str:
        """The file, and the row of the picture (from 0) in its group."""
        file, group, row = self.places[item]
        return f"{printable(self.files[file])}: row {row} of group {group}"

    def start(self, item: int) -> BinaryIO:
        """The bytes of a picture."""
        file, group, row = self.places[item]
        value = self._group(file, group)[row].as_py()
        if value is None:
            raise ValueError("it has no bytes")
        return io.BytesIO(value)

    def _group(self, file: int, group: int) -> Any:
        """The bytes of all pictures of a group of rows."""
        key = (file, group)
        with self._lock:
            if key not in self._groups:
                with _opened(self.files[file]) as parquet:
                    pieces = parquet.read_row_group(group, columns=[_bytes_of(parquet)])
                column = pieces.column(0).combine_chunks()
                self._groups[key] = column if _is_binary(column.type) else column.field("bytes")
                while len(self._groups) > 1 and self._held() > CACHED:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
            return self._groups[key]

    def _held(self) -> int:
        return sum(column.nbytes for column in self._groups.values())


def load(source: Path, size: Size | None, resize: Resize) -> Dataset:
    """The data set of a parquet file, or of all of a folder.

    Args:
        source: the file or the folder.
        size: of the centre crops in pixels; None takes the pictures as they are.
        resize: how these are made.

    Raises:
        ValueError: a file is no parquet or has no column of pictures, there is no picture, or all
            are held out.
        ImportError: pyarrow is not installed.
    """
    files = shards(source, ".parquet")
    places: list[tuple[int, int, int]] = []
    named: list[tuple[str, str]] = []
    rows: list[Row] = []
    for number, file in enumerate(files):
        with _opened(file) as parquet:
            paths, found = _described(parquet)
            sizes = [
                parquet.metadata.row_group(group).num_rows
                for group in range(parquet.num_row_groups)
            ]
        places += [(number, group, row) for group, n in enumerate(sizes) for row in range(n)]
        named += [(file.name, path or str(row)) for row, path in enumerate(paths)]
        rows += found
    return dataset_of(source, ParquetImages(files, places, size, resize), named, rows, {})


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A parquet file; whatever its reader raises inside becomes one line."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise ImportError("parquet files need pyarrow: pip install setar[parquet]") from None
    try:
        with open_regular(file) as stream, pyarrow.parquet.ParquetFile(stream) as parquet:
            yield parquet
    except Exception as error:  # of damaged files it raises errors of many classes
        reason = one_line(error)[:200] or type(error).__name__
        raise ValueError(f"cannot read {printable(file)}: {reason}") from error


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _bytes_of(parquet: Any) -> str:
    """The column of a file's encoded pictures; ValueError if it has none, or too large groups."""
    import pyarrow as pa

    schema = parquet.schema_arrow
    kind = schema.field(IMAGE).type if IMAGE in schema.names else None
    column = IMAGE
    if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, column = kind.field("bytes").type, f"{IMAGE}.bytes"
    if kind is None or not _is_binary(kind):
        raise ValueError(
            f"it needs a column `{IMAGE}` of bytes, or of a struct with `bytes`; its columns are "
            f"{', '.join(f'{field.name} ({field.type})' for field in schema)[:200]}"
        )
    for group in range(parquet.num_row_groups):
        count = parquet.metadata.row_group(group).total_byte_size
        if count > MAX_GROUP:
            raise ValueError(
                f"group {group} of its rows has {count} bytes, more than {MAX_GROUP}: write it "
                "with groups of fewer rows"
            )
    return column


def _described(parquet: Any) -> tuple[list[str], list[Row]]:
    """The path of each picture, empty where there is none, and what else is known of it."""
    from pyarrow import types

    _bytes_of(parquet)
    schema, columns = parquet.schema_arrow, []
    for field in schema:
        kind = field.type
        text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        plain = text or types.is_primitive(kind)
        if field.name in (*TEXTS, "split") or (plain and field.name != IMAGE):
            columns.append(field.name)
    image = schema.field(IMAGE).type
    has_path = types.is_struct(image) and image.get_field_index("path") >= 0
    count = parquet.metadata.num_rows
    paths = [""] * count
    if has_path:
        values = parquet.read(columns=[f"{IMAGE}.path"]).column(0).to_pylist()
        paths = [(value or {}).get("path") or "" for value in values]
    if not columns:
        return paths, [Row()] * count
    return paths, [row_of(row) for row in parquet.read(columns=columns).to_pylist()]
