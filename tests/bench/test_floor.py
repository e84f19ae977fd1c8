"""The least time of some arithmetic."""

import pytest
import torch

from setar.bench.floor import Pool, _keys_values, bandwidth_of, products_seconds
from setar.bench.recorder import Like, Recorder
from setar.layers.attention import attend


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


def test_keys_and_values_of_every_call_lie_in_places_of_their_own():
    seen, recorder = [], Recorder()
    with recorder, torch.inference_mode(), recorder.calling("call"):
        cache = torch.zeros(2, 1, 2, 9, 4)
        for end in (5, 7):
            query = torch.zeros(1, 2, 3, 4) + 1
            torch.nn.functional.scaled_dot_product_attention(query, *cache[..., :end, :])
    (part,) = recorder.parts.values()

    class Seen:
        def __init__(self, function):
            self.function = function

        def __call__(self, query, key, value, *rest, **more):
            seen.extend((part.data_ptr(), part.shape) for part in (key, value))
            return self.function(query, key, value, *rest, **more)

        def __str__(self):
            return str(self.function)

    part.calls = [(Seen(function), args, kwargs) for function, args, kwargs in part.calls]
    products_seconds([part], ticking(1.0))
    assert [tuple(shape) for _, shape in seen] == [(1, 2, 5, 4)] * 2 + [(1, 2, 7, 4)] * 2
    assert len({place for place, _ in seen}) == 4


def test_keys_and_values_of_attention_by_products_come_from_memory_too():
    recorder = Recorder()
    with recorder, torch.inference_mode(), recorder.calling("call"):
        keys, values = torch.zeros(2, 2, 3, 9, 4, dtype=torch.bfloat16)
        attend(torch.zeros(2, 3, 2, 4), keys, values, None)
    (part,) = recorder.parts.values()
    remembered = Like((2, 3, 9, 4), torch.bfloat16, torch.device("cpu"))
    assert list(map(_keys_values, part.calls)) == [[(0, remembered)], [(1, remembered)]]


def test_a_pool_begins_again_when_it_is_used_up():
    pool, like = Pool(64), Like((2, 4), torch.float32, torch.device("cpu"))
    first, second, third = (pool.take(like) for _ in range(3))
    assert first.shape == second.shape == (2, 4)
    assert first.data_ptr() == third.data_ptr() == second.data_ptr() - 32


def test_bandwidth_is_measured():
    assert bandwidth_of(torch.device("cpu"), ticking(2.0)) == 2**26  # read and written in 2 seconds
