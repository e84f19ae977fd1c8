"""Random numbers for a batch that is computed in parts."""

import pytest
import torch

from setar.training.draws import Part, seed_of
from setar.training.text import token_loss

BATCH = torch.arange(10, 22)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 12, 99])
def test_parts_are_the_batch_in_turn(size):
    parts = Part(BATCH, slice(0, 12), 7).split(size)
    assert torch.cat([part.items for part in parts]).tolist() == BATCH.tolist()
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert max(len(part.items) for part in parts) <= (size or 12)


def test_a_part_of_a_process_stays_inside_it():
    parts = Part(BATCH, slice(3, 9), 7).split(4)
    assert [part.items.tolist() for part in parts] == [[13, 14, 15, 16], [17, 18]]


def test_every_part_draws_the_same_for_the_whole_batch():
    one, two = Part(BATCH, slice(0, 12), 7).split(6)
    ours, theirs = (part.chances(part.generator()) for part in (one, two))
    assert torch.equal(ours, theirs)
    assert len(set(ours.tolist())) == 12


def test_without_a_seed_the_global_generator_draws():
    part = Part(BATCH, slice(0, 12))
    torch.manual_seed(3)
    expected = torch.rand(12)
    torch.manual_seed(3)
    assert part.generator() is None
    assert torch.equal(part.chances(None), expected)


def test_seeds_differ_by_each_number_of_the_key():
    keys = [(seed, step, stream) for seed in (0, 1) for step in range(50) for stream in range(4)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert all(0 <= seed_of(*key) < 2**32 for key in keys)


def test_parts_that_supervise_more_weigh_more():
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 4, 9), torch.randint(9, (6, 4))
    supervised = torch.arange(24).view(6, 4) % 5 > torch.arange(6)[:, None]
    whole = token_loss(logits, targets, supervised)
    total = supervised.sum().item()
    own = [token_loss(*each, total / 3) for each in zip(
        logits.split(2), targets.split(2), supervised.split(2), strict=True
    )]  # fmt: skip
    plain = [token_loss(*each) for each in zip(
        logits.split(2), targets.split(2), supervised.split(2), strict=True
    )]  # fmt: skip
    assert torch.stack(own).mean().item() == pytest.approx(whole.item(), rel=1e-6)
    assert torch.stack(plain).mean().item() != pytest.approx(whole.item(), rel=1e-3)
