import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setar.data.batches import ChosenBatches, ShuffledBatches


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_every_epoch_sees_every_item_once(samples, batch_size, seed):
    batches = ShuffledBatches(samples, batch_size, seed)
    seen = torch.cat([batches.indices(step) for step in range(3 * samples)])
    for epoch in seen[: len(seen) // samples * samples].split(samples):
        assert sorted(epoch.tolist()) == list(range(samples))


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_a_batch_depends_on_its_step_alone(samples, batch_size, step):
    used = ShuffledBatches(samples, batch_size, 3)
    for earlier in (step + 7, 0, step):
        batch = used.indices(earlier)
    assert len(batch) == batch_size
    assert torch.equal(batch, ShuffledBatches(samples, batch_size, 3).indices(step))


def test_epochs_and_seeds_have_their_own_order():
    batches = ShuffledBatches(50, 50, seed=1)
    assert not torch.equal(batches.indices(0), batches.indices(1))
    assert not torch.equal(batches.indices(0), ShuffledBatches(50, 50, seed=2).indices(0))


def test_no_items_no_training():
    with pytest.raises(ValueError, match="empty"):
        ShuffledBatches(0, 4, 0)


def test_batches_of_chosen_items():
    plain = ShuffledBatches(5, 5, seed=1)
    chosen = ChosenBatches(plain, torch.tensor([7, 7, 8, 9, 3]))
    assert sorted(chosen.indices(0).tolist()) == [3, 7, 7, 8, 9]
    assert chosen.indices(0).tolist() == [[7, 7, 8, 9, 3][i] for i in plain.indices(0).tolist()]
