"""``setar sample``."""

import os
import shutil
from unittest.mock import Mock

import pytest
from PIL import Image

import tiny_runs
from random_weights import random_fmt
from setar import checkpoint
from setar.cli.progress import class_rows, rows_size, seeds_of, side_of
from setar.pictures.labels import label
from setar.pipeline import Pipeline
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig


def test_sample_writes_a_labelled_picture(run, model, tmp_path):
    out, steps, each = tmp_path / "a b" / "grid.png", tmp_path / "steps.gif", tmp_path / "files"
    code, shown, err = run(
        "sample", model, "--classes", "dog, a/b", "--count", 3, "--seed", 5, "--out", out,
        "--animate", steps, "--each", each, "--recipe", "random-4-cosine",
    )  # fmt: skip
    assert (code, err) == (0, "")
    with Image.open(out) as picture:
        side, gap = 96, 6
        assert picture.width > 3 * (side + gap)
        assert picture.height == 24 + 48 + 2 * (side + gap) + 24
    with Image.open(steps) as animation:
        assert animation.n_frames == 4
    names = ["000005-dog", "000006-dog", "000007-dog", "000008-a-b", "000009-a-b", "000010-a-b"]
    assert sorted(file.stem for file in each.iterdir()) == names
    assert "6 images" in shown
    assert "4 steps" in shown
    with Image.open(each / "000006-dog.png") as picture:
        assert picture.size == (4, 4)


def test_a_seed_gives_the_same_files(run, model, tmp_path):
    for name, seed, count in (("one", 5, 3), ("two", 6, 1), ("three", 7, 1)):
        run("sample", model, "--classes", "cat", "--count", count, "--seed", seed,
            "--out", tmp_path / "grid.png", "--each", tmp_path / name)  # fmt: skip
    pictures = {name: (tmp_path / name / "000006-cat.png") for name in ("one", "two")}
    one, two = (Image.open(file) for file in pictures.values())
    assert one.tobytes() == two.tobytes()  # what they remember differs: one was made in a batch
    other = Image.open(tmp_path / "three" / "000007-cat.png")
    assert other.tobytes() != two.tobytes()


def test_a_single_set_is_an_animation_of_one_frame(run, model, tmp_path):
    code, _, err = run(
        "sample", model, "--recipe", "random-1-cosine", "--classes", "0", "--count", 1,
        "--out", tmp_path / "a.png", "--animate", tmp_path / "a.gif",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert (tmp_path / "a.gif").is_file()


def test_more_images_than_a_batch_holds(run, model, tmp_path):
    code, shown, _ = run(
        "sample", model, "--classes", "cat,dog", "--count", 40, "--out", tmp_path / "a.png",
        "--animate", tmp_path / "a.gif",
    )  # fmt: skip
    assert code == 0
    assert "80 images" in shown
    with Image.open(tmp_path / "a.gif") as animation, Image.open(tmp_path / "a.png") as picture:
        assert animation.n_frames == 4
        assert animation.width <= picture.width


def test_an_animation_shows_every_image(run, model, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("setar.cli.progress.class_rows", spy(made))
    words = ("--classes", "cat,dog", "--count", 40, "--out", tmp_path / "a.png")
    _, shown, _ = run("sample", model, *words, "--animate", tmp_path / "a.gif")
    assert "4 steps -> " in shown
    assert [(ids, len(images), count) for ids, images, count in made] == [([0, 1], 80, 40)] * 4


def test_an_animation_says_what_it_leaves_out(run, model, tmp_path, monkeypatch):
    words = ("--classes", "cat,dog", "--count", 40, "--out", tmp_path / "a.png")
    pipe = Pipeline.from_pretrained(model)
    for ids, columns, said in [
        ([0, 1], 3, "4 steps of 6 of the 80 images, 3 of each class, -> "),
        ([0], 1, "4 steps of 1 of the 80 images, 1 of the first class, -> "),
    ]:
        width, height = rows_size(pipe, ids, columns, "set 999 of 999")
        monkeypatch.setattr("setar.cli.progress.ANIMATED_PIXELS", 4 * width * height)
        code, shown, _ = run("sample", model, *words, "--animate", tmp_path / "a.gif")
        assert code == 0
        assert said in shown


def test_an_animation_that_cannot_be_is_refused(refused, model, tmp_path, monkeypatch):
    monkeypatch.setattr("setar.cli.progress.ANIMATED_PIXELS", 100)
    forbid_sampling(monkeypatch)
    words = ("--out", tmp_path / "a.png", "--animate", tmp_path / "a.gif")
    assert "an animation of 4 sets" in refused("sample", model, *words)


def spy(made):
    """`class_rows`, which notes what it draws."""

    def noted(pipe, ids, images, count, title, *rest, **layout):
        made.append((list(ids), images, count))
        return class_rows(pipe, ids, images, count, title, *rest, **layout)

    return noted


def test_nothing_that_is_there_is_lost(run, model, tmp_path):
    out, steps = tmp_path / "a.png", tmp_path / "a.gif"
    words = ("sample", model, "--classes", "cat", "--count", 2, "--out", out, "--animate", steps)
    run(*words, "--each", tmp_path / "each")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    _, shown, _ = run(*words, "--each", tmp_path / "each", "--recipe", "random-2-cosine")
    assert f"-> {tmp_path / 'a-2.png'}\n" in shown
    assert f"-> {tmp_path / 'a-2.gif'}\n" in shown
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert after.items() >= before.items()
    assert "000000-cat-2.png" in {file.name for file in after}


def test_each_image_is_there_before_the_sheet_is_drawn(run, model, tmp_path, monkeypatch):
    fail = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr("setar.cli.sample.class_rows", fail)
    words = ("--classes", "cat", "--count", 2, "--out", tmp_path / "a.png")
    code, _, err = run("sample", model, *words, "--each", tmp_path / "each")
    assert (code, err) == (2, "setar: No space left on device\n")
    assert len(list((tmp_path / "each").iterdir())) == 2


def test_the_heading_says_what_made_the_images(run, model, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr("setar.cli.sample.class_rows", lambda *given: titles.append(given[4]))
    monkeypatch.setattr("setar.cli.sample.save_picture", lambda picture, file, memory: file)
    words = ("sample", model, "--classes", "cat", "--count", 2, "--out", tmp_path / "a.png")
    run(*words)
    run(*words, "--guidance", 3, "--schedule", "linear", "--temperature", 0.5)
    run(*words, "--guidance", 1)
    first, second, third = (title.split(" · ") for title in titles)
    shown = ["grey model", "random-4-cosine", "guidance constant 1.5", "temperature 1"]
    assert first == [*shown, "2 images"], "and not the seconds, which are others each time"
    assert second[2:4] == ["guidance linear 3", "temperature 0.5"]
    assert third[2] == "guidance off"
    assert label(titles[0], 20.0).text.startswith("grey model · random-4-cosine · "), "as drawn"


def test_one_image_is_said_in_the_singular(run, model, tmp_path):
    words = ("--classes", "cat", "--count", 1, "--seed", 5, "--each", tmp_path / "each")
    _, said, _ = run("sample", model, *words, "--out", tmp_path / "a.png")
    assert said.startswith(f"1 file -> {tmp_path / 'each'}\n1 image in ")
    assert (seeds_of(5, 1), seeds_of(5, 2)) == ("seed 5", "seeds 5 to 6")


def test_classes_whose_names_have_commas(run, tmp_path):
    names = ("tench, Tinca tinca", "猫", "cat", "a:b")
    model = random_fmt(grid=(4, 4), vocabulary=17, classes=4)
    defaults = SamplingDefaults().changed({"recipe": "random-2-cosine"})
    pipe = Pipeline(model, PixelLevels(PixelLevelsConfig(17)), names, defaults)
    pipe.save_pretrained(tmp_path / "model")
    words = ("--count", 1, "--out", tmp_path / "a.png", "--each", tmp_path / "each")
    text = "tench, Tinca tinca,猫,a:b"
    code, _, err = run("sample", tmp_path / "model", "--classes", text, *words)
    assert (code, err) == (0, "")
    made = sorted(file.stem for file in (tmp_path / "each").iterdir())
    assert made == ["000000-tench, Tinca tinca", "000001-猫", "000002-a-b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", 20_000, "--out", "{}/a.webp"], "and .webp files at most 16383 a side"),
        (["--count", 20_000, "--out", "{}/a.JPG"], "and .jpg files at most 65500 a side"),
        (["--count", 100_000], "more than 150000000: draw fewer"),
        (["--count", 100_001], "`count` (=100001) must be from 1 to 100000"),
        (["--seed", 2**63 - 5], "must not exceed 2**63"),
    ],
)
def test_limits_are_known_before_sampling(refused, model, tmp_path, monkeypatch, words, message):
    forbid_sampling(monkeypatch)
    given = [str(word).format(tmp_path) for word in words]
    assert message in refused("sample", model, "--out", tmp_path / "a.png", *given)
    assert not list(tmp_path.iterdir())


def test_a_device_of_this_machine_is_found(run, model, tmp_path):
    words = ("--classes", "cat", "--count", 1, "--device", "auto", "--out", tmp_path / "a.png")
    assert run("sample", model, *words)[0] == 0


def test_classes_are_listed(run, model):
    assert run("sample", model, "--classes", "?") == (0, "\n".join(tiny_runs.CLASSES) + "\n", "")


def test_without_classes_a_few_are_chosen(run, model, tmp_path):
    _, shown, _ = run("sample", model, "--count", 1, "--out", tmp_path / "a.png")
    assert "5 images" in shown


def test_a_guidance_schedule_needs_no_scale(run, model, tmp_path):
    made = {}
    for words in ([], ["--schedule", "linear"], ["--guidance", 1.5, "--schedule", "linear"]):
        each = tmp_path / f"{len(words)}"
        run("sample", model, *words, "--each", each, "--out", tmp_path / "a.png")
        made[len(words)] = [file.read_bytes() for file in sorted(each.iterdir())]
    assert made[0] != made[2]
    assert made[2] == made[4], "1.5 is the scale of the model"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "dgo"], "unknown class 'dgo'; did you mean 'dog'?"),
        (["--classes", "cat,17"], "class id 17 is not in 0..4"),
        (["--recipe", "rndom-4-cosine"], "did you mean 'random'"),
        (["--recipe", "random-17-cosine"], "17"),
        (["--seed", "-1"], "seed"),
        (["--seed", str(2**63 - 5)], "seed"),
        (["--count", "0"], "`count`"),
        (["--count", "-3"], "`count`"),
        (["--top-p", "2"], "`top_p` (=2.0)"),
        (["--top-p", "nan"], "`top_p` (=nan) must be above 0 and at most 1"),
        (["--min-p", "-1"], "`min_p`"),
        (["--top-k", "-1"], "`top_k`"),
        (["--temperature", "-1"], "`temperature`"),
        (["--attention", "fully"], "`attention`"),
        (["--guidance", "-1"], "`guidance` (=-1.0) must be a number of at least 0"),
        (["--guidance", "nan"], "`guidance` (=nan)"),
        (["--guidance", "2", "--schedule", "line"], "unknown guidance schedule 'line'"),
        (["--schedule", "line"], "unknown guidance schedule 'line'"),
        (["--device", "cuda:99"], "no device 'cuda:99'"),
        (["--device", "toaster"], "no device 'toaster'"),
    ],
)
def test_sampling_mistakes(refused, model, tmp_path, words, message):
    out = tmp_path / "never.png"
    assert message in refused("sample", model, "--out", out, *words)
    assert not out.exists()


def forbid_sampling(monkeypatch):
    fail = Mock(side_effect=AssertionError("too late"))
    monkeypatch.setattr("setar.pipeline.Pipeline.__call__", fail)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "{}/a.txt"], "a.txt must end in"),
        (["--out", "{}/a"], "must end in"),
        (["--out", "{}/a.psd"], "must end in"),
        (["--out", "{}/folder.png"], "folder.png is a folder"),
        (["--out", "{}/file/a.png"], "cannot make the folder"),
        (["--out", "{}/file/deeper/a.png"], "cannot make the folder"),
        (["--out", "{}/a.png", "--animate", "{}/a.jpg"], "a.jpg must end in .gif"),
        (["--out", "{}/a.png", "--animate", "{}/file/a.gif"], "cannot make the folder"),
        (["--out", "{}/a.png", "--each", "{}/file"], "cannot make the folder"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_the_work(
    refused, model, tmp_path, monkeypatch, words, message
):
    forbid_sampling(monkeypatch)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    assert message in refused("sample", model, *[word.format(tmp_path) for word in words])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_refused(refused, model, tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot write into the folder" in refused("sample", model, "--out", tmp_path / "a.png")


def test_unknown_models(refused, tmp_path):
    assert "'emojo' does not exist" in refused("sample", "emojo")
    assert "is no model folder" in refused("sample", tmp_path)


def test_a_damaged_model_is_named(refused, model, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    file = copy / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert f"{file} is damaged" in refused("sample", copy)


def test_a_tokenizer_alone_cannot_sample(refused, tmp_path):
    checkpoint.save(tmp_path / "model", {"tokenizer": {}}, {})
    assert "is a tokenizer" in refused("sample", tmp_path / "model")


def test_smoothing_is_for_a_var(refused, model, tmp_path):
    said = refused("sample", model, "--smoothing", "--out", tmp_path / "a.png")
    assert "`smoothing`" in said
    assert "needs a VAR" in said


def test_prompts_label_the_rows(run, text_model, tmp_path, monkeypatch):
    drawn = []
    rows = [("sample", class_rows), ("progress", class_rows)]
    for module, draw in rows:
        monkeypatch.setattr(f"setar.cli.{module}.class_rows", spy_with(draw, drawn))
    (tmp_path / "prompts.txt").write_text("\ufeffsmall house\n\n  green tree \n", encoding="utf-8")
    code, shown, err = run(
        "sample", text_model, "--prompt", "a red apple", "--prompts", tmp_path / "prompts.txt",
        "--negative-prompt", "blue", "--size", "8x24", "--count", 2, "--seed", 4,
        "--out", tmp_path / "a.png", "--each", tmp_path / "each", "--animate", tmp_path / "a.gif",
    )  # fmt: skip
    assert code == 0, err
    assert "6 images in " in shown
    assert {texts for texts, _ in drawn} == {("a red apple", "small house", "green tree")}
    assert {sizes for _, sizes in drawn} == {((24, 8),) * 6}
    names = [f"{i:06d}-{text}" for i, text in zip(range(4, 10), ["a red apple"] * 2
             + ["small house"] * 2 + ["green tree"] * 2, strict=True)]  # fmt: skip
    assert sorted(file.stem for file in (tmp_path / "each").iterdir()) == names
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 4


def spy_with(draw, drawn):
    def noted(pipe, asked, images, *rest, **layout):
        drawn.append((tuple(asked), tuple(image.size for image in images)))
        return draw(pipe, asked, images, *rest, **layout)

    return noted


def test_prompts_and_what_is_led_away_from_matter(run, text_model, tmp_path):
    made = []
    for words in (
        ["--prompt", "dog"], ["--prompt", "cat"], ["--prompt", "dog", "--negative-prompt", "blue"],
    ):  # fmt: skip
        each = tmp_path / f"{len(made)}"
        words = [*words, "--count", 1, "--each", each, "--out", tmp_path / "a.png"]
        assert run("sample", text_model, *words)[0] == 0
        made.append(Image.open(next(each.iterdir())).tobytes())
    assert len(set(made)) == 3


EXAMPLE = '--prompt "a red apple, Twemoji style"'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], f"drawn reads texts: say what to make, such as {EXAMPLE}"),
        (["--classes", "cat"], f"drawn has no classes: it reads texts, such as {EXAMPLE}"),
        (["--classes", "?"], "drawn has no classes"),
        (["--prompts", "{}/none.txt"], "none.txt does not exist"),
        (["--prompts", "{}/empty.txt"], "empty.txt holds no prompt: they are one a line"),
        (["--prompts", "{}/bytes.txt"], "bytes.txt is no text in UTF-8"),
        (["--prompts", "{}/many.txt"], "10001 prompts are more than the 10000 of a call"),
        (["--prompt", "dog", "--size", "8by8"], "--size reads 256, or height x width"),
        (["--prompt", "dog", "--size", "30x64"], "multiples of 4 pixels"),
        (["--prompt", "dog", "--size", "300x300"], "more than 64x64"),
        (["--prompt", "dog", "--negative-prompt", "cat", "--guidance", 1], "needs guidance"),
    ],
)
def test_mistakes_with_models_of_texts(refused, text_model, tmp_path, words, message):
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "many.txt").write_text("dog\n" * 10_001)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    out, given = tmp_path / "never.png", [str(word).format(tmp_path) for word in words]
    assert message in refused("sample", text_model, "--out", out, *given)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "dog"], "--prompt is for models that read texts; "),
        (["--negative-prompt", "dog"], "--negative-prompt is for models that read texts; "),
        (["--size", "8x8"], "`size` (=8x8) must be 4x4: this model makes no pictures of another"),
    ],
)
def test_models_of_classes_read_no_texts(refused, model, tmp_path, words, message):
    assert message in refused("sample", model, "--out", tmp_path / "a.png", *words)


def test_wide_pictures_are_drawn_wider():
    shapes = [(4, 4), (64, 64), (200, 100), (64, 32), (32, 64), (640, 64)]
    assert [side_of(size) for size in shapes] == [96, 96, 200, 192, 96, 640]


def test_precisions(run, refused, model, tmp_path):
    words = ("sample", model, "--classes", "0", "--count", 1, "--out", tmp_path / "new.png")
    code, _, err = run(*words, "--precision", "int8")
    assert (code, err) == (0, "")
    assert (tmp_path / "new.png").is_file()
    assert "int8" in refused(*words, "--precision", "int3")
