"""What a model is asked with: names of classes or texts, whichever it reads."""

from collections.abc import Sequence
from pathlib import Path

from setar.classes import Classes
from setar.files import check_file

EXAMPLE = '--prompt "a red apple, Twemoji style"'
LARGEST = 2**24
"""Bytes of a file of prompts; far more than anybody waits for."""
MOST = 10_000
"""Prompts of a call; their rows make a picture larger than any that is drawn."""


def texts_of(prompts: Sequence[str], file: Path | None) -> list[str]:
    """All prompts that are given: one by one, and those of a file, one a line.

    Raises:
        ValueError: the file cannot be read, is no text, or holds none or too many.
    """
    texts = list(prompts)
    if file is not None:
        texts += _lines_of(file)
    if len(texts) > MOST:
        raise ValueError(f"{len(texts)} prompts are more than the {MOST} of a call")
    return texts


def _lines_of(file: Path) -> list[str]:
    check_file(file)
    if file.stat().st_size > LARGEST:
        raise ValueError(f"{file} is larger than {LARGEST} bytes: prompts are one a line")
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError(f"{file} holds no prompt: they are one a line")
    return found


def check_reads(
    model: str, names: Sequence[str], classes: str, texts: Sequence[str], negative: str | None
) -> None:
    """ValueError unless a model is given what it reads.

    Args:
        model: how it is called.
        names: of its classes; one that reads texts has none.
        classes: what is asked of classes, if anything; with its option's name before it.
        texts: what is asked with texts.
        negative: what guidance shall lead away from.
    """
    if names and (texts or negative is not None):
        wrong = "--prompt" if texts else "--negative-prompt"
        raise ValueError(f"{wrong} is for models that read texts; {model} has classes")
    if not names and classes:
        raise ValueError(f"{model} has no classes: it reads texts, such as {EXAMPLE}")
    if not names and not texts:
        raise ValueError(f"{model} reads texts: say what to make, such as {EXAMPLE}")


def chosen(names: Sequence[str], classes: str, texts: Sequence[str]) -> list[int] | list[str]:
    """The ids of classes, by default of six from all over their list; or texts.

    Raises:
        ValueError: there is no such class.
    """
    if not names:
        return list(texts)
    if classes:
        return Classes(names).ids(classes)
    shown = min(6, len(names))
    return [i * len(names) // shown for i in range(shown)]
