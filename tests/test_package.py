"""The package as a user installs it: a fresh environment, away from the repository."""

import os
import re
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def needed(name, extras=("",), found=None):
    """The distributions that one asks for, and those that they ask for, by name."""
    found = {} if found is None else found
    for text in distribution(name).requires or ():
        wanted = Requirement(text)
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        markers = wanted.marker
        if key in found or (markers and not any(markers.evaluate({"extra": e}) for e in extras)):
            continue
        found[key] = distribution(wanted.name)
        needed(wanted.name, ("", *wanted.extras), found)
    return found


def link(distributions, place):
    """Let a folder of packages have those that are installed here, whose files are many."""
    for one in distributions:
        for top in {file.parts[0] for file in one.files} - {"..", "__pycache__"}:
            if not (place / top).exists():
                (place / top).symlink_to(one.locate_file(top))


@pytest.fixture(scope="module")
def away(tmp_path_factory):
    """Runs commands of a fresh environment, in a folder of nothing else.

    It holds what ``pip install .`` puts there, what the package says that it needs, and no more:
    pip itself checks that nothing lacks.
    """
    place = tmp_path_factory.mktemp("away")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)

    def command(name, *words):
        done = subprocess.run(
            [place / "venv/bin" / name, *map(str, words)],
            cwd=place,
            env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    pip = [sys.executable, "-m", "pip", "--python", place / "venv/bin/python"]
    subprocess.run([*pip, "install", "--quiet", "--no-input", "--no-deps", ROOT], check=True)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([*pip, "check"], check=True)
    [packages] = (place / "venv/lib").glob("python*/site-packages")
    link(needed("setar").values(), packages)
    subprocess.run([*pip, "check"], check=True)
    return command, place, packages


def test_the_bare_package_samples_and_draws(away):
    command, place, _ = away
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
    command, *_ = away
    code, out, _ = command("setar", "configs")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} == {
        file.stem for file in (ROOT / "configs").glob("*.toml")
    }
    code, out, _ = command("setar", "configs", "digits")
    assert (code, out) == (0, (ROOT / "configs/digits.toml").read_text())


def test_what_needs_an_extra_says_which(away):
    command, *_ = away
    for words in (["train", "digits"], ["evaluate", "emoji"]):
        code, _, err = command("setar", *words)
        assert code == 2
        assert err.count("\n") == 1
        assert "setar[" in err


def test_with_the_extra_it_trains(away):
    command, place, packages = away
    link(needed("setar", ("train",)).values(), packages)
    words = ["loop.steps=2", "loop.batch_size=4", "model.width=16"]
    words = ["configs/digits.toml", *(word for change in words for word in ("--set", change))]
    code, out, err = command("setar", "train", *words, "--out", "runs/digits")
    assert code == 0, err
    assert "2 steps" in out
    assert (place / "runs/digits/settings.json").is_file()
