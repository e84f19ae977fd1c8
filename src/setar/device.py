"""Devices: find the one that is asked for."""

import torch


def find_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is a GPU if there is one. ValueError if it is unusable."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"this machine has no device {name[:40]!r} that torch can use") from error
    return device
