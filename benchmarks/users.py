"""Do many people who ask a studio at once all get their picture, and what does it hold then?

    python benchmarks/users.py --users 20

`setar serve` runs in a process of its own. One user asks it for a picture; then all of them at
once, each for another seed. Prints how many got a picture of their own, the seconds until the last
one did, and the resident memory of the server at its largest beside one user's. Exit code 1 if
somebody got none, or the memory grew by more than `MOST`.
"""

import argparse
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from studio import Running, call, get, stacks, studio

MIB = 2**20
MOST = 300
"""MiB that all users may add to what one needs."""


def resident(process: int) -> float:
    """MiB of a process that are in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / MIB


class Watch:
    """The most memory that a process holds, while the block runs."""

    def __init__(self, process: int) -> None:
        self.process, self.most, self._ended = process, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, resident(self.process))


def ask(here: Running, model: str, seed: int) -> bytes | None:
    """The picture that a user of a seed gets; None if there is none."""
    data = [model, "0", "", "", "", "", None, "", None, None, None, seed, 1]
    kind, answer = call(here.address, "draw", data)
    if kind != "complete":
        print(f"seed {seed}: {kind} {str(answer)[:200]}")
        if kind == "no end":
            print(stacks(here))
        return None
    [shown] = answer[0]
    status, content = get(shown["image"]["url"])
    return content.encode() if status == 200 else None


def main() -> None:
    parser = argparse.ArgumentParser(description="many users of a studio at once")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--model", default="emoji", help="of classes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, studio([options.model], Path(folder)) as here:
        ask(here, options.model, 0)  # the first call allocates
        with Watch(here.process) as one:
            ask(here, options.model, 1)
        began = time.perf_counter()
        with Watch(here.process) as many, ThreadPoolExecutor(options.users) as users:
            seeds = range(100, 100 + options.users)
            got = list(users.map(lambda seed: ask(here, options.model, seed), seeds))
        seconds = time.perf_counter() - began
    pictures = {picture for picture in got if picture is not None}
    print(f"{len(pictures)} of {options.users} users got a picture of their own in {seconds:.1f} s")
    print(f"memory {one.most:.0f} MiB with one user, {many.most:.0f} MiB with {options.users}")
    sys.exit(len(pictures) < options.users or many.most - one.most > MOST)


if __name__ == "__main__":
    main()
