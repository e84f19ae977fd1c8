"""Files that users name: what is opened, and how names are shown."""

import os
import sys

import pytest

from setar.files import check_file, open_regular
from setar.registry import printable


def test_a_file_and_a_link_to_one_are_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"here")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with open_regular(tmp_path / name) as stream:
            assert stream.read() == b"here"


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and devices with names")
def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "file").write_bytes(b"")
    rules = {
        "pipe": "no regular file",
        "device": "no regular file",
        ".": "a folder",
        "loop": "symbolic links",
        "broken": "does not exist",
        "none": "does not exist",
        "file/inside": "does not exist",
        "x" * 5000: "too long",
    }
    for name, rule in rules.items():
        with pytest.raises(ValueError, match=rule):
            open_regular(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a b.png", "a b.png"), ("a\nb", r"a\nb"), ("\udcff", r"\udcff"), ("猫\x1b[0m", r"猫\x1b[0m")],
)
def test_any_name_is_one_line_that_can_be_printed(name, expected):
    assert printable(name) == expected
    printable(name).encode()


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "none does not exist"), (".", "is a folder"), ("a" * 300, "does not exist")],
    ids=["missing", "a folder", "too long"],
)
def test_files_that_are_to_be_read(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        check_file(tmp_path / name)


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not a file"):
        check_file(tmp_path / "pipe")
