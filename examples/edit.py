"""Edit emoji: half of one made anew, half of one as another class, and all around a middle.

    python examples/edit.py --count 6 --seed 12

Writes outputs/edit.png: each emoji, what is hidden of it, and what the model makes there instead.
"""

import argparse
from pathlib import Path

from setar import Pipeline
from setar.data import emoji
from setar.pictures.masks import Task, box_mask, outpaint, show_mask
from setar.pictures.sheets import labelled_rows, to_pil

parser = argparse.ArgumentParser(description=__doc__)
parser.formatter_class = argparse.RawDescriptionHelpFormatter
parser.add_argument("--model", default="emoji", help="a shipped model or a model folder")
parser.add_argument("--count", type=int, default=6, help="results of each kind")
parser.add_argument("--seed", type=int, default=12, help="result i uses seed + i")
options, out = parser.parse_args(), Path("outputs/edit.png")
pipe, data = Pipeline.from_pretrained(options.model), emoji.load("all")
width, height = pipe.size
left, top = width // 4, height // 4


def emoji_of(name):
    """A picture of the model's size."""
    return to_pil(data.images[[data.names.index(name)]])[0].resize(pipe.size)


def boxed(picture, box):
    """A picture whose box (left, top, right, bottom) is made anew."""
    return Task(picture, box_mask(pipe.size, box))


fruit = emoji_of("strawberry").crop((left, top, width - left, height - top))
tasks = [  # what it shows, the class to make, and where
    ("inpaint", "heart", boxed(emoji_of("blue heart"), (0, 0, width // 2, height))),
    ("another class", "face-tongue", boxed(emoji_of("grinning face"), (0, top * 2, width, height))),
    ("outpaint", "food-fruit", outpaint(fruit, pipe.size, (left, top, left, top))),
]
rows = []
for name, class_, task in tasks:
    results = pipe.edit(*task, class_, seed=options.seed, count=options.count)
    rows.append((name, class_, [task.image, show_mask(*task), *results]))
out.parent.mkdir(exist_ok=True)
labelled_rows(rows, "Made anew where it is grey", 112).save(out)
print(f"{len(tasks)} edits -> {out}")
