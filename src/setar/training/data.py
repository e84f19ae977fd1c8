"""What is trained on: the ``data`` table of a config, and the pictures that it names."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from setar.data.base import DATASETS, Dataset, kind_of_source, open_data
from setar.data.codes import read_encoding
from setar.data.crops import Resize, check_resize
from setar.data.images import Images, MirroredImages, Size, height_and_width
from setar.data.scenes import Scenes, ScenesConfig
from setar.data.views import find_views
from setar.registry import did_you_mean, printable
from setar.run_folder import is_model
from setar.training.heldout import held_beside, hold_out
from setar.training.report import say
from setar.training.survey import Survey, readable, survey

SIZE = 256
"""Of the pictures that a tokenizer is trained on, in pixels, unless a config says it."""

MANY = 10_000
"""Images whose reading or encoding takes so long that it is announced."""

LARGEST = 4096
"""The longest side that images may have, in pixels: a million tokens of 4x4 pixels."""


@dataclass(frozen=True)
class DataConfig:
    """What is trained on."""

    source: str
    """A data set by name (``emoji`` and ``digits`` come with the package); a folder with one
    subfolder of images per class, with or without captions; a parquet file or WebDataset tar, or a
    folder of these; or, for generators, a folder of codes that ``setar encode`` wrote. Of codes,
    size, crops, mirror images and what is held out were decided when they were encoded."""
    image_size: Size | None = None
    """Of the centre crops from a folder, in pixels: the side of a square, or [height, width]. Left
    out, a generator takes the size that its tokenizer was trained at, and a tokenizer 256. The
    built-in sets have their own size."""
    resize: Resize = "lanczos"
    """How these crops are made: ``lanczos`` at once, or ``adm``: halves by box averages, then
    bicubic, as ADM, LlamaGen and VAR do."""
    flips: bool = False
    """Train on each image and on its mirror image."""
    balance: float = 0.0
    """How much more often a generator sees images of small classes: 0 is each image equally often,
    1 each class; between, a class of n images comes in proportion to n to the power 1 - balance."""
    heldout: float = 0.0
    """Share of the images, 0 to 0.5, that are never trained on: what the model makes of them is
    measured at every checkpoint. A hash of a file's name decides, so images that are added later
    do not change it. The built-in sets have held-out images of their own."""
    validation: str = ""
    """Pictures of their own, as ``source``, in the place of a share that is held out: a class there
    is called as one of those that are trained on. Empty: none."""
    scenes: ScenesConfig | None = None
    """Of captioned square drawings: how often one, two and four of them are shown as one picture.
    ``balance`` then is over the variants of a name, such as skin tones."""
    skip_broken: bool = False
    """Leave out files that cannot be read, and list them in ``left-out.txt`` in the folder of the
    run, instead of refusing to start."""

    def __post_init__(self) -> None:
        check_resize(self.resize)
        if not 0 <= self.balance <= 1:
            raise ValueError(f"`balance` (={self.balance}) must be from 0 to 1")
        if not 0 <= self.heldout <= 0.5:
            raise ValueError(
                f"`heldout` (={self.heldout}) must be from 0 to 0.5: the share that is held out"
            )
        if self.heldout and self.validation:
            raise ValueError("give `heldout` or `validation`, not both")
        if self.image_size is not None and max(height_and_width(self.image_size)) > LARGEST:
            raise ValueError(
                f"`image_size` (={self.image_size}) must not exceed {LARGEST} pixels a side: no "
                "tokenizer has so many tokens"
            )

    @property
    def of_a_folder(self) -> bool:
        """Whether the images are files of the user's; a data set by name has its own size."""
        return self.source.partition(":")[0] not in DATASETS

    @property
    def of_codes(self) -> bool:
        """Whether the source is a folder of codes."""
        return self.of_a_folder and kind_of_source(Path(self.source)) == "codes"

    def sized(self, default: Size | None = None) -> "DataConfig":
        """The same with its `image_size` written in one way, where it means something.

        ``default`` takes the place of a size that was left out; None is `SIZE`.
        """
        if not self.of_a_folder:
            return replace(self, image_size=None)
        if self.of_codes:
            return self._as_encoded()
        height, width = height_and_width(self.image_size or default or SIZE)
        return replace(self, image_size=height if height == width else (height, width))

    def open(self) -> Dataset:
        """The data set; ValueError if there is none."""
        if self.of_a_folder and (kind := _other_than_pictures(self.source)):
            raise ValueError(
                "`data.source` names a data set, a folder with a subfolder of images per class, a "
                "parquet file or a tar; "
                f"{self.source!r} is {kind}"
            )
        if self.of_a_folder and not os.path.exists(self.source):
            hint = did_you_mean(self.source, DATASETS)
            raise ValueError(
                f"{printable(self.source)} does not exist: no folder, nor a data set; {hint}"
            )
        size = self.image_size or (None if self.of_codes else SIZE)
        data = open_data(self.source, size, self.resize)
        if not self.validation:
            return data
        beside = replace(self, source=self.validation, validation="")
        if not (self.of_a_folder and beside.of_a_folder) or beside.of_codes:
            raise ValueError(
                f"`data.validation` (={self.validation!r}) must be pictures in files, and those of "
                f"{self.source!r} too"
            )
        return held_beside(data, beside.open(), self.validation)

    def _as_encoded(self) -> "DataConfig":
        """The same with what a folder of codes decides.

        Raises:
            ValueError: something is asked for that it has not got.
        """
        encoding = read_encoding(Path(self.source))
        if self.scenes is not None:
            raise ValueError("`data.scenes` needs pictures; these are codes")
        views = find_views(encoding.views)
        if self.flips and len(views.upright) == len(views.names):
            raise ValueError(
                f"`data.flips`: {self.source!r} has no mirror images: encode with --views crop+flip"
            )
        if self.heldout and "heldout" not in encoding.pictures:
            raise ValueError(
                f"`data.heldout`: {self.source!r} has none: encode with --heldout {self.heldout:g}"
            )
        if self.validation:
            raise ValueError(
                f"`data.validation`: {self.source!r} holds codes: encode with --validation "
                f"{self.validation}"
            )
        height, width = height_and_width(self.image_size or encoding.resolutions[0][0])
        size = height if height == width else (height, width)
        as_was = {"resize": encoding.resize, "flips": False, "skip_broken": True}
        return replace(self, image_size=size, **as_was)

    def size(self, data: Dataset | None = None) -> tuple[int, int]:
        """Height and width in pixels of its images, ``data`` if they are open already."""
        if self.of_a_folder:
            return height_and_width(self.image_size or self.sized().image_size or SIZE)
        height, width = (data or self.open()).images[torch.tensor([0])].shape[-2:]
        return height, width

    def prepare(
        self, data: Dataset, folder: Path, speak: bool = True
    ) -> tuple[Dataset, Survey | None]:
        """The data set as it is trained on, and what was found if it lies in a folder.

        What cannot be read is left out if that is wished, and the held-out images are set aside.

        Args:
            data: what `open` gave.
            folder: of the run, where a resumed one finds what it left out at its start.
            speak: list files that cannot be read, and show a bar on a terminal.

        Raises:
            ValueError: a file cannot be read, and those are not to be skipped.
        """
        found = None
        if self.of_a_folder and data.paths:
            if speak and len(data) > MANY:
                say(f"reading {len(data)} images, to find those that cannot be read")
            found = survey(data, self.size(), speak and sys.stderr.isatty())
            data = readable(data, found, self.skip_broken, folder, speak)
        if self.heldout and data.heldout is None:
            data = hold_out(data, self.heldout)
        return data, found

    def images(self, data: Dataset) -> Images:
        """The training images, with their mirror images after them if these are wanted."""
        return MirroredImages(data.images) if self.flips else data.images

    def as_scenes(self, data: Dataset, seed: int) -> Scenes | None:
        """Scenes of the training images; None if there are to be none."""
        return None if self.scenes is None else Scenes(data, self.scenes, self.balance, seed)

    def labels(self, data: Dataset) -> Tensor:
        """The label of each of `images`, int64 ``[n]``."""
        return torch.cat([data.labels, data.labels]) if self.flips else data.labels

    def epoch(self, labels: Tensor) -> Tensor:
        """Indices of the images of one epoch: those of small classes are repeated (`balance`)."""
        counts = torch.bincount(labels)
        repeats = (counts.max() / counts.clamp_min(1)).pow(self.balance).round().long()
        return torch.arange(len(labels)).repeat_interleave(repeats[labels])


def _other_than_pictures(source: str) -> str:
    """What a text names that cannot be a folder of pictures; empty if it may be one."""
    if not source:
        return "empty"
    if os.path.isfile(source) and kind_of_source(Path(source)) == "folder":
        return "a file"
    return "a model" if is_model(source) else ""
