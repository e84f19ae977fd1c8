"""Consoles that lack letters, that are gone, or that are full."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from setar.cli import console

FULL = Path("/dev/full")


def command(*words, **environment):
    """The command line in a process of its own: exit code, standard output and error."""
    done = subprocess.run(
        [sys.executable, "-m", "setar.cli", *map(str, words)],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def stream(monkeypatch):
    """Standard output of an encoding, prepared; gives its bytes."""

    def make(encoding):
        made = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
        monkeypatch.setattr(sys, "stdout", made)
        console.prepare_console()
        return made.buffer

    return make


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "█▄ 猫 é\n".encode()),
        ("cp1252", b"#. \\u732b \xe9\n"),
        ("ascii", b"#. \\u732b \\xe9\n"),
        ("cp437", b"\xdb\xdc \\u732b \x82\n"),
    ],
)
def test_what_a_console_cannot_print_has_a_stand_in(stream, encoding, shown):
    printed = stream(encoding)
    console.say("█▄ 猫 é")
    assert printed.getvalue() == shown


def test_half_a_character_of_a_file_name_can_be_printed(stream):
    printed = stream("utf-8")
    console.say(os.fsdecode(b"a\xff.png"))
    assert printed.getvalue() == b"a\\udcff.png\n"


def test_tables_are_ascii_where_they_must_be(stream):
    from rich.panel import Panel

    printed = stream("cp1252")
    console.show(Panel.fit("猫"))
    assert printed.getvalue().decode("ascii").splitlines()[0].startswith("+--")


def test_a_mistake_is_one_line_whatever_it_names(capsys):
    console.say_mistake("a\x1b[31m class\nof \u202e two lines")
    assert capsys.readouterr().err == "setar: a\\x1b[31m class of \\u202e two lines\n"


def test_streams_that_were_closed_are_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    console.prepare_console()
    console.say("nobody reads this")
    console.say_mistake("nor this")
    assert (sys.stdout.name, sys.stderr.name) == (os.devnull, os.devnull)


def test_recipes_are_drawn_on_a_console_of_windows():
    code, out, err = command("recipe", "random-4-cosine", PYTHONIOENCODING="cp1252")
    assert (code, err) == (0, b"")
    assert b"+-" in out
    assert b"#" in out
    assert out.isascii()


def test_a_reader_that_ends_early_is_no_mistake(tmp_path):
    words = f"'{sys.executable}' -m setar.cli configs"
    done = subprocess.run(
        ["bash", "-c", f"{words} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_the_output_is_one_line():
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "setar.cli", "configs"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, "setar: No space left on device\n")


def test_no_colour_where_none_is_wanted(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    console.say_mistake("red")
    assert "\x1b[31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    console.say_mistake("plain")
    assert capsys.readouterr().err == "setar: plain\n"
