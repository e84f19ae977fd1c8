"""Muon (Jordan et al. 2024) whose products are float32 and batched, for CPUs.

`torch.optim.Muon` orthogonalises in bfloat16, which a CPU without matrix units for it computes
fifty times slower than float32: a step of the 3 M emoji model takes eight seconds there.
"""

from collections import defaultdict

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, those of Jordan."""

ROUNDS = 5
"""Iterations, the custom."""


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices ``[n, rows, columns]`` with all singular values moved near to 1, in float32."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.float().mT if tall else matrices.float()
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with Nesterov momentum and AdamW's size of updates, on a CPU."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all matrices that have a gradient."""
        for group in self.param_groups:
            rate, decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
            updates: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                updates[tuple(matrix.shape)].append((matrix, matrix.grad.lerp(mean, momentum)))
            for shape, some in updates.items():
                size = 0.2 * max(shape) ** 0.5  # as Liu et al. 2025
                steps = orthogonalised(torch.stack([update for _, update in some]))
                for (matrix, _), step in zip(some, steps, strict=True):
                    matrix.mul_(1 - rate * decay).add_(step, alpha=-rate * size)
