"""The studio on a port of this machine."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        host: the address that it listens at; ``0.0.0.0`` is the whole network's.
        port: None is the first free one from 7860 on.
        device: where the models compute.
        browser: open the page.

    Raises:
        ImportError: Gradio is not installed.
        OSError: the port is taken.
        ValueError: a model cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="setar-studio-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from gradio.route_utils import FnIndexInferError

        from setar.web.naming import NAMING
        from setar.web.page import STYLE, Studio, theme
        from setar.web.shelf import Shelf

        studio = Studio(Shelf(models, device), Path(folder) / "results")
        studio.page.queue(max_size=MOST_WAITING, default_concurrency_limit=4)
        _, address, _ = studio.page.launch(
            server_name=host,
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


async def _no_such_function(request: Any, error: Exception) -> Any:
    """The answer to whoever calls what is not there; Gradio's own is a traceback in the output."""
    from fastapi.responses import JSONResponse

    return JSONResponse({"error": "this studio has no such function"}, 404)
