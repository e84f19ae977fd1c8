"""Runs: what config files say, training from Python, and going on with a run."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import setar
import tiny_runs
from setar import registry
from setar.config import CONFIGS, shipped_configs, table
from setar.models.fmt import PRESETS
from setar.recipes.orders import ORDERS
from setar.recipes.recipe import Recipe
from setar.run_folder import SETTINGS, checkpoints, read_history, read_settings
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.training.generator import GeneratorRun
from setar.training.provenance import session
from setar.training.run import make_run, open_run, read_run
from setar.training.tokenizer import TokenizerRun

DIGITS = tomllib.loads(tiny_runs.DIGITS)

GENERATOR = """
task = "generator"
recipe = "random-16-random"
data.source = "digits"
"""
TOKENIZER = """
task = "tokenizer"
data.source = "emoji"
"""


# Config files


@pytest.mark.parametrize("name", shipped_configs())
def test_every_config_of_the_package_reads(name):
    run = read_run(CONFIGS / f"{name}.toml", [])
    assert isinstance(run, TokenizerRun if "tokenizer" in name else GeneratorRun)
    text = (CONFIGS / f"{name}.toml").read_text()
    assert f"configs/{name}.toml" in text, "its first lines give the command"


@pytest.mark.parametrize("name", shipped_configs())
def test_settings_say_all_that_a_run_is(name):
    run = read_run(CONFIGS / f"{name}.toml", [])
    assert make_run(json.loads(json.dumps(table(run))), "settings.json") == run


def test_defaults(read):
    run = read(GENERATOR)
    assert isinstance(run, GeneratorRun)
    assert (run.tokenizer, run.model.preset, run.optimizer.learning_rate) == ("pixels", "B", 1e-4)
    assert read(TOKENIZER).tokenizer.shape.codebook_size == 16384


def test_overrides(read):
    run = read(
        GENERATOR, "loop.steps=7", "recipe=ar", "optimizer.learning_rate=1", "model.preset=tiny",
        "optimizer.betas=[0.5, 0.6]", "data.flips=true", 'sampling.recipe="random-4-cosine"',
    )  # fmt: skip
    assert (run.loop.steps, run.model.preset) == (7, "tiny")
    assert run.recipe == Recipe.parse("ar")
    assert (run.optimizer.learning_rate, run.optimizer.betas) == (1.0, (0.5, 0.6))
    assert run.data.flips
    assert run.sampling.recipe == Recipe.parse("random-4-cosine")


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        (GENERATOR, "loop.step=7", "loop: unknown key `step`; did you mean 'steps'?"),
        (GENERATOR, "receipt=ar", "unknown key `receipt`; did you mean 'recipe'?"),
        (GENERATOR, "tokenizer.channels=8", "tokenizer"),
        (GENERATOR, "recipe=rndom-16-random", "recipe: unknown order 'rndom'; did you mean"),
        (GENERATOR, "recipe=random-16-cosin", "cosine"),
        (GENERATOR, "sampling.recipe=nothing", "sampling.recipe: unknown recipe 'nothing'"),
        (GENERATOR, "model.preset=XXL", f"known: {', '.join(PRESETS)}"),
        (GENERATOR, "loop.steps=0", "at least 1"),
        (GENERATOR, "loop.steps=2.5", "loop.steps"),
        (GENERATOR, "loop.steps=many", "loop.steps"),
        (GENERATOR, "loop.precision=float8", "loop.precision"),
        (GENERATOR, "optimizer.learning_rate=nan", "finite"),
        (GENERATOR, "sampling.settings.top_p=2", "top_p"),
        (GENERATOR, "data=7", "data"),
        (GENERATOR, "self_correction=1.5", "from 0 to 1"),
        (GENERATOR, "self_correction=0.3", "`self_correction` is for families"),
        (TOKENIZER, "recipe=ar", "unknown key `recipe`"),
        (TOKENIZER, "loss.adversarial=-1", "at least 0"),
        (TOKENIZER, "tokenizer.channels=12", "multiple of 8"),
        (TOKENIZER, "task=tokeniser", "unknown `task` 'tokeniser'; did you mean 'tokenizer'?"),
        (TOKENIZER, 'task=["tokenizer"]', "unknown `task` ['tokenizer']; "),
        (TOKENIZER, "task.name=tokenizer", "is a value, not a table"),
        (TOKENIZER, "loop.steps", "key=value"),
        ('task = "generator"\nrecipe = "ar"', "loop.steps=1", "missing key `data`"),
        ("", "loop.steps=1", "unknown `task` None; known: tokenizer, generator"),
        ("task = ", "loop.steps=1", "not valid TOML"),
    ],
)
def test_mistakes_are_one_line(read, text, override, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(text, override)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"cannot read the config nowhere/run\.toml"):
        read_run(Path("nowhere/run.toml"), [])


# Plugins

ORDER = """
import setar
import torch

@setar.register_order("backwards")
def backwards(height, width):
    return torch.arange(height * width).flip(0)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a file with an order of its own, which is forgotten after the test."""
    for owner, name in ((ORDERS, "_entries"), (ORDERS, "_plugins"), (registry, "_files")):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))

    def write(folder=tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / "own_order.py").write_text(ORDER)
        return "own_order.py"

    return write


def test_a_plugin_lies_beside_the_config(plugin, read, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = read(GENERATOR, f"plugins=['{plugin()}']", "recipe=backwards-4-uniform")
    assert run.plugins == (str(tmp_path / "own_order.py"),)  # so that its settings find it too
    assert run.recipe.order == "backwards"


def test_or_in_the_working_directory(plugin, read, tmp_path, monkeypatch):
    file = plugin(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    run = read(GENERATOR, f"plugins=['{file}']", "recipe=backwards-4-uniform")
    assert run.recipe.order == "backwards"


def test_a_run_and_its_models_remember_their_plugins(plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = {"plugins": [plugin()], "recipe": "backwards-4-uniform"}
    values = {**DIGITS, **own, "sampling": {"recipe": own["recipe"]}}
    last = setar.train(values, tmp_path / "run")
    assert json.loads((tmp_path / "run" / SETTINGS).read_text())["plugins"] == own["plugins"]
    assert json.loads((last / "config.json").read_text())["plugins"] == own["plugins"]
    assert setar.train(values, tmp_path / "run", resume=True) == last


def test_a_run_whose_plugin_lies_beside_its_config_goes_on_from_elsewhere(
    plugin, read, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = (tiny_runs.DIGITS, f"plugins=['{plugin()}']", "recipe=backwards-4-uniform")
    setar.train(read(*words, "loop.steps=1"), tmp_path / "run")
    last = setar.train(read(*words, "loop.steps=2"), tmp_path / "run", resume=True)
    assert last.name == "step-00000002"


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        ("own.py", "settings: `plugins` must be a list of Python files, not 'own.py'"),
        ([3], "settings: `plugins` must be a list of Python files, not [3]"),
        (["nowhere.py"], "the plugin nowhere.py does not exist"),
    ],
)
def test_wrong_plugins(plugins, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_run({**DIGITS, "plugins": plugins}, "settings")


# Training from Python


def with_steps(steps):
    return {**DIGITS, "loop": {**DIGITS["loop"], "steps": steps}}


def test_a_run_gives_a_model(tmp_path):
    last = setar.train(DIGITS, tmp_path / "new" / "run")
    assert last == tmp_path / "new" / "run" / "checkpoints" / "step-00000004"
    for folder in (last, tmp_path / "new" / "run"):
        assert len(setar.Pipeline.from_pretrained(folder)("3")) == 1


def test_resumed_as_if_never_stopped(tmp_path):
    setar.train(with_steps(2), tmp_path / "parts", resume=True)
    parts = setar.train(make_run(DIGITS, ""), tmp_path / "parts", resume=True)
    whole = setar.train(DIGITS, str(tmp_path / "whole"))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (parts, whole)]
    assert weights[0] == weights[1]
    log = (tmp_path / "parts" / "metrics.jsonl").read_text()
    assert setar.train(DIGITS, tmp_path / "parts", resume=True) == parts
    assert (tmp_path / "parts" / "metrics.jsonl").read_text() == log


def test_a_run_is_not_overwritten(tmp_path):
    setar.train(with_steps(1), tmp_path)
    with pytest.raises(ValueError, match="has checkpoints already"):
        setar.train(DIGITS, tmp_path)
    message = "was started with recipe = 'random-8-random', not 'raster-N-uniform'"
    with pytest.raises(ValueError, match=message):
        setar.train({**DIGITS, "recipe": "ar"}, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {**DIGITS["model"], "heads": 4}}, "model.heads = 2, not 4"),
        ({"loop": {**DIGITS["loop"], "seed": 3}}, "loop.seed = 0, not 3"),
        ({"optimizer": {"ema": 0.5}}, "optimizer.ema = 0.9999, not 0.5"),
        ({"data": {"source": "digits", "flips": True}}, "data.flips = False, not True"),
    ],
)
def test_a_resumed_run_has_the_settings_that_it_was_started_with(tmp_path, change, message):
    setar.train(with_steps(1), tmp_path)
    before = (tmp_path / SETTINGS).read_bytes()
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path} was started with {message}: ")):
        setar.train({**with_steps(2), **change}, tmp_path, resume=True)
    assert (tmp_path / SETTINGS).read_bytes() == before


def test_a_run_goes_on_that_is_older_than_a_setting(tmp_path):
    setar.train(with_steps(2), tmp_path)
    file = tmp_path / SETTINGS
    values = json.loads(file.read_text())
    del values["self_correction"], values["sampling"]["settings"]["smoothing"], values["plugins"]
    file.write_text(json.dumps(values))
    assert setar.train(DIGITS, tmp_path, resume=True).name == "step-00000004"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"task": "tokeniser"}, "settings: unknown `task` 'tokeniser'; did you mean 'tokenizer'?"),
        ({"recipee": "ar"}, "did you mean 'recipe'"),
        ({"loop": {"steps": 0}}, "at least 1"),
    ],
)
def test_wrong_settings(tmp_path, changes, rule):
    with pytest.raises(ValueError, match=re.escape(rule)):
        setar.train({**DIGITS, **changes}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_opening_a_run_draws_from_its_seed_alone(tmp_path):
    run = make_run(DIGITS, "settings")
    weights = []
    for name in ("one", "two"):
        torch.rand(len(weights) + 1)
        weights.append(open_run(run, tmp_path / name).result.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# Runs of version 0.1

OLD_MODEL = {
    "family": "fmt", "preset": "tiny", "width": 16, "heads": None, "encoder_layers": 1,
    "decoder_layers": 1, "layers": None, "dropout": None, "class_dropout": None,
}  # fmt: skip
"""As it was written: every key that some family knows, null where it was not given."""


def old_settings(folder, **changes):
    """Make the settings of a run's folder those that version 0.1 would have written."""
    values = json.loads((folder / SETTINGS).read_text()) | changes
    del values["plugins"]
    (folder / SETTINGS).write_text(json.dumps(values, indent=2))


def test_an_old_model_table_with_nulls_reads():
    old = make_run({**DIGITS, "model": OLD_MODEL}, "settings.json")
    assert old == make_run(DIGITS, "settings.json")


def test_an_old_generator_goes_on(tmp_path):
    setar.train(with_steps(2), tmp_path / "parts")
    old_settings(tmp_path / "parts", model=OLD_MODEL)
    parts = setar.train(DIGITS, tmp_path / "parts", resume=True)
    whole = setar.train(DIGITS, tmp_path / "whole")
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert json.loads((tmp_path / "parts" / SETTINGS).read_text())["model"] == DIGITS["model"] | {
        "family": "fmt"
    }


def test_an_old_generator_goes_on_as_it_was(tmp_path):
    setar.train(with_steps(2), tmp_path)
    old_settings(tmp_path, model=OLD_MODEL)
    changed = {**DIGITS, "model": {**DIGITS["model"], "heads": 4}}
    with pytest.raises(ValueError, match=r"was started with model.heads = 2, not 4"):
        setar.train(changed, tmp_path, resume=True)


OLD_TASK = tiny_runs.FOLDER_MULTISCALE.replace(
    'task = "tokenizer"', 'task = "multiscale-tokenizer"'
).replace('family = "multiscale"\n', "")


def test_the_old_task_of_a_multi_scale_tokenizer_reads(read):
    assert "multiscale-tokenizer" in OLD_TASK
    assert "family" not in OLD_TASK
    old, new = (
        read(text, "data.source=pictures") for text in (OLD_TASK, tiny_runs.FOLDER_MULTISCALE)
    )
    assert old == new
    assert type(old.tokenizer.create()) is MultiScaleVQ
    assert table(old)["task"] == "tokenizer"
    least = {"task": "multiscale-tokenizer", "data": {"source": "emoji"}}
    assert make_run(least, "settings").tokenizer.shape.scales[-1] == 16


def test_an_old_multi_scale_tokenizer_goes_on(read, tmp_path):
    source = f"data.source='{tiny_runs.save_pictures(tmp_path / 'pictures')}'"
    run = read(OLD_TASK, source, "loop.steps=4")
    first = dataclasses.replace(run, loop=dataclasses.replace(run.loop, steps=2))
    setar.train(first, tmp_path / "parts")
    tokenizer = json.loads((tmp_path / "parts" / SETTINGS).read_text())["tokenizer"]
    del tokenizer["family"]
    old_settings(tmp_path / "parts", task="multiscale-tokenizer", tokenizer=tokenizer)
    for text in (OLD_TASK, tiny_runs.FOLDER_MULTISCALE):
        last = setar.train(read(text, source, "loop.steps=4"), tmp_path / "parts", resume=True)
    whole = setar.train(run, tmp_path / "whole")
    assert last == checkpoints(tmp_path / "parts")[-1]
    ours, theirs = (folder / "tokenizer.safetensors" for folder in (last, whole))
    assert ours.read_bytes() == theirs.read_bytes()


def test_an_old_task_with_a_wrong_tokenizer_is_refused_in_one_line():
    old = {"task": "multiscale-tokenizer", "data": {"source": "emoji"}, "tokenizer": 3}
    with pytest.raises(ValueError, match=r"\A[^\n]*tokenizer must be a table, not 3\Z"):
        make_run(old, "settings")


# What may change, and what is damaged


def test_what_helps_after_a_divergence_may_change_and_is_said(tmp_path, capsys):
    setar.train(with_steps(2), tmp_path)
    capsys.readouterr()
    changes = {
        "optimizer": {"learning_rate": 5e-4, "clip": 0.5, "warmup_steps": 3},
        "sampling": {"recipe": "random-2-cosine", "guidance": {"scale": 1.5}},
        "loop": {**DIGITS["loop"], "precision": "float32"},
    }
    last = setar.train({**DIGITS, **changes}, tmp_path, resume=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        f"{tmp_path} goes on from step 2",
        "loop.precision: auto -> float32 from step 2 on",
        "optimizer.clip: 1.0 -> 0.5 from step 2 on",
        "optimizer.learning_rate: 0.001 -> 0.0005 from step 2 on",
        "optimizer.warmup_steps: 0 -> 3 from step 2 on",
        "sampling.guidance.scale: 2.0 -> 1.5 from step 2 on",
        "sampling.recipe: random-4-cosine -> random-2-cosine from step 2 on",
    ]
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in log]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    assert setar.Pipeline.from_pretrained(last).defaults.recipe == Recipe.parse("random-2-cosine")
    assert json.loads((tmp_path / SETTINGS).read_text())["optimizer"]["clip"] == 0.5


@pytest.mark.parametrize("name", ["settings.json", "left-out.txt", "metrics.jsonl", ".lock"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, name):
    setar.train(with_steps(2), tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    if name == "settings.json":
        with pytest.raises(ValueError, match=r"settings.json is damaged \(it is no regular file\)"):
            setar.train(DIGITS, tmp_path, resume=True)
    else:
        assert setar.train(DIGITS, tmp_path, resume=True).name == "step-00000004"


def test_settings_of_any_length_fill_no_memory(tmp_path):
    setar.train(with_steps(2), tmp_path)
    os.truncate(tmp_path / SETTINGS, 2**40)
    with pytest.raises(ValueError, match=r"is damaged \(it has more than [0-9]+ bytes\)"):
        setar.train(DIGITS, tmp_path, resume=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 10**5, None])
def test_damaged_settings_are_named_and_what_to_do(tmp_path, content):
    setar.train(with_steps(2), tmp_path)
    file = tmp_path / SETTINGS
    file.unlink()
    file.mkdir() if content is None else file.write_bytes(content)
    message = (
        rf"\A{re.escape(str(file))} is damaged \([^\n]+\): delete it, and --resume goes on [^\n]*\Z"
    )
    with pytest.raises(ValueError, match=message):
        setar.train(DIGITS, tmp_path, resume=True)
    file.rmdir() if content is None else file.unlink()
    assert setar.train(DIGITS, tmp_path, resume=True).name == "step-00000004"
    assert json.loads(file.read_text())["loop"]["steps"] == 4


def test_a_finished_run_keeps_its_settings_file(tmp_path):
    setar.train({**with_steps(4)}, tmp_path)
    for steps, same in ((4, True), (5, False)):
        before = (tmp_path / SETTINGS).stat().st_ino
        setar.train(with_steps(steps), tmp_path, resume=True)
        assert ((tmp_path / SETTINGS).stat().st_ino == before) is same


def test_settings_tell_of_every_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    Path("mine.py").write_text("")
    subprocess.run([*git, "add", "mine.py"], check=True)
    for steps in (1, 2):
        setar.train(with_steps(steps), "run", resume=True)
        subprocess.run([*git, "commit", "-qm", "second"], check=steps == 1)
    first, second = read_history("run")
    assert (first["step"], first["dirty"], second["step"], second["dirty"]) == (0, True, 1, False)
    assert re.fullmatch("[0-9a-f]{40}", first["commit"])
    assert first["commit"] != second["commit"]
    assert (first["setar"], first["torch"]) == (setar.__version__, torch.__version__)
    assert first["command"] == shlex.join(sys.orig_argv)
    assert "history" not in read_settings("run")


def test_without_git_or_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert session(3)["commit"] is session(3)["dirty"] is None
    monkeypatch.setenv("PATH", "")
    assert session(3)["commit"] is None


def test_only_the_first_start_and_the_last_ones_are_remembered(tmp_path):
    setar.train(with_steps(1), tmp_path)
    values = json.loads((tmp_path / SETTINGS).read_text())
    values["history"] = [{"step": step} for step in range(150)] + ["nonsense"]
    (tmp_path / SETTINGS).write_text(json.dumps(values))
    setar.train(with_steps(2), tmp_path, resume=True)
    steps = [one["step"] for one in read_history(tmp_path)]
    assert steps == [0, *range(51, 150), 1]


def test_settings_repeat_a_run(tmp_path):
    first = setar.train(with_steps(2), tmp_path / "first")
    again = setar.train(read_run(tmp_path / "first" / SETTINGS, []), tmp_path / "again")
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    changed = read_run(tmp_path / "first" / SETTINGS, ["loop.steps=9"])
    assert changed.loop.steps == 9


def test_a_run_that_died_before_its_settings_were_written_goes_on(tmp_path):
    (tmp_path / ".settings.partial.json").write_text('{"task": "gen')
    assert setar.train(with_steps(1), tmp_path, resume=True).name == "step-00000001"
    assert (tmp_path / SETTINGS).is_file()
    assert not (tmp_path / ".settings.partial.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**DIGITS["model"], "class_dropout": 0.0}}, "guidance (=2) must be 1"),
        ({"sampling": {"settings": {"smoothing": True}}}, "`smoothing` mixes the vectors"),
        (
            {
                "model": {"family": "decoder-only", "preset": "tiny"},
                "recipe": "ar",
                "sampling": {"recipe": "ar", "settings": {"attention": "full"}},
            },
            "`attention` must be 'causal'",
        ),
    ],
)
def test_sampling_that_cannot_work_is_refused_before_the_first_step(tmp_path, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        setar.train({**DIGITS, **changes}, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not (tmp_path / SETTINGS).exists()


@pytest.fixture
def photos(read, tmp_path):
    """A tokenizer and a generator of a folder of pictures: how to train each for some steps."""
    pictures = tiny_runs.save_pictures(tmp_path / "photos")

    def tokenizer(steps):
        text = tiny_runs.FOLDER_TOKENIZER
        run = read(text, f"data.source='{pictures}'", f"loop.steps={steps}")
        return setar.train(run, tmp_path / "tokens", resume=True)

    def generator(steps, source=tmp_path / "tokens"):
        text = tiny_runs.FOLDER_GENERATOR
        words = (f"data.source='{pictures}'", f"tokenizer='{source}'", f"loop.steps={steps}")
        return setar.train(read(text, *words), tmp_path / "run", resume=True)

    return pictures, tokenizer, generator


def test_a_tokenizer_that_was_trained_on_is_refused(photos, tmp_path):
    _, tokenizer, generator = photos
    tokenizer(1)
    generator(1)
    generator(2)
    tokenizer(4)
    with pytest.raises(ValueError, match=r"was started with tokenizer weights that are not these"):
        generator(3)
    # The run has a copy of the one of then.
    assert generator(3, tmp_path / "run").name == "step-00000003"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "cats").rename(folder / "zebras"), "class 0 of .* was 'cats'"),
        (lambda folder: tiny_runs.save_pictures(folder, 1, ["emus"]), "class 2 of .* was none"),
        (lambda folder: (folder / "cats").rename(folder / "dogs" / "cats"), "class 0 of .* 'cats'"),
    ],
)
def test_other_classes_are_refused(photos, change, message):
    pictures, tokenizer, generator = photos
    tokenizer(1)
    generator(1)
    change(pictures)
    with pytest.raises(ValueError, match=message):
        generator(2)


def test_a_tokenizer_of_another_shape_is_refused(read, photos, tmp_path):
    pictures, tokenizer, _ = photos
    tokenizer(1)
    words = (f"data.source='{pictures}'", "tokenizer.codebook_size=32", "loop.steps=2")
    with pytest.raises(ValueError, match=r"tokenizer.codebook_size = 16, not 32: "):
        setar.train(read(tiny_runs.FOLDER_TOKENIZER, *words), tmp_path / "tokens", resume=True)
