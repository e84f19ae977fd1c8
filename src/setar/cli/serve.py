"""``setar serve``: the studio, a page where people draw."""

from importlib.util import find_spec
from threading import Event
from typing import Annotated

import typer

from setar.cli import options
from setar.cli.console import say
from setar.cli.models import class_names


def serve(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models, as of `setar sample`; default: the shipped.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where it listens; 0.0.0.0 lets the whole network in.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            help="Default: the first free from 7860 on.", callback=options.counted(1, 65535)
        ),
    ] = None,
    device: options.DeviceOption = "cpu",
    browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a page where people draw, edit, compare and look inside; Ctrl-C ends it."""
    for model in models or ():
        class_names(model)
    if find_spec("gradio") is None:
        raise ImportError('the studio needs Gradio: pip install "setar[web]"')

    from setar.device import find_device
    from setar.web.serving import serving

    with serving(models or (), host, port, str(find_device(device)), browser) as (address, _):
        say(f"the studio is at {address} (Ctrl-C ends it)")
        Event().wait()
