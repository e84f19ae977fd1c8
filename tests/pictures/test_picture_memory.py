"""What pictures remember, and how it is read back."""

import json
import struct
import zlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from setar.pictures import memory as module
from setar.pictures.memory import (
    Memory,
    called,
    facts,
    in_common,
    of_rows,
    parameters,
    recall,
)
from setar.pictures.png import write_png

MEMORY = Memory(
    "image",
    version="1.2.3",
    model="runs/猫",
    manifest="ab12" * 16,
    asked=("a cat, red\nNegative prompt: no", ),
    negative_prompt="blue",
    seed=2**62,
    size=(32, 64),
    sampling={"recipe": "random-8-cosine", "scale": 2.0, "schedule": "linear",
              "interval": [0.25, 1.0], "power": 2.75, "temperature": 0.5, "top_k": 0},
    precision="int8",
    row=3,
    rows=8,
    tokens=9,
    schedule_seed=7,
)  # fmt: skip


def written(tmp_path, memory=MEMORY):
    file = tmp_path / "a.png"
    write_png(Image.new("RGB", (3, 2), "red"), file, memory)
    return file


def message_of(file):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,400}\Z") as caught:
        recall(file)
    return str(caught.value)


@pytest.mark.parametrize(
    "memory",
    [
        MEMORY,
        replace(MEMORY, asked=(5,), names=("é",)),
        replace(MEMORY, asked=(None,), negative_prompt=None),
        replace(MEMORY, made="sheet", asked=("a", "b"), between=True, count=4, scale=2, columns=3),
        replace(MEMORY, asked=(("a", None, 0.25),)),
        replace(MEMORY, asked=((3, 4, 0.5),), names=("x to y",)),
        Memory("recipe", note="recipe on 8x8"),
    ],
)
def test_all_of_it_is_read_back(tmp_path, memory):
    found = recall(written(tmp_path, memory))
    assert found.pixels
    assert replace(found, pixels="") == memory


def test_it_is_written_as_image_tools_read_it(tmp_path):
    with Image.open(written(tmp_path)) as picture:
        text = picture.info["parameters"]
    *above, last = text.split("\n")
    assert above == ["a cat, red", "Negative prompt: no", "Negative prompt: blue"]
    assert last == (
        f"Steps: 8, Sampler: random-8-cosine, Schedule type: linear, CFG scale: 2, Seed: {2**62}, "
        'Size: 64x32, Model hash: ab12ab12ab, Model: runs/猫, Interval: "[0.25, 1.0]", '
        "Temperature: 0.5, Precision: int8, Version: setar 1.2.3"
    )


def test_settings_that_are_off_and_float32_are_not_said():
    quiet = {**MEMORY.sampling, "interval": [0.0, 1.0], "attention": "causal", "smoothing": False}
    said = facts(replace(MEMORY, sampling=quiet, precision="float32", negative_prompt=None))
    assert not {"Interval", "Attention", "Smoothing", "Precision", "Top k", "Power"} & said.keys()
    loud = {**quiet, "attention": "full", "smoothing": True, "schedule": "power-cosine"}
    said = facts(replace(MEMORY, sampling=loud))
    assert (said["Attention"], said["Smoothing"], said["Power"]) == ("full", "True", "2.75")
    assert "Negative prompt" not in parameters(replace(MEMORY, negative_prompt=None)).split("\n")[2]


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [("random-16-cosine", "16"), ("raster-1,4,9", "3"), ("raster-N-uniform", None), ("ar", None)],
)
def test_steps_are_said_where_a_recipe_says_them(recipe, steps):
    assert facts(replace(MEMORY, sampling={"recipe": recipe})).get("Steps") == steps


def test_what_was_asked_for_in_words():
    names = ("cat", "dog")
    assert [called(one, names) for one in (1, "a text", None)] == ["dog", "a text", "(nothing)"]
    assert called((0, 1, 0.125), names) == "cat to dog, 12.5 %"
    assert called((0, 1), names) == "cat to dog"


def test_prompts_that_are_too_long_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 1000)
    long = replace(MEMORY, asked=("x" * 2000,))
    found = recall(written(tmp_path, replace(long, parts=(long, long))))
    assert (found.asked, found.seed, found.model) == ((), MEMORY.seed, MEMORY.model)
    assert not found.repeatable


def test_a_grid_remembers_what_its_images_have_in_common():
    other = replace(MEMORY, asked=("a dog",), seed=5)
    both = in_common([MEMORY, other, MEMORY])
    assert both is not None
    assert both.asked == (*MEMORY.asked, "a dog")
    assert (both.made, both.note, both.repeatable) == ("grid", "grid of 3 images", False)
    assert in_common([MEMORY, replace(other, model="another")]) is None
    assert in_common([MEMORY, None]) is None
    assert in_common([]) is None


def test_a_sheet_of_rows_that_differ_says_what_each_of_them_is(tmp_path):
    def images(**changes):
        return [SimpleNamespace(memory=replace(MEMORY, seed=seed, **changes)) for seed in (1, 2)]

    other = {**MEMORY.sampling, "recipe": "raster-4-uniform"}
    mask = SimpleNamespace()
    found = of_rows([[mask], [*images(), mask], images(sampling=other, model="b")])
    assert found.made == "comparison"
    assert "recipe" not in found.sampling
    assert found.sampling["scale"] == 2.0
    assert (found.model, found.manifest, found.seed) == ("", MEMORY.manifest, 1)
    assert [part.sampling["recipe"] for part in found.parts] == [
        "random-8-cosine",
        "raster-4-uniform",
    ]
    said = facts(found)
    assert said["Sampler"] == "random-8-cosine; raster-4-uniform"
    assert said["Model"] == f"{MEMORY.model}; b"
    assert (said["CFG scale"], said["Made"]) == ("2", "comparison of 2 rows")
    assert not found.repeatable
    read = recall(written(tmp_path, found))
    assert replace(read, pixels="") == found


def test_sheets_of_one_sampling_or_of_unlike_images():
    image, other = (SimpleNamespace(memory=replace(MEMORY, model=name)) for name in "ab")
    assert of_rows([[image], [image]]).made == "grid"
    assert of_rows([[image, other]]) is None
    assert of_rows([[image, other], [image]]) is None
    assert of_rows([[SimpleNamespace()], []]) is None


# Files of others, and hostile ones


def chunk(kind, data, check=None):
    head = struct.pack(">I4s", len(data), kind)
    return head + data + struct.pack(">I", zlib.crc32(kind + data) if check is None else check)


def png(*chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return module.SIGNATURE + header + b"".join(chunks)


def own(values, check=None):
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return chunk(b"tEXt", b"setar\0" + text, check)


PIXELS = chunk(b"IDAT", zlib.compress(b"\0\1\2\3")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no PNG file"),
        (b"GIF89a", "it is no PNG file"),
        (module.SIGNATURE, "it is cut off"),
        (png(PIXELS), "remembers nothing"),
        (png(chunk(b"tEXt", b"parameters\0a cat"), PIXELS), "remembers nothing"),
        (png(PIXELS, own({"made": "image"})), "remembers nothing"),
        (png(own({"made": "image"}, check=1), PIXELS), "its checksum is another"),
        (png(own(b"{"), PIXELS), "is damaged"),
        (png(own(b"[" * 10**5), PIXELS), "is damaged"),
        (png(own([1]), PIXELS), "Input should be a table"),
        (png(own({}), PIXELS), "missing key `made`"),
        (png(own({"made": "soup"}), PIXELS), "made: Input should be"),
        (png(own({"made": "image", "sed": 1}), PIXELS), "unknown key `sed`; did you mean 'seed'"),
        (png(own({"made": "image", "seed": 1e400}), PIXELS), "must be finite"),
        (png(own({"made": "image", "rows": "8"}), PIXELS), "rows: Input should be"),
        (png(struct.pack(">I4s", 2**31, b"tEXt")), "it is cut off"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path, content, message):
    file = tmp_path / "a.png"
    file.write_bytes(content)
    assert message in message_of(file)


def test_what_is_no_file_is_one_line(tmp_path):
    assert "it is a folder" in message_of(tmp_path)
    assert "it does not exist" in message_of(tmp_path / "none.png")


def test_chunks_of_others_are_passed_over(tmp_path):
    info = PngInfo()
    for keyword, text in (("Title", "x" * 10_000), ("Comment", "猫")):
        info.add_text(keyword, text)
    info.add_text("setar", json.dumps({"made": "recipe", "note": "mine"}))
    Image.new("L", (1, 1)).save(tmp_path / "a.png", pnginfo=info)
    assert recall(tmp_path / "a.png").note == "mine"


def test_reading_needs_no_torch(tmp_path, in_a_fresh_python):
    file = written(tmp_path)
    program = (
        "import sys; from pathlib import Path; from setar.pictures.memory import recall\n"
        f"print(recall(Path({str(file)!r})).seed, 'torch' in sys.modules)"
    )
    assert in_a_fresh_python(program) == f"{2**62} False\n"
