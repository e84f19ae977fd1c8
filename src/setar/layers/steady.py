"""Linear layers that give a row the same numbers among few rows as among many.

Matrix libraries for CPUs take another kernel for fewer than `ROWS` rows, and it adds in another
order: an image alone then differs from the same image in a batch in the last digit, which in rare
cases changes a token. Filled up to that many rows, both go the same way. A VAR has so few only at
its first scales, where this costs next to nothing; a model that makes token after token would
have them at every step.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 16
"""From so many rows on, the kernels that were measured (MKL with AVX2 and AVX-512) agree."""


class SteadyLinear(nn.Linear):
    """`nn.Linear`; in inference on a CPU, a row does not depend on the number of rows."""

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``."""
        shape = input.shape[:-1]
        missing = ROWS - shape.numel()
        if missing <= 0 or input.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(input)
        filled = F.pad(input.reshape(-1, self.in_features), (0, 0, 0, missing))
        return super().forward(filled)[:-missing].view(*shape, self.out_features)
