"""Arrays of .npz files, read so that no file can hang, run code or fill the memory.

An .npz file is a zip archive with an .npy file for each array. The header of each says its shape
and type, and so its size: that is compared with what the archive says, and with what a user of the
array can want, before anything is inflated. Pickle is never read.
"""

import io
import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from setar.files import open_regular
from setar.registry import one_line, printable

HEADER = 2**14
"""Bytes in which an array's header ends; numpy allows it 10,000 letters."""
LARGEST = 2**31
"""Bytes of an array that must be read into memory at most: larger ones can be mapped, if stored
without compression (`numpy.savez`)."""
SMALL, RATIO = 2**24, 100
"""An array above so many bytes may be at most so many times larger than its compressed form: all
that is known of pictures and statistics does not shrink so much, and bombs shrink 1000 times."""


@dataclass(frozen=True)
class Header:
    """What an array's header says."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    length: int
    """Bytes of the header itself."""

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class Archive:
    """The arrays of an .npz file that is open; see `open_archive`."""

    def __init__(self, file: Path, archive: zipfile.ZipFile) -> None:
        self.file, self._archive = file, archive
        files = archive.namelist()
        self.names = {name.removesuffix(".npy") for name in files if name.endswith(".npy")}

    def header(self, name: str) -> Header:
        """What an array is, without reading it.

        Raises:
            ValueError: it is compressed as numpy never does, its header is none, it holds Python
                objects, or the archive says another size.
        """
        entry = self._archive.getinfo(f"{name}.npy")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"`{name}` is compressed in a way that numpy does not use")
        with self._archive.open(entry) as stream:
            start = io.BytesIO(stream.read(HEADER))
        version = np.lib.format.read_magic(start)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"`{name}` is of .npy version {version}, which is not read")
        with warnings.catch_warnings(action="ignore"):  # of odd spellings
            shape, fortran, dtype = readers[version](start)
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(f"`{name}` holds Python objects, or has a negative size")
        header = Header(shape, dtype, fortran, start.tell())
        if header.length + header.size != entry.file_size:
            raise ValueError(
                f"`{name}` is {header}, {header.size} bytes, but the archive has "
                f"{entry.file_size - header.length} for it"
            )
        return header

    def read(self, name: str) -> np.ndarray:
        """An array, in memory; ValueError as of `header`, or if it is too large to be true."""
        header, entry = self.header(name), self._archive.getinfo(f"{name}.npy")
        if header.size > LARGEST:
            raise ValueError(
                f"`{name}` is {header}, more than {LARGEST} bytes; larger ones must be stored "
                "without compression, as by numpy.savez"
            )
        if header.size > max(SMALL, RATIO * entry.compress_size):
            raise ValueError(
                f"`{name}` inflates from {entry.compress_size} bytes to {header.size}, which no "
                "pictures or statistics do"
            )
        with self._archive.open(entry) as stream:
            stream.read(header.length)
            content = stream.read(header.size)
        if len(content) != header.size:
            raise ValueError(f"`{name}` ends after {len(content)} of {header.size} bytes")
        array = np.frombuffer(content, header.dtype)
        return array.reshape(header.shape, order="F" if header.fortran else "C")

    def map(self, name: str) -> np.ndarray | None:
        """An array as a view of the file; None where it is compressed."""
        header, entry = self.header(name), self._archive.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            return None
        with open_regular(self.file) as stream:
            stream.seek(entry.header_offset)
            fixed = stream.read(30)
        before = int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little")
        # Before an entry's bytes stand these 30, its name and its extra field.
        start = entry.header_offset + 30 + before + header.length
        order = "F" if header.fortran else "C"
        return np.memmap(self.file, header.dtype, "r", start, header.shape, order)


@contextmanager
def open_archive(file: Path) -> Iterator[Archive]:
    """An .npz file to read from; whatever is wrong with it, also inside, becomes one ValueError."""
    if not os.path.lexists(file):
        raise ValueError(f"{printable(file)} does not exist")
    try:
        with open_regular(file) as stream, zipfile.ZipFile(stream) as archive:
            yield Archive(file, archive)
    except Exception as error:  # of zipfile, zlib and numpy's parser, of any class
        cause = one_line(error)[:300] or type(error).__name__
        raise ValueError(f"cannot read {printable(file)} as .npz: {cause}") from error
