"""Encodes the folder of ``tiny_codes`` in lives that are killed at their n-th write.

    python tests/training/killed_encoding.py FOLDER OUT [--kills N ...]

Lives to be killed are forked from this process, which ends the work itself; a process of several
(``WORLD_SIZE``) ends with its first life.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_codes
from setar.training.encoding import encode


def install(at):
    """Kill this process at a write: half of the time when a file was torn in its middle."""
    fsync, replace, seen = os.fsync, os.replace, [0]

    def counted():
        seen[0] += 1
        return seen[0] == at

    def torn_fsync(descriptor):
        if counted():
            if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def killed_replace(before, after):
        if counted():
            os.kill(os.getpid(), signal.SIGKILL)
        replace(before, after)

    os.fsync, os.replace = torn_fsync, killed_replace


def live(folder, out, at=0):
    """One life in a child; its exit status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if at:
                install(at)
            encode(tiny_codes.config(folder), out)
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for at in options.kills:
        status = live(options.folder, options.out, at)
        if os.environ.get("WORLD_SIZE", "1") != "1":
            sys.exit(status != 0)
        assert status in (0, -signal.SIGKILL), status
    encode(tiny_codes.config(options.folder), options.out)


if __name__ == "__main__":
    main()
