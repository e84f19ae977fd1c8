"""From logits to tokens: temperature, top-k, top-p, min-p, and inverse-CDF sampling.

Pure functions over the last axis. A filtered code gets probability 0 and is never drawn.

Sums of probabilities are those of whole numbers (`_counts`): they are exact, so that a row gives
the same on every device and among any other rows, and no device needs float64.
"""

import math

import torch
from torch import Tensor

from setar.numbers import as_real, as_whole

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
        top_p: in (0, 1]; keep the smallest set of likeliest codes with at least this probability:
            a code stays if those before it have less. So do VAR and transformers; LlamaGen also
            keeps the code after those that have exactly ``top_p``.
        min_p: in [0, 1]; keep codes at least this fraction as likely as the likeliest one.

    A row that is no distribution (see `is_distribution`) is NaN whatever the arguments.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_filters(temperature, top_k, top_p, min_p)
    logits = logits.float()
    if temperature < COLDEST:
        best = logits.max(-1, keepdim=True)
        cold = torch.zeros_like(logits).scatter_(-1, best.indices, 1.0)
        return cold + 0 * best.values  # NaN if that is no number
    probs = (logits if temperature == 1 else logits / temperature).softmax(-1)
    if 0 < top_k < probs.shape[-1]:
        probs = _keep(probs, probs >= probs.topk(top_k).values[..., -1:])
    if top_p < 1:
        probs = _keep(probs, _nucleus(probs, top_p))
    if min_p > 0:
        probs = _keep(probs, probs >= min_p * probs.amax(-1, keepdim=True))
    return probs


def is_distribution(logits: Tensor) -> Tensor:
    """Whether every row ``[..., V]`` has a softmax: no NaN, and a largest number that is finite.

    Minus infinity is a code that cannot be. The answer is a bool of one element on the device.
    """
    return logits.amax(-1).isfinite().all()  # the largest of a row with NaN is NaN


def check_filters(temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    """Raise ValueError, naming the first argument that is out of its range."""
    heat, share, least = map(as_real, (temperature, top_p, min_p))
    if heat is None or heat < 0:
        raise ValueError(f"`temperature` (={temperature}) must be a number of at least 0")
    if as_whole(top_k) is None or top_k < 0:
        raise ValueError(f"`top_k` (={top_k}) must be a whole number of at least 0 (0: off)")
    if share is None or not 0 < share <= 1:
        raise ValueError(f"`top_p` (={top_p}) must be above 0 and at most 1 (1: off)")
    if least is None or not 0 <= least <= 1:
        raise ValueError(f"`min_p` (={min_p}) must be from 0 to 1 (0: off)")


def _keep(probs: Tensor, kept: Tensor) -> Tensor:
    probs = probs * kept
    return probs / probs.sum(-1, keepdim=True)


def _bits(codes: int) -> int:
    """So many that ``codes`` probabilities together fit 63 bits."""
    return 62 - codes.bit_length()


def _counts(probs: Tensor) -> Tensor:
    """Probabilities ``[..., V]`` as whole numbers, `_bits` for 1."""
    return (probs.float() * 2.0 ** _bits(probs.shape[-1])).long()


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    """True for codes of which the likelier ones together have less than ``top_p``."""
    ordered, index = probs.sort(dim=-1, descending=True, stable=True)
    counts = _counts(ordered)
    kept = counts.cumsum(-1) - counts < math.ceil(top_p * 2.0 ** _bits(probs.shape[-1]))
    return torch.zeros_like(probs, dtype=torch.bool).scatter_(-1, index, kept)


def draw(probs: Tensor, uniform: Tensor) -> Tensor:
    """The code at which the cumulated probability ``[..., V]`` passes ``uniform`` ``[...]``.

    Inverse-CDF sampling needs one number in [0, 1) per token, so a token's noise can belong to its
    position in its own image, whatever the batch and the order of generation. Of that number 24
    bits count, which are all that `torch.rand` gives. A row of NaN, or of nothing that can be told
    from 0, gives -1, which is no code.
    """
    cumulated = _counts(probs).cumsum_(-1)
    # A number that is rounded up to 1 is at the very end, where the last possible code is.
    noise = (uniform.float() * 2.0**24).long().clamp_max(2**24 - 1)[..., None]
    total = cumulated[..., -1:]
    # floor(total * noise / 2**24), in two parts that fit 63 bits; always below the total.
    threshold = noise * (total >> 24) + (noise * (total % 2**24) >> 24)
    codes = torch.searchsorted(cumulated, threshold, right=True)
    return codes.where(total > 0, -1)[..., 0]
