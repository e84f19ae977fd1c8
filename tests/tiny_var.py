"""VARs of random weights, with a pyramid that needs no tokenizer."""

import torch
from torch.nn import functional as F

from random_weights import randomise
from setar.models.var import VARConfig, VARTransformer, scale_recipe, square

VOCABULARY, CLASSES, DIM = 24, 5, 6
SQUARE, WIDE = square(1, 2, 3), ((1, 2), (2, 4), (3, 5))
SCALES = [SQUARE, WIDE, square(2), ((2, 1), (2, 2), (4, 2))]


class FakePyramid:
    """Sums of code vectors, spread and shrunk by nearest neighbours and means."""

    def __init__(self, scales):
        self.scales = scales
        generator = torch.Generator().manual_seed(3)
        self.table = torch.randn(VOCABULARY, DIM, generator=generator)

    @property
    def pyramid(self):
        return self

    def accumulate(self, latents, codes, scale):
        maps = self.table[codes].mT.unflatten(2, self.scales[scale])
        spread = (scale + 1) * F.interpolate(maps, self.scales[-1], mode="nearest")
        latents = spread if latents is None else latents + spread
        following = self.scales[min(scale + 1, len(self.scales) - 1)]
        return latents, F.interpolate(latents, following, mode="area").flatten(2).mT

    def next_inputs(self, codes):
        sizes, latents = [rows * columns for rows, columns in self.scales], None
        inputs = [torch.empty(len(codes), 0, DIM)]
        for scale, part in enumerate(codes.split(sizes, 1)[:-1]):
            latents, following = self.accumulate(latents, part, scale)
            inputs.append(following)
        return torch.cat(inputs, 1)

    def correct(self, features, wrong, where):
        raise NotImplementedError("it cannot encode")


def scale_plan(scales, batch=1):
    """The plan of `scale_recipe` for ``batch`` images on a grid of one row."""
    tokens = sum(rows * columns for rows, columns in scales)
    return scale_recipe(scales).plan((1, tokens), batch)


def random_var(scales=SQUARE, **changes):
    """A tiny model of random weights in evaluation mode."""
    shape = {"width": 32, "heads": 2, "layers": 2, "drop_path": 0.0, **changes}
    facts = {"vocabulary": VOCABULARY, "code_dim": DIM, "classes": CLASSES, "scales": scales}
    config = VARConfig(**facts, **shape)
    return randomise(VARTransformer(config)).eval().requires_grad_(False)


def random_generator(scales=SQUARE, **changes):
    """The same, which reads codes through a fake pyramid."""
    model = random_var(scales, **changes)
    model.attach(FakePyramid(scales))
    return model


def random_codes(batch, scales, seed=0):
    tokens = sum(rows * columns for rows, columns in scales)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (batch, tokens), generator=generator)
