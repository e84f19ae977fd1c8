"""Arguments and options that several commands share, and how they are read."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

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
        typer.Option(help="Guidance schedule: constant, linear, linear-after, power-cosine, var."),
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

    @functools.wraps(command)
    def extended(**values: Any) -> None:
        found = {name: values.pop(name) for name in shared}
        found["scale"] = found.pop("guidance")
        given = {name: value for name, value in found.items() if value not in (None, "")}
        command(**values, sampling=given)

    parts = [list(shared.values()) if name == "sampling" else [own[name]] for name in own]
    parameters = [parameter for part in parts for parameter in part]
    vars(extended)["__signature__"] = inspect.Signature(parameters)
    extended.__annotations__ = {p.name: p.annotation for p in parameters}
    return extended


def parse_grid(text: str) -> tuple[int, int]:
    """Rows and columns of text such as ``8x8``.

    Raises:
        ValueError: the text has another form.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 8 for p in parts):
        raise ValueError(f"--grid reads rows x columns, such as 8x8; got {text[:40]!r}")
    return int(parts[0]), int(parts[1])
