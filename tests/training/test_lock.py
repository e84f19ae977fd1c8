"""One training in a folder at a time."""

import errno
import subprocess
import sys

import pytest

from setar.training import lock
from setar.training.lock import locked

HOLD = """
import sys
from pathlib import Path
from setar.training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_another_process_vanishes_with_it(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        message = rf"\Aanother training goes on in {tmp_path}: "
        with pytest.raises(ValueError, match=message), locked(tmp_path):
            pytest.fail("two at once")
        with locked(tmp_path, wanted=False):
            pass
        other.kill()
    with locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_no_error(tmp_path, monkeypatch):
    asked = []

    def refuse(*arguments):
        asked.append(arguments)
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path):
        assert asked
    monkeypatch.setattr(lock, "fcntl", None)
    with locked(tmp_path / "not there"):
        pass
