"""One training in a folder at a time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

LOCK = ".lock"


@contextmanager
def locked(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Hold the lock of a run's folder; it vanishes with the process, however that ends.

    Where there are no locks (some network file systems), or none is ``wanted`` (of several
    processes one locks for all), nothing is held.

    Raises:
        ValueError: another training holds it.
    """
    with ExitStack() as stack:
        if wanted and fcntl:
            try:
                # "a" alone would wait for the reader of a pipe.
                file = stack.enter_context((folder / LOCK).open("a+"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"another training goes on in {folder}: wait for its end, or choose another "
                    "--out"
                ) from error
            except OSError:
                pass
        yield
