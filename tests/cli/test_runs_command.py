"""``setar runs``: trainings in a table, whatever state their folders are in."""

import json
import os

import pytest

from setar.cli.runs import sparkline
from setar.training.lock import locked


def save_run(folder, losses=(3.0, 2.0, 1.0), steps=3, **more):
    folder.mkdir(parents=True)
    settings = {"task": "generator", "model": {"family": "var"}, "loop": {"steps": steps}}
    (folder / "settings.json").write_text(json.dumps(settings))
    lines = [{"step": i, "loss": loss, "images_per_second": 50.0 + i, **more}
             for i, loss in enumerate(losses, 1)]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_table_of_runs(run, tmp_path):
    save_run(tmp_path / "done", heldout_loss=1.25)
    save_run(tmp_path / "more/half", (4.0, 4.5), steps=10)
    going = save_run(tmp_path / "going", (), steps=7)
    (tmp_path / "no run").mkdir()
    with locked(going):
        code, shown, err = run("runs", tmp_path)
    assert (code, err) == (0, "")
    head, *rows = [line.split() for line in shown.splitlines()]
    assert head[:4] == ["run", "kind", "step", "state"]
    done, going, half = rows
    assert done[:6] == ["done", "generator", "var", "3/3", "done", "1"]
    assert done[7:9] == ["1.25", "53"]
    assert going[:6] == ["going", "generator", "var", "0/7", "running", "-"]
    assert half[:6] == ["more/half", "generator", "var", "2/10", "stopped", "4.5"]


def test_the_same_as_json(run, tmp_path):
    save_run(tmp_path / "a", heldout_loss=1.5)
    with locked(tmp_path / "a"):
        [found] = json.loads(run("runs", tmp_path, "--json")[1])
    assert found.pop("when").startswith("20")
    assert found == {
        "name": "a", "folder": str(tmp_path / "a"), "kind": "generator var", "state": "running",
        "holder": f"process {os.getpid()} on {os.uname().nodename}", "step": 3, "steps": 3,
        "loss": 1.0, "heldout_loss": 1.5, "images_per_second": 53.0, "trouble": "",
    }  # fmt: skip


def test_a_run_itself_may_be_named(run, tmp_path):
    folder = save_run(tmp_path / "mine")
    assert json.loads(run("runs", folder, "--json")[1])[0]["name"] == "mine"


def pipe(file):
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("settings.json", lambda file: file.write_text("[")),
        ("settings.json", lambda file: file.unlink()),
        ("settings.json", pipe),
        ("metrics.jsonl", lambda file: file.write_text('nonsense\n{"step": 1}\n')),
        ("metrics.jsonl", lambda file: file.write_text('[1]\n{"step": 1}\n')),
        ("metrics.jsonl", lambda file: file.write_bytes(b"\xff\n\xff\n")),
        ("metrics.jsonl", pipe),
    ],
)
def test_what_is_broken_is_named_and_the_others_are_shown(run, tmp_path, name, spoil):
    save_run(tmp_path / "good")
    spoil(save_run(tmp_path / "bad") / name)
    code, shown, err = run("runs", tmp_path)
    assert (code, err) == (0, "")
    rows = [line.split() for line in shown.splitlines()]
    assert [row[0] for row in rows[1:3]] == ["bad", "good"]
    assert "broken" in rows[1]
    assert shown.splitlines()[3].startswith(f"{tmp_path / 'bad'}: {name}: ")


@pytest.mark.parametrize(
    "settings",
    ['{"task": 7, "loop": []}', '{"loop": {"steps": "many"}}', '{"task": "x", "model": 3}', "{}"],
)
def test_settings_of_any_kind_are_shown(run, tmp_path, settings):
    (save_run(tmp_path / "odd") / "settings.json").write_text(settings)
    code, shown, _ = run("runs", tmp_path)
    assert code == 0
    assert "3/?" in shown


def test_figures_of_any_kind_are_shown(run, tmp_path):
    file = save_run(tmp_path / "odd") / "metrics.jsonl"
    huge = f'{{"step": 1, "loss": {10**400}}}\n'
    file.write_text(huge + '{"step": 1, "loss": "low"}\n{"step": 2, "loss": NaN}\n{"step": 3, "lo')
    [found] = json.loads(run("runs", tmp_path, "--json")[1])
    assert (found["step"], found["loss"], found["state"]) == (2, None, "stopped")


def test_names_are_text(run, tmp_path):
    save_run(tmp_path / "[red]a\x1b[31m")
    assert "[red]a\\x1b[31m" in run("runs", tmp_path)[1]


def test_no_runs_and_no_folder(run, refused, tmp_path):
    code, shown, err = run("runs", tmp_path)
    assert (code, shown) == (0, "")
    assert "has no runs" in err
    assert "is no folder" in refused("runs", tmp_path / "nowhere")


def test_sparklines():
    assert sparkline([]) == ""
    assert sparkline([5]) == "▁"
    assert sparkline([1, 1]) == "▁▁"
    assert sparkline(range(8)) == "▁▂▃▄▅▆▇█"
    assert sparkline(range(1000, 0, -1), 4) == "█▆▃▁"
