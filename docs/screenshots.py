"""Take the screenshots of the studio that README and documentation show.

    python docs/screenshots.py

Writes docs/studio-draw.png and docs/studio-edit.png, in 128 colours; look at them before they are
committed. Needs Chromium and Playwright.
"""

import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from setar.pictures.png import write_png
from setar.web.serving import serving

DOCS = Path(__file__).parent
ENDED = """(part) => document.querySelector(`#${part}-words textarea, #${part}-words input`)
  .value.includes("pictures in")"""
STROKE = ((0.25, 0.62), (0.75, 0.62), (0.75, 0.75), (0.25, 0.75))
"""Corners of what is painted over, as shares of the picture."""


def choose_class(page: Any, name: str) -> None:
    """On the tab that is shown."""
    field = page.get_by_role("tabpanel").get_by_label("Class", exact=False).first
    field.click()
    field.fill(name)
    page.keyboard.press("Enter")


def draw(page: Any) -> None:
    """Four smiling faces."""
    choose_class(page, "face-smiling")
    page.click("#draw-button")
    page.wait_for_function(ENDED, arg="draw")


def edit(page: Any) -> None:
    """The mouth of the first with a tongue."""
    page.get_by_role("button", name="Edit the chosen picture further").click()
    page.wait_for_selector("#painting canvas")
    page.wait_for_timeout(2000)  # the editor fits the picture into its frame
    page.locator("#painting button[aria-label=Brush]").first.click()
    box = page.locator("#painting canvas").first.bounding_box()
    corners = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in STROKE]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=20)
    page.mouse.up()
    choose_class(page, "face-tongue")
    page.click("#edit-button")
    page.wait_for_function(ENDED, arg="edit")


def take(page: Any, name: str) -> None:
    """The whole page, without a focus on anything."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(1500)
    shot = Image.open(BytesIO(page.screenshot(full_page=True)))
    write_png(shot.convert("RGB").quantize(128), DOCS / f"{name}.png", optimize=True)


def main() -> None:
    """Take them one after the other, on one page."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with serving(["emoji"]) as (address, _), sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.set_default_timeout(120_000)
        page.goto(address)
        page.wait_for_selector("#plan img")
        for step, name in ((draw, "studio-draw"), (edit, "studio-edit")):
            step(page)
            take(page, name)
        browser.close()


if __name__ == "__main__":
    main()
