"""Files that users name: only regular ones are opened, and any name can be shown."""

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(file: Path) -> BinaryIO:
    """A file opened for reading, or what a link to one leads to.

    Raises:
        ValueError: why not, as the end of a sentence about the file: it does not exist, cannot be
            read, or is a folder, a pipe, a socket or a device, any of which could block forever.
    """
    try:
        kind = os.stat(file).st_mode
        if not stat.S_ISREG(kind):
            raise ValueError("it is a folder" if stat.S_ISDIR(kind) else "it is no regular file")
        return open(file, "rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError("it does not exist") from error
    except OSError as error:
        raise ValueError((error.strerror or str(error)).lower()) from error


def shown(name: object) -> str:
    """A name in one line that every console can print: control characters are written out."""
    letters = str(name)
    if letters.isprintable():
        return letters
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in letters)
