"""To stop a training when asked, with nothing lost: Ctrl-C, SIGTERM and a closed terminal."""

import os
import signal
import threading
from contextlib import suppress
from typing import Any, NoReturn

import torch

from setar.training.distributed import Processes

SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


class StopRequest:
    """Inside its ``with`` block these signals only ask; a second one stops at once.

    Handlers of the user's own stay, and so do all in another thread than the main one, which gets
    no signals. `torchrun` hands each signal on, so several processes wait for the first in peace.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.signal and self.processes.count == 1:
            self.end()
        self.signal = number
        if self.processes.first:
            with suppress(OSError):  # not `print`, which may be what was interrupted
                text = b"\nstopping after this step; once more stops at once\n"
                os.write(2, text)

    def asked(self) -> bool:
        """Whether one of the processes shall stop; then all do. All must ask."""
        if self.processes.count > 1:
            number = torch.tensor(self.signal)
            self.processes.highest(number)
            self.signal = int(number)
        return self.signal != 0

    def end(self) -> NoReturn:
        """End as the signal would have: KeyboardInterrupt, or exit with 128 + its number."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.signal)
