"""How long does a person wait for a first picture, and for new ones after moving the slider?

    python benchmarks/first_picture.py --runs 3

The studio as somebody meets it: `setar serve` is started, its page opened in Chromium as soon as it
can be, and Draw is pressed as it is, which makes four pictures; then the slider "How many tokens at
a time" is pressed at several places. A picture counts when it is finished and the browser has
decoded it. Prints seconds, those of the server's threads beside them, and the load of the machine,
without which seconds mean little. Exit code 1 if a median is over `FIRST` or `MOVED`.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from studio import Running, studio

FIRST, MOVED = 15.0, 3.0
"""Seconds to a first picture, and from a slider's move to new ones, at most."""
PLACES = (0.5, 0.25, 0.75, 1.0, 0.4)
"""Of the slider, from one token at a time to all at once."""
PATIENCE = 120_000
"""Milliseconds for which the page may let one wait."""
SHOWN = """() => {
  const said = document.querySelector("#draw-words textarea, #draw-words input").value;
  const images = [...document.querySelectorAll("#drawn .grid-container img")];
  return said.includes("4 pictures in") && images.length === 4 &&
    images.every((image) => image.complete && image.naturalWidth > 0);
}"""
"""Whether the pictures that the page speaks of are on it."""


def ran(process: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def opened(browser: Any, here: Running) -> Any:
    """The page, on which pictures were drawn as soon as they could be."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(here.address)
    page.click("#draw-button")
    page.wait_for_function(SHOWN)
    return page


def moved(page: Any, process: int, place: float) -> float:
    """Seconds from pressing the slider at a place until new pictures are there."""
    words = "#draw-words textarea, #draw-words input"
    page.evaluate("(words) => { document.querySelector(words).value = ''; }", words)
    slider = page.locator("#speed input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 2 + place * (box["width"] - 4), box["y"] + box["height"] / 2)
    page.mouse.down()
    began, before = time.perf_counter(), ran(process)
    page.mouse.up()
    page.wait_for_function(SHOWN)
    seconds, own = time.perf_counter() - began, ran(process) - before
    print(f"slider: {seconds:.2f} s ({own:.2f} s of CPU): {page.input_value(words)}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="first picture, and pictures after a move")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="emoji", help="of classes")
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    from playwright.sync_api import sync_playwright

    firsts, moves = list[float](), list[float]()
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                with studio([options.model], Path(folder)) as here:
                    served = time.perf_counter() - began
                    page = opened(browser, here)
                    firsts.append(time.perf_counter() - began)
                    own = ran(here.process)
                    print(
                        f"served: {served:.2f} s; pictures: {firsts[-1]:.2f} s ({own:.2f} of CPU)"
                    )
                    moves += [moved(page, here.process, place) for place in PLACES]
                    page.close()
        browser.close()
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    for name, seconds, most in (("first picture", firsts, FIRST), ("slider", moves, MOVED)):
        middle, last = median(seconds), max(seconds)
        print(f"{name}: median {middle:.1f} s, worst {last:.1f} s; at most {most:g} are wanted")
    print(f"load {load}")
    sys.exit(median(firsts) > FIRST or median(moves) > MOVED)


if __name__ == "__main__":
    main()
