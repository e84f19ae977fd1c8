"""The documentation site: `make docs` builds it, offline and strictly.

A page is Markdown (MyST). What is written elsewhere already (the README, the cards of models, the
docstrings of configs) is not copied: `extensions/` brings it in while the site is built, so a key,
a class or a command without an explanation, and a link to nowhere, fails the build.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import setar

project = "setar"
author = "The setar developers"
copyright = "2026, the setar developers"
version = release = setar.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "brought_in",
    "house_docstrings",
    "public_names",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "setar"
html_static_path: list[str] = []
html_show_sourcelink = False

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
# One backtick in a docstring is a name that may be defined far away, or an expression.
default_role = "code"

# Types of fields are looked up among all names: of several alike it takes any.
suppress_warnings = ["ref.python"]

# Links leave the site to web pages alone, which a build without a network cannot look at. Names in
# signatures that belong to other packages have no page here.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!setar\b).*"),
]
