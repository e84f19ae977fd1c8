"""`examples/plugin.py` through every command; and what happens without it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import setar.registry

EXAMPLES = Path(__file__).parents[2] / "examples"
PLUGIN = EXAMPLES / "plugin.py"
QUICK = ("--set", "loop.steps=4", "--set", "loop.batch_size=8", "--set", "loop.checkpoint_every=2")
SHAPE = ("--set", "tokenizer.channels=8", "--set", "tokenizer.multipliers=[1, 1, 2]")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("plugin")


@pytest.fixture
def setar_in(place, run, monkeypatch):
    """The command line in a folder that the tests of this module share."""

    def command(*words):
        monkeypatch.chdir(place)
        code, out, err = run(*words)
        assert code == 0, err
        return out

    return command


def test_it_is_short():
    assert len(PLUGIN.read_text().splitlines()) < 150


def test_train(setar_in, place):
    setar_in("train", EXAMPLES / "plugin_tokenizer.toml", *QUICK, *SHAPE)
    setar_in("train", EXAMPLES / "plugin.toml", *QUICK)
    config = json.loads((place / "runs/plugin/checkpoints/step-00000004/config.json").read_text())
    assert config["plugins"] == ["plugin.py"]
    assert config["model"]["family"] == "deep-sets"
    assert config["tokenizer"]["family"] == "fsq"
    assert config["data"] == "stripes"
    assert config["sampling"]["guidance"]["schedule"] == "late"
    settings = json.loads((place / "runs/plugin/settings.json").read_text())
    assert settings["plugins"] == [str(PLUGIN)]  # from where the same run begins again
    longer = ("--set", "loop.steps=6", "--resume")
    assert "6 steps in" in setar_in("train", EXAMPLES / "plugin.toml", *QUICK, *longer)


def test_sample_and_edit(setar_in, place):
    words = ("--plugin", PLUGIN, "--count", "2")
    setar_in("sample", "runs/plugin", *words, "--each", "each", "--out", "sample.png")
    made = sorted((place / "each").iterdir())
    assert len(made) == 6
    setar_in("edit", "runs/plugin", made[0], "--class", "lying", "--box", "0,8,16,16", *words)
    assert Image.open(place / "outputs/edit.png").width > 100


def test_reconstruct_and_evaluate(setar_in, place):
    for model in ("runs/plugin", "runs/plugin_tokenizer"):
        out = setar_in("reconstruct", model, "stripes:heldout", "--plugin", PLUGIN)
        assert "8 pictures" in out
    words = ("--count", "2", "--out", "figures.json", "--features", "thumbnails")
    plugins = ("--plugin", PLUGIN, "--plugin", EXAMPLES / "plugin_more.py")
    setar_in("evaluate", "runs/plugin", *plugins, *words)
    tables = json.loads((place / "figures.json").read_text())
    assert tables["settings"]["reference"] == "stripes:train"
    assert {"FD-thumbnails", "contrast"} <= tables["figures"].keys()


@pytest.mark.slow
def test_evaluate_in_several_processes(setar_in, place):
    words = ("--count", "2", "--out", "shared.json", "--features", "thumbnails", "--processes", "2")
    plugins = ("--plugin", PLUGIN, "--plugin", EXAMPLES / "plugin_more.py")
    setar_in("evaluate", "runs/plugin", *plugins, *words)
    one, two = (
        json.loads((place / file).read_text())["figures"]
        for file in ("figures.json", "shared.json")
    )
    assert one == two


def test_recipe(setar_in):
    out = setar_in("recipe", "snake-4-halves", "--grid", "4x4", "--plugin", PLUGIN)
    assert "16 tokens in 4 sets" in out


def alone(*words, cwd):
    """The command line in a process that has loaded no plugin: exit code and standard error."""
    command = [sys.executable, "-m", "setar.cli", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_without_the_plugin_one_line_says_what_is_missing(place):
    folder = place / "runs/plugin/checkpoints/step-00000006"
    (folder / "plugin.py").write_text("raise SystemExit('code of a model folder was run')")
    for words in (("sample", "runs/plugin"), ("sample", folder), ("evaluate", "runs/plugin")):
        code, error = alone(*words, cwd=place)
        assert code == 2
        assert error.count("\n") == 1
        assert "needs the plugin 'plugin.py': name your copy of that file with --plugin" in error
    (folder / "plugin.py").unlink()
    code, error = alone("train", "runs.toml", "--plugin", "missing.py", cwd=place)
    assert (code, error) == (2, "setar: missing.py does not exist\n")


def test_a_run_folder_never_runs_code_that_it_names(place, tmp_path):
    settings = json.loads((place / "runs/plugin/settings.json").read_text())
    evil = tmp_path / "evil.py"
    evil.write_text("print('code of a run folder was run')")
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_text(json.dumps({**settings, "plugins": [str(evil)]}))
    words = ("train", EXAMPLES / "plugin.toml", *QUICK, "--out", run, "--resume")
    command = [sys.executable, "-m", "setar.cli", *map(str, words)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs the plugin 'evil.py'" in done.stderr
    assert "was run" not in done.stdout


def test_the_commit_that_brought_it_changed_nothing_of_the_package():
    """What a plugin needs is public: it imports no name that begins with an underscore."""
    for file in EXAMPLES.glob("plugin*.py"):
        lines = file.read_text().splitlines()
        assert not [line for line in lines if line.startswith("from setar") and " _" in line]
    assert setar.registry.GROUP == "setar.plugins"
