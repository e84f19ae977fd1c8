"""A folder of images: one subfolder per class, decoded when a batch asks for them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"}


class Images(Protocol):
    """Pictures to train on, whether they lie in one tensor or in files."""

    def __len__(self) -> int: ...

    def __getitem__(self, items: Tensor, /) -> Tensor:
        """The pictures with these indices ``[B]``: uint8 ``[B, 3, H, W]``."""
        ...


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


class FolderImages:
    """Square centre crops of the images below a folder.

    Args:
        folder: has a subfolder per class with images in it (or images only: one class).
        size: side in pixels.

    Attributes:
        labels: int64 ``[n]``.
        classes: names of the subfolders, sorted.

    Raises:
        ValueError: the folder is missing or holds no image.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = Path(folder), size
        if size < 1:
            raise ValueError(f"`image_size` (={size}) must be at least 1")
        if not self.folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        found = sorted(f for f in self.folder.rglob("*") if f.suffix.lower() in ENDINGS)
        if not found:
            endings = ", ".join(sorted(ENDINGS))
            raise ValueError(f"{folder} holds no image ({endings})")
        names = [file.relative_to(self.folder).parts[0] for file in found]
        names = [name if (self.folder / name).is_dir() else self.folder.name for name in names]
        self.files = found
        self.classes = tuple(sorted(set(names)))
        self.labels = torch.tensor([self.classes.index(name) for name in names])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, items: Tensor) -> Tensor:
        """The images with these indices ``[B]``: uint8 ``[B, 3, size, size]``."""
        files = [self.files[item] for item in items.tolist()]
        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(self._read, files)))

    def _read(self, file: Path) -> Tensor:
        try:
            with Image.open(file) as opened:
                image = opened.convert("RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise ValueError(f"cannot read the image {file}") from error
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        pixels = image.resize((self.size, self.size), Image.Resampling.LANCZOS, box)
        return torch.from_numpy(np.asarray(pixels).copy()).permute(2, 0, 1)
