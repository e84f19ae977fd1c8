"""Where pictures to be measured come from: embedded data sets, folders and .npz files.

The .npz layout is that of ADM's evaluator: ``arr_0`` holds uint8 pictures ``[n, H, W, 3]``, and a
reference may hold precomputed statistics: ``mu``, ``sigma`` of the pooled features, ``mu_s``,
``sigma_s`` of the spatial ones.
"""

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from setar.data.base import DATASETS, Dataset, chosen, holding, open_data
from setar.data.crops import Resize
from setar.data.images import ChosenImages, Images, Size
from setar.evaluation.archives import Archive, open_archive
from setar.evaluation.distances import GaussianStatistics, check_covariance
from setar.evaluation.summary import KEPT, FeatureSummary
from setar.evaluation.workers import BATCH, Once
from setar.registry import printable
from setar.run_folder import is_model

ADM_FEATURES = "Inception"
"""The features of statistics in files that do not name any: those of ADM's reference batches."""
DIMENSIONS = 8192
"""Of features at most, four times Inception's: a Frechet distance of more takes hours."""


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
        with open_archive(file) as archive:
            if "arr_0" not in archive.names:
                raise ValueError("it holds no pictures: it has no `arr_0`")
            found = archive.header("arr_0")
            shaped = len(found.shape) == 4 and found.shape[-1] == 3 and min(found.shape) > 0
            if found.dtype != np.uint8 or not shaped:
                raise ValueError(f"`arr_0` must be uint8 [n, height, width, 3], not {found}")
            pixels = archive.map("arr_0")
            self._pixels = archive.read("arr_0") if pixels is None else pixels

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


def find_pictures(
    text: str,
    size: Size | None = None,
    resize: Resize = "lanczos",
    left_out: frozenset[str] = frozenset(),
) -> Pictures:
    """The pictures that a text names.

    Args:
        text: a data set, with ``:train`` (the default), ``:heldout`` or ``:all``; a file whose name
            ends in ``.npz``; or a folder, however nested.
        size: take centre crops of a folder's pictures and resize them to this side, or (height,
            width), in pixels; None takes them as they are.
        resize: how these crops are made: ``lanczos``, or ``adm`` as ADM and its followers do.
        left_out: files of a folder that are left out, as in `setar.origin.Origin`.

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
        data = open_data(text, size, resize)
        held = data.held_out()
        if left_out:
            data = chosen(data, torch.tensor(_kept(data, left_out)))
        if left_out and held is not None and held.paths:
            data = holding(data, chosen(held, torch.tensor(_kept(held, left_out))))
        opener = Once(open_images, text, size, resize, left_out)
        return Pictures(text, opener, None, data, True, data.names)
    source = f"{name}:{split or 'train'}"
    data, training = open_data(source), split in ("", "train")
    return Pictures(source, Once(open_images, source), None, data, training, data.names)


def open_images(
    source: str,
    size: Size | None = None,
    resize: Resize = "lanczos",
    left_out: frozenset[str] = frozenset(),
) -> Images:
    """The pictures of `setar.data.base.open_data`, but those that are left out."""
    data = open_data(source, size, resize)
    return (
        ChosenImages(data.images, torch.tensor(_kept(data, left_out))) if left_out else data.images
    )


def _kept(data: Dataset, left_out: frozenset[str]) -> list[int]:
    """Indices of the pictures whose paths are not left out; ValueError if there are none."""
    kept = [index for index, path in enumerate(data.paths) if printable(path) not in left_out]
    if not kept:
        raise ValueError("none of its pictures can be read")
    return kept


def load_statistics(file: Path, features: str) -> FeatureSummary | None:
    """The statistics that an .npz file holds of these features, or None if it holds none.

    Raises:
        ValueError: the file is no .npz, or its statistics have wrong types, shapes or values.
    """
    with open_archive(file) as archive:
        if "mu" not in archive.names or _name_of_features(archive) != features:
            return None
        images = None
        if "images" in archive.names:
            images = int(_numbers(archive, "images", ())[()])
            if images < 1:
                raise ValueError(f"`images` (={images}) must be at least 1")
        gaussian, spatial, pooled = _gaussian(archive, "mu", "sigma"), None, None
        if "mu_s" in archive.names:
            spatial = _gaussian(archive, "mu_s", "sigma_s")
        if "pooled" in archive.names:
            most = (KEPT, len(gaussian.mean))
            pooled = torch.from_numpy(_numbers(archive, "pooled", most, np.float32))
        return FeatureSummary(features, images, gaussian, spatial, pooled=pooled)


def holds_pictures(file: Path) -> bool:
    """Whether an .npz file has an ``arr_0``; ValueError if it is no .npz."""
    with open_archive(file) as archive:
        return "arr_0" in archive.names


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


def _name_of_features(archive: Archive) -> str:
    """What the statistics of a file are of."""
    if "features" not in archive.names:
        return ADM_FEATURES
    header = archive.header("features")
    if header.dtype.kind != "U" or header.shape or header.size > 1000:
        raise ValueError(f"`features` must be a short name, not {header}")
    return str(archive.read("features"))


def _numbers(
    archive: Archive, name: str, most: tuple[int, ...], dtype: type = np.float64
) -> np.ndarray:
    """An array of finite numbers; ValueError unless it is one, at most so large.

    The last side of ``most`` must be met.
    """
    header = archive.header(name)
    sides = len(header.shape) == len(most) and header.shape[-1:] == most[-1:]
    fits = sides and all(1 <= side <= limit for side, limit in zip(header.shape, most, strict=True))
    if header.dtype.kind not in "fiu" or not fits:
        raise ValueError(f"`{name}` must be numbers, at most {list(most)}, not {header}")
    with np.errstate(all="ignore"):  # what becomes infinite is refused
        numbers = archive.read(name).astype(dtype)
    if not np.isfinite(numbers).all():
        raise ValueError(f"`{name}` holds values that are not finite")
    return numbers


def _gaussian(archive: Archive, mean: str, covariance: str) -> GaussianStatistics:
    if covariance not in archive.names:
        raise ValueError(f"it has `{mean}` but no `{covariance}`")
    headers = [archive.header(name) for name in (mean, covariance)]
    size = math.prod(headers[0].shape)
    if headers[0].shape != (size,) or headers[1].shape != (size, size):
        shapes = " and ".join(str(list(header.shape)) for header in headers)
        raise ValueError(f"`{mean}` and `{covariance}` must be [d] and [d, d], not {shapes}")
    if not 1 <= size <= DIMENSIONS:
        raise ValueError(f"`{mean}` has {size} dimensions: it must be 1 to {DIMENSIONS}")
    vector, matrix = _numbers(archive, mean, (size,)), _numbers(archive, covariance, (size, size))
    statistics = GaussianStatistics(torch.from_numpy(vector), torch.from_numpy(matrix))
    check_covariance(statistics, f"`{covariance}`")
    return statistics
