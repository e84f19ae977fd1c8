"""What a run says while it goes on: a bar, ``metrics.jsonl``, curves."""

import json
import os
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor
from tqdm.auto import tqdm

from setar import durable
from setar.run_folder import METRICS
from setar.training.curves import Board, TensorBoard, WeightsAndBiases
from setar.training.messages import say, warn

__all__ = ["Report", "open_log", "say", "warn"]

SHOWN = ("loss", "psnr", "usage", "heldout_loss", "heldout_psnr", "skipped_steps")
"""Figures that are shown beside the steps, with Frechet distances; the others are in the log."""

MAX_LOG = 2**29
"""Bytes of a log that goes on: more than a million lines; a longer one is kept beside a new one."""


class Report:
    """Open inside a ``with`` block.

    Args:
        folder: of the run.
        start: the step it begins or goes on after; what was logged later is cut.
        steps: its last step.
        batch_size: images per step.
        wandb: project of Weights & Biases that gets the same; empty: none.
    """

    def __init__(
        self, folder: Path, start: int, steps: int, batch_size: int, wandb: str = ""
    ) -> None:
        self.steps, self.batch_size = steps, batch_size
        self.log = open_log(folder / METRICS, start)
        self.boards: list[Board] = [TensorBoard(folder, start)]
        if wandb:
            self.boards.append(WeightsAndBiases(folder, wandb))
        # A bar on a terminal (disable=None); `write` prints lines where there is none.
        self.bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, disable=None)

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()
        for board in reversed(self.boards):
            board.close()
        self.log.close()

    def write(
        self,
        step: int,
        seconds: float,
        values: dict[str, float],
        speed: float,
        mfu: float | None = None,
    ) -> None:
        """The scalars of a step, after so many seconds, at ``speed`` images per second.

        ``mfu`` is the share of the device's operations that this takes (`setar.training.cost`).
        """
        fast = {"images_per_second": float(f"{speed:.4g}")}
        if mfu is not None:
            fast["mfu"] = float(f"{mfu:.3g}")
        line = {"step": step, "seconds": round(seconds, 1), **fast, **values}
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
        for board in self.boards:
            board.figures(step, {**values, **fast})
        shown = {
            k: f"{v:.3g}" for k, v in values.items() if k in SHOWN or k.startswith(("FD", "FID"))
        }
        shown["images/s"] = f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"
        if mfu is not None:
            shown["mfu"] = f"{mfu:.0%}"
        if self.bar.disable:
            words = ", ".join(f"{name} {value}" for name, value in shown.items())
            left = (self.steps - step) * self.batch_size / speed
            say(f"step {step} of {self.steps}, {left:.0f} s left: {words}")
        else:
            self.bar.set_postfix(shown, refresh=False)

    def draw(self, step: int, picture: Tensor) -> None:
        """A picture uint8 ``[3, H, W]`` for the boards."""
        for board in self.boards:
            board.picture(step, picture)

    def flush(self) -> None:
        """Let what was logged reach the disk: a checkpoint must not know more than the log."""
        self.log.flush()
        durable.flush(Path(self.log.name))
        for board in self.boards:
            board.flush()


def open_log(file: Path, step: int) -> TextIO:
    """``metrics.jsonl``, a JSON object per logged step; what a resumed run will repeat is cut.

    One that cannot be read, or has other lines too, is kept under another name.
    """
    content, trouble = _read(file)
    lines = [line for line in content.split(b"\n") if line.strip()]
    steps = [_step_of(line) for line in lines]
    if None in steps[:-1]:  # the last one may have been cut off with its process
        trouble = f"its line {steps.index(None) + 1} is none of the log"
    kept = [
        line.decode()
        for line, of in zip(lines, steps, strict=True)
        if of is not None and of <= step
    ]
    if trouble:
        aside = durable.set_aside(file)
        warn(f"{file}: {trouble}; it is kept as {aside.name}, the log goes on with what is good")
    text = "".join(f"{line}\n" for line in kept)
    if trouble or text.encode() != content:
        durable.write_text(file, text)
    return file.open("a", encoding="utf-8", newline="\n")


def _read(file: Path) -> tuple[bytes, str]:
    """The content of a file, and what is wrong with the file."""
    if not os.path.lexists(file):
        return b"", ""
    if not file.is_file():
        return b"", "it is no file"
    if file.stat().st_size > MAX_LOG:
        return b"", f"it has more than {MAX_LOG} bytes"
    try:
        return file.read_bytes(), "" if os.access(file, os.W_OK) else "it cannot be written"
    except OSError as error:
        return b"", f"it cannot be read ({error.strerror})"


def _step_of(line: bytes) -> int | None:
    """The step of a line of the log; None if it is no such line."""
    try:
        step = json.loads(line.decode())["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return step if type(step) is int else None
