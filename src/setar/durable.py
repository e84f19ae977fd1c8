"""Files that are there whole or not at all, whenever the process dies.

What is new is written beside its place under a hidden name, flushed to disk, then renamed.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNSUPPORTED = {
    *(errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL, errno.EISDIR),
    *(errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
}
"""What Windows and some shares answer where they cannot flush: no error, the disk is as it is."""


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Gives a path beside ``file``, with its ending, to write to; at the end it becomes ``file``.

    If anything goes wrong inside, an older ``file`` stays as it was and nothing is left beside it.
    Of a link, what it points to is replaced.

    Raises:
        OSError: it cannot be written; of a full disk too it says which file that is.
    """
    target = Path(os.path.realpath(file))
    beside = partial_of(target)
    beside.unlink(missing_ok=True)
    try:
        yield beside
        flush(beside)
        os.replace(beside, target)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if type(error) is OSError and error.filename is None:  # of a write: it names no file
            reason = error.strerror or f"{error} (is the disk full?)"
            raise OSError(f"cannot write {file}: {reason}") from error
        raise
    flush(target.parent)


def write_text(file: Path, text: str) -> None:
    """Replace a text file in one durable step."""
    with replacing(file) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def set_aside(path: Path) -> Path:
    """Rename what is damaged, and lose nothing of it; its new name, the first that is free."""
    number, aside = 1, path.with_name(f"{path.name}.damaged")
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(aside)
    return aside


def partial_of(file: Path) -> Path:
    """Where a file is written before it is whole: ``.samples.partial.png`` of ``samples.png``."""
    return file.with_name(f".{file.stem}.partial{file.suffix}")


def flush(path: Path) -> None:
    """Let a file or a folder reach the disk; OSError if the disk fails."""
    try:
        # Windows flushes what is open for writing alone, and opens no folder at all.
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
