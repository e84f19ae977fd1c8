"""Linear layers for sampling on a CPU: weights laid out for the kernel that reads them.

float32   oneDNN's own layout, in which few rows take a half to two thirds of the time
int8      whole numbers of 8 bits, a scale for each output channel; an input row is rounded to whole
          numbers too, with a scale of its own, so that it does not depend on the rows beside it

Both replace the weights and not only add to them. The kernels are torch's.
"""

import warnings
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

Packing = Literal["float32", "int8"]

LEAST = 2**16
"""Weights of a layer that is worth another layout in float32: of smaller ones calling it is most
of the time."""

MOST = 127
"""Of a weight in int8; -128 is left out, so that a row is as large on both sides."""

SMALLEST = 1e-30
"""Below it a row counts as zeros."""


class PackedLinear(nn.Module):
    """Replaces a linear layer in inference on a CPU; moved elsewhere it is an ordinary one."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias

    def plain(self) -> tuple[Tensor, ...]:
        """What `_lay` makes of it what is held."""
        raise NotImplementedError

    def _lay(self, *tensors: Tensor) -> None:
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """Of what is held."""
        return sum(part.numel() * part.element_size() for part in self.plain())

    def __getstate__(self) -> dict[str, Any]:
        return {**{k: v for k, v in vars(self).items() if k != "held"}, "plain": self.plain()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = state.pop("plain")
        super().__setstate__(state)
        self._lay(*tensors)

    def extra_repr(self) -> str:
        """As that of `nn.Linear`."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class PackedFloat(PackedLinear):
    """A linear layer in float32; its state dict is that of the layer it replaces."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self._lay(layer.weight)

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``."""
        if not self.laid or input.requires_grad:  # which that kernel does not do
            return nn.functional.linear(input, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(input, self.held, self.bias, "none", [], "")

    @property
    def weight(self) -> Tensor:
        """``[out, in]``, a copy where it is laid out otherwise."""
        return self.held.to_dense() if self.laid else self.held

    def plain(self) -> tuple[Tensor, ...]:
        """The weight."""
        return (self.weight,)

    def _lay(self, *tensors: Tensor) -> None:
        weight = tensors[0].detach()
        self.laid = weight.device.type == "cpu" and weight.dtype == torch.float32
        if self.laid:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self.held = weight

    def _apply(self, fn: Any, recurse: bool = True) -> "PackedFloat":
        moved = fn(self.weight)
        super()._apply(fn, recurse)
        self._lay(moved)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(  # type: ignore[override]
        self, state: Any, prefix: str, *rest: Any
    ) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self._lay(_taken(state, prefix + "weight", *rest, own=self.weight))


class PackedInt8(PackedLinear):
    """A linear layer in int8; its state dict has ``weight`` in int8, and ``scale``, float32 [out].

    A row x of the input becomes whole numbers of 8 bits (7 where the machine's kernel would clip
    sums of larger ones), 0 in the middle, of steps of max |x| through half as many.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        weight = layer.weight.detach().float()
        scale = weight.abs().amax(1).clamp_min(SMALLEST) / MOST
        self._lay((weight / scale[:, None]).round().to(torch.int8), scale)
        self.levels = _levels()

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``, in float32."""
        if input.ndim == 1:
            return self(input[None])[0]
        # Ten times as fast as the norm of that name, or as `aminmax`.
        largest = input.abs().amax(-1, keepdim=True).clamp_min_(SMALLEST)
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            input / largest, 1 / self.levels, self.levels + 1, self.held
        ).mul_(largest)
        return product if self.bias is None else product.add_(self.bias)

    @property
    def weight(self) -> Tensor:
        """int8 ``[out, in]``, a copy."""
        return torch.ops.quantized.linear_unpack(self.held)[0].int_repr()

    @property
    def scale(self) -> Tensor:
        """float32 ``[out]``: what the numbers of `weight` are multiplied by."""
        return torch.ops.quantized.linear_unpack(self.held)[0].q_per_channel_scales().float()

    def plain(self) -> tuple[Tensor, ...]:
        """Weight and scale."""
        return self.weight, self.scale

    def _lay(self, *tensors: Tensor) -> None:
        weight, scale = tensors
        zeros = torch.zeros(len(scale), dtype=torch.int64, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its kind of tensor is on its way out
            # The Python function: a warning of the operator itself would pass every filter.
            make = torch._make_per_channel_quantized_tensor  # pyright: ignore[reportPrivateImportUsage]
            made = make(weight, scale.double(), zeros, 0)
            self.held = torch.ops.quantized.linear_prepack(made, None)

    def _apply(self, fn: Any, recurse: bool = True) -> "PackedInt8":
        moved = fn(torch.zeros(1, dtype=torch.float32, device="cpu"))
        if moved.device.type != "cpu" or moved.dtype != torch.float32:
            raise ValueError("a model in int8 computes on a CPU, in float32 beside its products")
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"], destination[prefix + "scale"] = self.weight, self.scale
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(  # type: ignore[override]
        self, state: Any, prefix: str, *rest: Any
    ) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        weight = _taken(state, prefix + "weight", *rest, own=self.weight)
        self._lay(weight, _taken(state, prefix + "scale", *rest, own=self.scale))


def _taken(
    state: Any,
    name: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
    own: Tensor,
) -> Tensor:
    """A tensor of a state dict, as `nn.Module.load_state_dict` reports what is wrong."""
    if name in unexpected:
        unexpected.remove(name)
    found = state.get(name)
    if found is None:
        missing.append(name)
    elif found.shape != own.shape:
        errors.append(f"{name} has the shape {tuple(found.shape)} instead of {tuple(own.shape)}")
    else:
        return found.to(own.dtype)
    return own


@cache
def _levels() -> int:
    """Steps on each side of 0 of an input row: 127, or 63 where the kernel clips sums.

    Machines without VNNI add two products of 8 bits in 16 bits with a sign, which overflow.
    """
    kind = {"dtype": torch.float32, "device": "cpu"}
    probe = PackedInt8.__new__(PackedInt8)
    PackedLinear.__init__(probe, nn.Linear(64, 16, bias=False, device="meta"))
    largest = torch.full((16, 64), MOST, dtype=torch.int8, device="cpu")
    probe._lay(largest, torch.full((16,), 1 / MOST, **kind))
    probe.levels = 127
    with torch.inference_mode():
        sums = probe(torch.ones(1, 64, **kind))
    exact = bool((sums - 64).abs().max() < 0.1)
    return 127 if exact else 63


KINDS: dict[Packing, type[PackedLinear]] = {"float32": PackedFloat, "int8": PackedInt8}


def pack(module: nn.Module, packing: Packing) -> nn.Module:
    """A module with the linear layers inside it, or itself, replaced for inference on a CPU.

    In float32 only those of `LEAST` weights, and none where torch has no oneDNN.

    Raises:
        ValueError: torch has not the kernels.
    """
    if packing == "float32" and not torch.backends.mkldnn.is_available():
        return module
    if packing == "int8" and "fbgemm" not in torch.backends.quantized.supported_engines:
        raise ValueError("int8 needs a CPU of x86: this torch has not the kernels (fbgemm)")
    if isinstance(module, nn.Linear):
        return KINDS[packing](module).eval() if _takes(module, packing) else module
    for name, child in module.named_children():
        setattr(module, name, pack(child, packing))
    return module


def _takes(layer: nn.Linear, packing: Packing) -> bool:
    # Of a subclass the float32 kernel is a part of what it promises.
    return packing == "int8" or (type(layer) is nn.Linear and layer.weight.numel() >= LEAST)
