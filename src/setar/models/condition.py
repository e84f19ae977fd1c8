"""What an image is conditioned on: its class, or nothing (for classifier-free guidance)."""

import torch
from torch import Tensor, nn


class ClassEmbedding(nn.Module):
    """One token per class, and a last row for "no class" (Ho and Salimans 2022).

    Args:
        classes: number of classes C; class ids are 0 .. C-1, and C itself means "no class".
        width: of the token.
        drop: probability that a label is dropped in training.
    """

    def __init__(self, classes: int, width: int, drop: float) -> None:
        super().__init__()
        self.classes = classes
        self.drop = drop
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        """Labels ``[B]`` to one token each, ``[B, 1, width]``; drops labels while training."""
        if self.training and self.drop > 0:
            dropped = torch.rand(labels.shape, device=labels.device) < self.drop
            labels = labels.masked_fill(dropped, self.classes)
        return self.table(labels)[:, None]

    def null(self, labels: Tensor) -> Tensor:
        """The label "no class" in the shape of ``labels``."""
        return torch.full_like(labels, self.classes)
