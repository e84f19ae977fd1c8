import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from setar.tokenizers.vqgan import PRESETS, VQGAN, Codebook, VQGANConfig


@pytest.fixture
def codebook() -> Codebook:
    """Rows of many lengths: only their directions may count."""
    torch.manual_seed(0)
    book = Codebook(50, 4)
    book.weight.data.mul_(torch.rand(50, 1) * 5 + 0.1)
    return book


def tiny(**changes: object) -> VQGAN:
    """Every weight randomised, the norms' gains too."""
    torch.manual_seed(1)
    model = VQGAN(dataclasses.replace(PRESETS["tiny"], **changes))
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


@pytest.mark.parametrize(("preset", "millions"), [("VQ-16", 72), ("VQ-8", 70)])
def test_presets_have_the_published_size(preset, millions):
    with torch.device("meta"):
        model = VQGAN(PRESETS[preset])
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


@pytest.mark.parametrize(("multipliers", "factor"), [((1, 1, 2), 4), ((1, 1, 1, 2), 8)])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 24)])
@torch.inference_mode()
def test_encode_and_decode(multipliers, factor, height, width):
    model = tiny(multipliers=multipliers)
    images = torch.rand(3, 3, height, width) * 2 - 1
    rows, columns = model.grid(height, width)
    assert (rows, columns) == (height // factor, width // factor)
    assert model.downsampling == factor
    codes = model.encode(images)
    assert codes.shape == (3, rows * columns)
    assert codes.dtype == torch.int64
    assert 0 <= codes.min() < codes.max() < model.vocabulary == 32
    assert model.decode(codes, (rows, columns)).shape == images.shape


@torch.inference_mode()
def test_training_and_use_agree():
    """What is trained reconstructs what `encode` and `decode` give, with codes in raster order."""
    model = tiny()
    images = torch.rand(2, 3, 8, 16) * 2 - 1
    quantized = model.quantizer(model.features(images))
    reconstruction = model.picture(quantized.vectors)
    codes = model.encode(images)
    assert torch.equal(quantized.codes, codes)
    torch.testing.assert_close(model.decode(codes, (2, 4)), reconstruction)
    vectors = model.codebook.lookup(codes).mT.unflatten(2, (2, 4))
    torch.testing.assert_close(quantized.vectors, vectors)
    assert not torch.allclose(model.decode(codes, (4, 2)).mT, reconstruction, atol=1e-3)


@torch.inference_mode()
def test_an_image_is_tokenized_alone():
    model = tiny()
    images = torch.rand(3, 3, 8, 8) * 2 - 1
    assert torch.equal(model.encode(images)[1:2], model.encode(images[1:2]))


def test_nearest_is_the_largest_cosine(codebook):
    features = F.normalize(torch.randn(7, 3, 4), dim=-1)
    cosines = F.cosine_similarity(features[..., None, :], codebook.weight, dim=-1)
    assert torch.equal(codebook.nearest(features), cosines.argmax(-1))


def test_codes_of_looked_up_vectors_are_the_codes(codebook):
    codes = torch.arange(50).view(2, 25)
    vectors = codebook.lookup(codes)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, 25))
    assert torch.equal(codebook.nearest(vectors), codes)


def test_new_codes_are_unit_directions():
    torch.testing.assert_close(Codebook(9, 8).weight.norm(dim=-1), torch.ones(9))


def test_gradient_passes_straight_through(codebook):
    """What arrives at the vectors leaves at the unit features, as if nothing were quantised."""
    features = torch.randn(2, 4, 3, 5, requires_grad=True)
    weights = torch.randn(2, 4, 3, 5)
    (straight,) = torch.autograd.grad((codebook(features).vectors * weights).sum(), features)
    (expected,) = torch.autograd.grad((F.normalize(features, dim=1) * weights).sum(), features)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(straight, expected)


def test_losses_pull_one_side_each(codebook):
    features = torch.randn(2, 4, 3, 5, requires_grad=True)
    _, codes, codebook_loss, commitment_loss = codebook(features)
    unit = F.normalize(features, dim=1).permute(0, 2, 3, 1).flatten(1, 2)
    expected = (unit - codebook.lookup(codes)).square().mean()
    torch.testing.assert_close(codebook_loss, expected)
    torch.testing.assert_close(commitment_loss, expected)
    both = (features, codebook.weight)
    pulled = [
        [g is not None for g in torch.autograd.grad(loss, both, allow_unused=True)]
        for loss in (codebook_loss, commitment_loss)
    ]
    assert pulled == [[False, True], [True, False]]


def test_dead_codes_restart_at_unit_features(codebook):
    features, dead = torch.randn(2, 4, 3, 5), torch.arange(1, 50, 2)
    before = codebook.weight.detach().clone()
    torch.manual_seed(0)
    codebook.restart(dead, features)
    assert torch.equal(codebook.weight[::2], before[::2])
    unit = F.normalize(features, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    distance, nearest = (codebook.weight[dead][:, None] - unit).abs().amax(2).min(1)
    assert distance.max() < 1e-6
    assert len(nearest.unique()) > 10
    assert nearest.min() < 15 <= nearest.max()  # of both images


def test_quantising_is_float32_under_autocast(codebook):
    features = torch.randn(1, 4, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        quantized = codebook(features)
    assert quantized.vectors.dtype == torch.float32
    assert torch.equal(quantized.codes, codebook(features).codes)


@pytest.mark.parametrize(("height", "width"), [(6, 8), (8, 7), (0, 8)])
def test_sides_must_divide(height, width):
    message = rf"multiples of 4 pixels, got {height}x{width}"
    with pytest.raises(ValueError, match=message):
        tiny().encode(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multipliers": ()}, "at least 1"),
        ({"multipliers": (1, 0)}, "at least 1"),
        ({"blocks": 0}, "at least 1"),
        ({"codebook_size": -3}, "at least 1"),
        ({"channels": 12}, r"`channels` \(=12\) must be a multiple of 8"),
    ],
)
def test_impossible_shapes(changes, message):
    with pytest.raises(ValueError, match=message):
        VQGANConfig(**changes)
