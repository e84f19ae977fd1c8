"""What a run says: the log, TensorBoard, the console."""

import builtins
import json
import os
import threading

import pytest

from setar.training.report import Report, open_log, say, warn


def line(step):
    return json.dumps({"step": step, "loss": 1.5})


def opened(file, step):
    open_log(file, step).close()
    return file.read_text().splitlines()


def test_what_will_be_repeated_is_cut(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(f"{line(step)}\n" for step in range(1, 6)) + '{"step": 6, "lo')
    assert opened(file, 3) == [line(1), line(2), line(3)]
    assert [f.name for f in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_log_that_is_right_is_not_touched(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(f"{line(1)}\n{line(2)}\n")
    before = file.stat()
    opened(file, 2)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_last_line_without_its_end_is_completed(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(f"{line(1)}\n{line(2)}")
    assert opened(file, 5) == [line(1), line(2)]
    assert file.read_text().endswith("\n")


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xfe\x00", b"hello", b"[1]", b'{"step": "two"}', b'{"step": NaN}', b"[" * 10**5],
)
def test_foreign_lines_are_kept_aside(tmp_path, capsys, garbage):
    file = tmp_path / "metrics.jsonl"
    content = line(1).encode() + b"\n" + garbage + b"\n" + line(2).encode() + b"\n"
    file.write_bytes(content)
    assert opened(file, 5) == [line(1), line(2)]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == content
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"setar: {file}: its line 2 is none of the log; it is kept as metrics.")


def test_a_log_that_cannot_be_read_blocks_nothing(tmp_path, capsys, monkeypatch):
    file = tmp_path / "metrics.jsonl"
    file.mkdir()
    assert opened(file, 5) == []
    assert "it is no file" in capsys.readouterr().err
    file.write_text(line(1) + "\n")
    monkeypatch.setattr(os, "access", lambda *_: False)  # who runs tests as root may write anything
    assert opened(file, 5) == [line(1)]
    assert "it cannot be written" in capsys.readouterr().err
    monkeypatch.undo()
    os.truncate(file, 2**40)
    assert opened(file, 5) == []
    assert "it has more than" in capsys.readouterr().err
    os.remove(file)
    file.symlink_to(tmp_path / "gone")
    assert opened(file, 5) == []


def test_a_console_that_is_gone_ends_nothing(monkeypatch):
    tried = []

    class Gone:
        def write(self, text):
            tried.append(text)
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    monkeypatch.setattr("sys.stderr", Gone())
    say("hello")
    warn("hello")
    assert "".join(tried).count("hello") == 2


def test_curves_end_with_one_line_when_their_writer_dies(tmp_path, capsys, monkeypatch):
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(*_):
        raise OSError(28, "No space left on device")

    hook = threading.excepthook
    with Report(tmp_path, 0, 9, 4) as report:
        monkeypatch.setattr(RecordWriter, "write", full)
        for step in range(1, 9):
            report.write(step, 1.0, {"loss": 2.0}, 1.0)
            report.flush()
    assert threading.excepthook is hook
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("setar: no curves in TensorBoard from here on: ")
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 8


def test_a_place_where_no_curves_can_be_ends_nothing(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("mine")
    with Report(tmp_path, 0, 9, 4) as report:
        report.write(1, 1.0, {"loss": 2.0}, 1.0)
    assert "no curves in TensorBoard" in capsys.readouterr().err
    assert (tmp_path / "tensorboard").read_text() == "mine"


def test_a_broken_installation_of_tensorboard_ends_nothing(tmp_path, capsys, monkeypatch):
    real = builtins.__import__

    def broken(name, *rest, **more):
        if name == "torch.utils.tensorboard":
            raise TypeError("Descriptors cannot be created directly")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    with Report(tmp_path, 0, 9, 4) as report:
        report.write(1, 1.0, {"loss": 2.0}, 1.0)
    assert "no curves" in "".join(capsys.readouterr())
