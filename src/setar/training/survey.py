"""What the files of a data set are like: all of them are read once, before the first step.

A file that cannot be read would otherwise end a training in the middle, and every time anew. Only
decoding finds those that were cut off, so a picture costs as much here as in a batch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from setar.data.base import Dataset, chosen, holding
from setar.data.images import Images
from setar.durable import write_text
from setar.registry import printable
from setar.run_folder import checkpoints, left_out
from setar.training.report import say

BATCH = 64
"""Files that are read at once."""

LISTED = 10
"""Files that cannot be read and are listed before a training is refused."""


@dataclass
class Survey:
    """What was found in the files of a data set."""

    broken: dict[str, str] = field(default_factory=dict)
    """Why a file cannot be read, by its path below the folder."""
    small: int = 0
    """Pictures that are enlarged, since they are smaller than the size that is trained on."""
    modes: Counter[str] = field(default_factory=Counter)
    """How many pictures are of each of Pillow's modes: ``RGB``, ``RGBA``, ``L`` and others."""


def survey(data: Dataset, size: tuple[int, int], progress: bool = False) -> Survey:
    """Read every file of a data set once, also those of held-out pictures.

    Args:
        data: with `paths`; its images have headers (`setar.data.images.EncodedImages`).
        size: height and width of the crops in pixels.
        progress: show a bar.
    """
    found = Survey()
    parts = [part for part in (data, data.held_out()) if part is not None and part.paths]
    count = sum(map(len, parts))
    with tqdm(total=count, desc="reading", unit="image", disable=not progress) as bar:
        for part in parts:
            for items in torch.arange(len(part)).split(BATCH):
                found.broken |= _broken(part.images, items.tolist(), part.paths)
                bar.update(len(items))
    for part in parts:
        for item, path in enumerate(part.paths):
            if path not in found.broken:
                width, height, mode = part.images.header(item)  # type: ignore[attr-defined]
                found.small += width < size[1] or height < size[0]
                found.modes[mode] += 1
    return found


def _broken(images: Images, items: list[int], paths: Sequence[str]) -> dict[str, str]:
    """Why some of the pictures with these indices cannot be read, by their path."""
    try:
        images[torch.tensor(items)]
    except ValueError as error:
        if len(items) == 1:
            return {paths[items[0]]: str(error)}
        parts = [_broken(images, [item], paths) for item in items]
        return {path: cause for part in parts for path, cause in part.items()}
    return {}


def readable(data: Dataset, found: Survey, skip: bool, run: Path, speak: bool = True) -> Dataset:
    """The data set without the files that cannot be read.

    A run that goes on also leaves out what it left out at its start, so that it stays the same run
    when such a file was mended.

    Args:
        data: all of it.
        found: the files that cannot be read; gets those of before.
        skip: leave them out.
        run: folder of the run.
        speak: list such files, before they are refused.

    Raises:
        ValueError: there are such files and they are not to be skipped, or nothing is left of a
            class.
    """
    held = data.held_out()
    parts = [data] if held is None else [data, held]
    if found.broken and not skip:
        causes = list(found.broken.values())
        if speak and len(causes) > 1:
            say("\n".join([*causes[:LISTED], *["..."] * (len(causes) > LISTED)]))
        count = sum(map(len, parts))
        raise ValueError(
            f"{len(causes)} of {count} pictures cannot be read (mend or remove them; "
            f"data.skip_broken = true leaves them out): {causes[0]}"
        )
    if skip and checkpoints(run):
        paths = [path for part in parts for path in part.paths]
        found.broken = {**left_out_before(run, paths), **found.broken}
    if not found.broken:
        return data
    kept = _whole(data, found.broken)
    before, after = (
        torch.bincount(labels, minlength=len(data.classes)).tolist()
        for labels in (data.labels, data.labels[kept])
    )
    for name, had, has in zip(data.classes, before, after, strict=True):
        if had and not has:
            raise ValueError(f"no picture of the class {name!r} can be read: remove its folder")
    if held is not None and held.paths:
        whole = _whole(held, found.broken)
        held = chosen(held, whole) if len(whole) else None
    return holding(chosen(data, kept), held)


def _whole(data: Dataset, broken: Mapping[str, str]) -> Tensor:
    """Indices of the pictures that can be read, int64."""
    kept = [item for item, path in enumerate(data.paths) if path not in broken]
    return torch.tensor(kept, dtype=torch.int64)


def list_files(causes: Mapping[str, str], file: Path) -> None:
    """Write a list such as ``left-out.txt``: a path a line, a tab, why; no file without any."""
    if not causes:
        file.unlink(missing_ok=True)
        return
    lines = [f"{printable(path)}\t{printable(cause)}\n" for path, cause in causes.items()]
    write_text(file, "".join(lines))


def without_captions(data: Dataset) -> dict[str, str]:
    """Which of its captions a data set lacks, or the pictures of, by their path."""
    absent = dict.fromkeys(data.absent, "has a caption, but is not there")
    return {**dict.fromkeys(data.uncaptioned, "has no caption"), **absent}


def left_out_before(run: Path, paths: Sequence[str]) -> dict[str, str]:
    """What ``left-out.txt`` of a run says of these files; nothing if there is none."""
    causes = left_out(run)
    return {path: causes[printable(path)] for path in paths if printable(path) in causes}
