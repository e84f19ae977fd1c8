"""``setar serve``: what it refuses before anything heavy is imported, and that it serves."""

import importlib.util
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

HEAVY = """
import sys
sys.argv = ["setar", "serve", "--help"]
from setar.cli import main
try:
    main()
except SystemExit:
    pass
print(sorted({name.split(".")[0] for name in sys.modules} & {"gradio", "torch", "PIL"}))
"""


def test_its_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True)
    assert "Ctrl-C ends it" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_without_gradio_one_line_says_what_to_install(refused, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "setar.cli.serve.find_spec", lambda name: None if name == "gradio" else found(name)
    )
    assert 'pip install "setar[web]"' in refused("serve")


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["no-such-model"], "'no-such-model' does not exist"),
        (["--port", "0"], "`port` (=0) must be from 1 to 65535"),
        (["--port", "99999"], "`port` (=99999) must be from 1 to 65535"),
    ],
)
def test_mistakes_end_in_a_line(refused, words, rule):
    assert rule in refused("serve", *words)


def test_a_taken_port_is_told_before_anything_is_loaded(refused, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setitem(sys.modules, "setar.web.page", None)  # which would be an ImportError
        assert f"cannot listen at port {port} of 127.0.0.1" in refused("serve", "--port", port)


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "8.8.8.8", "999.1.1.1", "a b", "ü" * 99, "x" * 999, "::zz"]
)
def test_a_host_that_is_none_of_this_machine_is_told_before_anything_is_loaded(
    refused, monkeypatch, host
):
    monkeypatch.setitem(sys.modules, "setar.web.page", None)  # which would be an ImportError
    said = refused("serve", "--host", host)
    assert f"cannot listen at {ascii(host)[:50].rstrip(chr(39))}" in said
    assert said.endswith("127.0.0.1 is for this machine, 0.0.0.0 for the whole network\n")


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(run, monkeypatch):
    """The page answers at the address that is printed, and Ctrl-C ends it."""
    pytest.importorskip("gradio", reason='the studio needs pip install "setar[web]"')
    import setar.web.serving

    opened, answers = [], []
    whole = setar.web.serving.serving

    @contextmanager
    def noted(*arguments):
        with whole(*arguments) as found:
            opened.append(found[0])
            yield found

    class Interrupted:
        def wait(self):
            with urllib.request.urlopen(opened[0], timeout=60) as answer:
                answers.append(answer.read().decode())
            raise KeyboardInterrupt

    monkeypatch.setattr("setar.web.serving.serving", noted)
    monkeypatch.setattr("setar.cli.serve.Event", Interrupted)
    code, out, _ = run("serve", "emoji")
    assert code == 130
    assert out == f"the studio is at {opened[0]} (Ctrl-C ends it)\n"
    assert "setar studio" in answers[0]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(opened[0], timeout=5)
