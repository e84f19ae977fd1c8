"""The workbench of the experiments; the experiments themselves train for an hour."""

import json
import math
from dataclasses import replace

import pytest

from random_weights import randomise
from setar import checkpoint
from setar.pretrained import describe_tokenizer
from setar.tokenizers.vqgan import PRESETS, VQGAN


def tiny(lab, recipe="random-4-random", **changes):
    run = lab.run_of(recipe, steps=2, **changes)
    return replace(run, loop=replace(run.loop, compile=False, batch_size=4))


def test_a_model_is_trained_once(lab, capsys):
    first, second = lab.train(tiny(lab)), lab.train(tiny(lab))
    assert first == second
    assert capsys.readouterr().out.count("training fmt random-4-random") == 1
    assert [step for step, _ in lab.losses(tiny(lab))] == [2]


def test_what_is_learned_decides_the_folder_and_how_fast_does_not(lab):
    run = tiny(lab)
    compiled = replace(run, loop=replace(run.loop, compile=True))
    other = tiny(lab, seed=1)
    assert lab.lasting(run) == lab.lasting(compiled)
    assert lab.lasting(run) != lab.lasting(other)


@pytest.mark.parametrize(("slow", "precision"), [(True, "float32"), (False, "bfloat16")])
def test_a_machine_trains_in_what_it_is_fast_in(lab, monkeypatch, slow, precision):
    monkeypatch.setattr(lab, "slow_in_bfloat16", lambda device: slow)
    folder = lab.train(tiny(lab))
    assert folder.name == lab.key(lab.lasting(tiny(lab)))
    assert json.loads((folder / "settings.json").read_text())["loop"]["precision"] == precision


def test_results_of_before_are_still_found(lab):
    """Their folders were named by a hash of the settings there were then."""
    assert lab.key(lab.lasting(lab.run_of("random-16-random"))) == "45279c091fe9e618"
    # The decoder-only baseline is another one since its class is rotated as LlamaGen's.
    assert lab.key(lab.lasting(lab.run_of("ar", 1, "decoder-only"))) == "f69b171911937807"
    assert lab.key(lab.lasting(lab.run_of("mar", 2))) == "febd55acd8c5919f"
    now = {"settings": {"temperature": 1.0, "smoothing": False}}
    assert lab.key(now) == lab.key({"settings": {"temperature": 1.0}})
    assert lab.key(now) != lab.key({"settings": {"temperature": 1.0, "smoothing": True}})


def test_plugins_and_families_count_only_where_there_was_no_such_setting_before(lab):
    run = lab.run_of("random-16-random")
    added = replace(run, plugins=("mine.py",))
    assert lab.key(lab.lasting(added)) != lab.key(lab.lasting(run))
    shape = {"tokenizer": {"codebook_size": 32}}
    family = {"vqgan": True, "multiscale": False}
    for name, same in family.items():
        named = {"tokenizer": {"family": name, "codebook_size": 32}}
        assert (lab.key(named) == lab.key(shape)) == same


def test_a_tokenizer_counts_by_its_weights(lab, tmp_path):
    def saved(name, seed, half=False):
        model = randomise(VQGAN(PRESETS["tiny"]), seed)
        state = checkpoint.half(model.state_dict()) if half else dict(model.state_dict())
        checkpoint.save(tmp_path / name, describe_tokenizer(model), {"tokenizer": state})
        run = lab.emoji_run("random-4-random", {}, 2, str(tmp_path / name))
        return lab.key(lab.lasting(run))

    assert saved("run", 0) == saved("shipped", 0, half=True)
    assert saved("run", 0) != saved("other", 1)


def test_a_measurement_is_made_once_and_is_finite(lab, monkeypatch):
    monkeypatch.setattr(lab, "PER_CLASS", 10)
    sampling = lab.Sampling("random-4-cosine").but(top_k=4, seed=1)
    figures = lab.measure(tiny(lab), sampling)
    assert math.isfinite(figures.distance)
    assert figures.distance > lab.mean(lab.floor())
    assert 0 <= figures.accuracy <= 1
    monkeypatch.setattr(lab, "_measure", lambda *_: pytest.fail("measured twice"))
    assert lab.measure(tiny(lab), sampling) == figures


def test_changes_of_a_sampling_reach_recipe_and_settings(lab):
    changed = lab.Sampling("ar").but(recipe="roll-4-cosine", attention="full", seed=3)
    assert (changed.recipe, changed.seed, changed.settings.attention) == (
        "roll-4-cosine",
        3,
        "full",
    )


def test_sections_show_their_claims(lab):
    claim = lab.Claim(3, "it grows", "b > a", "1 and 2", True)
    page = lab.Section("Growth", "text", (claim, replace(claim, holds=False))).markdown()
    assert page.count("| 3 | it grows | b > a | 1 and 2 | **holds** |") == 1
    assert page.count("**does not hold**") == 1
    assert page.startswith("## Growth\n\ntext\n\n|")


def test_spread(lab):
    assert lab.shown([1.0]) == "1.0"
    assert lab.shown([1.0, 2.0, 3.0]) == "2.0 ± 1.0"


def test_a_plot_is_written_beside_the_page(lab):
    figure, (axis,) = lab.panels(1)
    axis.plot([4, 8], [10, 20], label="a")
    lab.axis_of_steps(axis, (4, 8), "title")
    assert lab.save_plot(figure, "name", "words") == "![words](results/name.png)\n\n*words*"
    assert (lab.PICTURES / "name.png").stat().st_size > 1000
