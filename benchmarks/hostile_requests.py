"""Does a studio answer hostile requests kindly, and go on drawing?

    python benchmarks/hostile_requests.py --requests 300

`setar serve` runs in a process of its own. It is asked for huge counts and sizes, sent bombs, wrong
masks, texts of a megabyte, unknown fields, NaN, wrong types and addresses of files and of the web,
and asked for files outside of its folder. Each must be answered by one kind line, or refused by the
framework with a status below 500; its output must hold no traceback, no answer the secret that lies
in its working directory; and every 25 requests it must still draw. Exit code 1 if not so.
"""

import argparse
import io
import json
import random
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from studio import Running, call, get, stacks, studio

SECRET = "the-secret-of-the-working-directory"
NAMES = ("model", "class_name", "prompt", "negative_prompt", "size", "recipe", "guidance")
NAMES += ("guidance_schedule", "temperature", "top_k", "top_p", "seed", "count")
LONG, NAN, INFINITY = "x" * 2**20, float("nan"), float("inf")
PLACES = ("/etc/passwd", "../../../etc/passwd", "secret.txt", "./secret.txt", "file:///etc/passwd")
PLACES += (
    "/proc/self/environ",
    "/proc/self/cwd/secret.txt",
    "~/.bashrc",
    "\\\\host\\share",
    "/dev/zero",
)
WEB = (
    "http://127.0.0.1:9/x.png",
    "https://localhost/x.png",
    "HTTP://169.254.169.254/",
    "ftp://x/y.png",
)
ODD: tuple[Any, ...] = (
    None,
    True,
    [],
    {},
    [[]],
    {"a": 1},
    NAN,
    INFINITY,
    -INFINITY,
    -1,
    1.5,
    2**80,
)
ODD += (10**9, 1e308, "", "many", "NaN", LONG, "\0", "\ud800", "<script>alert(1)</script>", ["dog"])
WRONG: dict[str, tuple[Any, ...]] = {
    "model": ("/etc/passwd", "../emoji", "emoji/..", "hub/owner", "emoji\n", 3),
    "class_name": ("no-such", "99", "-1", 10**30, "../../x", "' or 1=1", "{{7*7}}", "${7*7}"),
    "size": ("999999x9", "4096x4096", "0x0", "16", "-8x8", "1e3x16", "32x33", "32x32x32", "8"),
    "recipe": ("random-4096-cosine", "mar", "9" * 999, "raster-1,", "random-0-cosine", "../x-1-y"),
    "guidance": ("-1", "101", "much", "1e999", "0x10"),
    "guidance_schedule": ("no-such", "__class__", "../x", 7),
    "temperature": ("-1", "hot", "1e999"),
    "top_k": ("-1", "1.5", "9" * 400),
    "top_p": ("0", "1.1", "-0.5"),
    "seed": (-1, 0.5, 2**53, 2**63, 2**64, -(2**70), "s"),
    "count": (0, -3, 17, 10**6, 3.5),
}
KIND = {"prompt", "negative_prompt"}
"""What a model of classes does not look at, whatever it holds."""


def asked(model: str, /, **changes: Any) -> list[Any]:
    """Arguments of ``draw``: a good request, and what is changed of it."""
    good = dict(
        zip(NAMES, [model, "0", "", "", "", "", None, "", None, None, None, 0, 1], strict=True)
    )
    return list((good | changes).values())


def paths() -> list[str]:
    """Addresses at which files might be read."""
    found = [f"/gradio_api/file={place}" for place in (*PLACES, *WEB)]
    found += [f"/gradio_api/file/{place}" for place in PLACES]
    found += [f"/file={place}" for place in PLACES]
    ups = ("../" * 9, "..%2f" * 9, "%2e%2e/" * 9, "..%5c" * 9, "....//" * 9)
    roots = ("/static/", "/assets/", "/gradio_api/file=static/", "/svelte/", "/gradio_api/stream/")
    found += [f"{root}{up}etc/passwd" for root in roots for up in ups]
    found += [f"/gradio_api/proxy={address}" for address in WEB]
    found += ["/custom_component/a/b/c/../../../../etc/passwd", "/theme.css/../../etc/passwd"]
    found += ["/gradio_api/heartbeat/../../x", "/monitoring/x", "/gradio_api/mcp", "/config/../x"]
    return found


def broken_files() -> dict[str, bytes]:
    """Files to upload: a bomb, cut off ones, and what is no picture."""
    stream = io.BytesIO()
    Image.radial_gradient("L").resize((40, 40)).convert("RGB").save(stream, "PNG")
    good, noise = stream.getvalue(), random.Random(0).randbytes(1000)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = good[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6), 9))
    files = {"bomb.png": bomb + chunk(b"IEND", b""), "cut.png": good[:60], "noise.png": noise}
    files |= {"empty.png": b"", "text.png": SECRET.encode(), "page.html": b"<script>1</script>"}
    files["drawing.svg"] = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    return files | {"..%2f..%2fx.png": good[:20], "flipped.png": good[:70] + b"\0" + good[71:]}


def uploaded(address: str, name: str, content: bytes) -> str:
    """Where the studio keeps a file that was sent to it; empty if it took none."""
    edge = "edge-of-a-part"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    status, text = get(f"{address}/gradio_api/upload", body, **kind)
    return json.loads(text)[0] if status == 200 else ""


Attack = tuple[str, Callable[[str], tuple[str, Any]]]
"""What it is, and what does it to an address: how it ended, and the answer."""


def attacks(model: str) -> list[Attack]:
    """All of them, in an order of their own."""
    found: list[Attack] = []

    def add(name: str, data: Any) -> None:
        found.append((f"{name} {str(data)[:120]}", lambda address: call(address, name, data)))

    for field in NAMES:
        for value in (*WRONG.get(field, ()), *ODD):
            harmless = field in KIND or (
                value in (None, "") and field not in ("class_name", "model")
            )
            if not harmless and not _is_good(field, value):
                add("draw", asked(model, **{field: value}))
    for data in (
        [],
        asked(model)[:5],
        {"model": model},
        model,
        None,
        [[[]] * 13],
        asked(model) * 9,
    ):
        add("draw", data)
    around, nothing = [0, 0, 0, 0, 0], asked(model)
    for place in (*PLACES, *WEB):
        file = {"path": place, "meta": {"_type": "gradio.FileData"}}
        add("edit", [{"background": file, "layers": [], "composite": None}, *around, *nothing])
        add("edit", [{"background": None, "layers": [file], "composite": None}, *around, *nothing])
        add("reconstruct", [model, {**file, "url": place}, ""])
    for odd in ODD:
        add("edit", [odd, *around, *nothing])
        add("reconstruct", [model, odd, ""])
        add("compare", [odd if odd != "" else "\n", *nothing])
    for text in ("mar\n" * 5, "x\n" * 99, "raster-N-uniform\nnonsense"):
        add("compare", [text, *nothing])
    add("plan", [model, "", "99999x99999", NAN])
    add("nowhere", [])
    for name, content in broken_files().items():
        found += _with_file(model, name, content)
    for path in paths():
        found.append((path, lambda address, path=path: ("status", get(address + path))))
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"data": 3}',
        b"9" * 10**6,
        b"[" * 10**5,
    ):
        found.append((f"body {body[:20]!r}", lambda address, body=body: _posted(address, body)))
    random.Random(0).shuffle(found)
    return found


def _is_good(field: str, value: Any) -> bool:
    """Whether a studio may draw with such a value after all."""
    numbers = {
        "guidance": (1.5, True),
        "temperature": (1.5, True, 10**9, 1e308),
        "top_k": (True, 10**9),
    }
    numbers |= {"top_p": (True,), "count": (True,), "seed": (10**9,)}
    return any(value is one or value == one for one in numbers.get(field, ()))


def _with_file(model: str, name: str, content: bytes) -> list[Attack]:
    def ask(address: str, function: str, parts: Callable[[Any], list[Any]]) -> tuple[str, Any]:
        place = uploaded(address, name, content)
        file = {"path": place, "meta": {"_type": "gradio.FileData"}} if place else None
        return call(address, function, parts(file))

    def edited(file: Any) -> list[Any]:
        painting = {"background": file, "layers": [file], "composite": None}
        return [painting, 0, 0, 0, 0, 0, *asked(model)]

    def through(file: Any) -> list[Any]:
        return [model, file, ""]

    return [
        (f"{use} {name}", lambda address, use=use, parts=parts: ask(address, use, parts))
        for use, parts in (("edit", edited), ("reconstruct", through))
    ]


def _posted(address: str, body: bytes) -> tuple[str, Any]:
    kind = {"Content-Type": "application/json"}
    return "status", get(f"{address}/gradio_api/call/draw", body, **kind)


def wrong(kind: str, answer: Any) -> str:
    """What is wrong with the end of an attack; empty if nothing is."""
    text = str(answer)
    for word in (SECRET, "root:", "Traceback", "site-packages", "PATH="):
        if word in text:
            return f"it says {word}"
    if kind == "status":
        return f"status {answer[0]}" if answer[0] >= 500 else ""
    if kind == "refused":
        return ""
    if kind != "error":
        return f"it ended as {kind}"
    line = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(line, str) or not 3 < len(line) <= 320 or "\n" in line:
        return "no kind line"
    return "a defect of the studio's" if "went wrong here" in line else ""


def attack(here: Running, model: str, chosen: list[Attack], every: int = 25) -> list[str]:
    """Do them, and say what was wrong; in between and at the end, a good request."""
    found, ends = list[str](), Counter[str]()
    for number, (name, do) in enumerate(chosen, 1):
        try:
            kind, answer = do(here.address)
        except Exception as error:  # the studio does not answer any more
            kind, answer = "no answer", f"{type(error).__name__}: {error}"
        ends[kind] += 1
        if fault := wrong(kind, answer):
            found.append(f"{name}: {fault}: {str(answer)[:300]}")
            print(found[-1], flush=True)
        if kind in ("no end", "no answer"):
            print(stacks(here), flush=True)
            break
        if number % every == 0 or number == len(chosen):
            end, _ = call(here.address, "draw", asked(model))
            if end != "complete":
                found.append(f"after {number} requests a good one ended as {end}")
                print(found[-1], flush=True)
            if end == "no end":
                print(stacks(here), flush=True)
                break
    if "Traceback" in (output := here.log.read_text()):
        found.append("its output holds a traceback")
        print(output[-3000:])
    print(f"{ends.total()} requests: {dict(ends)}; {len(found)} wrong")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="hostile requests to a studio")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--model", default="emoji", help="of classes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "secret.txt").write_text(SECRET)
        with studio([options.model], Path(folder)) as here:
            chosen, began = attacks(options.model), time.perf_counter()
            print(f"{len(chosen)} attacks are known")
            found = attack(here, options.model, chosen[: options.requests])
            print(f"{time.perf_counter() - began:.0f} s")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
