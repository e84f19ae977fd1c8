"""One training in a folder at a time."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading

import pytest

from setar.training import lock
from setar.training.lock import holder, locked

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
        who = f"process {other.pid} on {socket.gethostname()}"
        message = rf"\Aanother training goes on in {tmp_path}, {who}: wait"
        with pytest.raises(ValueError, match=message), locked(tmp_path):
            pytest.fail("two at once")
        assert holder(tmp_path) == who
        with locked(tmp_path, wanted=False):
            pass
        other.kill()
    assert (tmp_path / ".lock").read_text() == f"{socket.gethostname()} {other.pid}\n"
    assert holder(tmp_path) == ""
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{socket.gethostname()} {os.getpid()}\n"
    with locked(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == ""


def test_to_look_at_it_refuses_nobody(tmp_path):
    """Looking takes the lock for a moment, in which a training may begin."""
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with locked(tmp_path):
            assert holder(tmp_path)


@pytest.mark.parametrize("content", ["", "host", "host -5", "two\nlines 7", "host ²", "x" * 999])
def test_a_lock_that_says_nothing_is_held_all_the_same(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    with (tmp_path / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="process unknown: wait"), locked(tmp_path):
            pytest.fail("two at once")
        assert holder(tmp_path) == "process unknown"


def test_where_there_are_no_locks_a_process_that_lives_is_believed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / ".lock").write_text(f"{socket.gethostname()} {other.pid}\n")
        who = f"process {other.pid} on {socket.gethostname()}"
        assert holder(tmp_path) == who
        with pytest.raises(ValueError, match=who), locked(tmp_path):
            pytest.fail("two at once")
        other.kill()
    for stale in (f"{socket.gethostname()} {other.pid}", f"elsewhere.example {os.getppid()}"):
        (tmp_path / ".lock").write_text(stale)
        assert holder(tmp_path) == ""
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
