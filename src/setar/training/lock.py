"""One training in a folder at a time.

``.lock`` in a run's folder is locked by the process that trains in it, and says which that is:
``host 4711``. The lock itself vanishes with the process, however that ends, so none is ever stale.
Some network file systems know no locks: there a process of this host that still lives is believed.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

LOCK = ".lock"

TRIES, PAUSE = 5, 0.05
"""How often a lock is tried, and seconds between: `holder` takes it for a moment, to see."""

LONGEST = 300
"""Bytes of the file that are read: a host name has at most 253."""


@contextmanager
def locked(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Hold the lock of a run's folder.

    Nothing is held if it is not ``wanted``: of several processes one locks for all.

    Raises:
        ValueError: another training holds it; it is named by its host and process id.
    """
    with ExitStack() as stack:
        if wanted and fcntl:
            _hold(folder, stack)
        yield


def _hold(folder: Path, stack: ExitStack) -> None:
    """Lock the folder until the stack is left, where that can be done."""
    try:
        # "a" alone would wait for the reader of a pipe.
        file = stack.enter_context((folder / LOCK).open("a+"))
    except OSError:
        return
    try:
        free = _lock(file, TRIES)
    except OSError:  # there are no locks
        free = not _lives(_said(folder))
    if not free:
        raise ValueError(
            f"another training goes on in {folder}, {_named(_said(folder))}: wait for its end, or "
            "choose another --out"
        )
    with suppress(OSError):
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}\n")
        file.flush()
    stack.callback(_forget, file)


def _lock(file: IO[str], tries: int) -> bool:
    """Whether the lock could be had; OSError if there are none."""
    assert fcntl is not None
    for attempt in range(tries):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(PAUSE * (attempt + 1 < tries))
    return False


def _forget(file: IO[str]) -> None:
    """Say no longer who holds it; the lock itself goes when the file is closed."""
    with suppress(OSError):
        file.truncate(0)


def holder(folder: Path) -> str:
    """Who trains in a folder now, such as ``process 4711 on host``; empty if nobody does."""
    if not fcntl or not os.path.isfile(folder / LOCK):
        return ""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return ""
    except BlockingIOError:
        return _named(_said(folder))
    except OSError:  # there are no locks, or one may not look
        said = _said(folder)
        return _named(said) if _lives(said) else ""


def _said(folder: Path) -> tuple[str, int] | None:
    """Host and process id in the file; None if it does not say."""
    try:
        with (folder / LOCK).open(errors="replace") as file:
            host, _, number = file.read(LONGEST).strip().rpartition(" ")
    except OSError:
        return None
    return (host, int(number)) if host.isprintable() and number.isdecimal() and host else None


def _named(said: tuple[str, int] | None) -> str:
    return f"process {said[1]} on {said[0]}" if said else "process unknown"


def _lives(said: tuple[str, int] | None) -> bool:
    """Whether a process is another one of this host, and has not ended."""
    if said is None or said[0] != socket.gethostname() or said[1] == os.getpid():
        return False
    try:
        os.kill(said[1], 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's; or no number of a process
        return True
    return True
