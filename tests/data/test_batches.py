import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setar.data.batches import ChosenBatches, Permutation, ShuffledBatches, choices, keyed


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=30)
def test_every_epoch_sees_every_item_once(samples, batch_size, seed):
    batches = ShuffledBatches(samples, batch_size, seed)
    seen = torch.cat([batches.indices(step) for step in range(3 * samples)])
    for epoch in seen[: len(seen) // samples * samples].split(samples):
        assert sorted(epoch.tolist()) == list(range(samples))


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 50))
@settings(max_examples=30)
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


@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(0, 2**40))
@settings(max_examples=60)
def test_a_permutation_has_every_number_once(count, seed, epoch):
    order = Permutation(count, seed, epoch)(torch.arange(count))
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(count))


def test_a_permutation_of_many_needs_no_table():
    order = Permutation(10**15, 1, 2)
    some = order(torch.arange(10**14, 10**14 + 1000))
    assert len(some.unique()) == 1000
    assert 0 <= some.min() < 10**14
    assert 9 * 10**14 < some.max() < 10**15
    with pytest.raises(ValueError, match="from 1 to"):
        Permutation(2**60 + 1)


@pytest.mark.parametrize("count", [7, 10, 65])
def test_over_all_keys_every_number_comes_everywhere_as_often(count):
    """Chi-squared of (place, number) over 1,500 keys; false alarm below 1 in 10,000."""
    table = np.zeros((count, count))
    for seed in range(1500):
        table[np.arange(count), Permutation(count, seed, 3)(torch.arange(count)).numpy()] += 1
    expected = 1500 / count
    statistic, degrees = ((table - expected) ** 2 / expected).sum(), (count - 1) ** 2
    assert abs(statistic - degrees) < 3.9 * (2 * degrees) ** 0.5 + 8


def test_neighbours_are_torn_apart():
    """The next number is above or below as often, and is hardly ever a neighbour's."""
    order = Permutation(100_000, 5, 0)(torch.arange(100_000))
    steps = order.diff()
    assert 0.49 < (steps > 0).double().mean() < 0.51
    assert (steps.abs() == 1).sum() < 12  # 2 expected


def test_choices_follow_from_item_and_key():
    items = torch.arange(20_000)
    drawn = choices(items, 10, 1, 2)
    assert torch.equal(drawn[5:9], choices(items[5:9], 10, 1, 2))
    assert drawn.min() == 0
    assert drawn.max() == 9
    counts = drawn.bincount().double()
    assert ((counts - 2000) ** 2 / 2000).sum() < 36  # 9 degrees of freedom, 1 in 25,000
    others = choices(items, 10, 1, 3)
    assert 0.08 < (drawn == others).double().mean() < 0.12
    assert choices(items, 1, 4).sum() == 0
    assert keyed(1, 2) != keyed(2, 1)
