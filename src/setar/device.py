"""Devices: find the one that is asked for; and make modules as if nobody had changed torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from setar.registry import quoted


def find_device(name: Any) -> torch.device:
    """The device of this name; ``auto`` is a GPU if there is one. ValueError if it is unusable."""
    if not isinstance(name, str | torch.device):
        raise ValueError(f"a device is a name such as cpu, cuda or auto, not {quoted(name)}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        shown = quoted(str(name), 40)
        raise ValueError(f"this machine has no device {shown} that torch can use") from error
    return device


@contextmanager
def float32_by_default() -> Iterator[None]:
    """New modules get float32 weights on the CPU, whatever the caller has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)
