"""What all commands share: help, mistakes in one line, interruption."""

import subprocess
import sys
from unittest.mock import Mock

import pytest

import setar.cli.recipe
from setar import registry
from setar.recipes.orders import ORDERS


def test_help_needs_no_torch():
    script = "import sys, setar.cli; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


@pytest.mark.parametrize(
    "words",
    [[], ["sample"], ["edit"], ["train"], ["evaluate"], ["recipe"], ["configs"], ["import"]],
)
def test_every_command_explains_itself(run, words):
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert f"setar {' '.join(words)}".strip() in " ".join(out.split())


COMMANDS = ["sample", "edit", "train", "reconstruct", "evaluate", "recipe", "configs"]
IMPORTERS = ["llamagen-vq", "llamagen-gpt", "var-vqvae", "var"]


@pytest.mark.parametrize("words", [[c] for c in COMMANDS] + [["import", c] for c in IMPORTERS])
def test_every_command_takes_plugins(run, refused, words, tmp_path):
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert "--plugin" in out
    needed = {"edit": ["emoji", "a.png", "--class", "0"], "train": ["digits"], "recipe": ["ar"]}
    needed["evaluate"] = ["emoji"]
    given = needed.get(words[0], [])
    if words[0] == "import":
        given = ["a.pt", "--out", tmp_path / "model"]
        given += ["--tokenizer", "emoji"] if words[1] in ("llamagen-gpt", "var") else []
    message = refused(*words, *given, "--plugin", tmp_path / "none.py")
    assert message == f"setar: {tmp_path / 'none.py'} does not exist\n"


@pytest.fixture
def forgotten(monkeypatch):
    """What a test loads and registers is gone after it."""
    for owner, name in ((ORDERS, "_entries"), (ORDERS, "_plugins"), (registry, "_files")):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))


@pytest.mark.usefixtures("forgotten")
def test_a_plugin_brings_things_of_ones_own(run, refused, tmp_path):
    file = tmp_path / "my_orders.py"
    file.write_text(
        "import setar, torch\n"
        "@setar.register_order('backwards')\n"
        "def backwards(height, width):\n"
        "    return torch.arange(height * width).flip(0)\n"
    )
    words = ("recipe", "backwards-4-uniform", "--grid", "2x2")
    assert "unknown order 'backwards'" in refused(*words)
    code, out, err = run(*words, "--plugin", file, "--plugin", file)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()[2:4]] == [["3", "2"], ["1", "0"]]


@pytest.mark.usefixtures("forgotten")
def test_a_broken_plugin_is_one_line(refused, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("raise RuntimeError('two\\nlines')")
    message = refused("recipe", "ar", "--plugin", file)
    assert message == f"setar: the plugin {file} failed: RuntimeError: two lines\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sampel"], "No such command 'sampel'. Did you mean 'sample'? (see `setar --help`)"),
        (["sample", "--sed", "1"], "--seed) (see `setar sample --help`)"),
        (["sample", "--seed", "x"], "Invalid value for '--seed'"),
        (["recipe"], "Missing argument"),
    ],
)
def test_what_the_command_line_itself_refuses(refused, words, message):
    assert message in refused(*words)


def test_a_mistake_in_a_process_is_one_line(in_a_process):
    process = in_a_process("recipe", "rndom-16-cosine")
    out, err = process.communicate()
    assert process.returncode == 2
    assert out == ""
    assert err.startswith("setar: unknown order 'rndom'; did you mean 'random'?")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("first\n  second"), "first second"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device", "a"), "a: No space left on device"),
        (FloatingPointError("training diverged"), "training diverged"),
        (ImportError("pip install setar[train]"), "pip install setar[train]"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("CUDA: Tried to allocate 2 GiB"), "CUDA: Tried to allocate 2 GiB"),
    ],
)
def test_expected_errors_are_one_line(run, monkeypatch, error, reason):
    monkeypatch.setattr(setar.cli.recipe, "parse_grid", Mock(side_effect=error))
    assert run("recipe", "ar") == (2, "", f"setar: {reason}\n")


def test_a_defect_of_the_program_is_not_hidden(run, monkeypatch):
    fail = Mock(side_effect=RuntimeError("shapes differ"))
    monkeypatch.setattr(setar.cli.recipe, "parse_grid", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("recipe", "ar")


def test_control_c_is_130(run, monkeypatch):
    monkeypatch.setattr(setar.cli.recipe, "parse_grid", Mock(side_effect=KeyboardInterrupt()))
    code, _, err = run("recipe", "ar")
    assert code == 130
    assert "Traceback" not in err
