"""Files of other systems."""

import pytest

from setar.bench.peers import load_peers

GOOD = """
def load(preset):
    return lambda batch, steps: (preset, batch, steps)
"""


def test_peers_are_named_by_their_files(tmp_path):
    (tmp_path / "theirs.py").write_text(GOOD)
    (tmp_path / "_helper.py").write_text("raise SystemError")
    peers = load_peers(tmp_path, "fmt:B")
    assert list(peers) == ["theirs"]
    assert peers["theirs"](2, 16) == ("fmt:B", 2, 16)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x = 1", "no function"),
        ("def load(preset): return 3", "must return"),
        ("def load(preset): raise KeyError('lost')", "KeyError"),
        ("syntax error", "SyntaxError"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, word):
    (tmp_path / "wrong.py").write_text(text)
    with pytest.raises(ValueError, match=word) as error:
        load_peers(tmp_path, "fmt:B")
    assert "wrong.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_peers(tmp_path):
    with pytest.raises(ValueError, match="has no peer"):
        load_peers(tmp_path, "fmt:B")
    with pytest.raises(ValueError, match="no folder"):
        load_peers(tmp_path / "none", "fmt:B")
