import os
import time
from functools import partial

import pytest
import torch

from setar import registry
from setar.evaluation.workers import BATCH, in_batches
from setar.features.base import EXTRACTORS, make_extractor


def open_doubler(offset):
    """Work that tells the process, its threads, and whether the result is None."""
    opened = torch.rand(1)

    def work(items):
        process = torch.full_like(items, os.getpid())
        threads = torch.full_like(items, torch.get_num_threads())
        return 2 * items + offset, None, process, threads, opened.expand(len(items)).clone()

    return work


def open_failure():
    raise ValueError("no such model")


def open_late_failure():
    def work(items):
        raise ValueError(f"picture {items[0]} is broken")

    return work


def open_death():
    def work(items):
        time.sleep(0.1)
        os._exit(1)

    return work


def test_batches_come_in_order_with_their_indices():
    found = list(in_batches(partial(open_doubler, 5), 150, "doubling"))
    assert [len(items) for items, _ in found] == [BATCH, BATCH, 150 - 2 * BATCH]
    items = torch.cat([items for items, _ in found])
    assert torch.equal(items, torch.arange(150))
    assert torch.equal(torch.cat([result[0] for _, result in found]), 2 * items + 5)
    assert all(result[1] is None for _, result in found)
    assert {int(process) for _, result in found for process in result[2]} == {os.getpid()}


def test_the_work_is_opened_once():
    found = list(in_batches(partial(open_doubler, 0), 150, "doubling"))
    assert len({float(value) for _, result in found for value in result[4]}) == 1


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("four_threads")
def test_several_processes_give_the_same_in_the_same_order():
    here = list(in_batches(partial(open_doubler, 5), 150, "doubling"))
    there = list(in_batches(partial(open_doubler, 5), 150, "doubling", processes=2))
    for (items, result), (other_items, other) in zip(here, there, strict=True):
        assert torch.equal(items, other_items)
        assert torch.equal(result[0], other[0])
        assert other[1] is None
    pids = {int(process) for _, result in there for process in result[2]}
    assert os.getpid() not in pids
    assert len(pids) <= 2
    threads = {int(number) for _, result in there for number in result[3]}
    assert threads == {2}, "each has its share of the four"


@pytest.mark.parametrize(
    ("open_work", "error", "message"),
    [
        (open_failure, ValueError, "no such model"),
        (open_late_failure, ValueError, "picture 0 is broken"),
    ],
)
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("ready_processes")
def test_errors_come_through(open_work, error, message, processes):
    with pytest.raises(error, match=message):
        list(in_batches(open_work, 150, "failing", processes))


@pytest.mark.slow
@pytest.mark.usefixtures("ready_processes")
def test_the_death_of_a_process_is_told():
    with pytest.raises(OSError, match="a process died"):
        list(in_batches(open_death, 150, "dying", processes=2))


def test_there_is_a_process_at_least():
    with pytest.raises(ValueError, match=r"`processes` \(=0\) must be at least 1"):
        list(in_batches(open_failure, 9, "nothing", processes=0))


def open_extractor(name):
    """Work that needs an entry of a plugin."""
    make_extractor(name)
    return lambda items: (items,)


@pytest.mark.slow
@pytest.mark.usefixtures("ready_processes")
def test_plugins_are_loaded_in_every_process(tmp_path, monkeypatch):
    monkeypatch.setattr(EXTRACTORS, "_entries", dict(EXTRACTORS._entries))
    monkeypatch.setattr(registry, "_files", {})
    (tmp_path / "ours.py").write_text(
        "from setar.features.base import EXTRACTORS\n"
        "from setar.features.digits import DigitFeatures\n"
        "@EXTRACTORS.register('ours')\n"
        "class Ours(DigitFeatures): ...\n"
    )
    registry.load_plugin(tmp_path / "ours.py")
    found = list(in_batches(partial(open_extractor, "ours"), 70, "features", processes=2))
    assert torch.equal(torch.cat([items for _, (items,) in found]), torch.arange(70))


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar(capsys, progress):
    list(in_batches(partial(open_doubler, 0), 150, "doubling", progress=progress))
    assert ("doubling" in capsys.readouterr().err) is progress
