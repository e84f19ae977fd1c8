"""Arguments and options that several commands share, and how they are read."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from setar.pipeline import Pipeline

Model = Annotated[
    str, typer.Argument(help="A shipped model, a model folder, a run's folder or a hub id.")
]
Sampling = Mapping[str, Any]
"""What a command gets of the options of sampling; see `with_sampling`."""
AS_TRAINED: Sampling = MappingProxyType({})
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]


def _sampling(
    recipe: Annotated[str | None, typer.Option(help="Order, sets and schedule.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Scale; 1 is off (schedule var: 0).")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Guidance schedule: constant, linear, linear-after, power-cosine, var, or yours."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Below 1: safer, above: wilder.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest codes; 0: all.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only the likeliest codes of this sum.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Only codes at least this fraction of the likeliest.")
    ] = None,
    attention: Annotated[str | None, typer.Option(help="causal, or full (MAR sampling).")] = None,
    smoothing: Annotated[
        bool | None,
        typer.Option(help="Mix codes as VAR's more_smooth does: smoother pictures, less detail."),
    ] = None,
) -> None:
    """The options of every command that samples; their defaults are the model's."""


def with_sampling(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command have the options of sampling in the place of its parameter ``sampling``.

    That parameter gets those that the user gave, named as `SamplingDefaults.changed` reads them.
    """
    shared = inspect.signature(_sampling).parameters
    own = inspect.signature(command).parameters

    def extended(**values: Any) -> None:
        found = {name: values.pop(name) for name in shared}
        found["scale"] = found.pop("guidance")
        given = {name: value for name, value in found.items() if value not in (None, "")}
        command(**values, sampling=given)

    parts = [list(shared.values()) if name == "sampling" else [own[name]] for name in own]
    return _signed(command, extended, [parameter for part in parts for parameter in part])


def with_plugins(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command have ``--plugin``; these files are loaded before it runs."""

    def extended(plugin: list[Path] | None = None, **values: Any) -> None:
        from setar.registry import load_plugin

        for file in plugin or ():
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


def load_pipeline(model: str, device: str, sampling: Sampling) -> "Pipeline":
    """A pipeline on a device, with changed defaults; errors are those of both."""
    from setar.device import find_device
    from setar.pipeline import Pipeline

    return Pipeline.from_pretrained(model, str(find_device(device)), sampling)


def parse_numbers(text: str, separator: str, counts: Collection[int], rule: str) -> list[int]:
    """The whole numbers in a text such as ``8x8``; ValueError with the rule if it reads otherwise.

    ``counts`` are the numbers of numbers that there may be.
    """
    parts = [part.strip() for part in text.lower().split(separator)]
    whole = all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts)
    if len(parts) not in counts or not whole:
        raise ValueError(f"{rule}; got {text[:40]!r}")
    return list(map(int, parts))


def parse_grid(text: str) -> tuple[int, int]:
    """Rows and columns of text such as ``8x8``; ValueError if it has another form."""
    rows, columns = parse_numbers(text, "x", [2], "--grid reads rows x columns, such as 8x8")
    return rows, columns
