"""The page as a person uses it, in Debian's Chromium; screenshots go to ``outputs/studio``."""

import sys
import time
import traceback
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from setar.pictures.memory import recall
from setar.web import drawing

pytestmark = pytest.mark.slow

pytest.importorskip("gradio", reason='the studio needs pip install "setar[web]"')
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

SHOTS = Path(__file__).parents[2] / "outputs" / "studio"


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def words(page, part):
    return page.input_value(f"#{part}-words textarea, #{part}-words input")


def wait_for_words(page, part, text):
    try:
        page.wait_for_function(
            "([part, text]) =>"
            " document.querySelector(`#${part}-words textarea, #${part}-words input`)"
            ".value.includes(text)",
            arg=[part, text],
        )
    except playwright.TimeoutError as error:  # rare, and its cause not found: what tells most
        shot(page, f"never-{part}")
        said = f"{part} says {words(page, part)!r}, and not {text!r}"
        raise AssertionError(f"{said}; our threads:\n{our_threads()}") from error


def our_threads():
    """Where each thread of this process, the studio's too, stands inside of setar."""
    stacks = map(traceback.format_stack, sys._current_frames().values())
    return "\n".join("".join(stack) for stack in stacks if any("setar" in line for line in stack))


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
    assert page.locator("#drawn .thumbnail-item img, #drawn .grid-container img").count() == 4
    shot(page, "draw")

    slider = page.locator("#speed input[type=range]")
    slider.focus()
    slider.press("Home")  # one token at a time; by keyboard
    wait_for_sets(page, "16 sets")
    page.click("#draw-button")
    wait_for_words(page, "draw", "16 sets, recipe random-16-cosine")
    # Of so few tokens a browser may miss frames, but not all of twenty.
    seen = page.evaluate("[...window.seen]")
    assert any(text.startswith("set ") for text in seen), seen

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


def test_settings_that_are_looked_at_stay_the_models_own(page):
    """Empty fields, once they are seen, still mean what the model was given."""
    page.click("#draw-button")
    wait_for_words(page, "draw", "4 pictures in")
    before = picture_bytes(page)
    page.get_by_role("tabpanel").get_by_role("button", name="More settings").click()
    assert page.get_by_role("tabpanel").get_by_label("Temperature").input_value() == ""
    page.get_by_role("tabpanel").get_by_label("Seed").fill("1")
    page.click("#draw-button")
    page.wait_for_selector("text=seed 4")
    wait_for_words(page, "draw", "4 pictures in")
    assert picture_bytes(page) == before[1:] + picture_bytes(page)[3:]


def picture_bytes(page):
    """The pixels of all pictures that are shown on the first tab."""
    files = [page.request.get(address).body() for address in addresses(page)]
    return [Image.open(BytesIO(file)).tobytes() for file in files]


def addresses(page):
    return [one.get_attribute("src") for one in page.locator("#drawn .grid-container img").all()]


def test_an_uploaded_picture_is_made_again_to_the_byte(page, tmp_path):
    """Downloaded, and uploaded on a page that says something else."""
    choose(page, "Class", "dragon")
    page.get_by_role("tabpanel").get_by_label("Recipe").fill("raster-3-random")
    page.click("#draw-button")
    wait_for_words(page, "draw", "4 pictures in")
    file = tmp_path / "drawn.png"
    file.write_bytes(page.request.get(addresses(page)[2]).body())

    page.reload()
    page.wait_for_selector("#plan img")
    page.get_by_role("button", name="Begin with a picture that was made here").click()
    page.set_input_files("#remembered input[type=file]", str(file))
    wait_for_words(page, "draw", "dragon, seed 2: Draw makes it again, to the byte")
    assert page.get_by_role("tabpanel").get_by_label("Recipe").input_value() == "raster-3-random"
    page.click("#draw-button")
    wait_for_words(page, "draw", "1 picture in")
    assert page.request.get(addresses(page)[0]).body() == file.read_bytes()
    shot(page, "remembered")


def margins(page):
    fields = [f"number input for {side} (percent)" for side in ("Left", "Top", "Right", "Bottom")]
    return [int(page.get_by_label(field).input_value()) for field in fields]


def test_more_is_made_around_a_picture_by_dragging_the_frame(page, picture):
    """By mouse, by keys and by sliders; all say the same."""
    page.get_by_role("tab", name="Edit").click()
    page.get_by_role("button", name="Make more around it").click()
    page.set_input_files("#painting input[type=file]", str(picture))
    page.wait_for_selector("#painting canvas")
    page.wait_for_timeout(1500)
    page.locator("#frame").hover()
    page.wait_for_selector("#frame img[src^='data:image/png']")
    for edge, x, y in (("right", 0.75, 0.5), ("top", 0.5, 0.3)):
        page.locator("#frame .whole").scroll_into_view_if_needed()
        frame = page.locator("#frame .whole").bounding_box()
        box = page.locator(f"#frame .edge.{edge}").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(frame["x"] + 0.5 * frame["width"], frame["y"] + 0.4 * frame["height"])
        page.mouse.move(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"])
        page.mouse.up()
    wait_for_margins(page, [0, 30, 25, 0])
    page.locator("#frame .edge.left").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowRight")
    wait_for_margins(page, [11, 30, 25, 0])
    page.get_by_label("number input for Bottom (percent)").fill("20")
    page.keyboard.press("Tab")
    edge = page.locator("#frame .edge.bottom")
    playwright.expect(edge).to_have_attribute("aria-valuetext", "20 percent made at the bottom")
    page.locator("#frame .edge.bottom").focus()
    page.keyboard.press("End")  # as far as the picture leaves room
    wait_for_margins(page, [11, 30, 25, 60])
    shot(page, "frame")
    page.click("#edit-button")
    wait_for_words(page, "edit", "4 pictures in")


def wait_for_margins(page, expected):
    for _ in range(100):
        if margins(page) == expected:
            return
        page.wait_for_timeout(100)
    assert margins(page) == expected


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


def wait_for_sets(page, text):
    page.wait_for_function(
        "text => document.querySelector('#sets textarea, #sets input').value.includes(text)",
        arg=text,
    )


def test_what_is_not_typed_to_its_end_is_no_mistake(page):
    field = page.get_by_role("tabpanel").get_by_label("Recipe")
    field.press_sequentially("raster-4-unif", delay=50)
    wait_for_sets(page, "not yet: unknown schedule 'unif'; did you mean 'uniform'?")
    field.press_sequentially("orm", delay=50)
    wait_for_sets(page, "raster-4-uniform: 16 tokens in 4 sets")
    assert page.locator(".toast-body").count() == 0


def test_who_stops_is_told_so(page, site, monkeypatch):
    monkeypatch.setattr(drawing, "watched", slowly(drawing.watched))
    page.get_by_role("tabpanel").get_by_label("Recipe").fill("raster-N-uniform")
    page.click("#draw-button")
    wait_for_words(page, "draw", "set ")
    page.get_by_role("tabpanel").get_by_role("button", name="Stop").click()
    wait_for_words(page, "draw", "stopped")
    page.wait_for_timeout(1500)
    assert words(page, "draw") == "stopped"
    assert len(site.studio.running) == 0


def slowly(watched):
    """As `setar.web.watched.watched`, with a second after each frame."""

    def frames(make, stop):
        for frame in watched(make, stop):
            yield frame
            time.sleep(1)

    return frames


def test_compare_and_inside(page, picture, tmp_path):
    page.get_by_role("tab", name="Compare").click()
    field = page.get_by_label("Recipes")
    field.fill("raster-N-uniform\nrandom-4-cosine\nrandom-1-uniform")
    page.click("#compare-button")
    wait_for_words(page, "compare", "3 of 3 recipes")
    page.wait_for_selector("#sheet img")
    shot(page, "compare")
    file = tmp_path / "sheet.png"
    file.write_bytes(page.request.get(page.locator("#sheet img").get_attribute("src")).body())
    assert [part.sampling["recipe"] for part in recall(file).parts] == [
        *("raster-N-uniform", "random-4-cosine", "random-1-uniform")
    ]
    page.get_by_role("tab", name="Inside").click()
    page.click("#masks-button")
    page.wait_for_selector("#masks img")
    page.set_input_files("#inside-picture input[type=file]", str(picture))
    page.wait_for_selector("#inside-picture img")
    page.click("#tokenizer-button")
    wait_for_words(page, "inside", "PSNR")
    shot(page, "inside")
    assert page.get_by_role("button", name="share").count() == 0  # nothing is sent anywhere
    assert page.locator("#reconstruction img").count() == 1


def test_drawings_lie_on_black_in_the_dark_as_they_lie_on_white_in_the_light(open_page):
    """Their letters are of the grey that is read on both; see `setar.pictures.plans`."""
    for scheme, colour in (("dark", "rgb(0, 0, 0)"), ("light", "rgb(255, 255, 255)")):
        page = open_page(color_scheme=scheme)
        page.get_by_role("tab", name="Inside").click()
        page.click("#masks-button")
        page.wait_for_selector("#masks img")
        for part in ("plan", "inside-plan", "masks"):
            style = "part => getComputedStyle(part).backgroundColor"
            assert page.locator(f"#{part}").evaluate(style) == colour
        shot(page, f"inside-{scheme}")


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
    other.set_default_timeout(120_000)
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
