"""Every tab, light and dark, examined by axe-core: no serious or critical fault.

Axe is a development tool that is not kept here: ``AXE`` may name its file ``axe.min.js``; else npm
fetches it once, into ``outputs``. Where neither can be, the tests are skipped with a warning.
"""

import os
import shutil
import subprocess
import tarfile
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("gradio", reason='the studio needs pip install "setar[web]"')

VERSION = "4.14.1"
FOLDER = Path(__file__).parents[2] / "outputs" / "axe"
GRAVE = ("serious", "critical")
EXCUSED: dict[str, str] = {}
"""Faults of Gradio's own parts, which a page cannot mend: rule, and why."""


@pytest.fixture(scope="module")
def axe():
    """The text of axe-core."""
    file = Path(os.environ.get("AXE") or FOLDER / f"axe-{VERSION}.min.js")
    if not file.is_file() and "AXE" not in os.environ and not _fetched(file):
        text = "NO AXE: the page's accessibility is not tested (npm, or AXE=.../axe.min.js)"
        warnings.warn(text, stacklevel=1)
        pytest.skip(text)
    return file.read_text(encoding="utf-8")


def _fetched(file):
    """Whether npm could fetch it."""
    if shutil.which("npm") is None:
        return False
    FOLDER.mkdir(parents=True, exist_ok=True)
    words = ["npm", "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", str(FOLDER)]
    try:
        subprocess.run(words, check=True, timeout=120, capture_output=True)
    except (subprocess.SubprocessError, OSError):
        return False
    with tarfile.open(FOLDER / f"axe-core-{VERSION}.tgz") as archive:
        found = archive.extractfile("package/axe.min.js")
        assert found is not None
        file.write_bytes(found.read())
    return True


def faults(page, axe):
    """Rule, and the parts of the page, of each grave fault."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 10  # it did look
    return {
        fault["id"]: [node["html"][:160] for node in fault["nodes"]]
        for fault in found["violations"]
        if fault["impact"] in GRAVE
    }


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_has_a_grave_fault(open_page, axe, scheme, width):
    page, found = open_page(width, color_scheme=scheme), {}
    for name in ("Draw", "Edit", "Compare", "Inside"):
        page.get_by_role("tab", name=name).click()
        folded = page.get_by_role("tabpanel").locator("button.label-wrap:not(.open)")
        while folded.count():
            folded.first.click()
        page.wait_for_timeout(1000)
        if grave := faults(page, axe):
            found[name] = {rule: parts for rule, parts in grave.items() if rule not in EXCUSED}
    assert {name: grave for name, grave in found.items() if grave} == {}


def test_axe_sees_faults(open_page, axe):
    """A picture without a description and a field without a name, put on the page, are found."""
    page = open_page()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=/x.png><input>')")
    assert {"image-alt", "label"} <= faults(page, axe).keys()
