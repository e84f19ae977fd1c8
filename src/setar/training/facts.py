"""What a training says of itself before its first step, in a few lines."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from setar.data.base import Dataset
from setar.data.images import by_ending
from setar.device import slow_in_bfloat16
from setar.numbers import counted
from setar.recipes.recipe import Recipe
from setar.registry import printable
from setar.run_folder import UNCAPTIONED
from setar.tokenizers.base import Tokenizer
from setar.training.data import DataConfig
from setar.training.messages import say
from setar.training.survey import Survey

if TYPE_CHECKING:
    from setar.training.loop import LoopConfig

Fact = tuple[str, str]
"""What is told, in a word or two, and what there is to tell."""

GIB = 2**30

SHOWN = 5
"""Names that are listed before the others are only counted."""

UNEVEN = 5
"""How often the largest class has the images of the smallest before that is said."""


def tell(facts: Iterable[Fact]) -> None:
    """Facts on the console, a line each."""
    for name, text in facts:
        say(f"  {name:<10}{text}")


def of_data(config: DataConfig, data: Dataset, found: Survey | None) -> list[Fact]:
    """Images, classes and size; what of a folder was left out, and what looks odd."""
    height, width = config.size(data)
    counts = torch.bincount(data.labels, minlength=len(data.classes))
    fewest, most = int(counts.min()), int(counts.max())
    each = counted(most, "image") if fewest == most else f"{fewest} to {most} images"
    classes = f"{len(data.classes)} classes, {each} each"
    if len(data.classes) == 1:
        classes = f"one class, {printable(data.classes[0])}"
    flips = ", and their mirror images" if config.flips else ""
    key = " (data.image_size)" if config.of_a_folder else ""
    facts = [("images", f"{len(data)}{flips}; {classes}; {height}x{width} pixels{key}")]
    facts.append(("held out", _held_out(config, data)))
    if data.captions:
        facts.append(("captions", _captions(data)))
    facts += [("left out", text) for text in _left_out(data, found)]
    if found is not None:
        facts += [("note", text) for text in _oddities(found, f"{height}x{width}")]
    loose = [index for index, path in enumerate(data.paths) if "/" not in path]
    if loose and len(data.classes) > 1:
        own = printable(data.classes[int(data.labels[loose[0]])])
        facts.append(("note", f"images beside the folders of the classes are a class, {own}"))
    return facts


def of_balance(config: DataConfig, data: Dataset) -> list[Fact]:
    """What a generator's user may want to know of uneven classes; a tokenizer sees no classes."""
    counts = torch.bincount(data.labels, minlength=len(data.classes))
    if config.balance or int(counts.max()) < UNEVEN * max(1, int(counts.min())):
        return []
    return [("note", "uneven classes; data.balance = 1 shows each as often")]


def _held_out(config: DataConfig, data: Dataset) -> str:
    if data.heldout is not None:
        own = "" if config.heldout or config.validation else "; they come with the data set"
        return f"{counted(len(data.heldout), 'image')}, never trained on{own}"
    if config.heldout:
        return f"none: a share of {config.heldout:g} of so few images came to nothing"
    return "none; data.heldout = 0.1 holds out a tenth, to measure on"


def _captions(data: Dataset) -> str:
    """How many captions there are, and which pictures have none."""
    stored = data.stored and data.stored.encoding.captions
    texts = [counted(stored or sum(map(len, data.captions)), "caption")]
    if data.uncaptioned:
        count = counted(len(data.uncaptioned), "image")
        texts.append(f"{count} without one ({_some(data.uncaptioned)})")
    if data.absent:
        count = counted(len(data.absent), "captioned file")
        texts.append(f"{count} not there ({_some(data.absent)})")
    if max(len(data.uncaptioned), len(data.absent)) > SHOWN:
        texts.append(f"all are in {UNCAPTIONED}")
    return "; ".join(texts)


def _left_out(data: Dataset, found: Survey | None) -> list[str]:
    texts = []
    if data.left_out:
        files = counted(sum(data.left_out.values()), "file")
        texts.append(f"{files} without a picture's ending ({_some(by_ending(data.left_out))})")
    if data.empty:
        texts.append(f"folders without a picture ({_some(data.empty)})")
    if found is not None and found.broken:
        files, paths = counted(len(found.broken), "file"), _some(list(found.broken))
        texts.append(f"{files} that cannot be read ({paths}), see left-out.txt")
    return texts


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
    return ", ".join(map(printable, names[:SHOWN])) + more


def _oddities(found: Survey, size: str) -> list[str]:
    notes = []
    if found.small:
        notes.append(f"{found.small} of the images smaller than {size}, so enlarged")
    kinds = Counter[str]()
    for mode, count in found.modes.items():
        kinds[_kind(mode)] += count
    if kinds.keys() - {"RGB"}:
        counted = [f"{count} {kind}" for kind, count in kinds.most_common()]
        notes.append(f"not all of the images are RGB: {', '.join(counted)}")
    return notes


def _kind(mode: str) -> str:
    """A mode of Pillow's in a word or two."""
    if mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        return "transparent (on white)"
    return mode if mode in ("RGB", "CMYK") else "with a palette" if mode == "P" else "grey"


def of_tokens(tokenizer: Tokenizer, grid: tuple[int, int], recipe: Recipe | None = None) -> Fact:
    """Grid, vocabulary and, of a generator, sets."""
    count, shape = math.prod(grid), f"{grid[0]}x{grid[1]}"
    if tokenizer.scales is not None:
        ends = [f"{rows}x{columns}" for rows, columns in tokenizer.scales]
        shape = f"{len(ends)} scales, {ends[0]} to {ends[-1]}"
    text = f"{count} ({shape}) of {tokenizer.vocabulary} codes"
    if recipe is None:
        return "tokens", text
    return "tokens", f"{text}, in {recipe.set_count(grid)} sets: {recipe}"


def of_model(module: nn.Module, kind: str) -> Fact:
    """Family, preset and size."""
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return "model", f"{kind}, {count / 1e6:.2f} M parameters"


def in_bytes(amount: float) -> str:
    """Such as ``3.2 GiB``."""
    if amount < GIB / 10:
        return f"{amount / 2**20:.3g} MiB"
    return f"{amount / GIB:,.1f} GiB"


def of_memory(held: Mapping[str, float]) -> Fact:
    """What a device holds all the time, in bytes by what it is."""
    parts = ", ".join(f"{in_bytes(amount)} {name}" for name, amount in held.items() if amount)
    return "memory", f"{in_bytes(sum(held.values()))} on each device: {parts}"


def of_state(held: Mapping[str, float]) -> Fact:
    """The same in short, before a training."""
    names = ", ".join(name for name, amount in held.items() if amount)
    return (
        "memory",
        f"{in_bytes(sum(held.values()))} on each device for {names}; activations on top",
    )


def of_loop(
    loop: "LoopConfig", samples: int, step: int, device: torch.device, processes: int = 1
) -> Fact:
    """How long, on what, and what takes a while first."""
    epochs = loop.steps * loop.batch_size / samples
    steps = f"steps {step} to {loop.steps}" if step else counted(loop.steps, "step")
    text = f"{steps} of {counted(loop.batch_size, 'image')}, {epochs:.3g} epochs, on "
    where = f"{device}"
    if device.type == "cuda" and torch.cuda.is_available():
        where += f" ({torch.cuda.get_device_name(device)})"
    if processes > 1:
        where = f"{processes} processes ({loop.parallel}), each on {where}"
    precision = loop.precision_on(device)
    if precision == "bfloat16" and slow_in_bfloat16(device):
        precision += ", which is slow on this CPU: --set loop.precision=float32"
    compiling = "; compiling first, a minute or more" if loop.compile else ""
    return "training", f"{text}{where} in {precision}{compiling}"
