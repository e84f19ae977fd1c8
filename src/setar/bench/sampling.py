"""Sampling measured: how long it takes, beside its floor, where the time goes, and the memory."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from setar.bench.floor import products_seconds
from setar.bench.recorder import Clock, Recorder
from setar.layers.attention import KVCache
from setar.layers.packed import PackedLinear
from setar.models.base import Decoding, Generator
from setar.recipes.recipe import SetPlan
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.settings import SamplingDefaults

WARMING = 3
"""Runs until compiled steps are recorded and come from their records."""
PYTHON = "Python"
"""The row of what is left beside torch's operators."""


@dataclass
class Measured:
    """What a work takes; seconds are those of all images of a batch together."""

    images: int
    steps: int
    """Sets of an image, or 1 of a training step."""
    seconds: float
    """The best of several runs, which take turns with the floor."""
    floor: float
    """The best of as many: matrix products alone; of a training step, moving the weights too."""
    products: float
    """The part of the floor that is matrix products."""
    spread: float
    """Slowest through fastest run."""
    breakdown: dict[str, float]
    """Seconds by place; ``Python`` is what is left beside torch's operators."""
    peak: int
    """Most bytes at once, weights included."""
    expected: dict[str, int]
    """Bytes that are needed: of weights, and of what else must be there at once."""
    operators: int
    """Calls of torch's operators."""
    peers: dict[str, Any]
    """Seconds of other systems in the same run, or why there are none."""

    @property
    def ratio(self) -> float:
        """Seconds over those of the floor."""
        return self.seconds / self.floor

    def to_table(self) -> dict[str, Any]:
        """All of it, for JSON."""
        each = self.seconds / self.images
        named = {"seconds_per_image": each, "images_per_second": 1 / each, "ratio": self.ratio}
        return {**asdict(self), **named, "expected_bytes": sum(self.expected.values())}


class _Watched:
    """A generator whose calls a recorder tells apart."""

    def __init__(self, model: Generator[Any], recorder: Recorder) -> None:
        self._model, self._recorder = model, recorder
        self.decodings: list[Decoding] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def start(self, *args: Any) -> "_WatchedDecoding":
        with self._recorder.calling("start"):
            self.decodings.append(self._model.start(*args))
        return _WatchedDecoding(self.decodings[-1], self._recorder)


class _WatchedDecoding:
    def __init__(self, decoding: Decoding, recorder: Recorder) -> None:
        self._decoding, self._recorder = decoding, recorder

    def predict(self, positions: Tensor) -> Tensor:
        with self._recorder.calling("predict"):
            return self._decoding.predict(positions)

    def guided(self, positions: Tensor, scales: Sequence[float]) -> Tensor:
        with self._recorder.calling("predict"):
            return self._decoding.guided(positions, scales)  # type: ignore[attr-defined]

    def absorb(self, codes: Tensor, positions: Tensor) -> None:
        with self._recorder.calling("absorb"):
            self._decoding.absorb(codes, positions)


def measure_sampling(
    model: Generator[Any],
    chosen: SamplingDefaults,
    batch: int,
    clock: Clock,
    repeats: int = 3,
    peers: Mapping[str, Callable[[int, int], Any]] | None = None,
    compiled: bool = False,
) -> Measured:
    """Measure making the codes of a batch.

    Args:
        model: in evaluation mode.
        chosen: recipe, guidance and settings.
        batch: images, at least 1.
        clock: of `clock_of`.
        repeats: runs, of which the best counts.
        peers: other systems by name, as `setar.bench.peers` loads them.
        compiled: time steps that are compiled (`Generator.compile_sampling`); the floor, the places
            and the memory are those of ordinary ones.

    Raises:
        ValueError: the family has no steps to compile.
    """
    device = next(iter(model.state_dict().values())).device
    noise, plan = noise_and_plan(chosen.recipe, model.config.grid, range(batch), 0)
    condition = model.condition.example(batch).to(device)
    how = (chosen.guidance, chosen.settings)

    def ours(model: Any = model) -> Tensor:
        return generate(model, condition, plan, noise, *how)

    recorder = Recorder(clock)
    watched = _Watched(model, recorder)
    ours()  # for whatever is made once
    with recorder, recorder.inside(model):
        ours(watched)
    recorder.finish()
    if compiled:
        model.compile_sampling(mode="reduce-overhead")
        for _ in range(WARMING):
            ours()
    taken, floors = [], []
    others: dict[str, Any] = {name: float("inf") for name in peers or {}}
    for _ in range(repeats):
        began = clock()
        ours()
        taken.append(clock() - began)
        floors.append(products_seconds(recorder.parts.values(), clock))
        for name, peer in (peers or {}).items():
            others[name] = _timed(peer, batch, plan.steps, clock, others[name])
    seconds = min(taken)
    weights = weight_bytes(model)
    caches = sum(cache_bytes(decoding) for decoding in watched.decodings)
    rows = batch * (1 if chosen.guidance.off else 2)
    logits = 4 * rows * _largest(plan) * model.config.vocabulary
    return Measured(
        images=batch,
        steps=plan.steps,
        seconds=seconds,
        floor=min(floors),
        products=min(floors),
        spread=max(taken) / seconds,
        breakdown=breakdown_of(recorder.seconds, statistics.median(taken)),
        peak=weights + recorder.peak,
        expected={"weights": weights, "caches": caches, "logits": logits},
        operators=recorder.operators.total(),
        peers=others,
    )


def _timed(
    peer: Callable[[int, int], Any], batch: int, steps: int, clock: Clock, before: Any
) -> Any:
    """The best seconds of another system, or what it says is wrong."""
    if isinstance(before, str):
        return before
    try:
        began = clock()
        peer(batch, steps)
        return min(before, clock() - began)
    except Exception as error:  # whatever others raise must not cost our own figures
        return f"{type(error).__name__}: {error}".splitlines()[0]


def _largest(plan: SetPlan) -> int:
    return max((stop - start for start, stop in plan.slices()), default=0)


def weight_bytes(model: torch.nn.Module) -> int:
    """Of all parameters, buffers and packed layers."""
    tensors = [*model.parameters(), *model.buffers()]
    packed = [part.bytes for part in model.modules() if isinstance(part, PackedLinear)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + sum(packed)


def cache_bytes(decoding: Any) -> int:
    """Of the `KVCache`s that a decoding holds, itself or in lists."""
    found = list(vars(decoding).values())
    found += [each for value in found if isinstance(value, list) for each in value]
    caches = [value for value in found if isinstance(value, KVCache)]
    return sum(cache.buffer.numel() * cache.buffer.element_size() for cache in caches)


def breakdown_of(
    seconds: Mapping[str, float], total: float, elsewhere: str = "drawing"
) -> dict[str, float]:
    """Seconds by place, the largest first; then those of no place, and what Python takes.

    Operators were timed one by one, calling them included, so that of very small models they may
    come to more than the total; Python is then 0.
    """
    places = dict(seconds)
    unplaced = places.pop("", 0.0)
    rows = dict(sorted(places.items(), key=lambda row: -row[1]))
    return {**rows, elsewhere: unplaced, PYTHON: max(0.0, total - unplaced - sum(rows.values()))}
