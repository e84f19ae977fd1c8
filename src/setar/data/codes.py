"""Codes of pictures on disk: what ``setar encode`` writes, and a training reads by mmap.

    encoding.json              what is encoded, and how; there from the beginning
    manifest.json              records and SHA-256 of every file; there once all are
    left-out.txt               pictures that cannot be read, and why
    train-labels.npy           the class of each picture, uint32 [pictures]
    train-records.jsonl        a line for each picture: its path, captions, what else is known
    train-lines.npy            where these lines begin, uint64 [pictures + 1]
    train-256x256/00000.npy    codes of the first pictures of this size, [records, views, tokens]
    train-256x256/00000.json   written after it: its SHA-256, and what was left out
    train-256x256/items.npy    which picture each record of this size is of, uint32 [records]
    heldout...                 the same of pictures that are never trained on, of their centres

Pictures are numbered as the source has them, whether they can be read or not; records are those
that can, in this order, without holes. Codes are uint16, or uint32 of a vocabulary above 65536.
Pages that a batch has read are given back at once, so that memory does not grow with the folder.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from setar.config import build, table
from setar.data.base import CODES, Dataset
from setar.data.crops import Resize, check_resize
from setar.data.images import Size, height_and_width
from setar.data.views import CENTRE, Views, find_views
from setar.files import open_regular
from setar.numbers import counted, whole
from setar.registry import one_line, printable

FORMAT = 1
MANIFEST, LEFT_OUT = "manifest.json", "left-out.txt"
LABELS, RECORDS, LINES, ITEMS = "labels.npy", "records.jsonl", "lines.npy", "items.npy"
SPLITS: tuple["Split", ...] = ("train", "heldout")

MAX_JSON = 2**28
"""Bytes of a manifest that are read: shards of ten billion pictures fit."""

Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class TokenizerFacts:
    """Which tokenizer made the codes."""

    source: str
    """How it was named."""
    entry: dict[str, Any]
    """Its family and shape, as in the ``config.json`` of a model folder."""
    weights: str
    """SHA-256 of all of its weights."""
    codebook: str
    """SHA-256 of what is between encoder and decoder, which says what codes mean; empty: none."""
    vocabulary: int

    def __post_init__(self) -> None:
        whole("vocabulary", self.vocabulary, 1, 2**32)

    @property
    def dtype(self) -> np.dtype:
        """Of the codes on disk, little-endian."""
        return np.dtype("<u2" if self.vocabulary <= 2**16 else "<u4")


@dataclass(frozen=True)
class FamilyFacts:
    """Pictures of one size."""

    split: Split
    size: tuple[int, int]
    """Height and width in pixels."""
    grid: tuple[int, int]
    """Rows and columns of tokens."""
    views: str
    """A name of `setar.data.views.VIEWS`."""
    features: tuple[int, ...] = ()
    """Channels, rows and columns of the features of a picture; empty: they are not kept."""

    def __post_init__(self) -> None:
        find_views(self.views)
        height_and_width(self.size)
        if min(self.grid) < 1 or (self.features and min(self.features) < 1):
            raise ValueError("`grid` and `features` must be sizes of at least 1")

    @property
    def folder(self) -> str:
        """Where its shards lie."""
        return f"{self.split}-{self.size[0]}x{self.size[1]}"


@dataclass(frozen=True)
class Encoding:
    """What is encoded, and how: ``encoding.json``."""

    format: int
    tokenizer: TokenizerFacts
    source: str
    """Where the pictures lay."""
    views: str
    resize: Resize
    shard: int
    """Pictures of a shard."""
    batch_size: int
    """Pictures that are encoded at once: the last digits of sums depend on it."""
    pictures: dict[str, int]
    """How many there are, by their split."""
    captions: int
    """How many the pictures of the training have."""
    classes: tuple[str, ...]
    resolutions: tuple[tuple[tuple[int, int], ...], ...]
    """Sizes (height, width) in pixels of the pictures of the training: of each resolution those of
    all shapes, the first of which is that of the held-out pictures. Every picture has a record in
    the shape nearest to its own."""
    families: tuple[FamilyFacts, ...]
    tables: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files that say what is known of the pictures."""

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"`format` (={self.format}) must be {FORMAT}: another version's")
        check_resize(self.resize)
        find_views(self.views)
        whole("shard", self.shard, 1, 2**24, "a shard is made in memory")
        whole("batch_size", self.batch_size, 1, 2**16)
        if {*self.pictures} - {*SPLITS} or not self.pictures.get("train", 0) > 0:
            raise ValueError("`pictures` must be those of `train` and `heldout`")
        if min(map(len, self.resolutions), default=0) < 1:
            raise ValueError("`resolutions` must have a size each")


@dataclass(frozen=True)
class ShardFacts:
    """A shard that is on disk: the JSON beside it."""

    records: int
    sha256: str
    features: str = ""
    """SHA-256 of the file with the features; empty: there is none."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why a picture cannot be read, by its number."""

    def __post_init__(self) -> None:
        whole("records", self.records, 0, 2**24)


@dataclass(frozen=True)
class FamilyShards:
    """All shards of a family."""

    items: str
    """SHA-256 of the file that says which pictures the records are of."""
    shards: tuple[ShardFacts, ...]

    @property
    def records(self) -> int:
        """Of all shards."""
        return sum(shard.records for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """What there is, complete: ``manifest.json``."""

    encoding: Encoding
    families: tuple[FamilyShards, ...]
    sha256: str
    """Of both."""

    @classmethod
    def of(cls, encoding: Encoding, families: tuple[FamilyShards, ...]) -> "Manifest":
        """With their sum."""
        text = json.dumps([table(encoding), table(families)], sort_keys=True)
        return cls(encoding, families, hashlib.sha256(text.encode()).hexdigest())

    def __post_init__(self) -> None:
        if len(self.families) != len(self.encoding.families):
            raise ValueError("`families` must be as many as those of the encoding")


def table_file(split: "Split", name: str) -> str:
    """Where a table lies that says what is known of the pictures."""
    return f"{split}-{name}"


def shard_file(index: int, features: bool = False) -> str:
    """The name of a shard in the folder of its family."""
    return f"{index:05d}{'-features' * features}.npy"


def read_json(file: Path) -> Any:
    """What a JSON file holds; ValueError in one line if it cannot be read."""
    try:
        with open_regular(file) as stream:
            text = stream.read(MAX_JSON + 1)
        if len(text) > MAX_JSON:
            raise ValueError(f"it has more than {MAX_JSON} bytes")
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {printable(file)}: {one_line(error)[:200]}") from error


def read_encoding(folder: Path) -> Encoding:
    """What is encoded in a folder; ValueError if it cannot be read."""
    return build(Encoding, read_json(folder / CODES), printable(folder / CODES))


def sha256_of(file: Path) -> str:
    """SHA-256 of a file; ValueError if it cannot be read."""
    try:
        with open_regular(file) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (ValueError, OSError) as error:
        raise ValueError(f"cannot read {printable(file)}: {one_line(error)}") from error


def open_array(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A ``.npy`` file by mmap; ValueError if it is none, or of another shape or dtype."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read {printable(file)}: {one_line(error)[:200]}") from error
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{printable(file)} holds {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}"
        )
    return array


def give_back(array: np.ndarray) -> None:
    """Let go of the pages of a mapped file that were read: the next reader finds them again."""
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)


def copied(array: np.ndarray) -> np.ndarray:
    """A mapped array in memory, as int64."""
    found = array.astype(np.int64)
    give_back(array)
    return found


class Rows:
    """Rows ``[views, ...]`` of several mapped files, one after the other.

    Args:
        files: the files; those without rows need not be there.
        counts: rows of each.
        shape: of a row.
        dtype: of the numbers.
    """

    def __init__(
        self, files: Sequence[Path], counts: Sequence[int], shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self.files, self.counts, self.shape, self.dtype = files, counts, shape, dtype
        self.ends = np.cumsum(counts, dtype=np.int64)
        self._open: dict[int, np.ndarray] = {}

    def read(self, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        """One view of each of some rows, ``[n, ...]``."""
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        files = np.searchsorted(self.ends, rows, side="right")
        for index in np.unique(files).tolist():
            mine = np.flatnonzero(files == index)
            array = self._array(index)
            first = self.ends[index] - self.counts[index]
            found[mine] = array[rows[mine] - first, views[mine]]
            give_back(array)
        return found

    def _array(self, index: int) -> np.ndarray:
        if index not in self._open:
            shape = (self.counts[index], *self.shape)
            self._open[index] = open_array(self.files[index], shape, self.dtype)
        return self._open[index]


class Family:
    """The records of pictures of one size.

    Args:
        folder: of all codes.
        facts: what they are.
        shards: those of this family.
        tokenizer: what made the codes.
    """

    def __init__(
        self, folder: Path, facts: FamilyFacts, shards: FamilyShards, tokenizer: TokenizerFacts
    ) -> None:
        self.facts, self.views, self.tokenizer = facts, find_views(facts.views), tokenizer
        self.folder = folder / facts.folder
        self.records = shards.records
        counts = [shard.records for shard in shards.shards]
        views, tokens = len(self.views.names), facts.grid[0] * facts.grid[1]
        files, features = (
            [self.folder / shard_file(i, kind) for i in range(len(counts))]
            for kind in (False, True)
        )
        self._codes = Rows(files, counts, (views, tokens), tokenizer.dtype)
        self._features = Rows(features, counts, (views, *facts.features), np.dtype("<f2"))

    def items(self) -> np.ndarray:
        """Which picture each record is of, int64 ``[records]``."""
        if not self.records:
            return np.empty(0, np.int64)
        file = self.folder / ITEMS
        return copied(open_array(file, (self.records,), np.dtype("<u4")))

    def codes(self, records: Tensor, views: Tensor) -> Tensor:
        """Codes int64 ``[B, N]`` of some records, of one view each.

        Raises:
            ValueError: a file cannot be read, or holds no codes of this vocabulary.
        """
        found = self._codes.read(records.numpy(), views.numpy()).astype(np.int64)
        if found.size and found.max() >= self.tokenizer.vocabulary:
            raise ValueError(
                f"{printable(self.folder)} holds the code {found.max()}; of "
                f"{self.tokenizer.vocabulary} there are those below"
            )
        return torch.from_numpy(found)

    def features(self, records: Tensor, views: Tensor) -> Tensor:
        """Features float32 ``[B, C, h, w]`` of some records, of one view each.

        Raises:
            ValueError: a file cannot be read, or holds numbers that are not finite: of such
                features codes could still be made, wrong ones.
        """
        found = self._features.read(records.numpy(), views.numpy())
        bad = ~np.isfinite(found).all(axis=(1, 2, 3))
        if bad.any():
            listed = ", ".join(map(str, records.numpy()[bad][:5]))
            raise ValueError(
                f"{printable(self.folder)} holds features that are not finite, of the records "
                f"{listed}: encode into another folder without --features"
            )
        return torch.from_numpy(found.astype(np.float32))


class Codes:
    """The codes of some pictures at one resolution, family after family.

    Args:
        families: those of the shapes of the resolution.
    """

    def __init__(self, families: Sequence[Family]) -> None:
        self.families = families
        self.ends = torch.tensor([family.records for family in families]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def views(self) -> Views:
        """Which views there are of every picture."""
        return self.families[0].views

    def pictures(self) -> np.ndarray:
        """Which picture each record is of, int64 ``[n]``."""
        return np.concatenate([family.items() for family in self.families])

    def grids(self, records: Tensor) -> list[tuple[int, int]]:
        """Rows and columns of the tokens of each record."""
        return [self.families[index].facts.grid for index in self._families(records).tolist()]

    def codes(self, records: Tensor, views: Tensor) -> Tensor:
        """Codes int64 ``[B, N]`` of records of one family, of one view each; errors as there."""
        family, own = self._placed(records)
        return family.codes(own, views)

    def features(self, records: Tensor, views: Tensor) -> Tensor:
        """Features float32 ``[B, C, h, w]`` of records of one family, of one view each."""
        family, own = self._placed(records)
        return family.features(own, views)

    def centres(self, records: Tensor) -> Tensor:
        """Codes int64 ``[B, N]`` of the centres of records of one family."""
        return self.codes(records, torch.full_like(records, self.views.names.index(CENTRE)))

    def _families(self, records: Tensor) -> Tensor:
        return torch.searchsorted(self.ends, records, right=True)

    def _placed(self, records: Tensor) -> tuple[Family, Tensor]:
        """The family of records that are all in one, and their numbers in there."""
        index = int(self._families(records[:1]))
        family = self.families[index]
        return family, records - (self.ends[index] - family.records)


class Captions(Sequence[Sequence[str]]):
    """The captions of some pictures, read from disk when they are asked for.

    Args:
        folder: of all codes.
        split: of the pictures.
        count: of all pictures of the split.
        pictures: which of them, int64 ``[n]``.
    """

    def __init__(self, folder: Path, split: Split, count: int, pictures: np.ndarray) -> None:
        self.pictures = pictures
        lines = folder / table_file(split, LINES)
        self.lines = open_array(lines, (count + 1,), np.dtype("<u8"))
        with open_regular(folder / table_file(split, RECORDS)) as stream:
            self.text = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, item: Any) -> Any:
        """The captions of one picture, none or several."""
        if isinstance(item, slice):
            return [self[index] for index in range(*item.indices(len(self)))]
        picture = int(self.pictures[item])
        start, end = map(int, self.lines[picture : picture + 2])
        row = json.loads(self.text[start:end])
        give_back(self.lines)
        if hasattr(mmap, "MADV_DONTNEED"):
            self.text.madvise(mmap.MADV_DONTNEED)
        return tuple(row.get("text", ()))


class NoPictures:
    """Stands for pictures of which only codes are known."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, items: Tensor) -> Tensor:
        """Raises ValueError: there are none."""
        raise ValueError(f"{printable(self.folder)} holds codes, not pictures")


class CodeFolder:
    """A folder that is complete.

    Args:
        folder: what ``setar encode`` wrote.

    Raises:
        ValueError: it is not complete, or a file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not os.path.lexists(self.folder / MANIFEST):
            raise ValueError(
                f"{printable(folder)} is not encoded to the end: the same `setar encode` goes on"
            )
        file = self.folder / MANIFEST
        self.manifest = build(Manifest, read_json(file), printable(file))
        if self.manifest != Manifest.of(self.manifest.encoding, self.manifest.families):
            raise ValueError(
                f"{printable(file)} is damaged: delete it, and the same `setar encode` makes it "
                "anew"
            )
        self.encoding = self.manifest.encoding
        if read_encoding(self.folder) != self.encoding:
            raise ValueError(
                f"{printable(self.folder / CODES)} is damaged, for it differs from {MANIFEST}: "
                "encode into another folder"
            )

    def codes(self, split: Split, sizes: Sequence[tuple[int, int]]) -> Codes | None:
        """The codes of pictures of these sizes, all of a resolution; None if there are none.

        Raises:
            ValueError: a size is not there.
        """
        encoding = self.encoding
        found = {
            facts.size: Family(self.folder, facts, shards, encoding.tokenizer)
            for facts, shards in zip(encoding.families, self.manifest.families, strict=True)
            if facts.split == split
        }
        wanted = [height_and_width(size) for size in sizes]
        if split == "heldout":
            wanted = [size for size in wanted[:1] if size in found and found[size].records]
            return Codes([found[size] for size in wanted]) if wanted else None
        if wanted not in [[tuple(size) for size in sizes] for sizes in encoding.resolutions]:
            shapes = [sizes for sizes in encoding.resolutions if tuple(sizes[0]) == wanted[0]]
            if shapes:
                raise ValueError(
                    f"{printable(self.folder)} has pictures of this size in "
                    f"{counted(len(shapes[0]), 'shape')} ({_shown(shapes[0])}), not in "
                    f"{len(wanted)} ({_shown(sizes)}): --max-aspect must be `max_aspect` of the "
                    "stage, and 1 (left out) for models of classes"
                )
            there = "; ".join(map(_shown, encoding.resolutions))
            raise ValueError(
                f"{printable(self.folder)} has codes of pictures of {there} pixels, not "
                f"{_shown(sizes)}: encode them with the size (and shapes) that is trained on"
            )
        return Codes([found[size] for size in wanted])

    def labels(self, split: Split, pictures: np.ndarray) -> Tensor | None:
        """The classes of some pictures, int64 ``[n]``; None if they are not known."""
        name = table_file(split, LABELS)
        if name not in self.encoding.tables:
            return None
        labels = open_array(self.folder / name, (self.encoding.pictures[split],), np.dtype("<u4"))
        return torch.from_numpy(copied(labels)[pictures])

    def captions(self, split: Split, pictures: np.ndarray) -> Captions:
        """The captions of some pictures."""
        return Captions(self.folder, split, self.encoding.pictures[split], pictures)

    def described(self, features: bool) -> str:
        """Records, views and shards in a line, after they were checked; those of features too."""
        facts = zip(self.encoding.families, self.manifest.families, strict=True)
        shards = [shards for family, shards in facts if family.split == "train"]
        count, records = sum(len(s.shards) for s in shards), sum(s.records for s in shards)
        views = len(find_views(self.encoding.views).names)
        kept = any(family.features for family in self.encoding.families)
        text = f"{counted(records, 'record')} of {counted(views, 'view')}"
        text += f" ({self.encoding.views}) in {counted(count, 'shard')}, all checked (SHA-256)"
        return text + f"; features {'as kept' if kept else 'of the codes'}" * features

    def files(self, features: bool = False) -> Iterator[tuple[str, str]]:
        """All files with their SHA-256; those of features if wanted."""
        yield from self.encoding.tables.items()
        for facts, family in zip(self.encoding.families, self.manifest.families, strict=True):
            yield f"{facts.folder}/{ITEMS}", family.items
            for index, shard in enumerate(family.shards):
                yield f"{facts.folder}/{shard_file(index)}", shard.sha256
                if features and shard.features:
                    yield f"{facts.folder}/{shard_file(index, True)}", shard.features

    def notes(self) -> Iterator[tuple[str, ShardFacts]]:
        """The files beside the shards, and what they say, which the manifest repeats."""
        for facts, family in zip(self.encoding.families, self.manifest.families, strict=True):
            for index, shard in enumerate(family.shards):
                yield f"{facts.folder}/{Path(shard_file(index)).with_suffix('.json')}", shard

    def check(
        self, features: bool = False, index: int = 0, count: int = 1, progress: bool = False
    ) -> int:
        """Compare files with the manifest: every ``count``-th from ``index`` on; how many.

        Raises:
            ValueError: some are damaged; names them.
        """
        expected = sorted([*self.files(features), *self.notes()], key=lambda one: one[0])
        files = expected[index::count]

        def damage(file: tuple[str, str | ShardFacts]) -> str:
            name, right = file
            try:
                if isinstance(right, str):
                    whole = sha256_of(self.folder / name) == right
                else:
                    whole = build(ShardFacts, read_json(self.folder / name)) == right
                return "" if whole else name
            except ValueError:
                return name

        with ThreadPoolExecutor(8) as pool:
            found = pool.map(damage, files)
            bar = tqdm(found, "checking", len(files), unit="file", disable=not progress)
            damaged = [name for name in bar if name]
        if damaged:
            more = f" and {len(damaged) - 5} more" * (len(damaged) > 5)
            raise ValueError(
                f"damaged in {printable(self.folder)}: {', '.join(damaged[:5])}{more} (they differ "
                f"from {MANIFEST}): delete it, and the same `setar encode` makes it anew"
            )
        return len(files)


def _shown(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)


def load(folder: Path, size: Size | None, resize: Resize) -> Dataset:
    """The data set of a folder of codes, whose pictures cannot be looked at.

    Args:
        folder: what ``setar encode`` wrote.
        size: of the pictures in pixels, in the square (or only) shape of a resolution; None takes
            the first resolution.
        resize: is what it was when they were encoded.

    Raises:
        ValueError: it is not complete or damaged, or there are no codes of this size.
    """
    codes = CodeFolder(folder)
    resolutions = codes.encoding.resolutions
    wanted = resolutions[0][0] if size is None else height_and_width(size)
    sizes = next((sizes for sizes in resolutions if tuple(sizes[0]) == wanted), (wanted,))
    found: dict[str, Any] = {}
    for split, prefix in zip(SPLITS, ("", "heldout_"), strict=True):
        records = codes.codes(split, sizes)
        if records is None:
            continue
        pictures = records.pictures()
        found[prefix or "images"] = NoPictures(codes.folder, len(records))
        found[f"{prefix}labels"] = codes.labels(split, pictures)
        if codes.encoding.captions:
            found[f"{prefix}captions"] = codes.captions(split, pictures)
    heldout = found.pop("heldout_", None)
    return Dataset(classes=codes.encoding.classes, heldout=heldout, stored=codes, **found)
