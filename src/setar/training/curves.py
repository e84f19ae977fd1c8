"""Boards that show a training as curves: TensorBoard, and Weights & Biases if that is wished.

A training goes on without a board that does not work, and says so once.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from setar.durable import write_text
from setar.registry import one_line
from setar.run_folder import read_settings
from setar.training.messages import say, warn


class Board:
    """Somewhere figures and pictures are shown, as long as it works."""

    name: str
    install: str
    """What to install where it is missing."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.board: Any = None
        self._hook = threading.excepthook
        # A writer may be a thread, whose error comes to `_try` too: one line is enough.
        threading.excepthook = self._quiet
        try:
            self.board = make()
        except ImportError:
            say(f"no curves, for {self.name} is not installed (pip install {self.install})")
        except Exception as error:
            self._end(error)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """The scalars of a step."""
        raise NotImplementedError

    def picture(self, step: int, picture: Tensor) -> None:
        """A picture uint8 ``[3, H, W]``."""
        raise NotImplementedError

    def flush(self) -> None:
        """Let what was shown reach the disk."""

    def close(self) -> None:
        """Write what is left."""
        threading.excepthook = self._hook

    def _try(self, write: Callable[[Any], Any]) -> None:
        if self.board is None:
            return
        try:
            write(self.board)
        except Exception as error:  # of any kind: it is whatever ended the writer's thread
            self._end(error)

    def _end(self, error: Exception) -> None:
        self.board = None
        reason = one_line(error) or type(error).__name__
        warn(f"no curves in {self.name} from here on: {reason}")

    def _quiet(self, args: Any) -> None:
        if type(args.thread).__module__.split(".")[0] != self.name.lower():
            self._hook(args)


class TensorBoard(Board):
    """Files in ``tensorboard/`` of the run.

    Args:
        folder: of the run.
        start: what was shown of later steps is hidden.
    """

    name, install = "TensorBoard", "setar[train]"

    def __init__(self, folder: Path, start: int) -> None:
        def make() -> Any:
            from torch.utils.tensorboard import SummaryWriter

            return SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

        super().__init__(make)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """A curve each."""
        for name, value in values.items():
            self._try(lambda board, n=name, v=value: board.add_scalar(n, v, step))

    def picture(self, step: int, picture: Tensor) -> None:
        """One of the pictures called samples."""
        self._try(lambda board: board.add_image("samples", picture, step))

    def flush(self) -> None:
        """Let its files reach the disk."""
        self._try(lambda board: board.flush())

    def close(self) -> None:
        """Let its writer end."""
        self._try(lambda board: board.close())
        super().close()


class WeightsAndBiases(Board):
    """A run of a project of Weights & Biases; a resumed training goes on in the same one.

    Where that is shown, and whether a network is used at all, wandb's own variables say
    (``WANDB_MODE=offline``).

    Args:
        folder: of the run; ``wandb/`` in it is wandb's.
        project: of W&B.
    """

    name, install = "wandb", "wandb"
    image: Any
    """Of wandb, which shows pictures."""

    def __init__(self, folder: Path, project: str) -> None:
        def make() -> Any:
            import wandb  # type: ignore[import-not-found]

            settings = {}
            self.image = wandb.Image
            with suppress(ValueError):
                settings = read_settings(folder)
            run = wandb.init(
                project=project,
                name=folder.resolve().name,
                id=_id(folder / "wandb" / "setar-id"),
                dir=str(folder),
                config=settings,
                resume="allow",
            )
            # A step that is repeated after a kill is shown once more; wandb's own only grow.
            run.define_metric("*", step_metric="step")
            return run

        super().__init__(make)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """All of them at once."""
        self._try(lambda run: run.log({"step": step, **values}))

    def picture(self, step: int, picture: Tensor) -> None:
        """One of the pictures called samples."""
        array = picture.permute(1, 2, 0).cpu().numpy()
        self._try(lambda run: run.log({"step": step, "samples": self.image(array)}))

    def close(self) -> None:
        """Let it send what is left."""
        self._try(lambda run: run.finish())
        super().close()


def _id(file: Path) -> str:
    """The name of a run for W&B, made once."""
    with suppress(OSError, UnicodeDecodeError):
        if known := file.read_text(encoding="utf-8").strip():
            return known
    new = uuid.uuid4().hex[:12]
    file.parent.mkdir(exist_ok=True)
    write_text(file, new + "\n")
    return new
