"""Make a miniature of ImageNet's files: four classes, of each twelve images and three to validate.

    python examples/imagenet_miniature.py FOLDER

Into FOLDER go files of the names and the layout of the real ones, to try docs/imagenet.md with:

    ILSVRC2012_img_train.tar        a tar of tars, one for each WordNet id
    ILSVRC2012_img_val.tar          the validation images side by side
    ILSVRC2012_devkit_t12.tar.gz    meta.mat, the classes, and the classes of the validation images
    LOC_synset_mapping.txt, LOC_val_solution.csv    the same, as Kaggle has them

Sizes and aspects differ. One image is grey, one is CMYK, and one is a PNG that is called .JPEG, as
there are in the real set. Two classes are called alike, and the devkit has the classes in another
order than their WordNet ids, as there.
"""

import argparse
import io
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.io
from PIL import Image, ImageDraw

CLASSES = {  # in the order of the devkit's ILSVRC2012_ID
    "n03126707": "crane",
    "n07753592": "banana",
    "n01440764": "tench, Tinca tinca",
    "n02012849": "crane",
}
COLOURS = dict(zip(CLASSES, ["sienna", "gold", "seagreen", "slategrey"], strict=True))
TRAINING, VALIDATION = 12, 3
"""Images of a class."""


def picture(wnid: str, noise: np.random.Generator) -> Image.Image:
    """A round thing in the colour of its class, on a ground of any colour, 300 to 600 pixels."""
    width, height = noise.integers(300, 600, 2).tolist()
    ground = Image.new("RGB", (width, height), tuple(noise.integers(0, 256, 3).tolist()))
    x, y = noise.integers(20, 100, 2).tolist()
    ImageDraw.Draw(ground).ellipse((x, y, width - x, height - y), fill=COLOURS[wnid])
    return ground


def encoded(image: Image.Image, format: str = "JPEG") -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, format)
    return stream.getvalue()


def tar(files: dict[str, bytes], mode: Literal["w", "w:gz"] = "w") -> bytes:
    """The bytes of a tar of files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def meta() -> bytes:
    """The devkit's meta.mat: a row for each class, and one for a group of classes, as there are."""
    fields = [(n, "O") for n in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    rows = [(i, wnid, words, "-", 0) for i, (wnid, words) in enumerate(CLASSES.items(), 1)]
    rows.append((len(rows) + 1, "n00015388", "animal", "-", 3))
    stream = io.BytesIO()
    synsets = np.array(rows, fields)
    scipy.io.savemat(stream, {"synsets": synsets[:, None]})
    return stream.getvalue()


parser = argparse.ArgumentParser(description=__doc__)
parser.formatter_class = argparse.RawDescriptionHelpFormatter
parser.add_argument("folder", type=Path)
folder = parser.parse_args().folder
folder.mkdir(parents=True, exist_ok=True)
noise = np.random.default_rng(0)

training = {}
for wnid in sorted(CLASSES):
    images = [picture(wnid, noise) for _ in range(TRAINING)]
    files = [encoded(image) for image in images]
    if wnid == "n01440764":
        files[0], files[1] = encoded(images[0].convert("L")), encoded(images[1].convert("CMYK"))
        files[2] = encoded(images[2], "PNG")
    training[f"{wnid}.tar"] = tar({f"{wnid}_{i}.JPEG": file for i, file in enumerate(files)})
(folder / "ILSVRC2012_img_train.tar").write_bytes(tar(training))

truth = noise.permutation(np.repeat(np.arange(len(CLASSES)), VALIDATION)).tolist()
wnids = [list(CLASSES)[index] for index in truth]
names = [f"ILSVRC2012_val_{number:08d}" for number in range(1, len(truth) + 1)]
validation = {
    f"{name}.JPEG": encoded(picture(w, noise)) for name, w in zip(names, wnids, strict=True)
}
(folder / "ILSVRC2012_img_val.tar").write_bytes(tar(validation))

kit = {
    "meta.mat": meta(),
    "ILSVRC2012_validation_ground_truth.txt": "".join(f"{i + 1}\n" for i in truth).encode(),
}
kit = {f"ILSVRC2012_devkit_t12/data/{name}": content for name, content in kit.items()}
(folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(tar(kit, "w:gz"))

mapping = "".join(f"{wnid} {CLASSES[wnid]}\n" for wnid in sorted(CLASSES))
(folder / "LOC_synset_mapping.txt").write_text(mapping)
boxes = "".join(f"{n},{w} 20 20 280 280 \n" for n, w in zip(names, wnids, strict=True))
(folder / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{boxes}")
