"""Where pictures to be measured come from: embedded data sets, folders and .npz files.

The .npz layout is that of ADM's evaluator: ``arr_0`` holds uint8 pictures ``[n, H, W, 3]``, and a
reference may hold precomputed statistics: ``mu``, ``sigma`` of the pooled features, ``mu_s``,
``sigma_s`` of the spatial ones.
"""

import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from setar.checkpoint import CONFIG
from setar.data.base import DATASETS, Dataset, open_data
from setar.data.crops import Resize
from setar.data.images import Images, Size
from setar.evaluation.distances import GaussianStatistics
from setar.evaluation.summary import FeatureSummary
from setar.evaluation.workers import BATCH, Once
from setar.run_folder import is_run

ADM_FEATURES = "Inception"
"""The features of statistics in files that do not name any: those of ADM's reference batches."""


@dataclass(frozen=True)
class Pictures:
    """Pictures that any process can open."""

    name: str
    open: Once[Images]
    labels: Tensor | None = None
    """Classes int64 ``[n]``, if they are known."""
    data: Dataset | None = None
    """The data set that they are a split of."""
    training: bool = False
    """Whether they are its training split."""
    names: Sequence[str] = ()
    """What each is called; empty: they have numbers only."""

    @property
    def images(self) -> Images:
        """The pictures themselves."""
        return self.open()


class NpzImages:
    """The pictures of an .npz file, mapped into memory unless they are compressed.

    Raises ValueError where the file is missing, is no .npz, or its ``arr_0`` is not uint8
    ``[n, H, W, 3]``.
    """

    def __init__(self, file: Path) -> None:
        file = Path(file)
        if not holds_pictures(file):
            raise ValueError(f"{file} holds no pictures: it has no `arr_0`")
        with _reading(file):
            pixels = _mapped(file)
        if pixels is None:
            pixels = _read(file, ["arr_0"])["arr_0"]
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
            found = f"{pixels.dtype} {list(pixels.shape)}"
            raise ValueError(f"`arr_0` of {file} must be uint8 [n, height, width, 3], not {found}")
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, items: Tensor) -> Tensor:
        """The pictures with these indices ``[B]``: uint8 ``[B, 3, H, W]``."""
        return torch.from_numpy(self._pixels[items.numpy()]).permute(0, 3, 1, 2).contiguous()


class EvenlySpaced:
    """``count`` of some images, from all over them; ValueError if they are fewer."""

    def __init__(self, images: Images, count: int) -> None:
        self.images, self.count = images, count
        if count > len(images):
            raise ValueError(f"`images` (={count}) must not exceed the {len(images)} there are")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, items: Tensor) -> Tensor:
        """The pictures with these indices ``[B]``: uint8 ``[B, 3, H, W]``."""
        return self.images[items * len(self.images) // self.count]


def find_pictures(text: str, size: Size | None = None, resize: Resize = "lanczos") -> Pictures:
    """The pictures that a text names.

    Args:
        text: a data set, with ``:train`` (the default), ``:heldout`` or ``:all``; a file whose name
            ends in ``.npz``; or a folder, however nested.
        size: take centre crops of a folder's pictures and resize them to this side, or (height,
            width), in pixels; None takes them as they are.
        resize: how these crops are made: ``lanczos``, or ``adm`` as ADM and its followers do.

    Raises:
        ValueError: there are no such pictures, or the folder is a model's. Opening them raises one
            where they are of several sizes.
    """
    if text.endswith(".npz"):
        return Pictures(text, Once(NpzImages, Path(text)))
    name, _, split = text.partition(":")
    if name not in DATASETS:
        if is_model(text):
            raise ValueError(f"{text} is a model, not pictures")
        names = open_data(text, size, resize).names
        return Pictures(text, Once(open_images, text, size, resize), names=names)
    source = f"{name}:{split or 'train'}"
    data, training = open_data(source), split in ("", "train")
    return Pictures(source, Once(open_images, source), None, data, training, data.names)


def open_images(source: str, size: Size | None = None, resize: Resize = "lanczos") -> Images:
    """The pictures of `setar.data.base.open_data`."""
    return open_data(source, size, resize).images


def is_model(text: str) -> bool:
    """Whether a folder is a model's or a run's rather than one of pictures."""
    return os.path.isfile(Path(text) / CONFIG) or is_run(text)


def load_statistics(file: Path, features: str) -> FeatureSummary | None:
    """The statistics that an .npz file holds of these features, or None if it holds none.

    Raises:
        ValueError: the file is no .npz, or its statistics have wrong shapes.
    """
    found = _read(file, ("mu", "sigma", "mu_s", "sigma_s", "pooled", "features", "images"))
    if "mu" not in found or str(found.get("features", ADM_FEATURES)) != features:
        return None
    return FeatureSummary(
        features,
        int(found["images"]) if "images" in found else None,
        _gaussian(found, "mu", "sigma", file),
        _gaussian(found, "mu_s", "sigma_s", file) if "mu_s" in found else None,
        pooled=torch.from_numpy(found["pooled"]) if "pooled" in found else None,
    )


def holds_pictures(file: Path) -> bool:
    """Whether an .npz file has an ``arr_0``; ValueError if it is no .npz."""
    with _reading(file), zipfile.ZipFile(file) as archive:
        return "arr_0.npy" in archive.namelist()


def save_pictures(
    images: Images, file: Path, labels: Tensor | None = None, progress: bool = False
) -> None:
    """Write pictures as ``arr_0`` (and labels as ``arr_1``) of an .npz, a batch at a time."""
    height, width = images[torch.tensor([0])].shape[-2:]
    batches = tqdm(
        torch.arange(len(images)).split(BATCH), "saving", leave=False, disable=not progress
    )
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), height, width, 3)}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for items in batches:
                stream.write(images[items].permute(0, 2, 3, 1).contiguous().numpy().tobytes())
        if labels is not None:
            with archive.open("arr_1.npy", "w") as stream:
                np.lib.format.write_array(stream, labels.numpy())


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn whatever a broken file raises into one line."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read {file} as .npz") from error


def _read(file: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the file has; pickle is never read."""
    with _reading(file), zipfile.ZipFile(file), np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in names if name in archive}


def _mapped(file: Path) -> np.ndarray | None:
    """``arr_0`` as a view of the file, or None where it is compressed or in Fortran's order."""
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo("arr_0.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            return None
        with archive.open(entry) as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                return None
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            header = stream.tell()
    if fortran or dtype.hasobject:
        return None
    with file.open("rb") as stream:
        stream.seek(entry.header_offset)
        fixed = stream.read(30)
    name, extra = int.from_bytes(fixed[26:28], "little"), int.from_bytes(fixed[28:30], "little")
    # Before an entry's bytes stand these 30, its name and its extra field.
    return np.memmap(file, dtype, "r", entry.header_offset + 30 + name + extra + header, shape)


def _gaussian(
    found: Mapping[str, np.ndarray], mean: str, covariance: str, file: Path
) -> GaussianStatistics:
    if covariance not in found:
        raise ValueError(f"{file} has `{mean}` but no `{covariance}`")
    arrays = [np.asarray(found[name], dtype=np.float64) for name in (mean, covariance)]
    size = arrays[0].size
    if arrays[0].shape != (size,) or arrays[1].shape != (size, size):
        shapes = " and ".join(str(list(array.shape)) for array in arrays)
        raise ValueError(f"`{mean}` and `{covariance}` of {file} must be [d] and [d, d]: {shapes}")
    return GaussianStatistics(*(torch.from_numpy(array) for array in arrays))
