"""What a model is sampled with, and what a caller changes of it."""

import json

import pytest

from setar.config import build, table
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings

OWN = SamplingDefaults(
    Recipe.parse("roll-5-uniform"),
    Guidance(1.5, "linear", interval=(0.1, 0.9)),
    SamplingSettings(temperature=0.9, top_k=20),
)


def test_nothing_changes_nothing():
    assert OWN.changed({}) == OWN
    nothing = {"recipe": None, "guidance": None, "scale": None, "top_k": None, "schedule": None}
    assert OWN.changed(nothing) == OWN


def test_a_recipe_is_itself_or_its_text():
    recipe = Recipe.parse("ar")
    assert OWN.changed({"recipe": "ar"}) == OWN.changed({"recipe": recipe})
    assert OWN.changed({"recipe": "ar"}).recipe == recipe
    assert OWN.changed({"recipe": "ar"}).guidance == OWN.guidance


def test_guidance_is_itself_a_scale_that_stays_or_its_parts():
    scaled = Guidance(3.0, "linear", interval=(0.1, 0.9))
    assert OWN.changed({"guidance": 3}).guidance == scaled, "a number is a scale, as --guidance is"
    assert OWN.changed({"guidance": Guidance(3.0, "var")}).guidance == Guidance(3.0, "var")
    assert OWN.changed({"scale": 3.0}).guidance == scaled
    constant = Guidance(1.5, "constant", interval=(0.1, 0.9))
    assert OWN.changed({"schedule": "constant"}).guidance == constant
    own = Guidance(3.0, "var", interval=(0.1, 0.9))
    assert OWN.changed({"guidance": 3.0, "schedule": "var"}).guidance == own
    assert OWN.changed({"interval": [0, 1]}).guidance == Guidance(1.5, "linear")


def test_settings_are_merged():
    changed = OWN.changed({"top_p": 0.5, "attention": "full", "smoothing": False})
    assert changed.settings == SamplingSettings(0.9, 20, 0.5, attention="full")
    assert (changed.recipe, changed.guidance) == (OWN.recipe, OWN.guidance)
    assert OWN.settings == SamplingSettings(0.9, 20), "the defaults themselves stay"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"temprature": 1.0}, "unknown key `temprature`; did you mean 'temperature'?"),
        ({"settings": {}}, "unknown key `settings`"),
        ({"recipe": "rndom-4-cosine"}, "did you mean 'random'?"),
        ({"guidance": -1.0}, "`scale` (=-1.0)"),
        ({"schedule": "line"}, "unknown guidance schedule 'line'"),
        ({"top_k": "many"}, "top_k: Input should be a valid integer"),
        ({"top_p": 2.0}, "`top_p` (=2.0)"),
    ],
)
def test_wrong_changes_are_refused_in_one_line(changes, rule):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as error:
        OWN.changed(changes)
    assert rule in str(error.value)


def test_a_table_is_the_inverse():
    values = json.loads(json.dumps(table(OWN)))
    assert values["recipe"] == "roll-5-uniform"
    assert build(SamplingDefaults, values) == OWN


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"attention": "fast"}, "`attention` must be causal or full, not 'fast'"),
        ({"temperature": -1.0}, r"`temperature` \(=-1.0\)"),
        ({"top_p": 0.0}, r"`top_p` \(=0.0\)"),
    ],
)
def test_wrong_settings_are_refused(fields, rule):
    with pytest.raises(ValueError, match=rule):
        SamplingSettings(**fields)
