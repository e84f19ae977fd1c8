"""The state of a training on disk, by `torch.distributed.checkpoint`: each process writes its own.

    step-00000500/train/shard-00001-model-00002-of-00004.safetensors
                              process, part (weights, optimiser, averages, the objective's)

A tensor is called ``<part>/<name>``; of a sharded one each process writes the rows that it holds,
and the header of each file says where they belong, so any number of processes can read them.
Nothing of it is pickle: the ``.metadata`` of torch's own format would be.

Torch loads a flipped byte without a word. `setar.checkpoint` sums up these files too, and is asked
first.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from setar import checkpoint
from setar.registry import one_line
from setar.training.distributed import Processes, local, shared_as
from setar.training.saved import Parts

FOLDER = "train"
"""In a checkpoint, that of the state."""

Complete = Callable[[Path], None]
"""What the first process adds to a checkpoint that is about to be whole."""


class Saver:
    """Writes checkpoints. Several processes train on meanwhile, with one save under way.

    The files are written beside the checkpoint's place, and renamed by the first process when all
    are there; so all processes need one file system.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._under_way: Future[Any] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def start(self, folder: Path, parts: Parts, complete: Complete, done: Complete) -> None:
        """Write a checkpoint; of several processes all must ask, and `wait` has been called.

        Args:
            folder: where it shall be.
            parts: the state; it may change once this returns.
            complete: called with the folder beside, which has the state already.
            done: called with the folder that is in its place.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        beside, state = checkpoint.beside_of(folder), flat(parts)
        writer = HuggingFaceStorageWriter(
            str(beside / FOLDER),
            fqn_to_index_mapping=_files(parts),
            save_distributed=True,
        )
        self.processes.by_first(partial(checkpoint.begin, folder))

        def finish(write: Callable[[], object]) -> None:
            try:
                write()
                complete(beside)
                checkpoint.seal(beside)
            except BaseException as error:
                checkpoint.abandon(beside)
                if isinstance(error, CheckpointException):
                    raise _told(error, folder) from error
                raise
            checkpoint.place(beside, folder)
            done(folder)

        if self.processes.count == 1:
            with _alone():
                finish(partial(save, state, storage_writer=writer, no_dist=True))
            return
        group = self.processes.saving
        written: Any = async_save(state, storage_writer=writer, process_group=group)
        self._under_way = written
        if self.processes.first:
            self._thread = self._thread or ThreadPoolExecutor(1, "setar-save")
            self._under_way = self._thread.submit(finish, written.result)

    def wait(self) -> None:
        """Return when what was started is on disk; all processes must ask.

        Raises:
            OSError: it could not be written; nothing is left of it.
        """
        error = None
        if self._under_way is not None:
            error, self._under_way = self._under_way.exception(), None
        if isinstance(error, CheckpointException):
            error = None  # the first process tells
        self.processes.all_raise(error)  # type: ignore[arg-type]

    def close(self) -> None:
        """Let what is under way come to its end, however that is."""
        if self._under_way is not None:
            self._under_way.exception()
        if self._thread is not None:
            self._thread.shutdown()


def flat(parts: Parts) -> dict[str, Tensor]:
    """All tensors by ``<part>/<name>``, in the order of these: a resumed run has the same files."""
    named = {f"{part}/{name}": t for part, state in parts.items() for name, t in state.items()}
    return dict(sorted(named.items()))


def describe(folder: Path) -> Parts:
    """What the state of a checkpoint holds, as tensors without numbers, on the device ``meta``.

    Raises:
        ValueError: there is none, or a file of it cannot be read or is missing.
    """
    place = folder / FOLDER
    if not place.is_dir():
        return _of_before(folder)
    try:
        entries = HuggingFaceStorageReader(str(place)).read_metadata().state_dict_metadata
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{place} cannot be read: {one_line(error)}") from error
    parts: Parts = {}
    for key, entry in entries.items():
        found: Any = entry
        part, _, name = key.partition("/")
        if sum(prod(chunk.sizes) for chunk in found.chunks) != prod(found.size):
            raise ValueError(f"{place} lacks rows of the tensor {name!r} of {part}")
        tensor = torch.empty(found.size, dtype=found.properties.dtype, device="meta")
        parts.setdefault(part, {})[name] = tensor
    return parts


def load(folder: Path, parts: Parts) -> None:
    """Read the state of a checkpoint into tensors that are there, each process its own shards.

    Raises:
        ValueError: it cannot be read.
    """
    if not (folder / FOLDER).is_dir():
        return _copy(_of_before(folder), parts)
    reader = HuggingFaceStorageReader(str(folder / FOLDER))
    try:
        with _alone():
            load_state(flat(parts), storage_reader=reader, no_dist=True)
    except (CheckpointException, OSError, SafetensorError, RuntimeError) as error:
        reason = _cause(error) if isinstance(error, CheckpointException) else error
        raise ValueError(f"{folder / FOLDER} cannot be read: {one_line(reason)}") from error


def _of_before(folder: Path) -> Parts:
    """The state as versions up to 0.4 wrote it, each part whole in a file beside the model."""
    files = sorted(folder.glob("train-*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no folder {FOLDER!r} to go on from")
    return {file.stem.removeprefix("train-"): checkpoint.read_tensors(file) for file in files}


@torch.no_grad()
def _copy(found: Parts, parts: Parts) -> None:
    for part, state in parts.items():
        for name, tensor in state.items():
            local(tensor).copy_(local(shared_as(found[part][name], tensor)))


def load_part(folder: Path, part: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of a part of a state, on the CPU, whoever wrote it; ``like`` tells names and shapes."""
    state = {k: torch.empty(v.shape, dtype=v.dtype) for k, v in like.items()}
    load(folder, {part: state})
    return state


def _files(parts: Parts) -> dict[str, int]:
    """Each part has a file of its own, for a file is made in memory before it is written."""
    return {
        f"{part}/{name}": number
        for number, (part, state) in enumerate(parts.items(), 1)
        for name in state
    }


@contextmanager
def _alone() -> Iterator[None]:
    """Torch warns each time that one process saves or loads by itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _told(error: CheckpointException, folder: Path) -> OSError:
    return OSError(f"cannot write {folder}: {one_line(_cause(error))}")


def _cause(error: CheckpointException) -> object:
    """What went wrong in one of the processes."""
    failures = list(error.failures.values())
    return failures[0][0] if failures else error
