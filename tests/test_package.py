"""The package as a user installs it: a fresh environment, away from the repository."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def away(tmp_path_factory):
    """Runs commands of a fresh environment with ``pip install .``, in a folder of nothing else."""
    place = tmp_path_factory.mktemp("away")
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)

    def command(name, *words):
        done = subprocess.run(
            [place / "venv/bin" / name, *map(str, words)],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    for wanted in (f"torch=={version('torch').split('+')[0]}", str(ROOT)):
        code, _, err = command("pip", "install", "--quiet", "--no-input", wanted)
        assert code == 0, err
    return command, place


def test_the_bare_package_samples_and_draws(away):
    command, place = away
    assert command("setar", "sample", "emoji", "--classes", "flag", "--out", "flag.png")[0] == 0
    assert Image.open(place / "flag.png").width > 100
    code, out, _ = command("setar", "recipe", "random-8-cosine", "--out", "recipe.png")
    assert code == 0
    assert "64 tokens in 8 sets" in out
    code, out, _ = command("python", "-c", "import setar; print(setar.__file__, setar.__version__)")
    assert str(place) in out
    assert version("setar") in out
    installed = Path(out.split()[0]).parent
    assert (installed / "py.typed").is_file(), "type checkers read its annotations"


def test_its_configs_are_there(away):
    command, _place = away
    code, out, _ = command("setar", "configs")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} == {
        file.stem for file in (ROOT / "configs").glob("*.toml")
    }
    code, out, _ = command("setar", "configs", "digits")
    assert (code, out) == (0, (ROOT / "configs/digits.toml").read_text())


def test_what_needs_an_extra_says_which(away):
    command, _ = away
    for words in (["train", "digits"], ["evaluate", "emoji"]):
        code, _, err = command("setar", *words)
        assert code == 2
        assert err.count("\n") == 1
        assert "setar[" in err


def test_with_the_extra_it_trains(away):
    command, place = away
    code, _, err = command("pip", "install", "--quiet", "--no-input", f"{ROOT}[train]")
    assert code == 0, err
    tiny = ("loop.steps=2", "loop.batch_size=4", "model.width=16")
    for config in ("digits", "configs/digits.toml"):
        words = [word for change in tiny for word in ("--set", change)]
        code, out, err = command(
            "setar",
            "train",
            config,
            *words,
            "--out",
            f"runs/{Path(config).stem}-{config.count('/')}",
        )
        assert code == 0, err
        assert "2 steps" in out
    assert (place / "runs/digits-1/settings.json").is_file()
