"""What a run says while it goes on: a bar, ``metrics.jsonl``, TensorBoard."""

import json
import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor
from tqdm import tqdm

from setar.run_folder import METRICS

SHOWN = ("loss", "psnr", "usage", "heldout_loss", "heldout_psnr")
"""Figures that are shown beside the steps; the others are in the log."""


class Report:
    """Open inside a ``with`` block.

    Args:
        folder: of the run.
        start: the step it begins or goes on after; what was logged later is cut.
        steps: its last step.
        batch_size: images per step.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, start: int, steps: int, batch_size: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("training needs TensorBoard: pip install setar[train]") from error
        self.steps, self.batch_size = steps, batch_size
        self.log = _open_log(folder / METRICS, start)
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        # A bar on a terminal (disable=None); `write` prints lines where there is none.
        self.bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, disable=None)

    def __enter__(self) -> "Report":
        with ExitStack() as stack:
            for part in (self.bar, self.log, self.board):
                stack.enter_context(part)
            self.parts = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.parts.__exit__(*error)

    def write(self, step: int, seconds: float, speed: float, values: dict[str, float]) -> None:
        """The scalars of a step, after so many seconds, at ``speed`` images per second."""
        line = {"step": step, "seconds": round(seconds, 1), **values}
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        shown = {k: f"{v:.3g}" for k, v in values.items() if k in SHOWN}
        shown["images/s"] = f"{speed:.0f}"
        if self.bar.disable:
            words = ", ".join(f"{name} {value}" for name, value in shown.items())
            left = (self.steps - step) * self.batch_size / speed
            print(f"step {step} of {self.steps}, {left:.0f} s left: {words}", flush=True)
        else:
            self.bar.set_postfix(shown, refresh=False)

    def draw(self, step: int, picture: Tensor) -> None:
        """A picture uint8 ``[3, H, W]`` for TensorBoard."""
        self.board.add_image("samples", picture, step)


def _open_log(file: Path, step: int) -> TextIO:
    """``metrics.jsonl``, a JSON object per logged step; what a resumed run will repeat is cut."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    kept = "".join(f"{line}\n" for line in lines if _step_of(line) <= step)
    beside = file.with_name(f".{file.name}.partial")
    beside.write_text(kept, encoding="utf-8")
    os.replace(beside, file)
    return file.open("a", encoding="utf-8")


def _step_of(line: str) -> float:
    """The step of a line of the log; a line that a crash cut off belongs to no step."""
    try:
        return json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return math.inf
