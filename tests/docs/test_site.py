"""The documentation site builds strictly: `make docs`."""

import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import public_names
import pytest

DOCS = Path(__file__).parents[2] / "docs"
NEEDED = ("sphinx", "furo", "myst_parser")


def need_sphinx():
    """Skip, and say so in the summary of warnings."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        told = f"THE SITE IS NOT TESTED: {', '.join(missing)} not installed; pip install '.[docs]'"
        warnings.warn(told, stacklevel=2)
        pytest.skip(told)


@pytest.mark.slow
def test_it_builds_strictly(tmp_path):
    need_sphinx()
    words = ["-W", "-n", "--keep-going", "-q", DOCS, tmp_path / "site"]
    command = [sys.executable, "-m", "sphinx", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    keys = (tmp_path / "site/configuration.html").read_text(encoding="utf-8")
    assert 'id="confval-loop.micro_batch"' in keys
    api = (tmp_path / "site/api/pipeline.html").read_text(encoding="utf-8")
    assert 'id="setar.pipeline.Pipeline.from_pretrained"' in api
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r"```\{[a-z-]+\}", page.read_text(encoding="utf-8")), page


def test_a_public_name_without_an_entry_is_told(caplog):
    need_sphinx()
    names = [*dict.fromkeys(public_names.public_names())]
    domain = SimpleNamespace(get_objects=lambda: [(name,) for name in names[1:]])
    public_names.check(None, SimpleNamespace(get_domain=lambda _: domain))
    told = [record.getMessage() for record in caplog.records]
    assert [f"the public name {names[0]} is undocumented: it needs a docstring"] == told
