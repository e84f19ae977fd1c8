"""What the site takes from elsewhere arrives whole, and its links lead where they led."""

import re
from pathlib import Path

import brought_in
import pytest
from house_docstrings import with_drawings
from public_names import public_modules, public_names, without_page

import setar

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
INSIDE = re.compile(r"(?<!`)\[[^\]`]*\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def test_a_part_of_the_readme():
    part = brought_in.from_readme("Edit", "guides/editing")
    assert "setar edit emoji" in part
    assert "](../edit.png)" in part
    assert "## " not in part
    with pytest.raises(ValueError, match="has 0 headings 'Edlt', not one"):
        brought_in.from_readme("Edlt", "guides/editing")


def test_links_lead_where_they_led():
    lines = [
        "[a](docs/results.md) [b](configs/digits.toml) [c](README.md#things-of-your-own)",
        "[d](benchmarks) [e](https://example.org/x) ![f](docs/edit.png)",
        "```",
        "x[0](docs/results.md)  # code",
        "```",
        "# Title",
    ]
    assert brought_in.rewritten(lines, "README.md", "guides/x", 1).splitlines() == [
        "[a](../results.md) [b](../../configs/digits.toml) [c](plugins.md)",
        "d [e](https://example.org/x) ![f](../edit.png)",
        *lines[2:5],
        "## Title",
    ]


def test_the_readme_has_each_section_that_a_page_asks_for():
    asked = 0
    for page in PAGES:
        name = str(page.relative_to(ROOT / "docs").with_suffix(""))
        for match in brought_in.FENCE.finditer(page.read_text(encoding="utf-8")):
            if match[1] == "from-readme":
                assert brought_in.from_readme(match[2], name)
                asked += 1
    assert asked >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_pages_exist(page):
    """Also where Sphinx is not installed; a strict build looks at anchors too."""
    for target in INSIDE.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_commands():
    page = brought_in.commands("", "commands")
    assert "## setar sample" in page
    assert "## setar import llamagen-gpt" in page
    assert re.search(r"\| `--top-p` \| \w", page)


def test_every_shipped_model_has_its_card():
    page = brought_in.model_cards("", "models")
    weights = ROOT / "src/setar/weights"
    assert re.findall(r"^## (.*)", page, re.MULTILINE)[0::1]
    for folder in weights.iterdir():
        assert f"\n## {folder.name}\n" in f"\n{page}"


DOCSTRING = """\
Two masks of |x|, as `KVCache`s:

    1 . .
    1 1 .

ar    one by one
mar   all at once

Args:
    x: a number

        with more
"""

AS_RST = r"""
Two masks of \|x\|, as `KVCache`\ s:

::

        1 . .
        1 1 .

::

    ar    one by one
    mar   all at once

Args:
    x: a number

        with more
"""


def test_a_drawing_stays_a_drawing():
    assert with_drawings(DOCSTRING.splitlines()) == AS_RST.splitlines()[1:]


def test_public_names():
    names = {*public_names()}
    assert {"setar.pipeline.Pipeline", "setar.recipes.recipe.Recipe"} <= names
    assert len(setar.__all__) < len(names)
    assert not [name for name in names if name.startswith("setar.cli") or "._" in name]
    assert "setar.training.settings" not in public_modules(), "its names are elsewhere"


def test_the_api_begins_with_the_public_face():
    page = (ROOT / "docs/api/index.md").read_text(encoding="utf-8")
    assert [name for name in setar.__all__ if f"`setar.{name} <" not in page] == []


def test_private_names_and_type_variables_need_no_page():
    def given(target):
        return without_page(None, None, {"reftarget": target}, "words")

    assert given("setar.recipes.orders._Function") == "words"
    assert given("setar.tokenizers.base.ConfigKind") == "words"
    assert given("setar.recipes.orders.register_order") is None, "a missing page is told"
    assert given("setar.recipes.none.Nothing") is None


def test_every_public_module_has_its_place():
    """A new room needs a page of the API, or a place on one."""
    asked = [
        match[2]
        for page in PAGES
        for match in brought_in.FENCE.finditer(page.read_text(encoding="utf-8"))
        if match[1] == "modules"
    ]
    for module in public_modules():
        inside = [room for room in asked if module == room or module.startswith(f"{room}.")]
        assert len(inside) == 1 or module == "setar", module
