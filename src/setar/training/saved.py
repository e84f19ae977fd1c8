"""What a checkpoint holds for a run to go on: written beside the model, checked before it is used.

``progress.json`` has the numbers, the folder ``train`` the tensors (`setar.training.sharded`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from setar import checkpoint
from setar.config import build
from setar.files import MANIFEST
from setar.run_folder import step_of
from setar.training.distributed import local

PROGRESS = "progress.json"

Parts = dict[str, dict[str, Tensor]]
"""Part name to state dict."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int
    seconds: float
    averaged: int
    """Updates of the averaged weights."""
    samples: int = 0
    """Number of training items; 0 is not known."""
    skipped: int = 0
    """Steps that moved nothing, for a number in them was not finite."""
    codes: str = ""
    """SHA-256 of the folder of codes that was trained on; empty: none, or it is not known."""

    def __post_init__(self) -> None:
        if min(self.step, self.seconds, self.averaged, self.samples, self.skipped) < 0:
            raise ValueError("a number is negative")

    def text(self) -> str:
        """The content of ``progress.json``."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def read(cls, folder: Path) -> "Progress":
        """That of a checkpoint; ValueError if it is nonsense."""
        file = folder / PROGRESS
        values = checkpoint.read_json(file)
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        progress = build(cls, known, str(file))
        if progress.step != step_of(folder):
            raise ValueError(f"{file} is of the step {progress.step}")
        return progress


def read_part(folder: Path, part: str) -> dict[str, Tensor]:
    """A part of a checkpoint that was verified; ValueError if it is missing or not finite."""
    file = f"{part}.safetensors"
    if file not in checkpoint.read_json(folder / MANIFEST)["sha256"]:
        raise ValueError(f"{folder / MANIFEST} does not list {file}")
    state = checkpoint.load_tensors(folder, part)
    if bad := not_finite(state):
        raise ValueError(f"`{bad}` of {folder / file} is not finite")
    return state


def check_like(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError, naming the first mismatch, unless names, shapes and dtypes are the same."""
    checkpoint.check_tensors(own, state, source)
    for name, tensor in state.items():
        if tensor.dtype != own[name].dtype:
            raise ValueError(f"{source}: {name!r} holds {tensor.dtype}, not {own[name].dtype}")


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a number that is not finite; None if all are.

    Of a sharded tensor this process looks at its own numbers.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(local(tensor)).all():
            return name
    return None
