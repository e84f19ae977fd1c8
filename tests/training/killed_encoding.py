"""Encodes the folder of ``tiny_codes`` in lives that are killed, and in several processes.

    python tests/training/killed_encoding.py FOLDER OUT

Every life is forked from this process, which has imported what they need. What is in OUT then,
``test_encoding.py`` compares with what an undisturbed life writes.
"""

import os
import random
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


def live(folder, out, at=0, index=0, count=1):
    """One life in a child that is killed at a write, one of several that share; its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ |= {"RANK": str(index), "WORLD_SIZE": str(count)}
            if at:
                install(at)
            encode(tiny_codes.config(folder), out)
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(code)
    return child


def ended(*lives):
    """Their exit statuses, negative of a signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(life, 0)[1]) for life in lives]


def killed(folder, out, chance):
    """Lives that are killed before or in the middle of a write, until one is left alone."""
    for _ in range(4):
        [status] = ended(live(folder, out, chance.randint(1, 40)))
        assert status in (0, -signal.SIGKILL), status
    assert ended(live(folder, out)) == [0]


def two(folder, out):
    """They share the work."""
    assert ended(live(folder, out, 0, 1, 2), live(folder, out, 0, 0, 2)) == [0, 0]


def three(folder, out):
    """One of two dies, the other waits for shards that will not come; three others go on."""
    second, first = live(folder, out, 3, 1, 2), live(folder, out, 0, 0, 2)
    assert ended(second) == [-signal.SIGKILL]
    os.kill(first, signal.SIGKILL)
    ended(first)
    assert not (out / "manifest.json").exists()
    assert ended(*(live(folder, out, 0, index, 3) for index in range(3))) == [0, 0, 0]


def main(folder, place):
    torch.set_num_threads(1)
    chance = random.Random(0)
    for number in range(6):
        killed(folder, place / f"killed-{number}", chance)
    two(folder, place / "two")
    three(folder, place / "three")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
