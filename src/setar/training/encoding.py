"""Pictures to code shards: ``setar encode``; see `setar.data.codes` for what it writes.

Any number of processes share the work: process k of n makes shards k, k + n, ... Each shard is
written beside its place and renamed once it is on disk, then its facts likewise, so whatever dies,
the same command makes what is missing. The first process says at the beginning what is encoded
(`encoding.json`, with which the others compare what they were asked for), waits until all shards
are there, and writes the manifest. They exchange nothing but these files.

The bytes of a shard depend on the settings alone, for what goes through the tokenizer together is
fixed; on a CPU each batch is computed by one thread, since sums over several would differ in the
last digit, and in rare cases a code with them.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from setar import checkpoint, durable
from setar.config import build, table
from setar.data.base import CODES, Dataset
from setar.data.codes import (
    FORMAT,
    ITEMS,
    LABELS,
    LEFT_OUT,
    LINES,
    MANIFEST,
    RECORDS,
    SPLITS,
    Encoding,
    FamilyFacts,
    FamilyShards,
    Manifest,
    ShardFacts,
    Split,
    TokenizerFacts,
    open_array,
    read_encoding,
    read_json,
    sha256_of,
    shard_file,
    table_file,
)
from setar.data.crops import Resize
from setar.data.images import Images, Size, height_and_width
from setar.data.views import find_views
from setar.numbers import as_real
from setar.origin import trained_size
from setar.pretrained import load_tokenizer
from setar.registry import printable
from setar.tokenizers.base import TOKENIZERS, Tokenizer, device_of, to_float
from setar.training.data import DataConfig
from setar.training.distributed import place
from setar.training.heldout import hold_out
from setar.training.identity import different, flat
from setar.training.lock import locked
from setar.training.loop import LoopConfig
from setar.training.shapes import WIDEST, aspect_buckets, nearest_bucket, stride_of

SHARD, BATCH = 8192, 32
"""Pictures of a shard, and of a batch, unless it is said."""

SHAPES = "shapes.npy"
"""Height and width of each picture before it is cropped, where shapes are told apart."""

POLLING = 0.5
"""Seconds between looks for files that another process writes."""


@dataclass(frozen=True)
class EncodeConfig:
    """What shall be encoded, and how."""

    tokenizer: str
    """A model with a tokenizer, or the family of one without weights."""
    source: str
    """Pictures, as of ``data.source``."""
    views: str = ""
    """Left out: the centre and its mirror image; of captioned pictures the centre alone, since
    captions with left and right would be wrong."""
    sizes: tuple[Size, ...] = ()
    """Resolutions in pixels; left out, the one that the tokenizer was trained at."""
    max_aspect: float = 1.0
    """The longer side over the shorter one of the widest shape; 1 crops all to the one size."""
    resize: Resize = "lanczos"
    heldout: float = 0.0
    """Share of the pictures that are never trained on, where the source has none of its own."""
    validation: str = ""
    """Pictures of their own in the place of such a share, as of ``data.validation``."""
    shard: int = SHARD
    batch_size: int = BATCH
    features: bool = False
    """Also keep features, in float16, for a VAR's ``self_correction``."""
    device: str = "auto"


@dataclass(frozen=True)
class Place:
    """This process among those that work in one folder."""

    index: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> "Place":
        """As ``torchrun`` says, or alone; ValueError if that cannot be."""
        return cls(*place())


@dataclass(frozen=True)
class Encoded:
    """What this process did, and what there is now."""

    manifest: Manifest | None
    """None of other processes than the first."""
    pictures: int
    """That this process encoded."""
    seconds: float
    """In which it did so."""


def encode(config: EncodeConfig, folder: Path, progress: bool = False) -> Encoded:
    """Encode pictures into a folder, or go on where this was interrupted.

    Args:
        config: what and how.
        folder: where to; is empty, or has a part of the same.
        progress: show a bar.

    Raises:
        ValueError: something does not fit, or the folder has something else.
        OSError: it cannot be written.
    """
    place = Place.here()
    work = _prepared(config, Path(folder), place)
    with locked(work.folder, place.index == 0):
        work = _begun(work, place)
        todo = [(f, s) for f in range(len(work.items)) for s in range(work.shards(f))]
        todo = todo[place.index :: place.count]
        counts = [work.part(*one).size for one in todo]
        done = [work.facts_of(*one) is not None for one in todo]
        pictures, began = 0, time.monotonic()
        with (
            tqdm(total=sum(counts), unit="image", desc="encoding", disable=not progress) as bar,
            _Workers(work.tokenizer) as workers,
        ):
            for one, count, ready in zip(todo, counts, done, strict=True):
                if ready:
                    bar.update(count)
                    continue
                work.make(*one, workers, bar)
                pictures += count
        seconds = time.monotonic() - began
        manifest = work.complete() if place.index == 0 else None
    return Encoded(manifest, pictures, seconds)


@dataclass(frozen=True, eq=False)
class Work:
    """All that is to be done."""

    folder: Path
    tokenizer: Tokenizer
    parts: Mapping[Split, Dataset]
    """The pictures, by their split."""
    encoding: Encoding
    in_files: bool
    """Whether they are cropped from files, at any size."""
    items: Sequence[np.ndarray] = ()
    """The pictures of each family, int64 ``[n]``."""

    def shapes(self) -> np.ndarray:
        """Height and width of each picture of the training, int32 ``[n, 2]``, as it is on disk."""
        shape = (self.encoding.pictures["train"], 2)
        return open_array(self.folder / table_file("train", SHAPES), shape, np.dtype("<i4"))

    def shards(self, family: int) -> int:
        """How many a family has."""
        return -(-self.items[family].size // self.encoding.shard)

    def part(self, family: int, shard: int) -> np.ndarray:
        """The pictures of a shard, int64 ``[n]``."""
        return self.items[family][shard * self.encoding.shard :][: self.encoding.shard]

    def place(self, family: int, name: str) -> Path:
        """A file of a family."""
        return self.folder / self.encoding.families[family].folder / name

    def facts_of(self, family: int, shard: int) -> ShardFacts | None:
        """What is known of a shard that is on disk; None if it must be made."""
        file = self.place(family, shard_file(shard))
        try:
            facts = build(ShardFacts, read_json(file.with_suffix(".json")))
        except ValueError:
            return None
        wanted = [file]
        if self.encoding.families[family].features:
            wanted.append(self.place(family, shard_file(shard, True)))
        whole = len(facts.left_out) + facts.records == self.part(family, shard).size
        return facts if whole and all(map(os.path.isfile, wanted)) else None

    def make(self, family: int, shard: int, workers: "_Workers", bar: tqdm) -> None:
        """Encode a shard and write it."""
        facts, encoding = self.encoding.families[family], self.encoding
        part = torch.from_numpy(self.part(family, shard)).split(encoding.batch_size)
        images = self.parts[facts.split].images
        if self.in_files:  # at the size from which the views are cut
            size = find_views(facts.views).source(*facts.size)
            images = images.at(size)  # type: ignore[attr-defined]
        batches = []
        for batch in workers.map(partial(_encoded, self.tokenizer, images, facts), part):
            batches.append(batch)
            bar.update(len(batch.codes) + len(batch.left_out))
        left_out = {str(k): v for batch in batches for k, v in batch.left_out.items()}
        codes = np.concatenate([batch.codes for batch in batches])
        file = self.place(family, shard_file(shard))
        file.parent.mkdir(exist_ok=True)
        digest, features = write_array(file, codes.astype(encoding.tokenizer.dtype)), ""
        if facts.features:
            found = np.concatenate([batch.features for batch in batches]).astype("<f2")
            features = write_array(self.place(family, shard_file(shard, True)), found)
        written = ShardFacts(len(codes), digest, features, left_out)
        _write_json(file.with_suffix(".json"), written)

    def complete(self) -> Manifest:
        """Wait for the shards of all processes, and write what is known of all together."""
        families, left_out = [], list[str]()
        for family, facts in enumerate(self.encoding.families):
            shards = [self._waited(family, shard) for shard in range(self.shards(family))]
            lost = {int(item): why for shard in shards for item, why in shard.left_out.items()}
            data = self.parts[facts.split]
            left_out += [f"{printable(_name(data, i))}\t{printable(w)}\n" for i, w in lost.items()]
            missing = np.fromiter(lost, np.int64, len(lost))
            kept = np.setdiff1d(self.items[family], missing, assume_unique=True)
            self.place(family, ITEMS).parent.mkdir(exist_ok=True)
            digest = write_array(self.place(family, ITEMS), kept.astype("<u4"))
            families.append(FamilyShards(digest, tuple(shards)))
        if not any(map(_records_of_training, self.encoding.families, families)):
            raise ValueError(f"none of the pictures of {self.encoding.source!r} can be read")
        with suppress(OSError):
            (self.folder / LEFT_OUT).unlink()
        if left_out:
            durable.write_text(self.folder / LEFT_OUT, "".join(dict.fromkeys(left_out)))
        manifest = Manifest.of(self.encoding, tuple(families))
        _write_json(self.folder / MANIFEST, manifest)
        return manifest

    def _waited(self, family: int, shard: int) -> ShardFacts:
        while (facts := self.facts_of(family, shard)) is None:
            time.sleep(POLLING)
        return facts


def _records_of_training(facts: FamilyFacts, shards: FamilyShards) -> bool:
    return facts.split == "train" and shards.records > 0


# What is to be done.


def _prepared(config: EncodeConfig, folder: Path, place: Place) -> Work:
    """All but which picture is in which family; ValueError if something does not fit."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.path.isfile(folder / CODES) and (there := _others(folder)):
        raise ValueError(
            f"{printable(folder)} is no folder of codes and not empty ({printable(there)}): "
            "choose another --out"
        )
    data_config = DataConfig(
        config.source, resize=config.resize, heldout=config.heldout, validation=config.validation
    )
    if data_config.of_codes:
        raise ValueError(f"{config.source!r} holds codes already, not pictures")
    without_weights = config.tokenizer in TOKENIZERS and not os.path.exists(config.tokenizer)
    sizes = [height_and_width(size) for size in config.sizes]
    if not sizes and data_config.of_a_folder and not without_weights:
        sizes = [trained_size(config.tokenizer) or data_config.size()]
    if sizes and not data_config.of_a_folder:
        raise ValueError(f"the pictures of {config.source!r} have one size: leave out --size")
    data_config = replace(data_config, image_size=sizes[0] if sizes else None)
    data = data_config.open()
    if config.heldout and data.heldout is None:
        data = hold_out(data, config.heldout)
    tokenizer = _tokenizer(config, data).to(LoopConfig(device=config.device).resolve_device())
    if not tokenizer.can_encode:
        raise ValueError(f"the tokenizer {config.tokenizer!r} has only a decoder")
    parts: dict[Split, Dataset] = {"train": data}
    if (held := data.held_out()) is not None:
        parts["heldout"] = held
    encoding = _encoding(config, data_config, tokenizer, parts)
    return Work(folder, tokenizer, parts, encoding, data_config.of_a_folder)


def _others(folder: Path) -> str:
    """The name of something in a folder that is not ours and no hidden file; empty: none."""
    ours = {
        table_file(split, name) for split in SPLITS for name in (LABELS, RECORDS, LINES, SHAPES)
    }
    return next((n for n in sorted(os.listdir(folder)) if n[0] != "." and n not in ours), "")


def _tokenizer(config: EncodeConfig, data: Dataset) -> Tokenizer:
    if config.tokenizer not in TOKENIZERS or os.path.exists(config.tokenizer):
        return load_tokenizer(config.tokenizer)
    if data.tokenizer is None or data.tokenizer["family"] != config.tokenizer:
        raise ValueError(
            f"the tokenizer {config.tokenizer!r} does not suit {config.source!r} untrained: name a "
            "model folder or a run"
        )
    return checkpoint.create(data.tokenizer, TOKENIZERS)


def _encoding(
    config: EncodeConfig,
    data_config: DataConfig,
    tokenizer: Tokenizer,
    parts: Mapping[Split, Dataset],
) -> Encoding:
    """What `encoding.json` says, but for the tables."""
    data = parts["train"]
    captions = sum(map(len, data.captions))
    views = config.views or ("crop" if captions else "crop+flip")
    aspect = as_real(config.max_aspect)
    if aspect is None or not 1 <= aspect <= WIDEST:
        raise ValueError(f"`max_aspect` (={config.max_aspect}) must be from 1 to {WIDEST:g}")
    squares = [height_and_width(size) for size in config.sizes] or [data_config.size(data)]
    resolutions = [_shapes_of_size(size, tokenizer, aspect) for size in squares]
    if len({*squares}) < len(squares):
        raise ValueError("every --size must be another one")
    if not data_config.of_a_folder and (aspect > 1 or find_views(views).enlarged > 1):
        raise ValueError(f"{config.source!r} has pictures of one size, which cannot be cropped")
    families = [
        FamilyFacts("train", size, tokenizer.grid(*size), views, ())
        for sizes in resolutions
        for size in sizes
    ]
    if "heldout" in parts:
        families += [
            FamilyFacts("heldout", size, tokenizer.grid(*size), "crop", ()) for size in squares
        ]
    if config.features:
        families = [_with_features(family, tokenizer) for family in families]
    return Encoding(
        FORMAT,
        TokenizerFacts(
            config.tokenizer,
            checkpoint.describe(tokenizer, TOKENIZERS),
            digest_of(tokenizer.state_dict()),
            codebook_of(tokenizer),
            tokenizer.vocabulary,
        ),
        config.source,
        views,
        config.resize,
        config.shard,
        config.batch_size,
        {split: len(part) for split, part in parts.items()},
        captions,
        data.classes,
        tuple(map(tuple, resolutions)),
        tuple(families),
    )


def _shapes_of_size(
    size: tuple[int, int], tokenizer: Tokenizer, aspect: float
) -> list[tuple[int, int]]:
    tokenizer.grid(*size)
    if aspect == 1:
        return [size]
    if size[0] != size[1]:
        raise ValueError(f"with --max-aspect a size is a square's, not {size[0]}x{size[1]}")
    return aspect_buckets(size[0], max(stride_of(tokenizer, size)), aspect)


def _with_features(family: FamilyFacts, tokenizer: Tokenizer) -> FamilyFacts:
    if tokenizer.quantizer is None:
        raise ValueError("the tokenizer has no features: leave out --features")
    if family.split == "heldout":
        return family
    with torch.inference_mode():
        images = torch.zeros(1, 3, *family.size, device=device_of(tokenizer))
        return replace(family, features=tuple(tokenizer.features(images).shape[1:]))


def codebook_of(tokenizer: Tokenizer) -> str:
    """SHA-256 of what says what codes mean; empty of a tokenizer without a quantizer."""
    return "" if tokenizer.quantizer is None else digest_of(tokenizer.quantizer.state_dict())


def digest_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of some tensors with their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


# The beginning.


def _begun(work: Work, place: Place) -> Work:
    """The work with the pictures of each family, once what is encoded is on disk."""
    file = work.folder / CODES
    if place.index:
        while not os.path.isfile(file):
            time.sleep(POLLING)
        now = read_encoding(work.folder)
        _compare(work.folder, now, replace(work.encoding, tables=now.tables))
    else:
        now = _with_tables(work)
    found = replace(work, encoding=now)
    return replace(found, items=_families(found))


def _with_tables(work: Work) -> Encoding:
    """What is encoded, with the tables that belong to it; both are on disk then."""
    before = read_encoding(work.folder) if os.path.isfile(work.folder / CODES) else None
    if before is not None:
        _compare(work.folder, before, replace(work.encoding, tables=before.tables))
    tables = {}
    for split, data in work.parts.items():
        lines = np.zeros(len(data) + 1, "<u8")
        digest = hashlib.sha256()
        for index, line in enumerate(_lines(data)):
            digest.update(line)
            lines[index + 1] = lines[index] + len(line)
        arrays = {LINES: lines}
        if split == "train" or work.parts["train"].heldout_labels is not None:
            arrays[LABELS] = data.labels.numpy().astype("<u4")
        if split == "train" and max(map(len, work.encoding.resolutions)) > 1:
            arrays[SHAPES] = _shapes(data.images) if before is None else work.shapes()
        tables[table_file(split, RECORDS)] = digest.hexdigest()
        named = {table_file(split, name): array for name, array in arrays.items()}
        tables |= {name: digest_of_array(array) for name, array in named.items()}
        if before is None:
            for name, array in named.items():
                write_array(work.folder / name, array)
            with (
                durable.replacing(work.folder / table_file(split, RECORDS)) as beside,
                beside.open("wb") as stream,
            ):
                stream.writelines(_lines(data))
    encoding = replace(work.encoding, tables=tables)
    if before is not None:
        _compare(work.folder, before, encoding)
        return before
    _write_json(work.folder / CODES, encoding)
    return encoding


def _compare(folder: Path, before: Encoding, now: Encoding) -> None:
    """Raise ValueError, naming the difference, unless both are the same."""
    was, is_ = flat(table(before)), flat(table(now))
    free = {"source", "tokenizer.source"}  # wherever they lie, they are known by what they hold
    for key in sorted({*was, *is_} - free, key=lambda key: (key == "families", key)):
        if was.get(key) != is_.get(key):
            if key.startswith("tables."):
                raise ValueError(
                    f"{folder} was started with other pictures or captions than "
                    f"{now.source!r} has now ({key.removeprefix('tables.')}): choose another --out"
                )
            raise ValueError(different(folder, key, was.get(key), is_.get(key)))


def _lines(data: Dataset) -> Iterator[bytes]:
    """What is known of each picture, a JSON object a line."""
    for item in range(len(data)):
        row: dict[str, Any] = {"file_name": _name(data, item)}
        if data.captions:
            row["text"] = list(data.captions[item])
        row |= {name: values[item] for name, values in data.meta.items()}
        yield json.dumps(row).encode() + b"\n"


def _name(data: Dataset, item: int) -> str:
    """What a picture is called."""
    return str((data.paths or data.names or range(len(data)))[item])


def _shapes(images: Images) -> np.ndarray:
    """Height and width of each picture, int32 ``[n, 2]``; 1, 1 of those that cannot be read."""

    def shape(item: int) -> tuple[int, int]:
        try:
            width, height, _ = images.header(item)  # type: ignore[attr-defined]
        except ValueError:
            return 1, 1
        return height, width

    with ThreadPoolExecutor() as pool:
        return np.array(list(pool.map(shape, range(len(images)))), "<i4").reshape(-1, 2)


def _families(work: Work) -> list[np.ndarray]:
    """The pictures of each family."""
    encoding, found = work.encoding, list[np.ndarray]()
    shapes = None
    if max(map(len, encoding.resolutions)) > 1:
        shapes = torch.from_numpy(work.shapes().astype(np.float32))
    for sizes in encoding.resolutions:
        count = encoding.pictures["train"]
        if shapes is None or len(sizes) == 1:
            found.append(np.arange(count))
            continue
        nearest = nearest_bucket(shapes, sizes).numpy()
        found += [np.flatnonzero(nearest == index) for index in range(len(sizes))]
    held = [family for family in encoding.families if family.split == "heldout"]
    return [*found, *(np.arange(encoding.pictures["heldout"]) for _ in held)]


# A batch.


@dataclass
class _Batch:
    codes: np.ndarray
    """int64 ``[n, views, N]``."""
    features: np.ndarray
    """float16 ``[n, views, ...]``, or empty."""
    left_out: dict[int, str] = field(default_factory=dict)


class _Workers:
    """Threads that encode batches: on a CPU as many as torch may use, a batch each.

    On a GPU two: one reads while the other encodes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        on_cpu, self.threads = device_of(tokenizer).type == "cpu", torch.get_num_threads()
        self.pool = ThreadPoolExecutor(
            self.threads if on_cpu else 2,
            initializer=partial(torch.set_num_threads, 1) if on_cpu else None,
        )

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: Any) -> None:
        self.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads)

    def map(self, encode: Any, batches: Iterable[Tensor]) -> Iterable[_Batch]:
        """What ``encode`` makes of all batches, in their order."""
        return self.pool.map(encode, batches)


@torch.inference_mode()
def _encoded(tokenizer: Tokenizer, images: Images, facts: FamilyFacts, items: Tensor) -> _Batch:
    """Codes and features of some pictures, without those that cannot be read."""
    views = find_views(facts.views)
    count, tokens = len(views.names), facts.grid[0] * facts.grid[1]
    pictures, left_out = _read(images, items)
    if pictures is None:
        shape = (0, count)
        empty = np.empty((*shape, *facts.features), np.float16)
        return _Batch(np.empty((*shape, tokens), np.int64), empty, left_out)
    codes, features = list[Tensor](), list[Tensor]()
    device = device_of(tokenizer)
    with torch.autocast(device.type, enabled=False):
        for view in views.of(pictures, *facts.size).unbind(1):
            pixels = to_float(view).to(device)
            if facts.features:
                assert tokenizer.quantizer is not None
                features.append(tokenizer.features(pixels).float())
                codes.append(tokenizer.quantizer.encode(features[-1]))
            else:
                codes.append(tokenizer.encode(pixels))
    kept = torch.stack(features, 1).half().cpu().numpy() if features else np.empty(0)
    return _Batch(torch.stack(codes, 1).cpu().numpy(), kept, left_out)


def _read(images: Images, items: Tensor) -> tuple[Tensor | None, dict[int, str]]:
    """The pictures that can be read, uint8 ``[n, 3, H, W]``, None if none can; why others not."""
    try:
        return images[items], {}
    except ValueError as error:
        if len(items) == 1:
            return None, {int(items[0]): str(error)}
    parts = [_read(images, item) for item in items.split(1)]
    whole = [pictures for pictures, _ in parts if pictures is not None]
    left_out = {item: why for _, lost in parts for item, why in lost.items()}
    return (torch.cat(whole) if whole else None), left_out


# Files.


def write_array(file: Path, array: np.ndarray) -> str:
    """Write a ``.npy`` file in one durable step; its SHA-256."""
    with durable.replacing(file) as beside:
        np.save(beside, array, allow_pickle=False)
        return sha256_of(beside)


def digest_of_array(array: np.ndarray) -> str:
    """SHA-256 of the file that `write_array` makes of an array."""
    found = _Digest()
    np.lib.format.write_array(found, array, allow_pickle=False)
    return found.sha256.hexdigest()


class _Digest:
    """A file to write to that keeps only the SHA-256 of its content."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, part: Any) -> None:
        self.sha256.update(part)


def _write_json(file: Path, value: Any) -> None:
    durable.write_text(file, json.dumps(table(value), indent=1) + "\n")
