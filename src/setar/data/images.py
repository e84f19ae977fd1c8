"""A folder of images: one subfolder per class, decoded when a batch asks for them."""

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"}


class Images(Protocol):
    """Pictures to train on, whether they lie in one tensor or in files."""

    def __len__(self) -> int: ...

    def __getitem__(self, items: Tensor, /) -> Tensor:
        """The pictures with these indices ``[B]``: uint8 ``[B, 3, H, W]``."""
        ...


Size = int | tuple[int, ...]
"""Of pictures in pixels: the side of a square, or height and width."""


def height_and_width(size: Size) -> tuple[int, int]:
    """Both sides of a size; ValueError unless there are one or two, of at least 1 each."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        given = size if isinstance(size, int) else list(size)
        raise ValueError(f"`image_size` (={given}) must be at least 1, or [height, width] of that")
    return sides


class MirroredImages:
    """Images followed by their mirror images."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return 2 * len(self.images)

    def __getitem__(self, items: Tensor) -> Tensor:
        """The pictures with these indices ``[B]``; the second half is mirrored."""
        batch = self.images[items % len(self.images)]
        mirrored = (items >= len(self.images))[:, None, None, None]
        return torch.where(mirrored, batch.flip(-1), batch)


class ChosenImages:
    """Some of other images: those with the indices ``items`` ``[n]``, in this order."""

    def __init__(self, images: Images, items: Tensor) -> None:
        self.images, self.items = images, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, items: Tensor) -> Tensor:
        """The pictures with these indices ``[B]``: uint8 ``[B, 3, H, W]``."""
        return self.images[self.items[items]]


class FolderImages:
    """The images below a folder, as centre crops or whole, transparent ones on white.

    Hidden files and folders, whose names begin with a dot, are left out.

    Args:
        folder: has a subfolder per class with images in it (or images only: one class).
        size: side of square crops in pixels, or their (height, width); None leaves the images
            whole, which must then be of one size.

    Attributes:
        labels: int64 ``[n]``.
        classes: names of the subfolders, sorted.

    Raises:
        ValueError: the size is below 1, or the folder is missing or holds no image.
    """

    def __init__(self, folder: Path, size: Size | None) -> None:
        self.folder, self.size = Path(folder), None if size is None else height_and_width(size)
        if not self.folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        self.files, names, own = list[Path](), list[str](), self.folder.resolve().name
        for file in sorted(self.folder.rglob("*")):
            parts = file.relative_to(self.folder).parts
            hidden = any(part.startswith(".") for part in parts)
            if file.suffix.lower() in ENDINGS and not hidden and file.is_file():
                self.files.append(file)
                names.append(parts[0] if len(parts) > 1 else own)
        if not self.files:
            raise ValueError(f"{folder} holds no image ({', '.join(sorted(ENDINGS))})")
        self.classes = tuple(sorted(set(names)))
        ids = {name: index for index, name in enumerate(self.classes)}
        self.labels = torch.tensor([ids[name] for name in names])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, items: Tensor) -> Tensor:
        """The images with these indices ``[B]``: uint8 ``[B, 3, height, width]``."""
        files = [self.files[item] for item in items.tolist()]
        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(self._read, files)))

    def _read(self, file: Path) -> Tensor:
        image = read_image(file, self.size)
        size = (image.shape[2], image.shape[1])
        if self.size is None and size != self._whole_size:
            sizes = f"{file} has {size}, {self.files[0].name} {self._whole_size}"
            raise ValueError(f"whole images must be of one (width, height): {sizes}")
        return image

    @cached_property
    def _whole_size(self) -> tuple[int, int]:
        return open_image(self.files[0]).size


def read_image(file: Path, size: tuple[int, int] | None = None) -> Tensor:
    """A file as uint8 ``[3, H, W]``: whole, or its centre at (height, width) pixels."""
    image = open_image(file)
    if size is not None:
        image = centre_crop(image, *size)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def open_image(file: Path) -> Image.Image:
    """A picture from a file, of any mode, as RGB; ValueError if it cannot be read."""
    try:
        with Image.open(file) as opened:
            return to_rgb(opened)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow calls a broken file by any of these names.
        raise ValueError(f"cannot read the image {file}") from error


def centre_crop(
    image: Image.Image,
    height: int,
    width: int,
    resampling: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """The largest part of this shape in the middle, resized to ``height`` x ``width`` pixels."""
    across = min(image.width, image.height * width / height)
    down = min(image.height, image.width * height / width)
    left, top = (image.width - across) // 2, (image.height - down) // 2
    box = (left, top, left + across, top + down)
    return image.resize((width, height), resampling, box)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as RGB: transparency on white, 16-bit grey scaled to 8 bits."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode.startswith("I;16"):  # `convert` would cut everything above 255 to white
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image.convert("RGB")
