"""Gumbel smoothing: mixtures of codes instead of codes, for smoother pictures of a VAR.

VAR's ``more_smooth``, for looking at; its authors measure FID without it. With r from 0 at the
first scale to 1 at the last, a token is

    softmax(((1 + r) * log p + g) / tau),    tau = max(0.27 * (1 - 0.95 * r), 0.005)

of the filtered distribution p and Gumbel noise g: nearly one code, and more so at finer scales.
"""

import torch
from torch import Tensor

SMALLEST = torch.finfo(torch.float32).tiny


def draw_soft(probs: Tensor, uniform: Tensor, progress: float) -> Tensor:
    """A mixture of codes for each token.

    Args:
        probs: filtered distributions ``[B, n, V]``; a code of chance 0 gets no part.
        uniform: the tokens' own numbers in [0, 1), ``[B, n]``, which decide the noise.
        progress: r, 0 at the first set and 1 at the last.

    Returns:
        Float32 ``[B, n, V]`` whose rows sum to 1.
    """
    temperature = max(0.27 * (1 - 0.95 * progress), 0.005)
    noisy = (1 + progress) * probs.log() + gumbel_noise(uniform, probs.shape[-1])
    return (noisy / temperature).softmax(-1)


def gumbel_noise(uniform: Tensor, vocabulary: int) -> Tensor:
    """Gumbel noise ``[B, n, V]``; the first number of each image, of ``[B, n]``, is its seed.

    So an image has the same noise in any batch, and whoever wants none draws none.
    """
    images = []
    for seed in uniform[:, 0].mul(2**24).long().tolist():
        generator = torch.Generator().manual_seed(seed)
        empty = torch.empty(uniform.shape[1], vocabulary, dtype=torch.float32, device="cpu")
        images.append(empty.exponential_(generator=generator))
    return -torch.stack(images).clamp_min(SMALLEST).log().to(uniform.device)
