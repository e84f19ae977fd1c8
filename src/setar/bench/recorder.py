"""What a computation consists of: its operators, how long each takes and where, and its memory.

A `Recorder` sees every operator that torch runs, so nothing here knows a family of models. Matrix
products are kept with what they were given, to be done again alone (`setar.bench.floor`).
"""

import re
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Clock = Callable[[], float]
"""Seconds since some moment."""

PRODUCTS = re.compile(
    r"aten::(mm|addmm|bmm|matmul|baddbmm|linear|addmv|mv|convolution\w*|_int_mm|_scaled_mm)"
    r"|mkldnn::_linear_pointwise|quantized::linear\w*|onednn::qlinear\w*"
    r"|aten::_?(scaled_dot_product|flash|efficient)_\w*attention\w*"
)
"""Operators that multiply matrices, whole names; those that attend do it twice."""


def clock_of(device: torch.device, cpu_time: bool = False) -> Clock:
    """A clock that waits for the device.

    ``cpu_time`` counts this thread's own seconds alone: right on a busy machine, with one thread.
    """
    if device.type == "cpu":
        return time.thread_time if cpu_time else time.perf_counter
    wait = getattr(torch, device.type).synchronize

    def now() -> float:
        wait()
        return time.perf_counter()

    return now


@dataclass
class Like:
    """Stands for a tensor that was made on the way, so that it need not be kept."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass
class Part:
    """The products of one call, in their order; calls of the same shapes count together.

    Weights, which were there before, are kept as they are; all else is a `Like`.
    """

    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]
    times: int = 0


@dataclass
class Recorder(TorchDispatchMode):
    """Use as a context; `calling` says where one call ends and another begins."""

    clock: Clock = time.perf_counter
    parts: dict[Any, Part] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of operators, by the place where they ran."""
    operators: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    """Most bytes of tensors made inside that were there at once."""

    def __post_init__(self) -> None:
        super().__init__()
        self.places: list[str] = []
        self.open: list[Any] = []
        self.live = 0
        self.made: set[int] = set()

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """Products inside belong to one call of this name."""
        self.finish()
        self.places.append(name)
        try:
            yield
        finally:
            self.places.pop()
            self.finish(name)

    def finish(self, name: str = "") -> None:
        """End the call whose products were seen last."""
        if not self.open:
            return
        key = (name, *(_shapes(args) for _, args, _ in self.open))
        part = self.parts.setdefault(key, Part(self.open))
        part.times, self.open = part.times + 1, []

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """Operators inside this model's modules belong to the places of those."""
        handles = []
        for name, module in model.named_modules():
            if name:
                place = place_of(name)
                handles.append(module.register_forward_pre_hook(lambda *_, p=place: self._enter(p)))
                handles.append(
                    module.register_forward_hook(lambda *_: self._leave(), always_call=True)
                )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, place: str) -> None:
        self.places.append(place)

    def _leave(self) -> None:
        self.places.pop()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and note it."""
        kwargs = kwargs or {}
        began = self.clock()
        result = function(*args, **kwargs)
        self.seconds[self.places[-1] if self.places else ""] += self.clock() - began
        name = function._schema.name
        self.operators[name] += 1
        if PRODUCTS.fullmatch(name):
            named = {key: self._kept(value) for key, value in kwargs.items()}
            self.open.append((function, tuple(map(self._kept, args)), named))
        given = {place for value in args if (place := _storage(value))}
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._lives(tensor, given)
        return result

    def _kept(self, value: Any) -> Any:
        if _storage(value) not in self.made:
            return value
        return Like(tuple(value.shape), value.dtype, value.device)

    def _lives(self, tensor: Tensor, given: set[int]) -> None:
        place = _storage(tensor)
        if place == 0 or place in self.made or place in given:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self.made.add(place)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._dies, place, size)

    def _dies(self, place: int, size: int) -> None:
        self.made.discard(place)
        self.live -= size


def place_of(name: str) -> str:
    """``decoder.cross_attention`` of the module ``decoder.3.cross_attention.query``."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    return ".".join(parts[:2])


def _shapes(args: Any) -> Any:
    return tuple(tuple(part.shape) for part in args if isinstance(part, Tensor | Like))


def _storage(value: Any) -> int:
    """Where a tensor's numbers lie; 0 of what has no storage."""
    opaque = not isinstance(value, Tensor) or value.is_mkldnn
    return 0 if opaque else value.untyped_storage().data_ptr()
