"""A run that is resumed is the one that was started."""

import json

import pytest
import torch

from setar.training.identity import AnotherRun, check_identity, check_weights

MODEL = {"family": "fmt", "width": 32, "heads": 2, "vocabulary": 17, "classes": 2, "grid": [4, 4]}
CONFIG = {
    "model": MODEL,
    "tokenizer": {"family": "pixels", "levels": 17},
    "classes": ["cat", "dog"],
}


def changed(**changes):
    return {**json.loads(json.dumps(CONFIG)), **changes}


def test_the_same_is_the_same(tmp_path):
    check_identity(tmp_path, CONFIG, changed())
    check_identity(tmp_path, CONFIG, changed(sampling={"recipe": "ar"}, data="elsewhere"))
    check_identity(tmp_path, {}, {})


def test_a_key_that_came_later_has_its_default(tmp_path):
    check_identity(tmp_path, CONFIG, changed(model={**MODEL, "condition_length": 1}))
    with pytest.raises(AnotherRun, match=r"with model.class_dropout = 0.1, not 0.0: "):
        check_identity(tmp_path, CONFIG, changed(model={**MODEL, "class_dropout": 0.0}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["cat", "fish"]}, "class 1 of RUN was 'dog', now 'fish': "),
        ({"classes": ["ant", "cat", "dog"]}, "class 0 of RUN was 'cat', now 'ant': "),
        ({"classes": ["cat", "dog", "zebra"]}, "class 2 of RUN was none, now 'zebra': "),
        ({"classes": ["cat"]}, "class 1 of RUN was 'dog', now none: "),
        ({"model": {**MODEL, "width": 64}}, "RUN was started with model.width = 32, not 64: "),
        (
            {"model": {**MODEL, "grid": [4, 8]}},
            "RUN was started with model.grid = [4, 4], not [4, 8]",
        ),
        ({"tokenizer": {"family": "pixels", "levels": 9}}, "tokenizer.levels = 17, not 9"),
        ({"tokenizer": {"family": "vqgan"}}, "tokenizer.family = 'pixels', not 'vqgan'"),
    ],
)
def test_what_differs_is_named(tmp_path, changes, message):
    with pytest.raises(AnotherRun) as error:
        check_identity(tmp_path, CONFIG, changed(**changes))
    assert message in str(error.value).replace(str(tmp_path), "RUN")
    assert "\n" not in str(error.value)


def test_another_tokenizer_is_refused_by_its_weights(tmp_path):
    weights = {"a": torch.ones(3), "b": torch.zeros(2)}
    check_weights(tmp_path, "tokenizer", weights, {k: v.clone() for k, v in weights.items()})
    for other in (torch.tensor([0.0, 1e-9]), torch.zeros(3)):
        with pytest.raises(
            AnotherRun, match=r"tokenizer weights that are not these \(`b` differs\)"
        ):
            check_weights(tmp_path, "tokenizer", weights, {**weights, "b": other})
