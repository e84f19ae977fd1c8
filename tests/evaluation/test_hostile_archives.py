"""Archives that are broken, or made to hang, to run code or to fill the memory: one line each."""

import bz2
import io
import lzma
import os
import resource
import struct
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest

from setar.evaluation.sources import NpzImages, holds_pictures, load_statistics


def npy(header, data=b"", version=(1, 0), length=None):
    """An .npy file with this text as its header."""
    text = header.encode("latin1") if isinstance(header, str) else header
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text + data


def described(descr="'|u1'", shape="(2, 4, 4, 3)", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def zipped(compression=zipfile.ZIP_STORED, **arrays):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def bomb(size, name="arr_0", header=None):
    """A small archive of zeros that inflates to so many bytes."""
    text = described(shape=f"({size // 48}, 4, 4, 3)") if header is None else header
    return zipped(zipfile.ZIP_DEFLATED, **{name: npy(text, bytes(size))})


def patched(content, **fields):
    """The archive with numbers of its central directory replaced: offset in the entry, value."""
    content = bytearray(content)
    start = content.rindex(b"PK\x01\x02")
    for offset, value in fields.items():
        at = start + int(offset[1:])
        content[at : at + len(value)] = value
    return bytes(content)


GOOD = zipped(arr_0=npy(described(), bytes(96)))
DEFLATED = zipped(zipfile.ZIP_DEFLATED, arr_0=npy(described(), bytes(range(96))))
DOUBLE = described("'<f8'", "({0},)")


def headers():
    """Headers that are wrong, or expensive to parse."""
    for shape in (
        *("(-1, 4, 4, 3)", "(2, -4, -4, 3)", "(2.5, 4, 4, 3)", "('a',)", "()", "(0, 4, 4, 3)"),
        *(
            "(2, 4, 4, 3",
            "None",
            "(2, 4, 4, 10**9)",
            f"({2**62}, 4, 4, 3)",
            f"({10**400}, 4, 4, 3)",
        ),
        *("(True, 4, 4, 3)", "(2, 4, 4, 3, " + "1, " * 100 + ")", "(" * 3000 + ")" * 3000),
        *(
            "__import__('os').abort()",
            "[2] * 10**9",
            "(2, 4, 4, 3) + (1,) * 10**9",
            "-" * 9000 + "1",
        ),
    ):
        yield npy(described(shape=shape), bytes(96))
    for descr in (
        "'|O'",
        "'O8'",
        "'<U100000000'",
        "'|V96'",
        "'|V2147483647'",
        "'nonsense'",
        "5",
        "''",
    ):
        yield npy(described(descr), bytes(96))
    yield npy(described("[('a', '|O')]"), bytes(96))
    yield npy(described("[('a', '|u1', (1000000000,))]"), bytes(96))
    yield npy(described("[" * 2000 + "]" * 2000), bytes(96))
    yield npy(described("[('a','u1')]"), bytes(96), (3, 0))
    yield npy(described(), bytes(96), (2, 0), length=2**32 - 1)
    yield npy(described(), bytes(96), (9, 9))
    yield npy(" " * 60000 + described(), bytes(96))
    yield npy("", bytes(96))
    yield npy("\\u" * 40, bytes(96))
    yield npy("\xff\xfe\0", bytes(96))
    yield b"\x93NUMPY"
    yield b""
    yield b"\x80\x04cos\nsystem\n(S'true'\ntR."
    for cut in (5, 12, 60, 100):
        yield npy(described(), bytes(96))[:cut]
    yield npy(described(), bytes(95))
    yield npy(described(), bytes(97))


def bombs():
    """Small files that would inflate to much."""
    for size in (2**25, 2**27):
        yield bomb(size)
    yield bomb(2**25, header=described())
    yield zipped(zipfile.ZIP_DEFLATED, arr_0=npy(b" " * 2**25, version=(2, 0)))
    yield zipped(zipfile.ZIP_BZIP2, arr_0=npy(described(shape="(699050, 4, 4, 3)"), bytes(2**25)))
    yield zipped(zipfile.ZIP_LZMA, arr_0=npy(described(shape="(699050, 4, 4, 3)"), bytes(2**25)))
    yield patched(bomb(2**25), _24=struct.pack("<I", 2**32 - 2))
    yield patched(DEFLATED, _24=struct.pack("<I", 2**31 - 1))
    yield patched(GOOD, _24=struct.pack("<I", 2**31 - 1), _20=struct.pack("<I", 2**31 - 1))


def archives():
    """Zip files that are damaged or use what numpy never does."""
    for content in (GOOD, DEFLATED):
        for part in (0.1, 0.5, 0.9, 0.99):
            yield content[: int(len(content) * part)]
        for method in (1, 6, 8, 9, 12, 14, 93, 97, 99):
            if (method == 8) != (content is DEFLATED):
                yield patched(content, _10=struct.pack("<H", method))
        yield patched(content, _8=b"\x01\0")  # encrypted
        yield patched(content, _42=struct.pack("<I", 2**31))  # where the entry begins
        yield patched(content, _42=struct.pack("<I", 7))
        yield content[:30] + b"\xff" * 20 + content[50:]
    yield b"PK\x05\x06" + bytes(18)
    yield b"PK\x05\x06" + b"\xff" * 18
    yield zipped()
    yield zipped(arr_1=npy(described(), bytes(96)))
    for name in ("../arr_0", "arr_0.npy/x", "arr_0\n", "a\0arr_0"):
        yield zipped(**{name: npy(described(), bytes(96))})
    yield from (
        zlib.compress(GOOD),
        bz2.compress(GOOD),
        lzma.compress(GOOD),
        b"",
        b"PK",
        b"\x1f\x8b",
    )


def statistics():
    """Files whose `mu` is not what it should be."""
    sigma = npy(described("'<f8'", "(3, 3)"), np.eye(3).tobytes())
    for mu in headers():
        yield zipped(mu=mu, sigma=sigma)
    for size in (2**14, 2**20):
        wide = npy(described("'<f8'", f"({size},)"), bytes(8 * size))
        yield zipped(zipfile.ZIP_DEFLATED, mu=wide, sigma=sigma)
        square = npy(described("'<f8'", f"({size}, {size})"))
        yield zipped(zipfile.ZIP_DEFLATED, mu=wide, sigma=square)
    nine = npy(described("'<f8'", "(4096,)"), bytes(8 * 4096))
    yield zipped(
        zipfile.ZIP_DEFLATED, mu=nine, sigma=npy(described("'<f8'", "(4096, 4096)"), bytes(2**27))
    )


def pictures():
    """Files whose `arr_0` is not what it should be."""
    yield from (zipped(arr_0=array) for array in headers())
    yield from bombs()
    yield from archives()


def flipped():
    """Good files with a few wrong bytes, some of which do no harm."""
    draw = np.random.default_rng(0)
    stream = io.BytesIO()
    np.savez_compressed(stream, mu=np.zeros(3), sigma=np.eye(3), arr_0=np.zeros((3, 4, 4, 3), "u1"))
    for _ in range(300):
        changed = bytearray(stream.getvalue())
        for at in draw.integers(0, len(changed), draw.integers(1, 4)):
            changed[at] = draw.integers(0, 256)
        yield bytes(changed)


def read_statistics(file):
    return load_statistics(file, "Inception")


def refusals(folder, contents, read):
    """How many there are, and how many are refused, each in one line and little time and memory."""
    file, count, refused = folder / "a.npz", 0, 0
    for count, content in enumerate(contents, 1):
        file.write_bytes(content)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            read(file)
        except ValueError as error:
            refused += 1
            message = str(error)
            assert message.startswith(f"cannot read {file} as .npz: "), message
            assert "\n" not in message, message
        assert time.process_time() - start < 5
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 250_000, f"archive {count} took {grown} kB"
    return count, refused


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("make", "read", "least"), [(pictures, NpzImages, 80), (statistics, read_statistics, 45)]
)
def test_hostile_archives_are_refused(tmp_path, make, read, least):
    count, refused = refusals(tmp_path, make(), read)
    assert refused == count >= least


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("read", [NpzImages, read_statistics])
def test_any_flipped_bytes_are_one_line_or_nothing(tmp_path, read):
    count, refused = refusals(tmp_path, flipped(), read)
    assert count / 2 < refused < count


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with names")
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "device.npz").symlink_to("/dev/zero")
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    (tmp_path / "folder.npz").mkdir()
    for name in ("pipe", "device", "loop", "folder"):
        for read in (NpzImages, holds_pictures, read_statistics):
            with pytest.raises(
                ValueError, match=rf"\Acannot read [^\n]*{name}\.npz as \.npz: [^\n]+"
            ):
                read(tmp_path / f"{name}.npz")
