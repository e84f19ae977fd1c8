"""Next-scale on emoji: what is compared with what, and when VAR counts as ahead."""

import dataclasses

import pytest

from random_weights import randomise
from setar import Pipeline, Recipe
from setar.data import emoji
from setar.evaluation.emoji import GeneratorReport
from setar.models import var
from setar.models.var import VARTransformer
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers import multiscale
from setar.tokenizers.multiscale import MultiScaleVQ

FIGURES = {field.name: 0.5 for field in dataclasses.fields(GeneratorReport)}


@pytest.fixture
def judging(next_scale, monkeypatch):
    """The section with these class shares and distances of VAR and SAR."""

    def claim(var_figures, sar_figures):
        def judged(source, **options):
            if isinstance(source, str):
                found = (0.9, 1.0)
            else:
                found = var_figures if source.model.family == "var" else sar_figures
            facts = {"recipe": "ar", "passes": 6, "parameters": 1_400_000}
            return {**FIGURES, **facts, "class_share": found[0], "distance": found[1]}

        monkeypatch.setattr(next_scale, "judged", judged)
        return next_scale.section()

    return claim


def test_var_is_ahead_only_if_both_figures_say_so(judging):
    def holds(*figures):
        (claim,) = judging(*figures).claims
        return claim.holds

    assert holds((0.4, 500.0), (0.3, 600.0))
    assert not holds((0.4, 600.0), (0.3, 500.0))
    assert not holds((0.3, 500.0), (0.4, 600.0))


def test_every_model_has_a_row(judging, next_scale):
    text = judging((0.4, 500.0), (0.3, 600.0)).body
    for name in (
        "VAR",
        "SAR, next-scale",
        *(f"shipped `{name}`" for name in next_scale.OF_CLASSES),
    ):
        assert text.count(f"\n| {name} | 1.40 M |") == 1
    assert "0.400 ± 0.000" in text


def test_both_are_trained_alike(next_scale, lab, monkeypatch):
    monkeypatch.setattr(next_scale, "MULTISCALE", "emoji")
    var, sar, correcting = (run(1) for run in next_scale.NEXT_SCALE.values())
    for other in (sar, correcting):
        assert var.optimizer == other.optimizer
        assert var.loop == other.loop
        assert var.data == other.data
    assert var.model.family != sar.model.family
    assert dataclasses.replace(correcting, self_correction=0.0) == var != correcting
    assert next_scale.var_run(0).loop != var.loop


def test_a_model_is_judged_once_with_its_own_passes(next_scale, monkeypatch, tmp_path):
    scales = dataclasses.replace(multiscale.PRESETS["tiny"], scales=(1, 2, 4))
    shape = dataclasses.replace(var.PRESETS["tiny"], classes=99)
    parts = randomise(VARTransformer(shape)), randomise(MultiScaleVQ(scales))
    defaults = SamplingDefaults(Recipe.parse("raster-1,4,16"))
    pipe = Pipeline(*parts, emoji.subgroups(), defaults)
    pipe.save_pretrained(tmp_path / "model")
    asked = []

    def evaluate(pipeline, count, progress, **options):
        asked.append(options)
        return GeneratorReport(**FIGURES), None

    monkeypatch.setattr(next_scale, "evaluate_generator", evaluate)
    monkeypatch.setattr(next_scale, "shipped_model", lambda name: name)
    for _ in range(2):
        found = next_scale.judged(str(tmp_path / "model"), guidance=1.25)
    assert asked == [{"guidance": 1.25}]
    assert (found["passes"], found["recipe"]) == (3, "raster-1,4,16")
    assert found["parameters"] == sum(p.numel() for p in pipe.model.parameters())
