"""What a step costs: floating-point operations, counted by torch itself, and the device's most.

MFU (model FLOPs utilisation, PaLM's appendix B) is the share of the most that is used for what a
forward and a backward pass need: of a transformer the well-known 6 N D + 12 L d T D (N weights that
multiply, D tokens, T of them in view, L layers of width d), of convolutions what they take. What is
computed a second time (activation checkpointing) does not count.
"""

import re
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from setar.device import find_device

PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 150e12,
    "A6000": 155e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "MI300X": 1307e12,
    "5090": 210e12,
    "4090": 165e12,
    "3090": 71e12,
}
"""Dense bfloat16 products with float32 sums, in operations a second, by a word of a GPU's name; the
first that is in it."""

MEASURED_FOR = 0.1
"""Seconds for which products are measured on a device that is not listed."""


def flops_of(step: Callable[[], Tensor]) -> float | None:
    """Floating-point operations of a loss and its backward pass; None if it does not run.

    ``step`` gives the loss, on the device ``meta``, where nothing is computed.
    """
    try:
        with FlopCounterMode(display=False) as counter:
            step().backward()
    except Exception:  # of any kind: a family of a plugin may want numbers
        return None
    return float(counter.get_total_flops()) or None


@cache
def peak(device: str, precision: str) -> float:
    """Operations a second that a device can do at most.

    Of a GPU in bfloat16 it is what its maker says (`PEAKS`); else what a product of two matrices
    reaches, measured in a moment.
    """
    if precision == "bfloat16" and device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
        for part, operations in PEAKS.items():
            if re.search(rf"\b{part}\b", name):
                return operations
    return _measured(find_device(device), getattr(torch, precision))


def _measured(device: torch.device, dtype: torch.dtype) -> float:
    size = 512 if device.type == "cpu" else 8192
    matrix = torch.full((size, size), 0.5, device=device, dtype=dtype)
    best, until = float("inf"), time.perf_counter() + MEASURED_FOR
    while best == float("inf") or time.perf_counter() < until:
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # which waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
