import math

import pytest
import torch
from torch import nn

from setar.tokenizers import autoencoder


def randomised(module: nn.Module) -> nn.Module:
    """Norms' gains too, so that no part is left out unnoticed."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.mark.parametrize(("multipliers", "factor"), [((1,), 1), ((1, 2, 1), 4), ((1, 1, 2, 1), 8)])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 24)])
@torch.inference_mode()
def test_encoder_and_decoder_shapes(multipliers, factor, height, width):
    images = torch.randn(2, 3, height, width)
    latents = autoencoder.Encoder(8, multipliers, 1, 5)(images)
    assert latents.shape == (2, 5, height // factor, width // factor)
    assert autoencoder.Decoder(8, multipliers, 1, 5)(latents).shape == images.shape


def test_decoder_has_one_block_more_and_both_attend_at_the_coarsest_level_only():
    encoder, decoder = autoencoder.Encoder(8, (1, 2), 2, 4), autoencoder.Decoder(8, (1, 2), 2, 4)
    assert [len(level.residual) for level in encoder.levels] == [2, 2]
    assert [len(level.residual) for level in decoder.levels] == [3, 3]

    def attends(level: nn.Module) -> bool:
        return any(isinstance(m, autoencoder.SpatialAttention) for m in level.modules())

    assert [attends(level) for level in encoder.levels] == [False, True]
    assert [attends(level) for level in decoder.levels] == [True, False]


@torch.inference_mode()
def test_attention_is_softmax_of_scaled_products():
    attention = randomised(autoencoder.SpatialAttention(8))
    x = torch.randn(2, 8, 3, 5)
    hidden = attention.norm(x)
    query, key, value = (
        f(hidden).flatten(2) for f in (attention.query, attention.key, attention.value)
    )
    scores = torch.einsum("bcq,bck->bqk", query, key) / math.sqrt(8)
    mixed = torch.einsum("bqk,bck->bcq", scores.softmax(-1), value).reshape(x.shape)
    expected = x + attention.output(mixed)
    assert not torch.allclose(expected, x, atol=1e-2)
    torch.testing.assert_close(attention(x), expected)


@torch.inference_mode()
def test_downsampling_pads_right_and_bottom_only():
    """A window that starts at pixel (2, 4) sees exactly that pixel in its first cell."""
    down = autoencoder.Downsample(1)
    down.conv.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3) + 1)
    down.conv.bias.zero_()
    image = torch.zeros(1, 1, 6, 8)
    image[0, 0, 2, 4] = 1.0
    output = down(image)
    assert output.shape == (1, 1, 3, 4)
    assert output[0, 0, 1, 2] == 1.0
    assert output[0, 0, 0, 1] == 9.0


@torch.inference_mode()
def test_upsampling_repeats_pixels():
    up = autoencoder.Upsample(1)
    nn.init.dirac_(up.conv.weight)
    up.conv.bias.zero_()
    image = torch.randn(1, 1, 2, 3)
    expected = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(up(image), expected)


def test_shortcut_is_a_convolution_only_where_the_width_changes():
    same, wider = autoencoder.ResidualBlock(8, 8), autoencoder.ResidualBlock(8, 16)
    assert isinstance(same.shortcut, nn.Identity)
    assert wider.shortcut.weight.shape == (16, 8, 1, 1)
    x = torch.randn(1, 8, 4, 4)
    nn.init.zeros_(same.conv2.weight)
    nn.init.zeros_(same.conv2.bias)
    assert torch.equal(same(x), x)
    assert wider(x).shape == (1, 16, 4, 4)


@pytest.mark.parametrize(("channels", "groups"), [(8, 8), (24, 8), (32, 32), (128, 32)])
def test_group_norm_has_the_published_groups_where_it_can(channels, groups):
    norm = autoencoder.group_norm(channels)
    assert (norm.num_groups, norm.eps) == (groups, 1e-6)


def test_psnr_of_known_errors():
    """An error of 0.2 everywhere on a range of 2: 10 log10(4 / 0.04) = 20 dB; 0.02: 40 dB."""
    originals = torch.rand(3, 3, 8, 8) - 0.5
    error = torch.tensor([0.2, -0.02, 0.0]).view(3, 1, 1, 1)
    decibels = autoencoder.psnr(originals + error, originals)
    torch.testing.assert_close(decibels[:2], torch.tensor([20.0, 40.0]), atol=1e-3, rtol=0)
    assert 100 < decibels[2] < 130
