import pytest
import torch

from setar.tokenizers.base import to_float, to_uint8
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_codes_survive_the_round_trip(levels):
    tokenizer = PixelLevels(PixelLevelsConfig(levels))
    codes = torch.arange(levels).repeat(2, 3)
    images = tokenizer.decode(codes, (3, levels))
    assert images.shape == (2, 3, 3, levels)
    assert (images.min(), images.max()) == (-1, 1)
    assert torch.equal(tokenizer.encode(images), codes)
    assert torch.equal(tokenizer.encode(to_float(to_uint8(images))), codes)


def test_raster_order_and_the_mean_over_channels():
    tokenizer = PixelLevels(PixelLevelsConfig(5))
    image = torch.tensor([[-1.0, 0.0], [0.5, 1.0]]).expand(1, 3, 2, 2).clone()
    image[0, :, 0, 1] = torch.tensor([-0.5, 0.0, 0.5])
    assert tokenizer.encode(image).tolist() == [[0, 2, 3, 4]]


def test_what_lies_outside_is_clamped():
    tokenizer = PixelLevels(PixelLevelsConfig(5))
    image = torch.tensor([-3.0, 3.0]).expand(1, 3, 1, 2)
    assert tokenizer.encode(image).tolist() == [[0, 4]]


def test_one_token_per_pixel_and_not_a_single_weight():
    tokenizer = PixelLevels(PixelLevelsConfig(5))
    assert tokenizer.grid(3, 7) == (3, 7)
    assert tokenizer.vocabulary == 5
    assert not tokenizer.state_dict()


def test_one_level_is_no_picture():
    with pytest.raises(ValueError, match=r"`levels` \(=1\) must be at least 2"):
        PixelLevelsConfig(1)
