"""Devices: find the one that is asked for; and make modules as if nobody had changed torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

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


def slow_in_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 take longer than in float32: on x86 without words for them."""
    if device.type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return able["architecture"] == "x86_64" and not (able["amx_bf16"] or able["avx512_bf16"])


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


class Unfilled(TorchFunctionMode):
    """Modules made on the device ``meta`` are not initialised: there is nothing to fill.

    To work out what filling such tensors would do, torch loads a computer algebra system, which
    takes a second.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Leave out what changes a tensor in place, as ``normal_`` does."""
        target = args[0] if args else (kwargs or {}).get("tensor")
        name = getattr(function, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place and isinstance(target, Tensor) and target.is_meta:
            return target
        return function(*args, **(kwargs or {}))
