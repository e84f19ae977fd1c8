"""What all commands share: help, mistakes in one line, interruption."""

import os
import subprocess
import sys
from unittest.mock import Mock

import pytest
from safetensors import SafetensorError

import setar
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
IMPORTERS = ["llamagen-vq", "llamagen-gpt", "llamagen-t2i", "var-vqvae", "var", "randar"]


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
        generators = ("llamagen-gpt", "llamagen-t2i", "var", "randar")
        given += ["--tokenizer", "emoji"] if words[1] in generators else []
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
        (["sample", "--sed", "1"], "--seed, --size) (see `setar sample --help`)"),
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
        (RuntimeError("CUDA error: out of memory"), "CUDA error: out of memory"),
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
    assert run("recipe", "ar") == (130, "", "setar: interrupted\n")


def test_a_full_disk_under_safetensors_is_one_line(run, monkeypatch):
    full = SafetensorError("I/O error: No space left on device (os error 28)")
    monkeypatch.setattr(setar.cli.recipe, "parse_grid", Mock(side_effect=full))
    assert run("recipe", "ar") == (2, "", f"setar: {full}\n")


def test_a_missing_torch_is_said_with_what_to_do(run, monkeypatch):
    missing = ModuleNotFoundError("No module named 'torch'", name="torch")
    monkeypatch.setattr(setar.cli.recipe, "parse_grid", Mock(side_effect=missing))
    code, _, err = run("recipe", "ar")
    assert code == 2
    assert err.startswith("setar: torch is not installed: pip install torch (where there is no GPU")
    assert err.count("\n") == 1


BEFORE_TORCH = [
    "sample --count 0",
    "sample --seed -1",
    "sample --temperature nan",
    "sample --guidance -1",
    "sample --top-p 2",
    "sample --attention fully",
    "sample --schedule line",
    "sample --recipe rndom-4-cosine",
    "recipe random-4-cosin",
    "sample --classes dgo",
    "sample --out a.psd",
    "sample --animate a.png",
    "sample emojo",
    "sample ./none",
    "sample --plugin none.py",
    "edit emoji none.png --class heart --box 0,0,1,1",
    "edit emoji a.png --class dgo --box 0,0,1,1",
    "edit emoji a.png --class heart --box 0,0,1,1 --outpaint 1,1,1,1",
    "edit emoji a.png --class heart --box 0,0,1",
    "edit emoji a.png --class heart --mask none.png",
    "reconstruct --size 0",
    "reconstruct emoji none.png",
    "reconstruct none",
    "evaluate --count 2 --images 99",
    "evaluate --size x",
    "evaluate none.npz",
    "evaluate emoji --reference ./none",
    "evaluate emoji --features inception:./none.pt",
    "evaluate --save-samples a.npy",
    "recipe ar --grid 8",
    "recipe ar --grid 9999x9999",
    "recipe ar --seed -1",
    "train digist",
    "train none.toml",
    "train digits --set steps",
    "configs digist",
    "import var none.pth --tokenizer emoji --out new",
    "import llamagen-gpt a.png --tokenizer emoji --out new --grid 8",
    "import llamagen-gpt a.png --tokenizer none --out new",
    "import llamagen-t2i a.png --tokenizer emoji --out new --grid 8",
    "import llamagen-t2i a.png --tokenizer none --out new",
]


def test_wrong_values_are_refused_before_torch_is_there(tmp_path, monkeypatch):
    """All in one process, which never imports torch."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture, and nobody has looked")
    script = (
        "import sys, setar.cli\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    sys.argv = ['setar', *line.split()]\n"
        "    try:\n"
        "        setar.cli.main()\n"
        "    except SystemExit as end:\n"
        "        print(end.code, 'torch' in sys.modules, line, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(BEFORE_TORCH),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [f"2 False {line}" for line in BEFORE_TORCH]
    lines = done.stderr.splitlines()
    assert len(lines) == len(BEFORE_TORCH)
    assert all(line.startswith("setar: ") for line in lines)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_classes_are_listed_without_torch():
    script = (
        "import sys, setar.cli; sys.argv = ['setar', 'sample', '--classes', '?']\n"
        "try: setar.cli.main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert out.splitlines()[0] == "face-smiling"
    assert out.splitlines()[-1] == "False"


def test_the_version_and_help_are_said_without_torch():
    script = (
        "import sys, setar.cli\n"
        "for words in (['--version'], ['-h'], ['sample', '-h'], ['models', '-h'], ['models']):\n"
        "    sys.argv = ['setar', *words]\n"
        "    try: setar.cli.main()\n"
        "    except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert out.splitlines()[0] == f"setar {setar.__version__}"
    assert [line for line in out.splitlines() if line.endswith(("True", "False"))] == [
        "0 False"
    ] * 5


@pytest.mark.parametrize("module", ["setar", "setar.cli"])
def test_it_runs_as_a_module(module):
    command = [sys.executable, "-m", module, "--version"]
    assert subprocess.check_output(command, text=True) == f"setar {setar.__version__}\n"


def test_the_shell_completes_commands_and_models():
    for words, expected in (("setar sam", "sample"), ("setar sample emoji-v", "emoji-var")):
        environment = {**os.environ, "_SETAR_COMPLETE": "complete_bash", "COMP_WORDS": words,
                       "COMP_CWORD": str(len(words.split()) - 1)}  # fmt: skip
        script = "import sys; sys.argv = ['setar']; import setar.cli; setar.cli.main()"
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == [expected], done.stderr
