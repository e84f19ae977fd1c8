import pytest
import torch

from setar.data import digits
from setar.evaluation.distances import frechet_distance
from setar.features.base import extract_features, make_extractor
from setar.features.digits import WEIGHTS, DigitFeatures
from setar.tokenizers.base import decode_codes
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig


def pictures(split):
    """The digits as the library samples and saves them: uint8 [n, 3, 8, 8]."""
    data = digits.load(split)
    return decode_codes(PixelLevels(PixelLevelsConfig()), data.codes, digits.GRID), data.labels


@pytest.fixture(scope="module")
def everything():
    return pictures("all")


@pytest.fixture(scope="module")
def features(everything):
    return extract_features(DigitFeatures(), everything[0]).pooled


def test_the_weights_are_small():
    assert WEIGHTS.stat().st_size < 150_000


def test_heldout_digits_are_recognised():
    images, labels = pictures("heldout")
    features = make_extractor("digits")(images)
    assert features.pooled.shape == (180, 64)
    assert features.spatial is None
    assert torch.allclose(features.probabilities.sum(1), torch.ones(180), atol=1e-5)
    assert (features.probabilities.argmax(1) == labels).float().mean() >= 0.97


def test_every_feature_says_something(features):
    assert features.std(0).min() > 0.1


def test_halves_of_the_digits_are_near_and_wrong_pictures_far(everything, features):
    images, labels = everything
    first, second = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).chunk(2)

    def distance(pictures):
        return frechet_distance(DigitFeatures()(pictures).pooled, features[second])

    halves = frechet_distance(features[first], features[second])
    assert 1 < halves < 8
    noise = torch.randint(256, images.shape, generator=torch.Generator().manual_seed(0)).byte()
    assert distance(noise) > 50 * halves
    assert distance(images.flip(2)) > 10 * halves
    assert distance(255 - images) > 10 * halves
    assert distance(images[labels < 5]) > 5 * halves


def test_colour_counts_as_its_mean():
    grey = torch.full((1, 3, 8, 8), 100).byte()
    coloured = grey + torch.tensor([-50, 0, 50])[:, None, None].byte()
    extractor = DigitFeatures()
    assert torch.equal(extractor(grey).pooled, extractor(coloured).pooled)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="digits are 8x8 pixels, got 8x16"):
        DigitFeatures()(torch.zeros(1, 3, 8, 16).byte())
