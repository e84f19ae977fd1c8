"""Generate images of a few classes, and keep what is known of the first one after every set.

    python examples/generate.py heart cat-face --recipe random-8-cosine --seed 7

Without names, six classes of the model. Writes outputs/generate.png: a row per class, and below it
the first image appearing.
"""

import argparse
from pathlib import Path

from setar import Pipeline
from setar.pictures.sheets import labelled_rows

parser = argparse.ArgumentParser(description=__doc__)
parser.formatter_class = argparse.RawDescriptionHelpFormatter
parser.add_argument("classes", nargs="*")
parser.add_argument("--model", default="emoji", help="shipped, a model folder or a run's folder")
parser.add_argument("--recipe", help="order, sets and schedule, such as random-8-cosine")
parser.add_argument("--seed", type=int, default=0, help="image i uses seed + i")
parser.add_argument("--count", type=int, default=8, help="images per class")
parser.add_argument("--out", type=Path, default=Path("outputs/generate.png"))
options = parser.parse_args()

pipe = Pipeline.from_pretrained(options.model)
classes = options.classes or pipe.classes[:: -(-len(pipe.classes) // 6)]
sets = []  # the first image, set by set


def keep(partial):
    """Called after every set, with the images as far as they are known."""
    if partial.first == 0:  # many images are made in batches; this is the first one
        sets.append(partial.images()[0])


made = pipe(classes, recipe=options.recipe, seed=options.seed, count=options.count, on_set=keep)
rows = [(name, "", made[i * options.count :][: options.count]) for i, name in enumerate(classes)]
rows.append(("appearing", f"{len(sets)} sets", sets))
options.out.parent.mkdir(parents=True, exist_ok=True)
labelled_rows(rows, str(options.recipe or pipe.defaults.recipe)).save(options.out)
