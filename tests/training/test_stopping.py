"""Ctrl-C and SIGTERM end a training with its last step saved."""

import os
import signal
import subprocess
import sys
import threading
import time
import tomllib

import pytest

import setar
import tiny_runs
from setar.run_folder import checkpoints
from setar.training.distributed import ALONE, Processes
from setar.training.stopping import StopRequest

DIGITS = tomllib.loads(tiny_runs.DIGITS)


@pytest.fixture(autouse=True)
def asked_to_stop():
    """Whoever runs the tests in the background may have Ctrl-C ignored, which is inherited."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(steps):
    return {**DIGITS, "loop": {**DIGITS["loop"], "steps": steps, "checkpoint_every": 100}}


def send(number):
    """To this process; it is there when this returns."""
    os.kill(os.getpid(), number)
    time.sleep(0)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_the_first_asks_and_the_second_ends(number, error):
    before = signal.getsignal(number)
    with pytest.raises(error) as raised, StopRequest(ALONE) as stop:  # noqa: PT012
        assert not stop.asked()
        send(number)
        assert stop.asked()
        send(number)
        pytest.fail("it goes on")
    assert signal.getsignal(number) is before
    if error is SystemExit:
        assert raised.value.code == 143


def test_of_several_processes_none_ends_at_the_second():
    with StopRequest(Processes(1, 2)) as stop:
        send(signal.SIGINT)
        send(signal.SIGINT)
    assert stop.signal == signal.SIGINT


def test_handlers_of_the_users_own_stay(monkeypatch):
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    try:
        with StopRequest(ALONE) as stop:
            send(signal.SIGINT)
        assert (seen, stop.signal) == (["mine"], 0)
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_there_are_no_signals():
    done = []

    def work():
        with StopRequest(ALONE) as stop:
            done.append(stop.asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]


def test_stopped_and_resumed_as_if_never_stopped(tmp_path, monkeypatch, capsys):
    from setar.training.generator import GeneratorObjective

    losses = GeneratorObjective.losses

    def stopping(self, items, step):
        if step == 2:
            send(signal.SIGINT)
        return losses(self, items, step)

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorObjective, "losses", stopping)
        with pytest.raises(KeyboardInterrupt):
            setar.train(run(5), tmp_path / "parts")
    saved = tmp_path / "parts/checkpoints/step-00000003"
    assert checkpoints(tmp_path / "parts") == [saved]
    assert f"stopped after step 3, saved as {saved}: --resume goes on" in capsys.readouterr().out
    parts = setar.train(run(5), tmp_path / "parts", resume=True)
    whole = setar.train(run(5), tmp_path / "whole")
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_saves_and_says_how_to_go_on(tmp_path, number, code):
    (tmp_path / "digits.toml").write_text(tiny_runs.DIGITS)
    words = ["train", "digits.toml", "--out", "run", "--set", "loop.steps=100000"]
    words += ["--set", "loop.checkpoint_every=100000"]
    command = [sys.executable, "-m", "setar.cli", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        for line in process.stdout:
            if line.startswith("step 3 "):
                break
        process.send_signal(number)
        try:
            said, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert "Traceback" not in err
    [saved] = checkpoints(tmp_path / "run")
    assert f"saved as run/checkpoints/{saved.name}: --resume goes on" in said
