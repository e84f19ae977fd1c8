"""The least time of some arithmetic."""

import pytest
import torch

from setar.bench.floor import Machine, attention_seconds, measure_machine, products_seconds
from setar.bench.recorder import Attending, Recorder


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


def test_attention_is_bound_by_memory_or_by_operations():
    machine = Machine(bandwidth=100.0, speed=10.0)
    assert attention_seconds(Attending(bytes=500, operations=10), machine) == 5
    assert attention_seconds(Attending(bytes=500, operations=90), machine) == 9


def test_the_machine_is_measured():
    machine = measure_machine(torch.device("cpu"), ticking(2.0))
    assert machine.bandwidth == 2**26  # copied: read and written in 2 seconds
    assert machine.speed == 768**3
