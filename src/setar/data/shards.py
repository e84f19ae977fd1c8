"""Files that hold many pictures each: what kinds of them have in common.

Only an index is in memory; a picture's bytes are read and decoded when a batch asks for it. What
else is known of the pictures, such as their captions, is read when the data set is opened.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from setar.data.base import Dataset
from setar.data.captions import Row, described
from setar.data.images import EncodedImages, by_ending, classes_of
from setar.registry import printable


def shards(source: Path, ending: str) -> list[Path]:
    """The files of a source: itself, or those of a folder with this ending, sorted.

    Raises:
        ValueError: there are none.
    """
    if not source.is_dir():
        return [source]
    found = [file for file in source.iterdir() if file.suffix.lower() == ending]
    files = sorted(file for file in found if file.name[0] != ".")
    if not files:
        raise ValueError(f"{printable(source)} holds no file that ends in {ending}")
    return files


def dataset_of(
    source: Path,
    images: EncodedImages,
    places: Sequence[tuple[str, str]],
    rows: Sequence[Row],
    left_out: dict[str, int],
) -> Dataset:
    """The data set of the pictures in shards.

    The class of a picture is the first folder of its own path; without one, all are of one class,
    named after the source.

    Args:
        source: the file, or the folder of them.
        images: n pictures.
        places: where each lies: its shard, and its own path in there.
        rows: what is known of each.
        left_out: how many members are no pictures, by their ending.

    Raises:
        ValueError: there is no picture, all are held out, or a class's name cannot be printed.
    """
    if not places:
        kinds = ", ".join(by_ending(left_out))
        others = f"; left out: {printable(kinds)[:200]}" if kinds else ""
        raise ValueError(f"{printable(source)} holds no picture{others}")
    own = source.resolve().stem or "images"
    parts = [path.removeprefix("./").strip("/").split("/") for _, path in places]
    classes, labels = classes_of(part[0] if len(part) > 1 else own for part in parts)
    return described(
        images,
        labels,
        classes,
        [PurePosixPath(part[-1]).stem for part in parts],
        [f"{shard}/{path}" for shard, path in places],
        rows if any(row != Row() for row in rows) else None,
        left_out=left_out,
    )
