"""Class tokens and label dropping."""

import torch

from random_weights import randomise
from setar.models.condition import ClassEmbedding


def embedding(drop, classes=4):
    return randomise(ClassEmbedding(classes, 8, drop)).requires_grad_(False)


def test_each_class_and_no_class_has_a_row():
    module = embedding(0.0)
    labels = torch.arange(5)
    assert torch.equal(module.eval()(labels), module.table.weight[:, None])
    assert module.table.weight.unique(dim=0).shape == (5, 8)


def test_null_is_the_row_after_the_last_class():
    null = embedding(0.0).null(torch.tensor([0, 3]))
    assert null.tolist() == [4, 4]
    assert null.dtype == torch.int64


def dropped_share(module, images=20_000):
    torch.manual_seed(0)
    rows = module(torch.full((images,), 2))[:, 0]
    dropped = (rows == module.table.weight[module.classes]).all(-1)
    kept = (rows == module.table.weight[2]).all(-1)
    assert (dropped ^ kept).all()
    return dropped.float().mean().item()


def test_labels_are_dropped_at_their_rate_in_training():
    # Standard deviation sqrt(0.3 * 0.7 / 20000) = 0.00324; five of them: one false alarm in 1.7 M.
    assert abs(dropped_share(embedding(0.3).train()) - 0.3) < 5 * 0.00324


def test_labels_are_never_dropped_otherwise():
    assert dropped_share(embedding(0.3).eval()) == 0
    assert dropped_share(embedding(0.0).train()) == 0
    assert dropped_share(embedding(1.0).train()) == 1


def test_dropping_leaves_the_callers_labels_alone():
    labels = torch.arange(4).repeat(50)
    embedding(1.0).train()(labels)
    assert labels.max() == 3
