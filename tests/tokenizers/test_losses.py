import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from setar.tokenizers import losses


@pytest.fixture
def critic() -> losses.PatchDiscriminator:
    torch.manual_seed(0)
    critic = losses.PatchDiscriminator(channels=8, layers=2)
    for parameter in critic.parameters():
        nn.init.normal_(parameter, std=0.3)
    return critic


def test_pixel_loss_is_l1_plus_l2():
    originals = torch.zeros(1, 3, 4, 4)
    assert losses.pixel_loss(originals + 0.5, originals).item() == pytest.approx(0.5 + 0.25)


class TestPerceptualLoss:
    @staticmethod
    def maps(images: Tensor) -> list[Tensor]:
        assert images.min() >= 0
        assert images.max() <= 1
        return [images, F.avg_pool2d(images, 2)]

    def test_zero_only_for_equal_features(self):
        images = torch.rand(2, 3, 4, 4) * 2 - 1
        assert losses.perceptual_loss(self.maps, images, images) == 0
        assert losses.perceptual_loss(self.maps, images, images.flip(3)) > 0.01

    def test_two_orthogonal_features(self):
        """Unit vectors at right angles are a squared distance of 2 apart, on every map."""
        red, blue = torch.full((2, 1, 3, 4, 4), -1.0)
        red[:, 0], blue[:, 2] = 1.0, 0.5
        assert losses.perceptual_loss(self.maps, red, blue).item() == pytest.approx(2.0)

    def test_gradient_reaches_the_images_alone(self):
        images, originals = torch.rand(2, 1, 3, 4, 4)
        images.requires_grad_()
        originals.requires_grad_()
        losses.perceptual_loss(self.maps, images, originals).backward()
        assert images.grad is not None
        assert images.grad.abs().max() > 0
        assert originals.grad is None


class TestPatchDiscriminator:
    @torch.inference_mode()
    def test_an_image_is_judged_alone(self, critic):
        images = torch.rand(3, 3, 16, 16) * 2 - 1
        logits = critic(images)
        assert (logits[0] - logits[1]).abs().max() > 1e-2
        torch.testing.assert_close(critic(images[1:2]), logits[1:2])

    @pytest.mark.parametrize("layers", [1, 2, 3])
    def test_one_logit_per_patch_from_the_promised_size_on(self, layers):
        critic, side = losses.PatchDiscriminator(8, layers), 3 * 2**layers
        assert critic(torch.zeros(2, 3, side, side)).shape == (2, 1, 1, 1)
        assert critic(torch.zeros(2, 3, side, 2 * side)).shape == (2, 1, 1, 4)
        with pytest.raises(RuntimeError):
            critic(torch.zeros(2, 3, side - 1, side - 1))


def test_hinge_losses():
    real, fake = torch.tensor([3.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert losses.critic_loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 1.0))
    assert losses.adversarial_loss(fake).item() == pytest.approx(1.0)


class TestAdaptiveWeight:
    def test_is_the_ratio_of_gradients(self):
        """d/dw of (3, 4) . w has norm 5, of 2 w[0] it has norm 2."""
        last = nn.Parameter(torch.ones(2))
        pixels, critic = (torch.tensor([3.0, 4.0]) * last).sum(), 2 * last[0]
        weight = losses.adaptive_weight(pixels, critic, last)
        assert weight.item() == pytest.approx(5 / 2.0001)
        assert not weight.requires_grad
        assert last.grad is None
        (pixels + critic).backward()  # the graph is still there

    def test_is_bounded(self):
        last = nn.Parameter(torch.ones(1))
        weight = losses.adaptive_weight(1e6 * last.sum(), 0 * last.sum(), last)
        assert weight == 1e4
