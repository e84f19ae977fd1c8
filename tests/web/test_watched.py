"""Sampling that is watched: every frame or none is taken, and nothing runs on unseen."""

import itertools
import threading
import time
from threading import Event
from types import SimpleNamespace

import pytest

from setar.web.watched import FRAMES, Running, Stopped, is_shown, watched


def counting(steps, done, pause=0.0):
    """A stand-in for a pipeline's call that tells of so many sets; ``done`` is a list of them."""

    def make(on_set):
        for step in range(1, steps + 1):
            time.sleep(pause)
            done.append(step)
            on_set(SimpleNamespace(step=step, steps=steps, images=lambda step=step: [step]))
        return [steps]

    return make


def test_the_finished_pictures_come_last_with_all_frames():
    *earlier, last = watched(counting(5, []), Event())
    assert all(not frame.done for frame in earlier)
    assert last.done
    assert last.pictures == [5]
    assert last.seen == [[1], [2], [3], [4], [5]]
    assert (last.step, last.steps) == (5, 5)


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 17, 64, 1000])
def test_of_many_sets_evenly_spread_ones_are_shown(steps):
    shown = [step for step in range(1, steps + 1) if is_shown(step, steps, FRAMES)]
    assert len(shown) == min(steps, FRAMES) - 1
    assert steps not in shown
    gaps = {after - before for before, after in itertools.pairwise(shown)}
    assert len(gaps) <= 2


def test_a_closed_iterator_stops_what_it_watches():
    done, others = [], {*threading.enumerate()}
    frames = watched(counting(1000, done, 0.01), Event())
    next(frames)
    frames.close()
    for thread in {*threading.enumerate()} - others:
        thread.join(60)
        assert not thread.is_alive()
    assert len(done) < 1000


def test_whoever_sets_the_event_stops_it():
    done, stop = [], Event()
    frames = watched(counting(1000, done, 0.01), stop)
    next(frames)
    stop.set()
    with pytest.raises(Stopped):
        list(frames)
    assert len(done) < 1000


def test_errors_come_through():
    def make(on_set):
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        list(watched(make, Event()))


def test_sampling_does_not_wait_for_a_slow_page():
    done = []
    frames = watched(counting(6, done), Event())
    next(frames)
    end = time.monotonic() + 20
    while len(done) < 6 and time.monotonic() < end:
        time.sleep(0.01)
    assert done == [1, 2, 3, 4, 5, 6]
    assert list(frames)[-1].pictures == [6]


def test_whoever_leaves_takes_all_that_runs_for_them_along():
    running = Running()
    with running.of("a") as first, running.of("a") as second, running.of("b") as other:
        assert len(running) == 3
        running.leave("a")
        running.leave("nobody")
        assert first.is_set()
        assert second.is_set()
        assert not other.is_set()
    assert len(running) == 0
