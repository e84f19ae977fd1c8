"""Two-dimensional rotary position embedding from explicit rows and columns.

Su et al. 2024 in the layout of LlamaGen: neighbouring pairs of a head's dimensions rotate
together; the first half of the pairs follows the row, the second half the column. A pair is a
complex number and its rotation a product. Positions are arguments, so tokens may come in any order.
"""

import torch
from torch import Tensor


def rotation(rows: Tensor, columns: Tensor, head_dim: int, base: float = 10000.0) -> Tensor:
    """Unit complex numbers of the positions ``rows``, ``columns``, both integer ``[B or 1, L]``.

    Row and column (0, 0) is the identity, which is also what a prefix (the class token) gets.

    Returns:
        complex64 ``[B or 1, 1, L, head_dim / 2]``.

    Raises:
        ValueError: ``head_dim`` is not a multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"the head dimension (={head_dim}) must be a multiple of 4 for 2-D RoPE")
    half = head_dim // 2
    exponents = torch.arange(0, half, 2, device=rows.device, dtype=torch.float32) / half
    frequencies = base**-exponents
    angles = torch.cat([rows[..., None] * frequencies, columns[..., None] * frequencies], -1)
    return torch.polar(torch.ones_like(angles), angles)[:, None]


def sine_positions(rows: Tensor, columns: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """Fixed embeddings of the positions ``rows``, ``columns``, both integer ``[B or 1, L]``.

    The first half of the numbers follows the row, the second the column; of each half one half are
    sines and the other cosines, of frequencies as in `rotation` (SAR, appendix A.3). They are made
    as small as learned embeddings begin, of which normal(0.02) is the custom.

    Returns:
        float32 ``[B or 1, L, width]``.

    Raises:
        ValueError: ``width`` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"the width (={width}) must be a multiple of 4 for 2-D sine positions")
    count = width // 4
    frequencies = base ** (-torch.arange(count, device=rows.device, dtype=torch.float32) / count)
    down, across = rows[..., None] * frequencies, columns[..., None] * frequencies
    waves = torch.cat([down.sin(), down.cos(), across.sin(), across.cos()], -1)
    return SINE_SCALE * waves


SINE_SCALE = 0.02 * 2**0.5
"""Sines and cosines have a mean square of 1/2."""


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate queries or keys, or both, ``[..., B, heads, L, head_dim]``, in float32.

    Each is rotated by its own position's number of `rotation`.
    """
    assert rotation.shape[-2] == x.shape[-2], (
        "one rotation per token; broadcasting would hide a bug"
    )
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the same written out: compilers know no complex numbers
        (real, imaginary), (cos, sin) = pairs.unbind(-1), torch.view_as_real(rotation).unbind(-1)
        turned = torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], -1)
        return turned.flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(pairs)
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)
