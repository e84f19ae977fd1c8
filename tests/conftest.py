"""Makes the helpers beside this file importable from every test; the command line as a fixture."""

import multiprocessing
import sys

import pytest
from hypothesis import HealthCheck, settings

# The same examples at every run, however slow the machine is. `--hypothesis-profile=explore` draws
# new ones.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line in this process: exit code, standard output, standard error."""
    import setar.cli

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["setar", *map(str, words)])
        code = 0
        try:
            setar.cli.main()
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def ready_processes(monkeypatch):
    """Further processes of an evaluation come from one that has imported the package for them.

    They are told their work as spawned ones are, so they know no more of it, but begin at once;
    `evaluation/test_workers.py` spawns some.
    """
    from setar.evaluation import workers

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["setar.evaluation.run", "setar.pipeline"])
    monkeypatch.setattr(workers, "get_context", lambda _: context)


@pytest.fixture
def float64_by_default():
    """What a user may have set for computations of his own."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def refused(run):
    """The one line on standard error of a command that ends with exit code 2."""

    def command(*words):
        code, _, err = run(*words)
        assert code == 2
        assert err.startswith("setar: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err

    return command
