import pytest
import torch

from setar.data.views import VIEWS, find_views

NOISE = torch.randint(256, (2, 3, 35, 35), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("name", VIEWS)
def test_as_many_as_names_at_their_size(name):
    views = find_views(name)
    height, width = views.source(32, 32)
    cut = views.of(NOISE[..., :height, :width], 32, 32)
    assert cut.shape == (2, len(views.names), 3, 32, 32)
    assert cut.dtype == torch.uint8
    assert len({view.numpy().tobytes() for view in cut[0]}) == len(views.names)


def test_the_mirror_image_is_the_second():
    picture = NOISE[..., :32, :32]
    centre, mirrored = find_views("crop+flip").of(picture, 32, 32).unbind(1)
    assert torch.equal(centre, picture)
    assert torch.equal(mirrored, picture.flip(-1))
    assert find_views("crop+flip").upright == (0,)


def test_ten_crops_are_those_of_llamagen():
    """Its transform: ADM's crop at 1.1 times the size, then torchvision's TenCrop."""
    views = find_views("ten-crop")
    assert views.source(256, 256) == (281, 281)
    assert views.source(32, 32) == (35, 35)
    cut = views.of(NOISE, 32, 32)
    places = [(0, 0), (0, 3), (3, 0), (3, 3), (2, 2)]  # the centre: round(1.5) is 2
    for index, (top, left) in enumerate(places):
        crop = NOISE[..., top : top + 32, left : left + 32]
        assert torch.equal(cut[:, index], crop)
        assert torch.equal(cut[:, index + 5], crop.flip(-1))
    assert views.upright == (0, 1, 2, 3, 4)


def test_unknown_ones_are_named():
    with pytest.raises(ValueError, match=r"`views` \(='flip'\) must be one of crop, crop\+flip"):
        find_views("flip")
