"""Edit an emoji: half of it made anew, half of it as another class, and all around its middle.

    python examples/edit.py --image "cat face" --as cat-face --other monkey-face

Writes outputs/edit.png: the emoji, what is hidden of it, and what the model makes there instead.
"""

import argparse
from pathlib import Path

from setar import Pipeline
from setar.data import emoji
from setar.pictures.masks import box_mask, outpaint, show_mask
from setar.pictures.sheets import labelled_rows, to_pil

parser = argparse.ArgumentParser(description=__doc__)
parser.formatter_class = argparse.RawDescriptionHelpFormatter
parser.add_argument("--model", default="emoji", help="a shipped model or a model folder")
parser.add_argument("--image", default="grinning face", help="name of an emoji")
parser.add_argument("--as", dest="own", default="face-smiling", help="its class")
parser.add_argument("--other", default="face-negative", help="what to turn its mouth into")
parser.add_argument("--count", type=int, default=6, help="results of each kind")
options, out = parser.parse_args(), Path("outputs/edit.png")
pipe, data = Pipeline.from_pretrained(options.model), emoji.load("all")
picture = to_pil(data.images[[data.names.index(options.image)]])[0].resize(pipe.size)
width, height = pipe.size
right, bottom = (width // 2, 0, width, height), (0, height // 2, width, height)
left, top = width // 4, height // 4
middle = picture.crop((left, top, width - left, height - top))
tasks = [
    ("inpaint", options.own, picture, box_mask(pipe.size, right)),
    ("another class", options.other, picture, box_mask(pipe.size, bottom)),
    ("outpaint", options.own, *outpaint(middle, pipe.size, (left, top, left, top))),
]
rows = []
for name, class_, image, mask in tasks:
    results = pipe.edit(image, mask, class_, count=options.count)
    rows.append((name, class_, [image, show_mask(image, mask), *results]))
out.parent.mkdir(exist_ok=True)
labelled_rows(rows, "Made anew where it is grey", 112).save(out)
print(f"{len(tasks)} edits of {options.image!r} -> {out}")
