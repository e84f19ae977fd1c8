"""``setar sample --like FILE``: the picture of a PNG file made again from what it remembers."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from setar.cli import options, prompts
from setar.cli.console import say
from setar.cli.files import save_picture, say_where
from setar.cli.models import find_config
from setar.cli.progress import MOST_COLUMNS, MOST_SCALE, set_bar
from setar.files import fingerprint
from setar.numbers import whole

if TYPE_CHECKING:
    from setar.pictures.memory import Memory
    from setar.pipeline import Pipeline

OWN = {"model", "like", "out", "each", "animate", "device", "plugin"}
"""Parameters of `setar sample` that the picture does not say."""


class Again(NamedTuple):
    """What is made again, and of which model."""

    memory: "Memory"
    model: str
    """Where it lies now."""


def remembered(
    context: typer.Context, file: Path, each: Path | None, animate: Path | None
) -> Again:
    """What made a picture that is to be made again.

    Raises:
        ValueError: it remembers nothing or too little, something else is asked for beside it, or
            its model is not here, or has changed.
    """
    for name in context.params:
        if name not in OWN and _given(context, name):
            option = "prompts" if name == "prompt_file" else name.replace("_", "-")
            raise ValueError(f"--{option} does not go with --like: {file} says that itself")
    from setar.pictures.memory import recall

    memory = recall(file)
    if memory.made not in ("image", "sheet"):
        source = ": the picture that was edited is not in it" if memory.made == "edit" else ""
        what = f"{'an' if memory.made[0] in 'aeiou' else 'a'} {memory.made}"
        raise ValueError(f"{file} is {what}, which cannot be made again from what it says{source}")
    if not memory.repeatable:
        lacking = "what it was asked for" if memory.manifest else "a model that lay in a folder"
        raise ValueError(f"{file} cannot be made again: it does not name {lacking}")
    if memory.made == "image" and (each or animate):
        raise ValueError(f"{file} is one image: --each and --animate are for sheets")
    _check(memory, file)
    named = context.params["model"] if _given(context, "model") else memory.model
    return Again(memory, _of_the_same(named, memory, file))


def _check(memory: "Memory", file: Path) -> None:
    """ValueError unless the numbers of a memory are such as the command itself would take."""
    try:
        seed = whole("seed", memory.seed, 0, 2**63 - 1)
        count = whole("count", memory.count, 1, 100_000)
        whole("scale", memory.scale, 0, MOST_SCALE)
        whole("columns", memory.columns, 0, MOST_COLUMNS)
        if memory.between and (len(memory.asked) != 2 or count < 2):
            raise ValueError("`between` needs two that were asked for, and a `count` of at least 2")
        if len(memory.asked) > prompts.MOST:
            raise ValueError(f"`asked` must have at most {prompts.MOST} entries")
        options.check_seeds(seed, 1 if memory.between else len(memory.asked) * count)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _of_the_same(model: str, memory: "Memory", file: Path) -> str:
    """The folder of a model that made a picture; its name as it is, of one on the hub.

    Raises:
        ValueError: it is not here, or is another one now.
    """
    try:
        config = find_config(model)
    except ValueError as error:
        raise ValueError(
            f"the model {model} that made {file} is not found ({error}); if it lies elsewhere: "
            f"setar sample MODEL --like {file}"
        ) from error
    if config is None:
        return model
    for folder in _candidates(Path(model), config.parent):
        if fingerprint(folder) == memory.manifest:
            return str(folder)
    raise ValueError(
        f"the model {model} has changed since it made {file}: its manifest's SHA-256 begins with "
        f"{fingerprint(config.parent)[:10]}, that of the picture's with {memory.manifest[:10]}; "
        f"if the older one lies elsewhere: setar sample MODEL --like {file}"
    )


def _candidates(named: Path, found: Path) -> Iterator[Path]:
    """The model folder of a name, and older checkpoints if it is the folder of a run."""
    yield found
    yield from (file.parent for file in sorted(named.glob("checkpoints/step-*/manifest.json")))


def load(again: Again, context: typer.Context, file: Path) -> "Pipeline":
    """The model of a picture, as it was when it made it."""
    from setar.device import find_device
    from setar.pipeline import Pipeline
    from setar.registry import require_plugins

    memory = again.memory
    require_plugins(memory.plugins, file)
    device = context.params["device"] if _given(context, "device") else memory.device
    place = str(find_device(device))
    precision = memory.precision or None
    pipe = Pipeline.from_pretrained(again.model, place, memory.sampling, precision)
    pipe.check_memory(memory)
    pipe.source = memory.model  # as it was named, which the picture says again
    return pipe


def write(pipe: "Pipeline", memory: "Memory", file: Path, out: Path) -> None:
    """Make one image again and write it."""
    with set_bar(memory.rows) as on_set:
        made = pipe.again(memory, on_set)
    written = save_picture(made, out)
    say_where(("1 image", written))
    if made.memory is not None:
        compare(memory, made.memory.pixels, file)


def compare(memory: "Memory", pixels: str, file: Path) -> None:
    """Say whether a picture that was made again has the pixels that it had."""
    if pixels == memory.pixels:
        say(f"the same pixels as {file} was made with")
        return
    from setar.pictures.memory import VERSION

    other = f"setar {memory.version}, this is {VERSION}" if memory.version != VERSION else ""
    reason = other or "another processor, system or version of torch"
    say(f"not the same pixels as {file} was made with ({reason}): sums ended in other digits")
