"""By which program a run was started, so that it can be repeated: version, commit, command."""

import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import torch

PATIENCE = 10
"""Seconds that git may take, in a large repository on a slow disk."""


def session(step: int) -> dict[str, Any]:
    """What ``settings.json`` says of a start, or of a resumption after ``step``."""
    commit = _git("rev-parse", "HEAD")
    dirty = None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no"))
    return {
        "step": step,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "setar": import_module("setar").__version__,
        "torch": torch.__version__,
        "commit": commit,
        "dirty": dirty,
        "command": shlex.join(sys.orig_argv),
    }


def _git(*words: str) -> str | None:
    """What git says of the repository of the working directory; None if there is none."""
    # What a repository's own settings would start is not.
    command = ["git", "-c", "core.fsmonitor=false", *words]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
