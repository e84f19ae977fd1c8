"""What `make demo` runs: the shipped models under five recipes and by prompts, and a GIF."""

import time
from pathlib import Path

from PIL import Image

from setar import Pipeline
from setar.pictures.animations import save_animation
from setar.pictures.memory import of_rows
from setar.pictures.png import write_png
from setar.pictures.sheets import labelled_rows

OUT = Path("outputs")
EMOJI, VAR, TEXT = map(Pipeline.from_pretrained, ("emoji", "emoji-var", "emoji-text"))
ROWS = {  # label: model, recipe
    "raster-64-cosine": (EMOJI, "raster-64-cosine"),
    "random-16-cosine": (EMOJI, "random-16-cosine"),
    "random-8-cosine": (EMOJI, "random-8-cosine"),
    "next-scale": (EMOJI, "next-scale"),
    "VAR": (VAR, VAR.defaults.recipe),
}
ANIMATED = "random-16-cosine"
CLASSES = [
    "face-smiling", "cat-face", "animal-mammal", "plant-flower", "food-fruit",
    "drink", "transport-ground", "sky & weather", "heart", "country-flag",
]  # fmt: skip
PROMPTS = [
    "a red apple", "a cat face", "a rocket", "an octopus", "a rose",
    "a happy kitty", "a key, Noto style", "a key, Fluent style", "a green heart", "a crown",
]  # fmt: skip

rows, sets = [], {label: [] for label in ROWS}
for label, (model, recipe) in ROWS.items():
    # The first call also warms up: libraries are loaded and kernels chosen. The second is timed.
    model(CLASSES, recipe=recipe, seed=3, on_set=sets[label].append)
    began = time.perf_counter()
    images = model(CLASSES, recipe=recipe, seed=3)
    seconds = time.perf_counter() - began
    steps = len(sets[label])
    rows.append((label, f"{steps} steps, {seconds:.2f} s", images))
    print(f"{label:18} {steps:3} steps  {len(images)} images in {seconds:.2f} s")

steps = TEXT.defaults.recipe.set_count(TEXT.grid)
TEXT(PROMPTS[:1])  # loads the text encoder
began = time.perf_counter()
images = TEXT(PROMPTS, seed=3)
seconds = time.perf_counter() - began
print(f"{'prompts':18} {steps:3} steps  {len(images)} images in {seconds:.2f} s")
row = (str(TEXT.defaults.recipe), f"{steps} steps, {seconds:.2f} s", images)

OUT.mkdir(exist_ok=True)
above = labelled_rows(rows, "One model under four recipes, and a VAR", 112, CLASSES)
below = labelled_rows([row], "A model that reads texts", 112, PROMPTS)
sheet = Image.new("RGB", (max(above.width, below.width), above.height + below.height), "white")
for picture, top in ((above, 0), (below, above.height)):  # columns stand at the right
    sheet.paste(picture, (sheet.width - picture.width, top))
write_png(sheet, OUT / "demo.png", of_rows([images for *_, images in [*rows, row]]))
frames = [
    labelled_rows(
        [(ANIMATED, f"set {partial.step} of {partial.steps}", partial.images())], side=112
    )
    for partial in sets[ANIMATED]
]
save_animation(frames, OUT / "steps.gif")

print(f"""
{OUT}/demo.png    one row per recipe, the last one from the VAR: {", ".join(CLASSES)};
                    below it pictures of {len(PROMPTS)} prompts
{OUT}/steps.gif   the sets appearing, one after the other

Try next:
  .venv/bin/setar sample emoji --classes "?"
  .venv/bin/setar sample emoji --classes cat-face,food-fruit --recipe random-8-cosine --seed 7
  .venv/bin/setar sample emoji-text --prompt "a red apple next to a dog face" --size 32x64
  .venv/bin/setar sample emoji-var --classes cat-face,food-fruit --animate outputs/scales.gif
  .venv/bin/setar recipe roll-8-cosine --grid 8x8 --out outputs/roll.png
  .venv/bin/setar train digits""")
