"""Root-mean-square normalisation."""

from functools import cache

import torch
from torch import Tensor, nn

EPS = 1e-5


class RMSNorm(nn.RMSNorm):
    """Divides ``[..., width]`` by its root mean square, with a learned gain, eps 1e-5."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """To the same shape."""
        exact = x.dtype == self.weight.dtype == torch.float32 and x.device.type == "cpu"
        if not exact or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        # PyTorch has no kernel of its own for CPUs and makes it of six; a norm and a product of
        # rows by one number each take half the time. In training it would need more memory.
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = torch.addcmul(_least(), size, size, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).mul_(self.weight)


@cache
def _least() -> Tensor:
    """The eps as a tensor: a number of Python's costs an operator more time than the operator."""
    return torch.full((1,), EPS, dtype=torch.float32, device="cpu")
