"""What is trained on: the ``data`` table of a config, and the pictures that it names."""

from dataclasses import dataclass

import torch
from torch import Tensor

from setar.data.base import Dataset, open_data
from setar.data.crops import Resize, check_resize
from setar.data.images import Images, MirroredImages, Size, height_and_width


@dataclass(frozen=True)
class DataConfig:
    """What is trained on."""

    source: str
    """A data set by name (``emoji`` and ``digits`` come with the package), or a folder with one
    subfolder of images per class."""
    image_size: Size = 256
    """Of the centre crops from a folder, in pixels: the side of a square, or [height, width]; the
    built-in sets have their own size."""
    resize: Resize = "lanczos"
    """How these crops are made: ``lanczos`` at once, or ``adm``: halves by box averages, then
    bicubic, as ADM, LlamaGen and VAR do."""
    flips: bool = False
    """Train on each image and on its mirror image."""
    balance: float = 0.0
    """How much more often a generator sees images of small classes: 0 is each image equally often,
    1 each class; between, a class of n images comes in proportion to n to the power 1 - balance."""

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise ValueError(f"`balance` (={self.balance}) must be from 0 to 1")
        height_and_width(self.image_size)
        check_resize(self.resize)

    def open(self) -> Dataset:
        """The data set; ValueError if there is none."""
        return open_data(self.source, self.image_size, self.resize)

    def images(self, data: Dataset) -> Images:
        """The training images, with their mirror images after them if these are wanted."""
        return MirroredImages(data.images) if self.flips else data.images

    def labels(self, data: Dataset) -> Tensor:
        """The label of each of `images`, int64 ``[n]``."""
        return torch.cat([data.labels, data.labels]) if self.flips else data.labels

    def epoch(self, labels: Tensor) -> Tensor:
        """Indices of the images of one epoch: those of small classes are repeated (`balance`)."""
        counts = torch.bincount(labels)
        repeats = (counts.max() / counts.clamp_min(1)).pow(self.balance).round().long()
        return torch.arange(len(labels)).repeat_interleave(repeats[labels])
