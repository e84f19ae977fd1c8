"""Files that are there whole or not at all."""

import errno
import os

import pytest

from setar.durable import flush, replacing, set_aside, write_text


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_replaced_whole_and_readable_by_others(tmp_path):
    file = tmp_path / "settings.json"
    write_text(file, "old\n")
    write_text(file, "new ä\n")
    assert file.read_bytes() == "new ä\n".encode()
    assert names(tmp_path) == ["settings.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_error_leaves_the_older_one_alone(tmp_path):
    file = tmp_path / "picture.png"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(file) as beside:  # noqa: PT012
        assert beside.suffix == ".png"
        beside.write_text("half")
        assert file.read_text() == "old"
        raise ZeroDivisionError
    assert file.read_text() == "old"
    assert names(tmp_path) == ["picture.png"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/log").write_text("old")
    (tmp_path / "log").symlink_to(tmp_path / "disk/log")
    write_text(tmp_path / "log", "new")
    assert (tmp_path / "log").is_symlink()
    assert (tmp_path / "disk/log").read_text() == "new"


def test_what_lies_beside_is_never_written_through(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".log.partial").symlink_to(tmp_path / "mine")
    write_text(tmp_path / "log", "new")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_file_system_that_cannot_flush_is_no_error(tmp_path, monkeypatch, call):
    asked = []

    def refuse(*arguments, **__):
        asked.append(arguments)
        raise OSError(errno.EINVAL, "Invalid argument")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        flush(tmp_path)
    assert len(asked) == 1


def test_a_disk_that_fails_is_one(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_text(tmp_path / "log", "new")
    assert names(tmp_path) == []


def test_a_write_that_names_no_file_does(tmp_path):
    """Numpy says how many bytes it wrote to a full disk, and a text stream nothing at all."""
    for error, words in (
        (OSError("8 requested and 4 written"), r"log: 8 requested .* \(is the disk full\?\)$"),
        (OSError(errno.ENOSPC, "No space left on device"), "log: No space left on device$"),
    ):
        with pytest.raises(OSError, match=words), replacing(tmp_path / "log"):
            raise error
    assert names(tmp_path) == []


def test_what_is_set_aside_is_never_overwritten(tmp_path):
    for content in ("one", "two", "three"):
        (tmp_path / "log").write_text(content)
        set_aside(tmp_path / "log")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "log.damaged": "one",
        "log.damaged-2": "two",
        "log.damaged-3": "three",
    }
