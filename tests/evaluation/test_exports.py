"""The folders that GenEval and DPG-Bench read, with pictures that tell prompt and seed."""

import json
import zlib
from pathlib import Path

import pytest
from PIL import Image

from setar.evaluation import exports
from setar.evaluation.exports import EXPORTS, export
from setar.sampling.settings import SamplingDefaults

LINES = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"},
    {"tag": "colors", "prompt": "a photo of a grün cow", "extra": [1, 2]},
    {"tag": "counting", "prompt": "three apples"},
]


class Painter:
    """Paints one colour for each prompt and seed; remembers what it was asked for."""

    reads, size = "text", (32, 16)

    def __init__(self):
        self.defaults, self.calls = SamplingDefaults(), []

    def __call__(self, prompts, *, count, seed, size, negative_prompt):
        self.calls.append((list(prompts), list(seed)))
        each = [prompt for prompt in prompts for _ in range(count)]
        height, width = size
        return [
            Image.new("RGB", (width, height), colour(*one)) for one in zip(each, seed, strict=True)
        ]


def colour(prompt, seed):
    return zlib.crc32(prompt.encode()) % 256, seed % 256, 7


def pixel(file, at=(0, 0)):
    with Image.open(file) as picture:
        return picture.getpixel(at)


@pytest.fixture
def lines(tmp_path):
    file = tmp_path / "evaluation_metadata.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return file


@pytest.fixture
def prompts(tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name, text in (("partiprompts3", "a cat\n"), ("0", "  a dog"), ("12", "the sea")):
        (folder / f"{name}.txt").write_text(text)
    (folder / "README.md").write_text("no prompt")
    return folder


def test_geneval_has_a_folder_for_each_line(lines, tmp_path):
    out = tmp_path / "out"
    done = export("geneval", Painter(), lines, out, seed=10)
    assert (done.prompts, done.made, done.size) == (3, 3, (16, 32))
    found = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    samples = [f"samples/000{number}.png" for number in range(4)]
    assert found == sorted(
        f"0000{line}/{name}" for line in range(3) for name in ["metadata.jsonl", *samples]
    )
    for number, line in enumerate(LINES):
        # As the benchmark's script reads it.
        with (out / f"0000{number}" / "metadata.jsonl").open() as stream:
            assert json.load(stream) == line
        for sample in range(4):
            file = out / f"0000{number}" / "samples" / f"000{sample}.png"
            assert pixel(file) == colour(line["prompt"], 10 + 4 * number + sample)
            with Image.open(file) as picture:
                assert picture.size == (32, 16)


def test_dpg_has_a_grid_for_each_file(prompts, tmp_path):
    out = tmp_path / "out"
    done = export("dpg", Painter(), prompts, out, size=(8, 8))
    assert (done.prompts, done.made) == (3, 3)
    assert sorted(file.name for file in out.iterdir()) == ["0.png", "12.png", "partiprompts3.png"]
    with Image.open(out / "0.png") as picture:
        assert picture.size == (16, 16)
    corners = [(0, 0), (8, 0), (0, 8), (8, 8)]
    for number, (name, text) in enumerate(
        [("0", "a dog"), ("12", "the sea"), ("partiprompts3", "a cat")]
    ):
        for sample, corner in enumerate(corners):
            expected = colour(text, 4 * number + sample)
            assert pixel(out / f"{name}.png", corner) == expected


def test_one_sample_of_dpg_is_a_picture_of_its_own(prompts, tmp_path):
    export("dpg", Painter(), prompts, tmp_path / "out", count=1, size=(8, 8))
    with Image.open(tmp_path / "out" / "12.png") as picture:
        assert picture.size == (8, 8)


@pytest.mark.parametrize("name", ["geneval", "dpg"])
def test_an_export_goes_on_where_it_was(name, lines, prompts, tmp_path, monkeypatch):
    source = lines if name == "geneval" else prompts
    whole, out = tmp_path / "whole", tmp_path / "out"
    export(name, Painter(), source, whole, size=(8, 8))
    monkeypatch.setattr(exports, "AT_ONCE", 4)
    painter, write = Painter(), EXPORTS.find(name).write

    def fail(self, folder, item, pictures):
        if len(painter.calls) == 2:
            raise KeyboardInterrupt
        write(self, folder, item, pictures)

    monkeypatch.setattr(EXPORTS.find(name), "write", fail)
    with pytest.raises(KeyboardInterrupt):
        export(name, painter, source, out, size=(8, 8))
    monkeypatch.setattr(EXPORTS.find(name), "write", write)
    painter = Painter()
    done = export(name, painter, source, out, size=(8, 8))
    assert (done.prompts, done.made, len(painter.calls)) == (3, 2, 2)
    assert export(name, painter, source, out, size=(8, 8)).made == 0
    assert len(painter.calls) == 2
    files = {file.relative_to(whole) for file in whole.rglob("*")}
    assert {file.relative_to(out) for file in out.rglob("*")} == files
    for file in files:
        assert (whole / file).is_dir() or (whole / file).read_bytes() == (out / file).read_bytes()


def test_a_lost_sample_is_made_again(lines, tmp_path):
    out = tmp_path / "out"
    export("geneval", Painter(), lines, out)
    file = out / "00001" / "samples" / "0002.png"
    before = file.read_bytes()
    file.unlink()
    painter = Painter()
    assert export("geneval", painter, lines, out).made == 1
    assert painter.calls == [([LINES[1]["prompt"]], [4, 5, 6, 7])]
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 1}, "seed"),
        ({"count": 2}, "count"),
        ({"size": (8, 8)}, "size"),
        ({"model": "other"}, "model"),
        ({"negative_prompt": "blurry"}, "negative_prompt"),
    ],
)
def test_pictures_are_never_of_two_kinds(lines, tmp_path, change, key):
    export("geneval", Painter(), lines, tmp_path / "out")
    with pytest.raises(ValueError, match=rf"holds pictures of another `{key}`"):
        export("geneval", Painter(), lines, tmp_path / "out", **change)


def test_other_prompts_or_settings_are_another_kind(lines, tmp_path):
    export("geneval", Painter(), lines, tmp_path / "out")
    painter = Painter()
    painter.defaults = painter.defaults.changed({"temperature": 0.5})
    with pytest.raises(ValueError, match="another `sampling`"):
        export("geneval", painter, lines, tmp_path / "out")
    lines.write_text(json.dumps({"prompt": "something else"}))
    with pytest.raises(ValueError, match="another `prompts`"):
        export("geneval", Painter(), lines, tmp_path / "out")


def test_an_export_that_made_nothing_may_begin_otherwise(lines, tmp_path):
    def broken(*_, **__):
        raise ValueError("no such size")

    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no such size"):
        export(
            "geneval", type("Broken", (Painter,), {"__call__": broken})(), lines, out, size=(1, 1)
        )
    assert export("geneval", Painter(), lines, out, size=(8, 8)).made == 3
    assert json.loads((tmp_path / "out.json").read_text())["size"] == [8, 8]
    with pytest.raises(ValueError, match="another `size`"):
        export("geneval", Painter(), lines, out, size=(1, 1))


def test_a_file_of_the_settings_name_is_never_replaced(lines, tmp_path):
    (tmp_path / "out.json").write_text('{"figures": 1}')
    with pytest.raises(ValueError, match=r"out\.json is of something else"):
        export("geneval", Painter(), lines, tmp_path / "out")
    assert (tmp_path / "out.json").read_text() == '{"figures": 1}'
    assert not (tmp_path / "out").exists()


def test_places_that_are_no_folder(lines, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is a file; an export is a folder"):
        export("geneval", Painter(), lines, lines)
    with pytest.raises(ValueError, match="/ is no folder to write to"):
        export("geneval", Painter(), lines, Path("/"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export("geneval", Painter(), lines, Path(".")).made == 3
    assert (tmp_path / "here.json").is_file()


def test_a_folder_of_something_else_stays_as_it_is(lines, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"holds files, and no out\.json says"):
        export("geneval", Painter(), lines, tmp_path / "out")
    (tmp_path / "out.json").write_text("{")
    with pytest.raises(ValueError, match=r"out\.json is damaged"):
        export("geneval", Painter(), lines, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "a"}\nno json\n', r"jsonl, line 2 is no JSON: 'no json'"),
        ('{"prompt": "a"}\n\n{"prompt": "b"}', "line 2 is no JSON"),
        ('{"text": "a"}', 'line 1 must be an object with a text "prompt"'),
        ("[" * 100_000, "line 1 is no JSON"),
        ("3", 'line 1 must be an object with a text "prompt"'),
        ('{"prompt": "  "}', "line 1: a prompt has 1 to 10000 characters, not 0"),
        ('{"prompt": "%s"}' % ("x" * 10_001), "not 10001"),
        ("", "holds no prompts, which are JSON objects"),
        (r'{"prompt": "a \u0000 b"}', "line 1: a text must not hold the character"),
        (r'{"prompt": "a \ud800 b"}', "line 1: a text must not hold the character"),
    ],
)
def test_lines_that_are_no_prompts(lines, tmp_path, text, message):
    lines.write_text(text)
    with pytest.raises(ValueError, match=rf"\A[^\n]*{message}[^\n]*\Z"):
        export("geneval", Painter(), lines, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_prompts(lines, prompts, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="prompts: it is a folder"):
        export("geneval", Painter(), prompts, out)
    with pytest.raises(ValueError, match="is no folder: DPG-Bench has a folder"):
        export("dpg", Painter(), lines, out, size=(8, 8))
    (prompts / "0.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"0\.txt is no text in UTF-8"):
        export("dpg", Painter(), prompts, out, size=(8, 8))
    for file in prompts.glob("*.txt"):
        file.unlink()
    with pytest.raises(ValueError, match="holds no prompts"):
        export("dpg", Painter(), prompts, out, size=(8, 8))


def test_what_a_benchmark_does_not_take(lines, prompts, tmp_path):
    with pytest.raises(ValueError, match="1 or 4 samples of a prompt, not at 3"):
        export("dpg", Painter(), prompts, tmp_path / "out", count=3, size=(8, 8))
    with pytest.raises(ValueError, match="square pictures, not 16x32"):
        export("dpg", Painter(), prompts, tmp_path / "out")
    painter = Painter()
    painter.reads = "class"
    with pytest.raises(ValueError, match="emoji makes classes; geneval has prompts in words"):
        export("geneval", painter, lines, tmp_path / "out", model="emoji")
    with pytest.raises(ValueError, match="unknown export 'dgp'; did you mean 'dpg'"):
        export("dgp", Painter(), prompts, tmp_path / "out")
