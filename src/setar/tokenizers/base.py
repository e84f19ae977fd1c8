"""What a tokenizer is, and a quantizer inside it; and the one conversion between bytes and floats.

A new tokenizer is one file with its config and a `Tokenizer`, and a line in `TOKENIZERS` (or
``@TOKENIZERS.register("name")`` in a plugin). One that has a `Quantizer` can be trained.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from setar.registry import Table

MAX_CODES = 2**20
"""The largest number of different codes; the largest published one is 2**18."""

BATCH = 64
"""Images that go through a tokenizer at once."""

ConfigKind = TypeVar("ConfigKind")


class Quantized(NamedTuple):
    """What quantising one batch gives."""

    vectors: Tensor
    """``[B, D, h, w]``; the gradient passes straight through to the features."""
    codes: Tensor
    """``[B, N]`` int64."""
    codebook_loss: Tensor
    """Mean squared distance that pulls codes to features (scalar)."""
    commitment_loss: Tensor
    """The same distance, pulling features to codes (scalar)."""


class Quantizer(nn.Module):
    """Features ``[B, D, h, w]`` to codes ``[B, N]`` and back; always in float32."""

    size: int
    """Number of different codes."""
    scale_count: int = 1
    """Rows of `counts`: the scales that use codes each for itself."""

    def forward(self, features: Tensor) -> Quantized:
        """Quantise a batch for training."""
        raise NotImplementedError

    def encode(self, features: Tensor) -> Tensor:
        """Features ``[B, D, h, w]`` to codes int64 ``[B, N]``."""
        raise NotImplementedError

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes ``[B, N]`` on a ``(rows, columns)`` grid to vectors ``[B, D, h, w]``."""
        raise NotImplementedError

    def counts(self, codes: Tensor) -> Tensor:
        """How often each scale of ``codes`` ``[B, N]`` uses each code: ``[scale_count, size]``."""
        return codes.flatten().bincount(minlength=self.size)[None]

    def restart(self, dead: Tensor, features: Tensor) -> None:
        """Give codes ``[n]`` that nobody used for long a new place, at these features.

        Nothing by default: codes that are not learned cannot die.
        """


class Tokenizer(nn.Module, Generic[ConfigKind]):
    """Images to codes and back; models, sampling and training know a tokenizer only through this.

    Images are float ``[B, 3, H, W]`` in [-1, 1]; codes are int64 ``[B, N]`` in raster order.
    """

    Config: ClassVar[type]
    """The class of its shape."""
    presets: ClassVar[Mapping[str, Any]]
    """Shapes by name; ``tiny`` is there for tests."""

    FOLLOWS: ClassVar[tuple[str, ...]] = ()
    """Fields of its config that a training may leave out: see `fitted`."""

    @classmethod
    def fitted(cls, config: ConfigKind, height: int, width: int) -> ConfigKind:
        """The config with the fields of `FOLLOWS` as they suit images of so many pixels.

        Raises:
            ValueError: none do.
        """
        return config

    def __init__(self, config: ConfigKind) -> None:
        super().__init__()
        self.config = config

    @property
    def vocabulary(self) -> int:
        """Number of different codes; every code lies in ``0 .. vocabulary - 1``."""
        raise NotImplementedError

    @property
    def code_dim(self) -> int:
        """Numbers in the vector of a code; 0 if codes have none."""
        return 0

    @property
    def scales(self) -> tuple[tuple[int, int], ...] | None:
        """Rows and columns of its token maps, coarse to fine; None is one map, of any grid.

        Of several scales, codes are those of one after the other, and `grid` is one row.
        """
        return None

    @property
    def pyramid(self) -> Any:
        """What a VAR reads codes through (`setar.models.var_decoding.Pyramid`); None without."""
        return None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels of its images; None if it takes several sizes."""
        return None

    @property
    def colours(self) -> bool:
        """Whether it keeps colours; one that knows grey alone is no use for other pictures."""
        return True

    @property
    def can_encode(self) -> bool:
        """Whether it has an encoder: editing and reconstructing need one."""
        return True

    @property
    def quantizer(self) -> Quantizer | None:
        """What is trained between encoder and decoder; None if it cannot be trained."""
        return None

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the tokens of an image of ``height`` x ``width`` pixels.

        Raises:
            ValueError: it has none for this size.
        """
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in [-1, 1] to codes ``[B, N]``."""
        raise NotImplementedError

    def decode(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes ``[B, N]`` on a ``(rows, columns)`` grid to images in about [-1, 1]."""
        raise NotImplementedError

    def stages(self, codes: Tensor, grid: tuple[int, int], first: int = 1) -> Iterator[Tensor]:
        """Yield the images of the first ``first``, ``first`` + 1, ... of its `scales`.

        By default the image alone. Nothing is computed before it is asked for.
        """
        yield self.decode(codes, grid)

    # What training asks for, if there is a quantizer.

    def features(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in [-1, 1] to what is quantised, ``[B, D, h, w]``."""
        raise NotImplementedError

    def picture(self, vectors: Tensor) -> Tensor:
        """Vectors ``[B, D, h, w]`` to images ``[B, 3, H, W]`` in about [-1, 1]."""
        raise NotImplementedError

    @property
    def last_layer(self) -> Tensor:
        """The weight of the decoder's last layer, at which losses are balanced."""
        raise NotImplementedError


TOKENIZERS: Table[type[Tokenizer]] = Table(
    "tokenizer",
    {
        "vqgan": "setar.tokenizers.vqgan:VQGAN",
        "multiscale": "setar.tokenizers.multiscale:MultiScaleVQ",
        "pixels": "setar.tokenizers.pixels:PixelLevels",
    },
)
"""Tokenizers by the name that configs and model folders use."""


def to_float(images: Tensor) -> Tensor:
    """Bytes 0..255 to float32 in [-1, 1]; any shape."""
    return images.to(torch.float32).div(127.5).sub(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to bytes: clamp, scale, round half to even.

    Rounding and flooring differ by half a grey level, which moves a Frechet distance, so this one
    function makes every picture that is saved, shown or measured.
    """
    return images.float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)


@torch.inference_mode()
def encode_images(tokenizer: Tokenizer, images: Any, progress: bool = False) -> Tensor:
    """Codes int64 ``[n, N]``, on the CPU, of many pictures.

    ``images`` has a length and gives uint8 ``[B, 3, H, W]`` for a tensor of B indices.
    """
    if not tokenizer.can_encode:
        name = type(tokenizer).__name__
        raise ValueError(f"the tokenizer {name} cannot encode pictures: it has only a decoder")
    return through(tokenizer.encode, images, device_of(tokenizer), progress)


@torch.inference_mode()
def through(
    encode: Callable[[Tensor], Tensor], images: Any, device: torch.device, progress: bool = False
) -> Tensor:
    """What ``encode`` makes of many pictures, ``[n, ...]``, on the CPU.

    It gets float ``[B, 3, H, W]`` in [-1, 1] on ``device``; ``images`` are as of `encode_images`.
    """
    indices = torch.arange(len(images), device="cpu")
    batches = tqdm(indices.split(BATCH), "encoding", disable=not progress, unit="batch")
    with torch.autocast(device.type, enabled=False):  # whatever the caller has set
        return torch.cat([encode(to_float(images[items]).to(device)).cpu() for items in batches])


@torch.inference_mode()
def decode_codes(tokenizer: Tokenizer, codes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Pictures uint8 ``[n, 3, H, W]``, on the CPU, of many codes ``[n, N]``."""
    device = device_of(tokenizer)
    with torch.autocast(device.type, enabled=False):  # whatever the caller has set
        parts = [tokenizer.decode(part.to(device), grid) for part in codes.split(BATCH)]
    return torch.cat([to_uint8(part).cpu() for part in parts])


def device_of(tokenizer: Tokenizer) -> torch.device:
    """Where its weights are; the CPU if it has none."""
    return next((weight.device for weight in tokenizer.parameters()), torch.device("cpu"))
