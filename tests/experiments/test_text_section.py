"""Steps and guidance of a model of texts; here a tiny one with random weights."""

import dataclasses
import importlib
import json

import pytest

import tiny_text
from fake_features import FakeFeatures

pytest.importorskip("transformers", reason="setar[text] is not installed")


@pytest.fixture
def text(lab, monkeypatch):
    module = importlib.import_module("text")
    monkeypatch.setattr(module, "make_extractor", lambda *_: FakeFeatures("EffLite0"))
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_text.save_pipeline(tmp_path_factory.mktemp("model")))


def shares(text, *values):
    """What is found, by steps, where all shares are alike."""
    steps = (4, 8, 16, 32)[: len(values)]
    return {
        k: {kind: dict.fromkeys(text.FOUND, value) for kind in text.KINDS}
        for k, value in zip(steps, values, strict=True)
    }


def test_a_sweep_is_measured_once_and_shown(text, model, lab, monkeypatch, capsys):
    monkeypatch.setattr(text, "SCALES", (1.0, 3.0))
    monkeypatch.setattr(text, "STEPS", (2, 4, 16))
    monkeypatch.setattr(text, "FULL", (64,))
    setup = text.Setup(model, tiny_text.DRAWINGS, 3)
    section = text.section(setup)
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines()] == [
        "random-4-cosine, guidance 1", "random-4-cosine, guidance 3",
        "random-2-cosine, guidance 1.5", "random-4-cosine, guidance 1.5",
        "random-16-cosine, guidance 1.5",
    ]  # fmt: skip
    for name in ("text", "text-steps", "text-guidance"):
        assert (lab.PICTURES / f"{name}.png").stat().st_size > 1000
        assert f"](results/{name}.png)" in section.body
    for label in ("2", "4", "16", "1", "3", "reconstructed"):
        assert f"\n| {label} | " in section.body
    assert "3 captions of drawings that it has never seen and 3 of its training" in section.body
    assert [claim.number for claim in section.claims] == [13, 13]
    monkeypatch.setattr(text.Bench, "_measured", lambda *_: pytest.fail("measured twice"))
    monkeypatch.setattr(text.Bench, "_timed", lambda *_: pytest.fail("timed twice"))
    monkeypatch.setattr(text.Bench, "seen", lambda *_: pytest.fail("looked at twice"))
    assert text.section(setup) == section


def test_reconstructions_are_found_and_other_drawings_are_not(text, model):
    bench = text.Bench(text.Setup(model, tiny_text.DRAWINGS, 4))
    asked = [prompt.drawing for prompt in bench.prompts]
    assert len(asked) == 8
    real = bench.found(bench.images(asked))
    others = bench.found(bench.images(reversed(asked)))
    assert [real[kind]["drawing"] for kind in text.KINDS] == [1, 1]
    assert max(others[kind]["drawing"] for kind in text.KINDS) < 1
    assert sorted(bench.of("held-out") + bench.of("training")) == [*range(8)]


def test_acceptable_is_what_stays_near_the_best(text):
    assert text.acceptable_from(shares(text, 0.1, 0.46, 0.5, 0.48)) == 8
    assert text.acceptable_from(shares(text, 0.5, 0.1, 0.5, 0.5)) == 16
    assert text.acceptable_from(shares(text, 0.5, 0.5, 0.5, 0.1)) is None


@pytest.mark.parametrize(("values", "holds"), [((0.1, 0.5, 0.5), True), ((0.1, 0.2, 0.5), False)])
def test_the_papers_claims_have_rules(text, values, holds):
    first, second = text.claims(shares(text, *values), {4: 0.1, 256: 0.1 * (30 if holds else 20)})
    assert first.holds == second.holds == holds
    assert "4: 0.20" in first.measured


def test_without_the_drawings_the_section_stays(text, results, monkeypatch, tmp_path, capsys):
    absent = dataclasses.replace(text.Setup(), data=str(tmp_path / "absent"))
    monkeypatch.setattr(text, "Setup", lambda: absent)
    with pytest.raises(SystemExit, match=r"setar data styles --out .*absent makes them"):
        results.main(["text"])
    for name in {*results.SCRIPTS} - {"text"}:
        monkeypatch.delitem(results.SCRIPTS, name)
    monkeypatch.setattr(results, "PAGES", {})  # those pages train their own models
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(results, "head", lambda claims: "")
    old = f"## {text.TITLE}\n\nas it was\n"
    results.PAGE.write_text(f"{old}\n## Another\n\nwhatever\n")
    results.main([])
    assert results.PAGE.read_text() == old
    assert "the section text stays as it is" in capsys.readouterr().out


def evaluation(seed, within):
    pairs = {"prompts": 3, "drawing within 5": within}
    settings = {"seed": seed, "N": 24, "recipe": "random-4-cosine", "of each prompt": 4}
    settings |= {"guidance": {"scale": 1.5}, "temperature": 0.7}
    return {
        "settings": settings,
        "figures": {"FD-EffLite0": 100.0 * within},
        "held-out pairs": pairs,
        "training pairs": pairs,
        "scenes": {"prompts": 2, "halves as asked": within},
    }


def test_evaluations_of_several_seeds_are_one_table(text, tmp_path):
    def files(*seeds):
        for seed in seeds:
            file = tmp_path / f"seed-{seed}.json"
            file.write_text(json.dumps(evaluation(seed, 0.25 + seed / 1000)))
            yield file

    page = text.evaluated(text.read_evaluations(files(0, 100, 200)))
    assert "| drawing within 5 | 0.350 ± 0.100 | 0.350 ± 0.100 |" in page
    assert "| scenes | halves as asked | 0.350 ± 0.100 |" in page
    assert "| scenes | prompts | 2 |" in page
    assert "seeds 0, 100, 200" in page
    with pytest.raises(ValueError, match="seeds 0 and 1 share pictures"):
        text.read_evaluations(files(0, 1))
    assert "has the commands" in text.evaluated([])
