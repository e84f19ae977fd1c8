"""The studio on a port of this machine."""

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setar.registry import quoted
from setar.web.limits import MOST_BYTES, MOST_WAITING

THREADS = 32
"""That answer requests; one of them makes pictures."""
SESSIONS = 1000
"""Visitors whose pages are remembered at once."""


@contextmanager
def serving(
    models: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int | None = None,
    device: str = "cpu",
    browser: bool = False,
) -> Iterator[tuple[str, "object"]]:
    """A studio that runs until the block ends: its address, and its `setar.web.page.Studio`.

    It reads and writes a temporary folder of its own, which is removed at the end, sends nothing to
    anybody, and fetches nothing.

    Args:
        models: that people may use; none: those that are shipped.
        host: the name or address that it listens at, an IPv6 one in brackets or not; ``0.0.0.0``
            is the whole network's.
        port: None is the first free one from 7860 on.
        device: where the models compute.
        browser: open the page.

    Raises:
        ImportError: Gradio is not installed.
        OSError: the host is no address of this machine, or the port cannot be had.
        ValueError: a model cannot be loaded.
    """
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    _check_free(host, port)  # before models are loaded
    with tempfile.TemporaryDirectory(prefix="setar-studio-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        # Nor does it sum up all requests with pandas after each of them, which nobody looks at.
        os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(2**62)
        from gradio.route_utils import FnIndexInferError

        from setar.web.naming import NAMING
        from setar.web.page import STYLE, Studio, theme
        from setar.web.shelf import Shelf

        studio = Studio(Shelf(models, device), Path(folder) / "results")
        studio.page.queue(max_size=MOST_WAITING, default_concurrency_limit=4)
        _, address, _ = studio.page.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            show_error=False,
            max_threads=THREADS,
            max_file_size=MOST_BYTES,
            state_session_capacity=SESSIONS,
            allowed_paths=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            theme=theme(),
            css=STYLE,
            head=NAMING,
            app_kwargs={"exception_handlers": {FnIndexInferError: _no_such_function}},
            footer_links=["api", "settings"],
        )
        try:
            yield address, studio
        finally:
            studio.page.close(verbose=False)


def _check_free(host: str, port: int | None) -> None:
    _listen(host, 0, quoted(host), "127.0.0.1 is for this machine, 0.0.0.0 for the whole network")
    if port is not None:
        free = "without --port it takes the first that is free"
        _listen(host, port, f"port {port} of {host}", free)


def _listen(host: str, port: int, where: str, advice: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, TypeError) as error:  # the latter of names that no domain can have
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise OSError(f"the studio cannot listen at {where}: {reason}; {advice}") from error


async def _no_such_function(request: Any, error: Exception) -> Any:
    """The answer to whoever calls what is not there; Gradio's own is a traceback in the output."""
    from fastapi.responses import JSONResponse

    return JSONResponse({"error": "this studio has no such function"}, 404)
