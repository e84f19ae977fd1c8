"""Pictures that move: sets that appear one after the other."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from setar.pictures.sheets import check_sheet


def save_animation(frames: Sequence[Image.Image], file: Path, seconds: float = 3.0) -> None:
    """A GIF that repeats, its frames spread over ``seconds``, and rests on the last one.

    Raises ValueError where the frames are larger than its format allows.
    """
    check_sheet(frames[0].size, file)
    each = max(40, int(1000 * seconds / len(frames)))
    durations = [each] * (len(frames) - 1) + [1500]
    first, *rest = [frame.quantize(256) for frame in frames]
    file.parent.mkdir(parents=True, exist_ok=True)
    first.save(file, save_all=True, append_images=rest, duration=durations, loop=0)
