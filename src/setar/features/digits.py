"""A small classifier of 8x8 digits, whose last features measure pictures of digits.

Its weights come with the package. `experiments/ship_digit_classifier.py` made them from the split
`train` of `setar.data.digits`, and prints what they are worth: 177 of the 180 held-out digits are
recognised, and two random halves of all digits are 3.3 apart in Frechet distance.
"""

from functools import cache
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from setar.features.base import FeatureExtractor, Features, check_images, without_argument

WEIGHTS = Path(__file__).with_name("digits.safetensors")
SIZE = 8
FEATURES = 64
CLASSES = 10


class DigitClassifier(nn.Module):
    """Three convolutions and two linear layers, 40,394 parameters; random weights when made."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(256, FEATURES),
            nn.GELU(),
        )
        self.classifier = nn.Linear(FEATURES, CLASSES)

    @classmethod
    def pretrained(cls) -> Self:
        """The classifier with the weights of the package, in evaluation mode, without gradients."""
        network = cls()
        network.load_state_dict(load_file(WEIGHTS))
        return network.requires_grad_(False).eval()

    def forward(self, grey: Tensor) -> Tensor:
        """Grey values float [B, 8, 8] in 0..1 to features [B, 64]."""
        return self.trunk(grey[:, None])


class DigitFeatures(FeatureExtractor):
    """The digit classifier as a feature extractor; its probabilities are of the digits 0..9."""

    name = "digits"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = device
        self.network = _network(str(device))

    @classmethod
    def make(cls, argument: str, device: str | torch.device) -> Self:
        """``digits``; ValueError if it is given an argument."""
        without_argument("digits", argument)
        return cls(device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features [B, 64] and probabilities [B, 10] of uint8 images [B, 3, 8, 8].

        A pixel counts as the mean of its channels. Raises ValueError for images of another size.
        """
        check_images(images)
        if images.shape[2:] != (SIZE, SIZE):
            raise ValueError(f"digits are 8x8 pixels, got {images.shape[2]}x{images.shape[3]}")
        grey = images.to(self.device).float().mean(dim=1) / 255
        pooled = self.network(grey)
        probabilities = self.network.classifier(pooled).softmax(dim=1)
        return Features(pooled.cpu(), None, probabilities.cpu())


@cache
def _network(device: str) -> DigitClassifier:
    return DigitClassifier.pretrained().to(device)
