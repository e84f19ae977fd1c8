"""A tiny model in a folder, and a studio of it that runs for a whole module."""

import json
import os
import shutil
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import pytest
import torch

from random_weights import random_fmt, randomise
from setar.pipeline import Pipeline
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.vqgan import PRESETS, VQGAN

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
PATIENCE = 120_000
"""Milliseconds: the machine may be busy."""
CLASSES = ("cat", "dog", "dragon", "7", "face-smiling")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a model of 4x4 tokens and pictures of 16x16 pixels; all weights are random."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = randomise(VQGAN(PRESETS["tiny"])).eval().requires_grad_(False)
        model = random_fmt(vocabulary=32)
    defaults = SamplingDefaults().changed({"recipe": "random-4-cosine", "guidance": 1.5})
    place = tmp_path_factory.mktemp("models") / "small"
    Pipeline(model, tokenizer, CLASSES, defaults).save_pretrained(place)
    return place


@pytest.fixture(scope="session")
def shelf(folder):
    from setar.web.shelf import Shelf

    return Shelf([str(folder)])


@pytest.fixture
def desk(tmp_path):
    from setar.web.results import Desk

    return Desk(tmp_path / "desk")


class Site:
    """A running studio, asked as a program asks it."""

    def __init__(self, address, studio):
        self.address, self.studio = address.rstrip("/"), studio

    def get(self, path):
        """Status and body of what lies at a path."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=120) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def post(self, path, body):
        """The same of what is sent there: bytes, or what JSON can say, NaN too."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, sent, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def call(self, name, data):
        """What a named function answers: the kind of its last event, and that event's data."""
        status, text = self.post(f"/gradio_api/call/{name}", {"data": data})
        if status != 200:
            return "refused", text
        event = json.loads(text)["event_id"]
        _, stream = self.get(f"/gradio_api/call/{name}/{event}")
        last = stream.strip().split("\n\n")[-1]
        lines = dict(line.split(": ", 1) for line in last.splitlines() if ": " in line)
        return lines["event"], json.loads(lines["data"])


@pytest.fixture(scope="module")
def site(folder):
    pytest.importorskip("gradio", reason='the studio needs pip install "setar[web]"')
    from setar.web.serving import serving

    with serving([str(folder)]) as (address, studio):
        yield Site(address, studio)


@pytest.fixture
def picture(tmp_path):
    """A file with a picture of 40x40 pixels."""
    from PIL import Image

    file = Path(tmp_path) / "picture.png"
    Image.radial_gradient("L").resize((40, 40)).convert("RGB").save(file)
    return file


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        text = "NO BROWSER: the studio's page is not tested (apt-get install chromium)"
        warnings.warn(text, stacklevel=1)
        pytest.skip(text)
    with driver.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def open_page(browser, site):
    """Opens new tabs on the studio, ready; whatever their scripts complain of fails the test."""
    complaints, contexts = [], []

    def opened(width=1280, height=900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(site.address)
        tab.wait_for_selector("#draw-button")
        tab.wait_for_selector("#plan img")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_page):
    return open_page()
