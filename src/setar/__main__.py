"""``python -m setar``: the same as ``setar``."""

from setar.cli import main

main()
