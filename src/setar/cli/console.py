"""What commands say: printing never fails for the console's sake, and nothing is lost by it."""

import codecs
import errno
import os
import sys
from contextlib import suppress
from typing import Any

import typer

from setar.registry import one_line

LOOK_ALIKES = {"▀": '"', "▄": ".", "█": "#", "■": "#", "…": "...", "→": "->", "×": "x"}
LOOK_ALIKES |= {"▁": "_", "▂": ".", "▃": "-", "▅": "=", "▆": "+", "▇": "*"}
"""What stands for a character of ours on a console that has not got it."""

GONE = {errno.EPIPE, errno.EIO}
"""Nobody reads any more: the reader of a pipe ended, or the terminal was closed."""


def prepare_console() -> None:
    """Let standard output and error take any text, in whatever encoding they have."""
    codecs.register_error("setar-look-alike", _look_alike)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):  # one that cannot be flushed now
                stream.reconfigure(errors="setar-look-alike")


def _look_alike(error: UnicodeError) -> tuple[str | bytes, int]:
    """Of a text that cannot be encoded: look-alikes, and the numbers of other characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    parts = [LOOK_ALIKES.get(c, c.encode("ascii", "backslashreplace").decode()) for c in letters]
    return "".join(parts), error.end


def say(text: object = "", end: str = "\n") -> None:
    """Print a line, or do nothing where nobody reads any more."""
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        if error.errno not in GONE:
            raise
        let_go()


def show(thing: Any, width: int | None = None) -> None:
    """Print a table or a drawing of `rich`; its lines are ASCII where the console needs that.

    ``width`` is that of what is no terminal, in characters; None is rich's own.
    """
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=width)
    with console.capture() as captured:
        console.print(thing)
    say(captured.get(), end="")


def say_mistake(text: str) -> None:
    """Print the one line on standard error in which a command ends that cannot go on."""
    shown = f"setar: {one_line(text)}"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        shown = typer.style(shown, fg="red")
    with suppress(OSError):
        print(shown, file=sys.stderr, flush=True)


def let_go() -> None:
    """Drop what could not be written, so that Python does not try again when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _mute(stream)


def _mute(stream: Any) -> None:
    """Lead a stream to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    except (OSError, ValueError):  # a stream without a file of its own
        pass
    finally:
        os.close(nowhere)
