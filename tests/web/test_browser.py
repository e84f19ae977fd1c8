"""The page as a person uses it, in Debian's Chromium; screenshots go to ``outputs/studio``."""

import os
import shutil
import warnings
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

pytest.importorskip("gradio", reason='the studio needs pip install "setar[web]"')
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOTS = Path(__file__).parents[2] / "outputs" / "studio"
PATIENCE = 120_000
"""Milliseconds: the machine may be busy."""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        text = "NO BROWSER: the studio's page is not tested (apt-get install chromium)"
        warnings.warn(text, stacklevel=1)
        pytest.skip(text)
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser, site):
    """A new tab on the studio, ready; whatever its scripts complain of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    complaints = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(site.address)
    tab.wait_for_selector("#draw-button")
    tab.wait_for_selector("#plan img")
    yield tab
    context.close()
    assert complaints == []


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def words(page, part):
    return page.input_value(f"#{part}-words textarea, #{part}-words input")


def wait_for_words(page, part, text):
    page.wait_for_function(
        "([part, text]) => document.querySelector(`#${part}-words textarea, #${part}-words input`)"
        ".value.includes(text)",
        arg=[part, text],
    )


def choose(page, label, value):
    """Type a value into the dropdown of the tab that is shown."""
    field = page.get_by_role("tabpanel").get_by_label(label, exact=False).first
    field.click()
    field.fill(value)
    page.keyboard.press("Enter")


def test_draw_by_class_and_edit_what_was_drawn(page):
    """Frames arrive, a slider draws anew, and a painted half is made as something else."""
    choose(page, "Class", "dragon")
    page.evaluate(
        """() => { window.seen = new Set(); setInterval(() => {
          const field = document.querySelector('#draw-words textarea, #draw-words input');
          if (field.value) window.seen.add(field.value); }, 5); }"""
    )
    page.click("#draw-button")
    wait_for_words(page, "draw", "4 pictures in")
    seen = page.evaluate("[...window.seen]")
    assert any(text.startswith("set ") for text in seen), seen
    assert page.locator("#drawn .thumbnail-item img, #drawn .grid-container img").count() == 4
    shot(page, "draw")

    slider = page.locator("#speed input[type=range]")
    slider.focus()
    slider.press("Home")  # one token at a time; by keyboard
    page.wait_for_function(
        "document.querySelector('#sets textarea, #sets input').value.includes('16 sets')"
    )
    page.click("#draw-button")
    wait_for_words(page, "draw", "16 sets, recipe random-16-cosine")

    page.get_by_role("button", name="Edit the chosen picture further").click()
    page.wait_for_selector("#painting canvas")
    page.wait_for_timeout(1500)
    page.locator("#painting button[aria-label=Brush]").first.click()
    box = page.locator("#painting canvas").first.bounding_box()
    middle, left = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2
    page.mouse.move(left - 40, middle - 40)
    page.mouse.down()
    for step in range(9):
        page.mouse.move(left - 40 + 10 * step, middle - 40 + 10 * step)
    page.mouse.up()
    choose(page, "Class", "cat")
    page.click("#edit-button")
    wait_for_words(page, "edit", "4 pictures in")
    assert "asked for cat" in words(page, "edit")
    shot(page, "edit")


def test_mistakes_are_one_line_and_the_page_goes_on(page):
    choose(page, "Class", "no-such-class")
    page.click("#draw-button")
    toast = page.locator(".toast-body").first
    toast.wait_for()
    assert "unknown class 'no-such-class'" in toast.inner_text()
    shot(page, "mistake")
    choose(page, "Class", "cat")
    page.click("#draw-button")
    wait_for_words(page, "draw", "4 pictures in")


def test_compare_and_inside(page, picture):
    page.get_by_role("tab", name="Compare").click()
    field = page.get_by_label("Recipes")
    field.fill("raster-N-uniform\nrandom-4-cosine\nrandom-1-uniform")
    page.click("#compare-button")
    wait_for_words(page, "compare", "3 of 3 recipes")
    page.wait_for_selector("#sheet img")
    shot(page, "compare")
    page.get_by_role("tab", name="Inside").click()
    page.click("#masks-button")
    page.wait_for_selector("#masks img")
    page.set_input_files("#inside-picture input[type=file]", str(picture))
    page.wait_for_selector("#inside-picture img")
    page.click("#tokenizer-button")
    wait_for_words(page, "inside", "PSNR")
    shot(page, "inside")
    assert page.locator("#reconstruction img").count() == 1


def test_a_telephone_shows_all_of_it(page):
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("Draw", "Edit", "Compare", "Inside"):
        tab = page.get_by_role("tab", name=name)
        if tab.count() and tab.first.is_visible():
            tab.first.click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        shot(page, f"telephone-{name.lower()}")


def test_two_people_each_get_their_own(page, browser, site):
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(site.address)
    other.wait_for_selector("#draw-button")
    choose(other, "Class", "7")
    page.click("#draw-button")
    other.click("#draw-button")
    wait_for_words(page, "draw", "4 pictures in")
    wait_for_words(other, "draw", "4 pictures in")
    shown = [one.locator("#drawn img").first.get_attribute("src") for one in (page, other)]
    assert shown[0] != shown[1]
    other.close()


def test_screenshots_are_pictures():
    """The last one: whatever was kept is a picture of a page, not an empty one."""
    for file in SHOTS.glob("*.png"):
        with Image.open(file) as image:
            assert len(image.convert("RGB").getcolors(2**24) or ()) > 50, file
