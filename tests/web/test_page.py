"""The running page, asked by programs: good ones, and those that try what happens."""

import time
from pathlib import Path

import pytest
from PIL import Image

from setar.web.limits import MOST_LETTERS

gradio = pytest.importorskip("gradio", reason='the studio needs pip install "setar[web]"')

pytestmark = pytest.mark.slow

DRAW = ["small", "dog", "", "", "", "", None, "", None, None, None, 3, 2]
"""Arguments of the function ``draw``, in their order."""
AT = {
    name: index
    for index, name in enumerate(
        [
            "model",
            "class_name",
            "prompt",
            "negative_prompt",
            "size",
            "recipe",
            "guidance",
            "guidance_schedule",
            "temperature",
            "top_k",
            "top_p",
            "seed",
            "count",
        ]
    )
}


def changed(**fields):
    data = list(DRAW)
    for name, value in fields.items():
        data[AT[name]] = value
    return data


@pytest.fixture(scope="module")
def client(site):
    from gradio_client import Client

    return Client(site.address, verbose=False)


def test_a_program_draws_as_a_person_does(client, site):
    gallery, words, animation = client.predict(
        model="small", class_name="dog", seed=3, count=2, api_name="/draw"
    )
    expected = site.studio.shelf.pipe("small")("dog", seed=3, count=2)
    made = [Image.open(one["image"]).convert("RGB") for one in gallery]
    assert [one.tobytes() for one in made] == [one.tobytes() for one in expected]
    assert [one["caption"] for one in gallery] == ["seed 3", "seed 4"]
    assert words.startswith("2 pictures in ")
    assert Path(animation).read_bytes()[:3] == b"GIF"


def test_sets_appear_one_after_the_other(client):
    job = client.submit(model="small", class_name="dog", count=1, api_name="/draw")
    words = [output[1] for output in job]
    assert len(words) > 1
    assert all(word.startswith("set ") for word in words[:-1])
    assert words[-1].startswith("1 picture in ")


def test_a_program_edits(client, picture, tmp_path):
    from gradio_client import handle_file

    mask = Image.new("L", (40, 40))
    mask.paste(255, (0, 0, 20, 40))
    mask.save(tmp_path / "mask.png")
    painting = {
        "background": handle_file(str(picture)),
        "layers": [handle_file(str(tmp_path / "mask.png"))],
        "composite": None,
    }
    gallery, words, _ = client.predict(
        painting, model="small", class_name="cat", count=2, api_name="/edit"
    )
    assert len(gallery) == 2
    assert "asked for cat" in words
    assert Image.open(gallery[0]["image"]).size == (16, 16)


def test_a_program_compares_and_looks_inside(client, picture):
    from gradio_client import handle_file

    recipes = "random-2-cosine\nraster-1,15"
    sheet, words = client.predict(recipes, model="small", class_name="dog", api_name="/compare")
    assert words == "2 of 2 recipes"
    assert Image.open(sheet).width > 128
    _plan, words = client.predict(model="small", recipe="raster-1,15", api_name="/plan")
    assert words.endswith("in 2 sets of 1, 15")
    assert client.predict(model="small", api_name="/masks")[1].startswith("random-4-cosine: ")
    _, words = client.predict("small", handle_file(str(picture)), api_name="/reconstruct")
    assert "PSNR" in words


NAN, LONG = float("nan"), "x" * 2**20
FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
OWN = {"path": __file__, "meta": {"_type": "gradio.FileData"}}
CLIMBING = {"path": "../../../../etc/passwd", "meta": {"_type": "gradio.FileData"}}
REMOTE = {"path": "http://127.0.0.1:9/x.png", "meta": {"_type": "gradio.FileData"}}
LINK = {**REMOTE, "url": "http://127.0.0.1:9/x.png"}


def painting(background, *layers):
    return [{"background": background, "layers": list(layers), "composite": None}]


EDIT = [0, 0, 0, 0, 0, *DRAW]
HOSTILE = [
    *(("draw", changed(count=value)) for value in (10**9, -1, 0, NAN, "many", None, [], {})),
    *(("draw", changed(prompt=value)) for value in (LONG, "x" * 1001)),
    *(("draw", changed(model="emoji-text", prompt=value)) for value in ("x", LONG)),
    *(("draw", changed(class_name=value)) for value in ("", LONG, "../../x", ["dog"], 10**30, NAN)),
    *(("draw", changed(model=value)) for value in ("/etc/passwd", "../small", None, "a/b", LONG)),
    *(("draw", changed(size=value)) for value in ("9999999x9", "4096x4096", LONG, 16, {"a": 1})),
    *(("draw", changed(recipe=value)) for value in ("random-4096-cosine", LONG, "mar", "9" * 999)),
    *(("draw", changed(temperature=value)) for value in (NAN, -1, "hot", float("inf"))),
    *(("draw", changed(guidance=value)) for value in (NAN, 1e308, "much", [])),
    *(("draw", changed(seed=value)) for value in (NAN, -1, 2**70, 1e308, "s", None)),
    *(("draw", data) for data in ([], DRAW[:5], {"model": "small"}, "small", None, [[[]] * 13])),
    *(("draw", data) for data in (DRAW * 9, [*DRAW, None, "more"])),
    *(("edit", [*painting(file), *EDIT]) for file in (FILE, OWN, CLIMBING, REMOTE, LINK, "/etc")),
    *(("edit", [*painting(None, file), *EDIT]) for file in (None, FILE, LINK)),
    *(("edit", [value, *EDIT]) for value in (None, {}, [], "x", {"id": "../../x"}, {"unknown": 1})),
    *(("reconstruct", ["small", file, ""]) for file in (FILE, OWN, CLIMBING, LINK, None, 3)),
    *(("compare", [value, *DRAW]) for value in ("", LONG, None, "mar\n" * 5, {}, "x\n" * 99)),
    *(("plan", ["small", recipe, "", 0]) for recipe in (LONG, "mar", "x")),
    ("plan", ["small", "", "99999x99999", NAN]),
    ("nowhere", []),
    ("../draw", DRAW),
]


@pytest.mark.parametrize("number", range(0, len(HOSTILE), 12))
def test_hostile_requests_end_in_a_line(site, number):
    """Twelve of them each, and the page draws after."""
    for name, data in HOSTILE[number : number + 12]:
        kind, answer = site.call(name, data)
        if kind == "refused":  # by the framework, before a function is reached
            assert "Traceback" not in answer
            continue
        assert kind == "error", (name, str(data)[:200], str(answer)[:200])
        text = answer["error"]
        assert isinstance(text, str), (name, str(data)[:200], answer)
        assert 3 < len(text) <= 320, (name, str(data)[:200], answer)
        assert "\n" not in text
        assert "/usr" not in text
        assert "root:" not in text
        assert "went wrong here" not in text, (name, str(data)[:200], answer)
    assert site.call("draw", DRAW)[0] == "complete"
    assert len(site.studio.running) == 0


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../../../etc/passwd",
        f"/gradio_api/file={__file__}",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/file=file:///etc/passwd",
        "/file=/etc/passwd",
        "/static/../../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2fetc/passwd",
        "/theme.css/../../etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1:9/",
        "/gradio_api/stream/../../etc/passwd",
        "/custom_component/x/y/../../../../etc/passwd",
    ],
)
def test_nothing_outside_of_its_folder_can_be_read(site, path):
    status, body = site.get(path)
    assert "root:" not in body
    assert "Traceback" not in body
    assert "Nothing outside" not in body
    assert status != 500
    if "/gradio_api/file" in path:
        assert status in (403, 404)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"data": 3}', b"9" * 10**6]
)
def test_bodies_that_are_no_requests(site, body):
    status, text = site.post("/gradio_api/call/draw", body)
    assert status < 500 or "Traceback" not in text
    assert site.get("/gradio_api/info")[0] == 200


def test_an_upload_that_is_too_large_is_refused(site):
    import urllib.error
    import urllib.request

    edge = b"--edge\r\n"
    head = b'Content-Disposition: form-data; name="files"; filename="../../x.png"\r\n\r\n'
    body = edge + head + bytes(11 * 2**20) + b"\r\n--edge--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    request = urllib.request.Request(f"{site.address}/gradio_api/upload", body, headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 413


def test_a_client_that_leaves_stops_its_sampling(site):
    import json
    import urllib.request

    data = changed(recipe="raster-N-uniform", count=16)
    made = []
    pipe = site.studio.shelf.pipe("small")
    start = pipe.model.start

    def slow(*arguments, **options):
        decoding = start(*arguments, **options)
        predict = decoding.predict

        def counted(positions):
            made.append(1)
            time.sleep(1)
            return predict(positions)

        decoding.predict = counted
        return decoding

    pipe.model.start = slow
    try:
        _, text = site.post("/gradio_api/call/draw", {"data": data})
        event = json.loads(text)["event_id"]
        address = f"{site.address}/gradio_api/call/draw/{event}"
        with urllib.request.urlopen(address, timeout=60) as stream:
            stream.read(40)  # something has arrived; then the reader goes away
        end = time.monotonic() + 60
        while len(site.studio.running) and time.monotonic() < end:
            time.sleep(0.1)
        assert len(site.studio.running) == 0
        at_rest = -1
        while len(made) > at_rest:  # the set that is under way may still come
            at_rest = len(made)
            time.sleep(2)
        assert len(made) < 16
    finally:
        del pipe.model.start


def test_texts_of_the_longest_length_are_read(site):
    kind, answer = site.call("draw", changed(class_name="x" * MOST_LETTERS))
    assert kind == "error"
    assert answer["error"].startswith("unknown class")


def test_errors_carry_no_html():
    from setar.web.page import kind_line

    assert kind_line(ValueError("<img src=x onerror=alert(1)>\nmore")) == (
        "&lt;img src=x onerror=alert(1)&gt;"
    )
    assert "went wrong here (KeyError)" in kind_line(KeyError("secret"))
    assert "secret" not in kind_line(KeyError("secret"))
    assert "more memory than there is" in kind_line(MemoryError())
