"""A studio that runs by itself, and what it is asked over HTTP; for benchmarks beside this file.

Not a benchmark: `hostile_requests.py` and `users.py` are.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

STARTING = 180
"""Seconds for which a studio may take to start."""
PATIENCE = 120
"""Seconds for which an answer may take."""


class Running(NamedTuple):
    """A studio in a process of its own."""

    address: str
    process: int
    log: Path
    """All that it writes."""


@contextmanager
def studio(models: Sequence[str], folder: Path) -> Iterator[Running]:
    """`setar serve` in a folder, until the block ends."""
    log = folder / "serve.log"
    words = [sys.executable, "-X", "faulthandler", "-m", "setar", "serve", *models]
    with log.open("w") as stream:
        process = subprocess.Popen(words, cwd=folder, stdout=stream, stderr=stream)
    try:
        end = time.monotonic() + STARTING
        while "studio is at" not in log.read_text():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the studio did not start: {log.read_text()}")
            time.sleep(0.1)
        address = log.read_text().split("studio is at ")[1].split()[0].rstrip("/")
        yield Running(address, process.pid, log)
    finally:
        process.terminate()
        process.wait(60)


def stacks(here: Running) -> str:
    """What each thread of a studio that gives no answer is doing; the studio ends by that."""
    os.kill(here.process, signal.SIGABRT)
    time.sleep(5)  # a busy machine may need some to write them
    return here.log.read_text()[-20_000:]


def get(address: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of what lies at an address, or answers a body."""
    request = urllib.request.Request(address, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


def call(address: str, name: str, data: Any) -> tuple[str, Any]:
    """How a function of a studio ends, ``complete``, ``error``, ``refused`` or ``no end``; what
    it says.

    ``data`` are its arguments, or anything else that JSON can say, NaN too.
    """
    path = f"{address}/gradio_api/call/{name}"
    body = json.dumps({"data": data}).encode()
    status, text = get(path, body, **{"Content-Type": "application/json"})
    if status != 200:
        return "refused", text
    event, place = "", f"{path}/{json.loads(text)['event_id']}"
    with suppress(TimeoutError), urllib.request.urlopen(place, timeout=PATIENCE) as stream:
        end = time.monotonic() + PATIENCE
        for line in stream:  # a heart beats while nothing else is said
            kind, _, said = line.decode().strip().partition(": ")
            event = said if kind == "event" else event
            if kind == "data" and event in ("complete", "error"):
                return event, json.loads(said)
            if time.monotonic() > end:
                break
    return "no end", f"nothing came after {event or 'the beginning'}"
