"""Muon (Jordan et al. 2024) whose products are batched, in the precision of the training.

`torch.optim.Muon` orthogonalises in bfloat16 always, which a CPU without units for it computes
fifty times slower than float32: a step of the 3 M emoji model takes eight seconds there. On one
that has them bfloat16 is four times faster, and float32 a fifth of that model's step.

Of sharded matrices it needs all: each is gathered, orthogonalised by every process, and each moves
its own shard. So one matrix at a time is whole, and the products are not shared out.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from setar.training.distributed import gathered, local, shared_as

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, those of Jordan."""

ROUNDS = 5
"""Iterations, the custom."""


def orthogonalised(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices ``[n, rows, columns]`` with all singular values moved near to 1, in ``dtype``."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(dtype)
    x = x.mT if tall else x
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with Nesterov momentum and AdamW's size of updates.

    Args:
        matrices: what it moves.
        rate: learning rate.
        decay: weight decay.
        dtype: of the products.
    """

    def __init__(
        self, matrices: list[nn.Parameter], rate: float, decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(matrices, rate, decay, adjust_lr_fn="match_rms_adamw")
        self.dtype = dtype

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
                gradient, mean = local(matrix.grad), local(state["momentum_buffer"])
                update = gradient.lerp(mean.lerp_(gradient, 1 - momentum), momentum)
                if isinstance(matrix, DTensor):
                    self._move([matrix], self._of_whole(matrix, update), rate, decay)
                else:
                    updates[tuple(matrix.shape)].append((matrix, update))
            for some in updates.values():
                steps = orthogonalised(torch.stack([update for _, update in some]), self.dtype)
                self._move([matrix for matrix, _ in some], steps, rate, decay)

    def _move(
        self, matrices: list[Tensor], steps: Sequence[Tensor] | Tensor, rate: float, decay: float
    ) -> None:
        size = 0.2 * max(matrices[0].shape) ** 0.5  # as Liu et al. 2025
        for matrix, step in zip(matrices, steps, strict=True):
            local(matrix).mul_(1 - rate * decay).add_(step, alpha=-rate * size)

    def _of_whole(self, matrix: DTensor, update: Tensor) -> list[Tensor]:
        """This process's shard of the orthogonalised update, whose own shard is given."""
        shape, stride = matrix.shape, matrix.stride()
        own = DTensor.from_local(
            update, matrix.device_mesh, matrix.placements, shape=shape, stride=stride
        )
        return [local(shared_as(orthogonalised(gathered(own)[None], self.dtype)[0], matrix))]
