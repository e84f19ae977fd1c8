"""Train a VAR on your own pictures: first a tokenizer, then the generator, then a grid of samples.

    python examples/train_on_folder.py PICTURES --steps 2000

PICTURES has a subfolder of images per class (or images only: one class). Stop it when you like: the
same command goes on where it was. `setar sample` takes the folder outputs/mine/generator.
"""

import argparse
from pathlib import Path

from setar import Pipeline, train
from setar.pictures.sheets import labelled_rows

parser = argparse.ArgumentParser(description=__doc__)
parser.formatter_class = argparse.RawDescriptionHelpFormatter
parser.add_argument("pictures", type=Path)
parser.add_argument("--steps", type=int, default=2000, help="of each of the two trainings")
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--out", type=Path, default=Path("outputs/mine"))
options = parser.parse_args()

shared = {
    "data": {"source": str(options.pictures), "image_size": 32, "flips": True},
    "optimizer": {"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 50, "ema": 0.995},
    "loop": {"steps": options.steps, "batch_size": options.batch, "checkpoint_every": 100},
}
shape = {"family": "multiscale", "channels": 24, "multipliers": [1, 1, 2], "blocks": 1, "phis": 6,
         "codebook_size": 512, "codebook_dim": 16, "cosine": True}  # fmt: skip
run = {"task": "tokenizer", "tokenizer": shape, **shared}
tokenizer = train(run, options.out / "tokenizer", resume=True)
run = {"task": "generator", "model": {"family": "var", "preset": "emoji"},
       "tokenizer": str(tokenizer), "self_correction": 0.3, **shared}  # fmt: skip
pipe = Pipeline.from_pretrained(train(run, options.out / "generator", resume=True))
rows = [(name, "", pipe(name, guidance=1.5, count=8)) for name in pipe.classes[:12]]
labelled_rows(rows, f"{options.steps} steps").save(options.out / "samples.png")
