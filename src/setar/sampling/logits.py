"""From logits to tokens: temperature, top-k, top-p, min-p, and inverse-CDF sampling.

Pure functions over the last axis. A filtered code gets probability 0 and is never drawn.
"""

import torch
from torch import Tensor

COLDEST = 1e-20
"""Temperatures below this count as 0: float32 could not hold the quotient of a logit."""


def probabilities(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> Tensor:
    """Softmax of filtered logits ``[..., V]``, in float32; rows sum to 1.

    Args:
        logits: guided logits; filters come after guidance.
        temperature: at least 0; below 1 sharper, 0 keeps the likeliest code alone.
        top_k: keep the k likeliest codes (and ties with the last of them); 0 keeps all.
        top_p: in (0, 1]; keep the smallest set of likeliest codes with at least this probability.
        min_p: in [0, 1]; keep codes at least this fraction as likely as the likeliest one.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_filters(temperature, top_k, top_p, min_p)
    logits = logits.float()
    if temperature < COLDEST:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, best, 1.0)
    probs = (logits / temperature).softmax(-1)
    if 0 < top_k < probs.shape[-1]:
        probs = _keep(probs, probs >= probs.topk(top_k).values[..., -1:])
    if top_p < 1:
        probs = _keep(probs, _nucleus(probs, top_p))
    if min_p > 0:
        probs = _keep(probs, probs >= min_p * probs.amax(-1, keepdim=True))
    return probs


def check_filters(temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    """Raise ValueError, naming the first argument that is out of its range."""
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"`temperature` (={temperature}) must be a number of at least 0")
    if top_k < 0 or top_k != int(top_k):
        raise ValueError(f"`top_k` (={top_k}) must be a whole number of at least 0 (0: off)")
    if not 0 < top_p <= 1:
        raise ValueError(f"`top_p` (={top_p}) must be above 0 and at most 1 (1: off)")
    if not 0 <= min_p <= 1:
        raise ValueError(f"`min_p` (={min_p}) must be from 0 to 1 (0: off)")


def _keep(probs: Tensor, kept: Tensor) -> Tensor:
    probs = probs * kept
    return probs / probs.sum(-1, keepdim=True)


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    """True for codes of which the likelier ones together have less than ``top_p``."""
    ordered, index = probs.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probs, dtype=torch.bool).scatter_(-1, index, before < top_p)


def draw(probs: Tensor, uniform: Tensor) -> Tensor:
    """The code at which the cumulated probability ``[..., V]`` passes ``uniform`` ``[...]``.

    Inverse-CDF sampling needs one number in [0, 1) per token, so a token's noise can belong to its
    position in its own image, whatever the batch and the order of generation.
    """
    cumulated = probs.double().cumsum(-1)
    threshold = uniform.double()[..., None] * cumulated[..., -1:]
    codes = torch.searchsorted(cumulated, threshold, right=True)[..., 0]
    # Rounding may leave the threshold at the very end: take the last possible code there.
    possible = torch.arange(probs.shape[-1], device=probs.device).where(probs > 0, -1)
    return torch.minimum(codes, possible.amax(-1))
