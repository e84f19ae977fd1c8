"""What a tokenizer is trained on beside the codebook: pixels, features, a critic.

VQGAN (Esser et al. 2021), section 3.2 and equations 6-7, with the hinge loss of LlamaGen.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FeatureMaps = Callable[[Tensor], Sequence[Tensor]]
"""Images ``[B, 3, H, W]`` in [0, 1] to a list of maps ``[B, C, h, w]``, differentiable."""


def pixel_loss(images: Tensor, originals: Tensor) -> Tensor:
    """L1 + L2: the first keeps edges sharp, the second is what PSNR measures."""
    return F.l1_loss(images, originals) + F.mse_loss(images, originals)


def perceptual_loss(maps: FeatureMaps, images: Tensor, originals: Tensor) -> Tensor:
    """Mean squared distance of channel-normalised feature maps (as in LPIPS, without its weights).

    Images are ``[B, 3, H, W]`` in [-1, 1].
    """
    ours = maps((images + 1) / 2)
    with torch.no_grad():
        theirs = maps((originals + 1) / 2)
    distances = [
        (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean()
        for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack(distances).mean()


class PatchDiscriminator(nn.Module):
    """PatchGAN: ``[B, 3, H, W]`` to one realness logit per patch ``[B, 1, h, w]``."""

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [channels * min(2**i, 8) for i in range(layers + 1)]
        self.input = nn.Conv2d(3, channels, 4, stride=2, padding=1)
        self.hidden = nn.Sequential()
        for index, (before, width) in enumerate(pairwise(widths)):
            stride = 1 if index == layers - 1 else 2
            self.hidden.append(nn.Conv2d(before, width, 4, stride, padding=1, bias=False))
            # Groups, not batches: a patch's logit must not depend on the other images.
            self.hidden.append(nn.GroupNorm(8, width))
            self.hidden.append(nn.LeakyReLU(0.2))
        self.output = nn.Conv2d(widths[-1], 1, 4, padding=1)
        self.apply(_initialise)

    def compile(self, *args: Any, **options: Any) -> None:
        """It stays as it is: compiled, so small a network is slower."""

    def forward(self, images: Tensor) -> Tensor:
        """Judge images in [-1, 1]; at least 3 * 2 ** layers pixels per side."""
        return self.output(self.hidden(F.leaky_relu(self.input(images), 0.2))).float()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's logits."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adversarial_loss(fake: Tensor) -> Tensor:
    """Hinge loss of the generator: make the critic say real."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Equation 7: the ratio of both losses' gradients at the decoder's last layer, at most 1e4."""
    (pixels,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (critic,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return (pixels.norm() / (critic.norm() + 1e-4)).clamp(0.0, 1e4).detach()
