"""Dropout that costs nothing where it drops nothing."""

import pytest
import torch

from setar.layers.dropout import Dropout


@pytest.mark.parametrize(("share", "training"), [(0.0, True), (0.5, False), (0.0, False)])
def test_nothing_happens_where_nothing_is_dropped(share, training):
    x = torch.ones(4, 4)
    assert Dropout(share).train(training)(x) is x


def test_in_training_it_drops_that_share_and_enlarges_the_rest():
    torch.manual_seed(0)
    dropped = Dropout(0.25).train()(torch.ones(100_000))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
