"""Ways to take the centre of a picture at another size."""

import numpy as np
import pytest
import torch
from PIL import Image

from setar.data.base import open_data
from setar.data.crops import RESIZES, adm_crop
from setar.data.images import FolderImages, read_image
from setar.evaluation.sources import find_pictures


def noise(width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def halved(pixels):
    """Means of columns in pairs, then of rows in pairs, each rounded half up as Pillow does."""
    across = (pixels[:, ::2].astype(int) + pixels[:, 1::2] + 1) // 2
    return ((across[::2] + across[1::2] + 1) // 2).astype(np.uint8)


@pytest.mark.parametrize(("size", "side", "halvings"), [((96, 64), 16, 2), ((80, 48), 20, 1)])
def test_adm_halves_by_boxes_then_resizes_then_crops(size, side, halvings):
    """Step by step as ADM's `center_crop_arr`."""
    picture = noise(*size)
    pixels = np.asarray(picture)
    for _ in range(halvings):
        pixels = halved(pixels)
    height, width, _ = pixels.shape
    scale = side / min(height, width)
    covering = (round(width * scale), round(height * scale))
    pixels = np.asarray(Image.fromarray(pixels).resize(covering, Image.Resampling.BICUBIC))
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    expected = pixels[top : top + side, left : left + side]
    found = np.asarray(adm_crop(picture, side, side))
    assert found.shape == (side, side, 3)
    assert np.array_equal(found, expected)


def reference(image, size):
    """ADM's definition for squares, in its own words."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    image = image.resize(
        tuple(round(x * scale) for x in image.size), resample=Image.Resampling.BICUBIC
    )
    array = np.array(image)
    top, left = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[top : top + size, left : left + size]


@pytest.mark.parametrize(
    "size", [(16, 16), (17, 40), (33, 32), (31, 90), (5, 9), (129, 500), (64, 63)]
)
def test_adm_of_squares_is_the_definition(size):
    assert np.array_equal(adm_crop(noise(*size), 16, 16), reference(noise(*size), 16))


@pytest.mark.parametrize("size", [(100, 31), (9, 70), (64, 64), (1, 1)])
@pytest.mark.parametrize("asked", [(8, 24), (24, 8), (1, 16)])
def test_any_size_becomes_any_other(size, asked):
    assert adm_crop(noise(*size), *asked).size == (asked[1], asked[0])


def test_a_rectangle_is_halved_while_it_covers():
    assert np.array_equal(
        adm_crop(noise(64, 32), 8, 16),
        noise(64, 32).resize((32, 16), Image.Resampling.BOX).resize((16, 8), Image.Resampling.BOX),
    )


def test_a_folder_is_cropped_as_it_is_asked(tmp_path):
    noise(70, 50).save(tmp_path / "a.png")
    adm = torch.from_numpy(np.asarray(adm_crop(noise(70, 50), 16, 16)).copy()).permute(2, 0, 1)
    one = torch.tensor([0])
    assert torch.equal(read_image(tmp_path / "a.png", (16, 16), "adm"), adm)
    assert torch.equal(FolderImages(tmp_path, 16, "adm")[one][0], adm)
    assert torch.equal(open_data(str(tmp_path), 16, "adm").images[one][0], adm)
    assert torch.equal(find_pictures(str(tmp_path), 16, "adm").images[one][0], adm)
    assert not torch.equal(FolderImages(tmp_path, 16)[one][0], adm)


def test_an_unknown_resize_is_refused(tmp_path):
    noise(8, 8).save(tmp_path / "a.png")
    assert set(RESIZES) == {"lanczos", "adm"}
    for call in (FolderImages, open_data, find_pictures):
        with pytest.raises(
            ValueError, match=r"`resize` \(='nearest'\) must be one of lanczos, adm"
        ):
            call(str(tmp_path), 4, "nearest")
