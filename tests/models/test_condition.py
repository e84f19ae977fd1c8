"""Class tokens; what all conditions do is tested by their contract."""

import pytest
import torch

from random_weights import randomise
from setar.models.base import GeneratorConfig
from setar.models.condition import ClassEmbedding


def embedding(drop, classes=4):
    config = GeneratorConfig(classes=classes, class_dropout=drop)
    return randomise(ClassEmbedding(config, 8)).requires_grad_(False)


def test_each_class_and_no_class_has_a_row():
    module = embedding(0.0)
    labels = torch.arange(5)
    assert torch.equal(module.eval().embed(labels), module.table.weight[:, None])
    assert module.table.weight.unique(dim=0).shape == (5, 8)


def test_null_is_the_row_after_the_last_class():
    null = embedding(0.0).null(torch.tensor([0, 3]))
    assert null.tolist() == [4, 4]
    assert null.dtype == torch.int64


def test_dropping_leaves_the_callers_labels_alone():
    labels = torch.arange(4).repeat(50)
    embedding(1.0).train().embed(labels)
    assert labels.max() == 3


def test_a_class_is_one_token():
    assert embedding(0.0).length == 1
    with pytest.raises(ValueError, match=r"`condition_length` \(=2\) must be 1 with .* 'class'"):
        ClassEmbedding(GeneratorConfig(condition_length=2), 8)
