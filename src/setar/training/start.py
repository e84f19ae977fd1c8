"""Where a training begins: from random weights, or from those of another model."""

from collections.abc import Mapping

from torch import Tensor, nn


def begin_with(module: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy all weights that fit into a module; the names of its tensors that stay as they are.

    A tensor fits if it has the same name and shape.
    """
    own = module.state_dict()
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in own and own[name].shape == tensor.shape
    }
    module.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())
