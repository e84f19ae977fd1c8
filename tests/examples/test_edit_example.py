import numpy as np
from PIL import Image

from random_weights import random_fmt
from setar.pipeline import Pipeline
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig


def test_a_row_per_kind_of_edit(example, tmp_path):
    model = random_fmt(grid=(4, 4), vocabulary=17, classes=3)
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine"})
    classes = ("heart", "face-tongue", "food-fruit")
    pipe = Pipeline(model, PixelLevels(PixelLevelsConfig(17)), classes, defaults)
    pipe.save_pretrained(tmp_path / "model")
    names = example("edit.py", "--model", tmp_path / "model", "--count", 2)
    rows = {name: pictures for name, _, pictures in names["rows"]}
    assert list(rows) == ["inpaint", "another class", "outpaint"]
    places = {"inpaint": (2, 0, 4, 4), "another class": (0, 0, 4, 2), "outpaint": (1, 1, 3, 3)}
    for name, (image, shown, *results) in rows.items():
        assert len(results) == 2
        kept = image.crop(places[name])
        for picture in (shown, *results):
            assert np.array_equal(np.asarray(picture.crop(places[name])), np.asarray(kept))
            assert picture.tobytes() != image.tobytes()
    with Image.open(tmp_path / "outputs" / "edit.png") as picture:
        assert picture.height > 3 * 112
