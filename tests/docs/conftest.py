"""Makes the extensions of the documentation site importable; they need no Sphinx for that."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "extensions"))
