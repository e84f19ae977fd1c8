"""Sort ImageNet's validation images into folders of their classes, and say what these are called.

    python examples/imagenet_folders.py IMAGES LISTS OUT

IMAGES has the validation images side by side. LISTS has what says which class each is of, and what
the classes are called: the devkit's data folder (ILSVRC2012_devkit_t12/data; reading its meta.mat
needs scipy) or Kaggle's LOC_synset_mapping.txt and LOC_val_solution.csv. They are moved to
OUT/val/<WordNet id>/, and OUT/train/classes.tsv and OUT/val/classes.tsv name the classes: setar
sorts folders, so that class 207 is ImageNet's class 207, the golden retriever. The same command
goes on after it was stopped.
"""

import argparse
import csv
import shutil
import sys
from pathlib import Path


def of_devkit(lists: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Names of the classes by WordNet id, and the id of each validation image by its name."""
    import scipy.io

    synsets = scipy.io.loadmat(lists / "meta.mat", squeeze_me=True)["synsets"]
    leaves = [row for row in synsets if row["num_children"] == 0]  # others are groups of classes
    by_number = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
    truth = (lists / "ILSVRC2012_validation_ground_truth.txt").read_text().split()
    images = {
        f"ILSVRC2012_val_{place:08d}": by_number[int(number)]
        for place, number in enumerate(truth, 1)
    }
    return {str(row["WNID"]): str(row["words"]) for row in leaves}, images


def of_kaggle(lists: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The same of Kaggle's lists."""
    lines = (lists / "LOC_synset_mapping.txt").read_text().splitlines()
    names = dict(line.split(" ", 1) for line in lines)
    with (lists / "LOC_val_solution.csv").open(newline="") as stream:
        images = {
            row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(stream)
        }
    return names, images


parser = argparse.ArgumentParser(description=__doc__)
parser.formatter_class = argparse.RawDescriptionHelpFormatter
parser.add_argument("images", type=Path)
parser.add_argument("lists", type=Path)
parser.add_argument("out", type=Path)
options = parser.parse_args()

known = {"meta.mat": of_devkit, "LOC_synset_mapping.txt": of_kaggle}
readers = [read for name, read in known.items() if (options.lists / name).is_file()]
if not readers:
    sys.exit(f"{options.lists} has neither {' nor '.join(known)}")
names, images = readers[0](options.lists)

for image, wnid in images.items():
    name, folder = f"{image}.JPEG", options.out / "val" / wnid
    folder.mkdir(parents=True, exist_ok=True)
    if (options.images / name).is_file():
        shutil.move(options.images / name, folder / name)
    elif not (folder / name).is_file():
        sys.exit(f"{name} is neither in {options.images} nor in {folder}")
for part in ("train", "val"):
    (options.out / part).mkdir(parents=True, exist_ok=True)
    lines = [f"{wnid}\t{name}\n" for wnid, name in sorted(names.items())]
    (options.out / part / "classes.tsv").write_text("".join(lines))
print(f"{len(images)} validation images of {len(names)} classes in {options.out / 'val'}")
