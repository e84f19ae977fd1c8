"""The data set `styles-tiny`: 200 drawings of the data set `styles` at 32x32 pixels, for tests.

`experiments/build_styles_tiny.py` made them: 33 names in all six styles and one in two of them,
spread evenly over the alphabet. `LICENSES.md` beside the pictures says whose they are.
"""

from pathlib import Path

import torch

from setar.data.base import Dataset, Split, check_split
from setar.data.captions import load as load_folder

FOLDER = Path(__file__).parent / "assets" / "styles-tiny"


def load(split: Split = "train") -> Dataset:
    """Return one split of the drawings in memory; their classes are the six styles.

    Of ``all``, those that are held out come last.

    Raises:
        ValueError: for a split other than `train`, `heldout` and `all`.
    """
    check_split(split)
    data = load_folder(FOLDER, None, "lanczos")
    held = data.held_out()
    assert held is not None
    parts = {"train": [data], "heldout": [held], "all": [data, held]}[split]
    out = held if split == "train" else None
    return Dataset(
        torch.cat([part.images[torch.arange(len(part))] for part in parts]),
        torch.cat([part.labels for part in parts]),
        data.classes,
        names=[path.removesuffix(".png") for part in parts for path in part.paths],
        captions=[texts for part in parts for texts in part.captions],
        meta={name: [text for part in parts for text in part.meta[name]] for name in data.meta},
        heldout=held.images[torch.arange(len(held))] if out else None,
        heldout_labels=held.labels if out else None,
        heldout_captions=held.captions if out else (),
        heldout_meta=held.meta if out else {},
    )
