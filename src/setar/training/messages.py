"""Lines that a training says."""

import sys
from contextlib import suppress

from tqdm.auto import tqdm


def say(text: str) -> None:
    """A line on the console; one that is gone does not end a training."""
    with suppress(OSError, ValueError):
        tqdm.write(text)
        sys.stdout.flush()


def warn(text: str) -> None:
    """A line on standard error, of something that does not end the training."""
    with suppress(OSError, ValueError):
        tqdm.write(f"setar: {text}", file=sys.stderr)
