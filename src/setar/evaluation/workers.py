"""Work on many pictures, batch by batch, in this process or shared among several.

Batches are the same however many processes there are, and come back in order, so figures do not
depend on that number.
"""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from setar.registry import load_plugin, plugin_files

BATCH = 64
"""Pictures in a batch."""

Work = Callable[[Tensor], tuple[Tensor | None, ...]]
"""Takes the indices ``[B]`` of some pictures, returns tensors with a row for each of them."""

Thing = TypeVar("Thing", covariant=True)


class Once(Generic[Thing]):
    """``function(*arguments)``, called once in each process that asks for it.

    Arguments that are such calls themselves stand for their results. What travels to another
    process is the function, which must be a module's, and the arguments, but no result.
    """

    def __init__(self, function: Callable[..., Thing], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __call__(self) -> Thing:
        """The result."""
        return self._result

    @cached_property
    def _result(self) -> Thing:
        return self.function(*map(resolved, self.arguments))

    def __reduce__(self) -> tuple[Any, ...]:
        return Once, (self.function, *self.arguments)


def resolved(thing: Any) -> Any:
    """A thing, or the result of a `Once`."""
    return thing() if isinstance(thing, Once) else thing


def in_batches(
    open_work: Callable[[], Work],
    total: int,
    label: str,
    processes: int = 1,
    progress: bool = False,
) -> Iterator[tuple[Tensor, tuple[Tensor | None, ...]]]:
    """Yield the indices of each batch of 0 .. total - 1 and the work's result for them, in order.

    Args:
        open_work: makes the work, once in each process; with several processes a function of a
            module, or a `Once`, since new processes import it.
        total: number of pictures.
        label: of the bar.
        processes: 1 works here; each of several gets its share of this process's threads and, where
            there are several CUDA devices, one of them as its current device.
        progress: show a bar.

    Raises:
        ValueError: `processes` is below 1.
        OSError: a process died, as for lack of memory.
    """
    if processes < 1:
        raise ValueError(f"`processes` (={processes}) must be at least 1")
    spans = [range(start, min(start + BATCH, total)) for start in range(0, total, BATCH)]
    if processes == 1:
        results = map(open_work(), map(_indices, spans))
    else:
        results = _shared(open_work, spans, processes)
    with tqdm(total=total, desc=label, unit="image", leave=False, disable=not progress) as bar:
        for span, result in zip(spans, results, strict=True):
            yield _indices(span), result
            bar.update(len(span))


def _shared(open_work: Callable[[], Work], spans: list[range], processes: int) -> Iterator[Any]:
    """Processes are spawned, not forked: threads and CUDA do not survive a fork."""
    context = get_context("spawn")
    numbers: SimpleQueue[int] = context.SimpleQueue()
    for number in range(processes):
        numbers.put(number)
    threads = max(1, torch.get_num_threads() // processes)
    arguments = (open_work, threads, numbers, plugin_files())
    with ProcessPoolExecutor(processes, context, _prepare, arguments) as pool:
        try:
            for arrays in pool.map(_run, spans):
                yield tuple(None if one is None else torch.from_numpy(one) for one in arrays)
        except BrokenProcessPool as error:
            raise OSError("a process died while it worked; was there enough memory?") from error


_process: dict[str, Once[Work]] = {}
"""In a spawned process: the work, made once, where an error reaches the parent as it is."""


def _prepare(
    open_work: Callable[[], Work], threads: int, numbers: "SimpleQueue[int]", plugins: list[Path]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to answer
    torch.set_num_threads(threads)
    for file in plugins:
        load_plugin(file)
    number = numbers.get()
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    _process["work"] = Once(open_work)


def _run(span: range) -> list[Any]:
    """Tensors travel as arrays, since tensors would fill the shared memory, which may be small."""
    results = _process["work"]()(_indices(span))
    return [None if one is None else one.numpy() for one in results]


def _indices(span: range) -> Tensor:
    return torch.arange(span.start, span.stop)
