"""Fixtures of the pictures' tests."""

import subprocess
import sys

import pytest


@pytest.fixture
def in_a_fresh_python():
    """What an interpreter of its own prints."""

    def run(program):
        return subprocess.check_output([sys.executable, "-c", program], text=True)

    return run
