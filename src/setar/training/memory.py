"""What a training holds in memory, apart from activations: one formula, for everybody who asks."""

from collections.abc import Iterable

from torch import Tensor, nn

from setar.training.optim import OptimizerConfig, grouped

FLOAT = 4
"""Bytes of a number of the training's state."""

BLOCKS = 5
"""Whole blocks at once of a sharded model: gathered, fetched ahead, each once as it travels; and
gradients."""

ROOTS = 3
"""Of what is in no block: gathered, its gradients, and either as it travels."""


def held(module: nn.Module, optimizer: OptimizerConfig, shards: int = 1) -> dict[str, float]:
    """Bytes that each process holds while a module is trained, by what they are.

    Args:
        module: that is trained; it may be on the device ``meta``.
        optimizer: of its parameters.
        shards: processes that share its tensors; each rounds its part up.

    Of a sharded module, what is whole for a moment is ``gathered``, if it moves in float32.
    """
    groups = grouped(module, optimizer)
    by_muon = _numbers(groups.matrices, shards)
    by_adam = _numbers([*groups.decayed, *groups.plain], shards)
    weights = _numbers(module.state_dict().values(), shards)
    numbers = {
        "weights": weights,
        "gradients": by_muon + by_adam,
        "optimiser": by_muon + 2 * by_adam,
        "averaged weights": weights,
    }
    if shards > 1:
        blocks = getattr(module, "transformer_blocks", list)()
        sizes = [_numbers(block.parameters()) for block in blocks]
        root = _numbers(module.parameters()) - sum(sizes)
        numbers["gathered"] = BLOCKS * max(sizes, default=0) + ROOTS * root
    return {name: count * FLOAT for name, count in numbers.items()}


def _numbers(tensors: Iterable[Tensor], shards: int = 1) -> int:
    """Numbers of the largest share: the rows of each tensor are shared out."""
    return sum(_share(tensor, shards) for tensor in tensors)


def _share(tensor: Tensor, shards: int) -> int:
    if shards == 1 or not tensor.ndim:
        return tensor.numel()
    rows = len(tensor)
    return tensor.numel() // max(1, rows) * -(-rows // shards)
