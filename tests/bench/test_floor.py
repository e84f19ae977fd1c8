"""The least time of some arithmetic."""

import pytest
import torch

from setar.bench.floor import bandwidth_of, products_seconds
from setar.bench.recorder import Recorder


def ticking(step):
    """A clock that goes on by ``step`` whenever somebody looks."""
    now = [0.0]

    def clock():
        now[0] += step
        return now[0]

    return clock


def test_products_are_done_again_and_weighted_by_how_often_they_were():
    done, recorder = [], Recorder()
    weight = torch.ones(4, 8)
    with recorder, torch.inference_mode():
        for _ in range(10):
            with recorder.calling("call"):
                torch.nn.functional.linear(torch.zeros(2, 8) + 1, weight)
    (part,) = recorder.parts.values()
    ((function, args, kwargs),) = part.calls
    part.calls = [(lambda *a, **k: done.append(function(*a, **k)), args, kwargs)]
    # Four in a row between two looks at the clock, of which the call stands for ten.
    assert products_seconds([part], ticking(1.0)) == pytest.approx(10 / 4)
    assert len(done) == 4
    assert torch.equal(done[0], torch.full((2, 4), 4.0))


def test_attention_is_done_again_with_keys_of_its_shape():
    recorder, cache = Recorder(), torch.zeros(1, 2, 9, 4)
    with recorder, torch.inference_mode(), recorder.calling("call"):
        query = torch.zeros(1, 2, 3, 4) + 1
        torch.nn.functional.scaled_dot_product_attention(query, cache[:, :, :5], cache[:, :, :5])
    (part,) = recorder.parts.values()
    assert [tuple(arg.shape) for arg in part.calls[0][1][:3]] == [(1, 2, 3, 4), *[(1, 2, 5, 4)] * 2]
    assert products_seconds([part], ticking(1.0)) == 1


def test_bandwidth_is_measured():
    assert bandwidth_of(torch.device("cpu"), ticking(2.0)) == 2**26  # read and written in 2 seconds
