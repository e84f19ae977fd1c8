"""Arguments and options that several commands share, and how they are read."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from setar.cli.recipes import check_recipe
from setar.files import check_file

if TYPE_CHECKING:
    from setar.pipeline import Pipeline

INFINITY = float("inf")


def must(holds: Callable[[Any], bool], words: str) -> Callable[[typer.CallbackParam, Any], Any]:
    """The callback of an option that refuses its value before torch is imported.

    ``holds`` says whether a value is right, ``words`` what it must be.
    """

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None and not holds(value):
            raise ValueError(f"`{param.name}` (={value}) must be {words}")
        return value

    return check


def counted(least: int, most: int = 100_000) -> Callable[[typer.CallbackParam, Any], Any]:
    """The callback of a whole number between two others."""
    return must(lambda number: least <= number <= most, f"from {least} to {most}")


def complete_model(incomplete: str) -> list[str]:
    """Shipped models that begin so, for the shell; folders it completes by itself."""
    from setar.cli.models import shipped

    return [file.parent.name for file in shipped() if file.parent.name.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Argument(
        help="A shipped model, a model folder, a run's folder or a hub id.",
        autocompletion=complete_model,
    ),
]
Sampling = Mapping[str, Any]
"""What a command gets of the options of sampling; see `with_sampling`."""
AS_TRAINED: Sampling = MappingProxyType({})
Prompt = Annotated[
    list[str] | None,
    typer.Option("--prompt", help="What to make, for a model that reads texts; repeatable."),
]
Negative = Annotated[
    str | None, typer.Option(help="A text that guidance leads away from, for models of texts.")
]
Size = Annotated[
    str, typer.Option("--size", help="Height x width in pixels such as 64x128; default: its own.")
]
DeviceOption = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1, mps, ...; auto: a GPU if there is one, else cpu.")
]
PRECISIONS = ("float32", "bfloat16", "int8")
Precision = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16 (for GPUs) or int8 (for CPUs, faster); default: as stored.",
        callback=must(lambda name: name in PRECISIONS, "float32, bfloat16 or int8"),
    ),
]
whole_seed = must(lambda seed: 0 <= seed < 2**63, "a whole number from 0 to 2**63 - 1")


def _sampling(
    recipe: Annotated[str | None, typer.Option(help="Order, sets and schedule.")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Scale; 1 is off (schedule var: 0).",
            callback=must(lambda s: 0 <= s < INFINITY, "a number of at least 0"),
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Guidance schedule: constant, linear, linear-after, linear-token, power-cosine, "
            "var, or yours."
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Below 1: safer, above: wilder.",
            callback=must(lambda t: 0 <= t < INFINITY, "a number of at least 0"),
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Only the k likeliest codes; 0: all.",
            callback=must(lambda k: 0 <= k < 2**31, "a whole number of at least 0"),
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Only the likeliest codes of this sum.",
            callback=must(lambda p: 0 < p <= 1, "above 0 and at most 1 (1: off)"),
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            help="Only codes at least this fraction of the likeliest.",
            callback=must(lambda p: 0 <= p <= 1, "from 0 to 1 (0: off)"),
        ),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            help="causal, or full (MAR sampling).",
            callback=must(lambda a: a in ("causal", "full"), "causal or full"),
        ),
    ] = None,
    smoothing: Annotated[
        bool | None,
        typer.Option(help="Mix codes as VAR's more_smooth does: smoother pictures, less detail."),
    ] = None,
) -> None:
    """The options of every command that samples; their defaults are the model's."""


def with_sampling(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command have the options of sampling in the place of its parameter ``sampling``.

    That parameter gets those that the user gave, named as `SamplingDefaults.changed` reads them. A
    parameter of the command's own comes before the one of them that has its name.
    """
    own = inspect.signature(command).parameters
    every = inspect.signature(_sampling).parameters
    shared = {name: one for name, one in every.items() if name not in own}

    def extended(**values: Any) -> None:
        found = {name: values.pop(name) for name in shared}
        found["scale"] = found.pop("guidance", None)
        given = {name: value for name, value in found.items() if value not in (None, "")}
        if "recipe" in given:
            check_recipe(given["recipe"])
        if "schedule" in given:
            from setar.sampling.guidance import GUIDANCE

            GUIDANCE.find(given["schedule"])
        command(**values, sampling=given)

    parts = [list(shared.values()) if name == "sampling" else [own[name]] for name in own]
    return _signed(command, extended, [parameter for part in parts for parameter in part])


def with_plugins(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command have ``--plugin``; these files are loaded before it runs."""

    def extended(plugin: list[Path] | None = None, **values: Any) -> None:
        from setar.registry import load_plugin

        for file in plugin or ():
            check_file(file)
            load_plugin(file)
        command(**values)

    own = inspect.signature(command).parameters
    option = typer.Option("--plugin", help="A Python file with things of your own; repeatable.")
    kind = inspect.Parameter.KEYWORD_ONLY
    annotation = Annotated[list[Path] | None, option]
    plugin = inspect.Parameter("plugin", kind, default=None, annotation=annotation)
    return _signed(command, extended, [*own.values(), plugin])


def _signed(
    command: Callable[..., None],
    extended: Callable[..., None],
    parameters: Sequence[inspect.Parameter],
) -> Callable[..., None]:
    """``extended`` in the place of a command: with its name and help, and these parameters."""
    extended = functools.wraps(command)(extended)
    vars(extended)["__signature__"] = inspect.Signature(parameters)
    extended.__annotations__ = {p.name: p.annotation for p in parameters}
    return extended


def check_seeds(seed: int, images: int) -> None:
    """ValueError if the last of so many images would have a seed that is too large."""
    if seed + images > 2**63:
        raise ValueError(f"`seed` (={seed}) + {images} images must not exceed 2**63")


def load_pipeline(
    model: str, device: str, sampling: Sampling, precision: str | None = None
) -> "Pipeline":
    """A pipeline on a device, with changed defaults; errors are those of both."""
    from setar.device import find_device
    from setar.pipeline import load_for_sampling

    return load_for_sampling(model, str(find_device(device)), sampling, precision)


def parse_numbers(text: str, separator: str, counts: Collection[int], rule: str) -> list[int]:
    """The whole numbers in a text such as ``8x8``; ValueError with the rule if it reads otherwise.

    ``counts`` are the numbers of numbers that there may be.
    """
    parts = [part.strip() for part in text.lower().split(separator)]
    whole = all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts)
    if len(parts) not in counts or not whole:
        raise ValueError(f"{rule}; got {text[:40]!r}")
    return list(map(int, parts))


def parse_size(text: str) -> tuple[int, int] | None:
    """Height and width of text such as ``256`` or ``128x256``; None if there is none.

    Raises:
        ValueError: it has another form, or a side is not from 1 to 65536.
    """
    if not text:
        return None
    rule = "--size reads 256, or height x width such as 128x256"
    sides = parse_numbers(text, "x", [1, 2], rule)
    if not all(1 <= side <= 65_536 for side in sides):
        raise ValueError(f"{rule}, of 1 to 65536 pixels; got {text[:40]!r}")
    return sides[0], sides[-1]


def parse_grid(text: str) -> tuple[int, int]:
    """Rows and columns of text such as ``8x8``; ValueError if it has another form."""
    rule = "--grid reads rows x columns, such as 8x8"
    rows, columns = parse_numbers(text, "x", [2], rule)
    if not rows or not columns:
        raise ValueError(f"{rule}, of at least 1 each; got {text[:40]!r}")
    return rows, columns
