"""``setar sample --like``: the same bytes again, or one line that says why not."""

from dataclasses import replace

import pytest
from PIL import Image

import tiny_runs
from setar.pictures.memory import Memory, recall
from setar.pictures.png import write_png
from setar.pipeline import Pipeline


@pytest.fixture
def sheet(run, model, tmp_path):
    """A sheet with its images, made with settings that are not the model's own."""
    words = ("--classes", "dog,cat", "--count", 3, "--seed", 5, "--recipe", "random-5-random",
             "--guidance", 2.5, "--schedule", "linear", "--temperature", 0.8, "--scale", 9,
             "--columns", 2)  # fmt: skip
    out, each = tmp_path / "sheet.png", tmp_path / "each"
    assert run("sample", model, *words, "--out", out, "--each", each)[0] == 0
    return out


def test_a_sheet_is_made_again(run, sheet, tmp_path):
    out, each, steps = tmp_path / "again.png", tmp_path / "more", tmp_path / "steps.gif"
    code, said, err = run(
        "sample", "--like", sheet, "--out", out, "--each", each, "--animate", steps
    )
    assert (code, err) == (0, "")
    assert f"the same pixels as {sheet} was made with\n" in said
    assert out.read_bytes() == sheet.read_bytes()
    first, second = (
        {file.name: file.read_bytes() for file in folder.iterdir()}
        for folder in (tmp_path / "each", each)
    )
    assert len(first) == 6
    assert first == second
    assert steps.is_file()


def test_one_image_of_a_sheet_is_made_again(run, sheet, tmp_path):
    for index, file in enumerate(sorted((tmp_path / "each").iterdir())):
        out = tmp_path / f"{index}.png"
        code, said, _ = run("sample", "--like", file, "--out", out)
        assert code == 0
        assert said == f"1 image -> {out}\nthe same pixels as {file} was made with\n"
        assert out.read_bytes() == file.read_bytes()


def test_the_sheet_is_laid_out_as_asked(sheet):
    with Image.open(sheet) as picture:
        side, gap = 4 * 9, 2
        assert picture.height >= 2 * (2 * (side + gap))
    memory = recall(sheet)
    assert (memory.scale, memory.columns, memory.count, memory.asked) == (9, 2, 3, (1, 0))


@pytest.mark.parametrize(
    "words",
    [
        ["--prompt", "a red apple", "--prompt", "dog", "--size", "16x24", "--count", "2"],
        ["--prompt", "a red apple", "--negative-prompt", "small tree", "--count", "2"],
        ["--prompt", "a red apple", "--prompt", "dog", "--between", "--count", "4"],
        ["--unconditional", "--count", "3", "--precision", "int8"],
        ["--prompt", "猫", "--recipe", "random-3-random", "--precision", "bfloat16"],
    ],
)
def test_texts_are_made_again(run, text_model, tmp_path, words):
    sheet, out = tmp_path / "sheet.png", tmp_path / "again.png"
    each, more = tmp_path / "each", tmp_path / "more"
    assert run("sample", text_model, *words, "--out", sheet, "--each", each)[0] == 0
    assert run("sample", "--like", sheet, "--out", out, "--each", more)[0] == 0
    assert out.read_bytes() == sheet.read_bytes()
    for file in each.iterdir():
        assert (more / file.name).read_bytes() == file.read_bytes()
    last = sorted(each.iterdir())[-1]
    assert run("sample", "--like", last, "--out", tmp_path / "one.png")[0] == 0
    assert (tmp_path / "one.png").read_bytes() == last.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["emoji", "--classes", "heart,flag", "--guidance", "3", "--schedule", "linear-after"],
        ["emoji-var", "--classes", "heart", "--smoothing", "--temperature", "0.9"],
        ["emoji-text", "--prompt", "a red apple", "--negative-prompt", "a face", "--size", "32x64"],
    ],
)
@pytest.mark.slow
def test_shipped_models_make_them_again(in_a_process, tmp_path, words):
    """In processes of their own, as people do."""
    sheet, out, each = tmp_path / "sheet.png", tmp_path / "again.png", tmp_path / "each"
    made = in_a_process("sample", *words, "--count", 2, "--out", sheet, "--each", each)
    assert made.communicate()[1] == ""
    one = sorted(each.iterdir())[-1]
    for file, copy in ((sheet, out), (one, tmp_path / "one.png")):
        process = in_a_process("sample", "--like", file, "--out", copy)
        assert "the same pixels" in process.communicate()[0]
        assert copy.read_bytes() == file.read_bytes()


# Where models lie


def test_a_model_that_moved_is_named(run, refused, tmp_path):
    folder, sheet = tiny_runs.save_pipeline(tmp_path / "first"), tmp_path / "a.png"
    run("sample", folder, "--count", 1, "--out", sheet)
    folder.rename(tmp_path / "second")
    message = refused("sample", "--like", sheet, "--out", tmp_path / "b.png")
    assert f"the model {folder} that made {sheet} is not found" in message
    assert f"setar sample MODEL --like {sheet}" in message
    out = tmp_path / "b.png"
    assert run("sample", tmp_path / "second", "--like", sheet, "--out", out)[0] == 0
    assert out.read_bytes() == sheet.read_bytes(), "and it is named as it was"


def test_a_model_that_changed_is_not_taken(run, refused, tmp_path):
    folder, sheet = tiny_runs.save_pipeline(tmp_path / "model"), tmp_path / "a.png"
    run("sample", folder, "--count", 1, "--out", sheet)
    pipe = Pipeline.from_pretrained(folder)
    next(pipe.model.parameters()).data += 1
    pipe.save_pretrained(folder)
    message = refused("sample", "--like", sheet)
    assert f"the model {folder} has changed since it made {sheet}" in message
    assert recall(sheet).manifest[:10] in message


def test_an_older_checkpoint_of_a_run_is_found(run, tmp_path):
    first, sheet = tmp_path / "run" / "checkpoints" / "step-00000001", tmp_path / "a.png"
    tiny_runs.save_pipeline(first)
    run("sample", tmp_path / "run", "--count", 1, "--out", sheet)
    pipe = Pipeline.from_pretrained(first)
    next(pipe.model.parameters()).data += 1
    pipe.save_pretrained(first.with_name("step-00000002"))
    out = tmp_path / "b.png"
    assert run("sample", "--like", sheet, "--out", out)[0] == 0
    assert out.read_bytes() == sheet.read_bytes()


def test_a_picture_of_another_machine_is_told(run, sheet, tmp_path):
    """Pixels that sums in other digits changed: the picture is written, and that is said."""
    with Image.open(sheet) as picture:
        changed = picture.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    for version, reason in (
        ("0.0.1", "setar 0.0.1, this is"),
        (Memory("image").version, "another"),
    ):
        write_png(changed, tmp_path / "other.png", replace(recall(sheet), version=version))
        code, said, _ = run("sample", "--like", tmp_path / "other.png", "--out", tmp_path / "b.png")
        assert code == 0
        assert f"not the same pixels as {tmp_path / 'other.png'} was made with ({reason}" in said


# What cannot be


def test_what_the_picture_says_is_not_said_again(refused, sheet):
    for words in (["--seed", 1], ["--classes", "dog"], ["--guidance", 2], ["--prompts", "a.txt"],
                  ["--top-k", 5], ["--unconditional"], ["--precision", "int8"]):  # fmt: skip
        message = refused("sample", "--like", sheet, *words)
        assert message == f"setar: {words[0]} does not go with --like: {sheet} says that itself\n"


def test_one_image_has_neither_files_nor_an_animation(refused, sheet, tmp_path):
    one = next((tmp_path / "each").iterdir())
    for words in (["--each", tmp_path / "x"], ["--animate", tmp_path / "x.gif"]):
        assert "is one image: --each and --animate" in refused("sample", "--like", one, *words)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (None, "remembers nothing"),
        (Memory("edit", model="emoji"), "is an edit, which cannot be made again"),
        (Memory("recipe"), "is a recipe, which cannot be made again"),
        (Memory("image", asked=(1,), seed=1), "does not name a model that lay in a folder"),
        (Memory("sheet", manifest="0" * 64), "does not name what it was asked for"),
        (
            Memory("image", model="emoij", manifest="0" * 64, asked=(1,), seed=1),
            "did you mean 'emoji'?",
        ),
        (
            Memory("image", model="emoji", manifest="0" * 64, asked=(1,), seed=1),
            "has changed since",
        ),
    ],
)
def test_what_cannot_be_made_again(refused, tmp_path, memory, message):
    write_png(Image.new("L", (2, 2)), tmp_path / "a.png", memory)
    assert message in refused("sample", "--like", tmp_path / "a.png")


def test_an_edit_says_what_is_missing(run, refused, model, sheet, tmp_path):
    one = next((tmp_path / "each").iterdir())
    out, each = tmp_path / "edit.png", tmp_path / "edits"
    words = ("--class", "cat", "--box", "0,2,4,4", "--count", 2, "--out", out, "--each", each)
    assert run("edit", model, one, *words)[0] == 0
    for file in (out, *each.iterdir()):
        message = refused("sample", "--like", file)
        assert "the picture that was edited is not in it" in message


def test_a_plugin_that_is_missing_is_asked_for(refused, sheet, tmp_path):
    write_png(Image.open(sheet), tmp_path / "a.png", replace(recall(sheet), plugins=("snake.py",)))
    assert "needs the plugin 'snake.py'" in refused("sample", "--like", tmp_path / "a.png")


def test_hostile_values_are_one_line(refused, sheet, tmp_path):
    for changes, message in (
        ({"count": 10**9}, "count"),
        ({"seed": -1}, "seed"),
        ({"size": (0, 0)}, "size"),
        ({"asked": (99,)}, "class id 99"),
        ({"sampling": {"temperature": -1}}, "temperature"),
        ({"device": "toaster"}, "toaster"),
        ({"precision": "int4"}, "precision"),
        ({"scale": 10**9}, "must be at most 64"),
        ({"columns": -5}, "columns"),
        ({"between": True, "asked": (1,)}, "between"),
    ):
        write_png(Image.open(sheet), tmp_path / "a.png", replace(recall(sheet), **changes))
        assert message in refused(
            "sample", "--like", tmp_path / "a.png", "--out", tmp_path / "b.png"
        )
