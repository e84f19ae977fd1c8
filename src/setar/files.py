"""Files and names that users give: only regular files are opened, and names are text."""

import hashlib
import os
import stat
import unicodedata
from io import BufferedReader
from pathlib import Path

MAX_CHARACTERS = 10_000
"""Of a text that a model is to read, at most; a tokenizer's time grows with them, whatever it cuts
later."""

MANIFEST, CONFIG = "manifest.json", "config.json"
"""Of a model folder (`setar.checkpoint`)."""

MAX_JSON = 2**26
"""Bytes of a config or manifest that are read: a million class names fit."""


def open_regular(file: Path) -> BufferedReader:
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


def fingerprint(folder: Path) -> str:
    """SHA-256 of the manifest of a model folder, which names it and all that is in it.

    In the manifest are the sums of the model's files, so another model has another fingerprint; a
    model card may change.

    Raises:
        ValueError: there is no manifest that can be read.
    """
    try:
        with open_regular(folder / MANIFEST) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except ValueError as error:
        raise ValueError(f"cannot read {folder / MANIFEST}: {error}") from error


def check_file(file: Path) -> None:
    """ValueError unless this is a file that can be read."""
    # os.path answers False where pathlib raises: names too long, folders one may not enter.
    if os.path.isdir(file):
        raise ValueError(f"{file} is a folder, not a file")
    if not os.path.exists(file):
        raise ValueError(f"{file} does not exist")
    if not os.path.isfile(file):
        raise ValueError(f"{file} is not a file")
    if not os.access(file, os.R_OK):
        raise ValueError(f"{file} may not be read")


def is_text(name: str) -> bool:
    """Whether a name is of letters alone: no controls, halves of characters or line ends."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)
