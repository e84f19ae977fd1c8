"""``setar edit``."""

import numpy as np
import pytest
from PIL import Image

from setar.cli.edit import MOST_MARGIN
from setar.pictures import masks

SIDE, GAP = 96, 6


@pytest.fixture
def image(tmp_path):
    """A picture of 8x8 pixels; the model makes 4x4."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "my image.png")
    return tmp_path / "my image.png"


@pytest.fixture
def mask(tmp_path):
    """Its right half."""
    drawn = Image.new("L", (8, 8))
    drawn.paste(255, (4, 0, 8, 8))
    drawn.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_edit_writes_a_labelled_picture(run, model, image, tmp_path):
    out, each = tmp_path / "new" / "sheet.png", tmp_path / "files"
    code, said, err = run(
        "edit", model, image, "--class", "a/b", "--box", "4,0,8,8", "--count", 10, "--seed", 3,
        "--out", out, "--each", each,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert said == f"10 files -> {each}\n10 results -> {out}\n"
    with Image.open(out) as sheet:  # the input, then rows of eight results
        assert sheet.width > 8 * (SIDE + GAP)
        assert sheet.height == 24 + 48 + 3 * (SIDE + GAP) + 24
    assert sorted(file.name for file in each.iterdir()) == [
        f"{i:06d}-a-b.png" for i in range(3, 13)
    ]


def test_a_box_and_a_mask_say_the_same(run, model, image, mask, tmp_path):
    for name, words in {"box": ("--box", "4,0,8,8"), "mask": ("--mask", mask)}.items():
        run("edit", model, image, "--class", "cat", *words, "--count", 1, "--each", tmp_path / name,
            "--out", tmp_path / "a.png")  # fmt: skip
    first, second = (tmp_path / name / "000000-cat.png" for name in ("box", "mask"))
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as result, Image.open(image) as original:
        kept = original.convert("RGB").resize((4, 4), Image.Resampling.LANCZOS).crop((0, 0, 2, 4))
        assert result.crop((0, 0, 2, 4)).tobytes() == kept.tobytes()


def test_outpaint(run, model, image, tmp_path):
    code, _, err = run(
        "edit", model, image, "--class", "cat", "--outpaint", "1,1,1,1", "--recipe", "next-scale",
        "--count", 2, "--temperature", 0.5, "--guidance", 3, "--each", tmp_path / "files",
        "--out", tmp_path / "a.png",
    )  # fmt: skip
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "files/000001-cat.png") as result, Image.open(image) as original:
        kept = original.convert("RGB").resize((2, 2), Image.Resampling.LANCZOS)
        assert result.crop((1, 1, 3, 3)).tobytes() == kept.tobytes()


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ([], "give one of --mask, --box, --outpaint and --vary: what is made anew"),
        (["--box", "0,0,4,4", "--outpaint", "1,1,1,1"], "give one of"),
        (
            ["--box", "0,0,4"],
            "pixels of at least 0, such as 0,16,32,32; got '0,0,4'",
        ),
        (["--box", "a,b,c,d"], "--box reads LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "-1,0,4,4"], "--box reads LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "4,0,4,4"], "the box (4, 0, 4, 4) must have left < right"),
        (["--box", "0,0,9,8"], "inside an image of 8x8 pixels"),
        (["--outpaint", "2,0,2,0"], "the margins (2, 0, 2, 0) must"),
        (
            ["--outpaint", "-1,0,0,4"],
            "--outpaint reads LEFT,TOP,RIGHT,BOTTOM, pixels of at least 0",
        ),
        (["--outpaint", "²,0,2,0"], "--outpaint reads"),
        (["--mask", "{0}/none.png"], "none.png does not exist"),
        (["--mask", "{0}/small.png"], "the mask has 4x4 pixels, the image 8x8"),
        (["--mask", "{0}/black.png"], "the mask is empty"),
        (["--mask", "{0}/text.png"], "cannot read the image"),
        (["--box", "0,0,4,4", "--vary", 0.5], "give one of"),
        (["--vary", 0], "`vary` (=0.0) must be above 0 and at most 1"),
        (["--vary", "nan"], "`vary` (=nan) must be above 0 and at most 1"),
        (["--vary", 0.5, "--seam", 2], "--dilate and --seam belong to a mask; --vary has none"),
        (["--box", "0,0,4,4", "--seam", -1], "`seam` (=-1) must be from 0 to 4096"),
        (["--box", "0,0,4,4", "--dilate", 5000], "`dilate` (=5000) must be from 0 to 4096"),
        (["--box", "0,0,4,4", "--size", "8x8"], "`size` (=8x8) must be 4x4: this model makes"),
        (["--box", "0,0,4,4", "--prompt", "dog"], "--prompt is for models that read texts"),
        (["--box", "0,0,4,4", "--class", "cow"], "unknown class 'cow'"),
        (["--box", "0,0,4,4", "--count", 0], "`count`"),
        (["--box", "0,0,4,4", "--seed", -1], "`seed` (=-1) must be a whole number from 0"),
        (["--box", "0,0,4,4", "--recipe", "mar"], "is for training"),
        (["--box", "0,0,4,4", "--top-p", 0], "`top_p` (=0.0)"),
        (["--box", "0,0,4,4", "--out", "{0}/a.txt"], "must end in"),
        (["--box", "0,0,4,4", "--each", "{0}/text.png"], "cannot make the folder"),
    ],
    ids=lambda value: " ".join(map(str, value))[:30] if isinstance(value, list) else "",
)
def test_mistakes_end_in_one_line(refused, model, image, tmp_path, words, rule):
    Image.new("L", (4, 4), 255).save(tmp_path / "small.png")
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("this is no picture")
    given = [word.format(tmp_path) if isinstance(word, str) else word for word in words]
    line = refused("edit", model, image, "--class", "cat", "--out", tmp_path / "a.png", *given)
    assert rule in line
    assert not (tmp_path / "a.png").exists()


def test_pictures_and_models_that_are_not_there(refused, model, image, tmp_path):
    words = ("--class", "cat", "--box", "0,0,1,1", "--out", tmp_path / "a.png")
    assert "none.png does not exist" in refused("edit", model, tmp_path / "none.png", *words)
    assert "is a folder, not a file" in refused("edit", model, tmp_path, *words)
    assert "'emojo' does not exist" in refused("edit", "emojo", image, *words)


@pytest.fixture
def wide(tmp_path):
    """A picture of 24x8 pixels; a square model sees its middle, from 8 to 16."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


SEEN = "the model sees 8,0,16,8 of the picture, its middle in the shape of 4x4"


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ("8,0,16,4", ""),
        ("10,2,12,4", ""),
        ("4,0,12,8", f"{SEEN}: what lies outside is not made\n"),
        ("0,0,24,8", f"{SEEN}: what lies outside is not made\n"),
    ],
)
def test_a_box_that_is_cut_off_is_said(run, model, wide, tmp_path, box, said):
    words = ("--class", "cat", "--box", box, "--count", 1, "--out", tmp_path / "a.png")
    code, shown, err = run("edit", model, wide, *words)
    assert (code, err) == (0, "")
    assert shown == f"1 result -> {tmp_path / 'a.png'}\n{said}"


@pytest.mark.parametrize("box", ["0,0,8,8", "16,0,24,8", "20,2,22,4"])
def test_a_box_outside_of_what_the_model_sees(refused, model, wide, tmp_path, box):
    drawn = Image.new("L", (24, 8))
    drawn.paste(255, tuple(map(int, box.split(","))))
    drawn.save(tmp_path / "mask.png")
    for words in (("--box", box), ("--mask", tmp_path / "mask.png")):
        said = refused("edit", model, wide, "--class", "cat", *words, "--out", tmp_path / "a.png")
        assert f"nothing to make anew: {SEEN}, and the mask or box lies outside of that" in said


def test_an_edit_never_takes_the_place_of_a_file(run, model, image, tmp_path):
    words = ("--class", "cat", "--box", "4,0,8,8", "--count", 1, "--out", image)
    before = image.read_bytes()
    code, shown, _ = run("edit", model, image, *words)
    assert code == 0
    assert shown.endswith("my image-2.png\n")
    assert image.read_bytes() == before


def test_the_class_must_be_given(refused, model, image):
    said = refused("edit", model, image, "--box", "0,0,4,4")
    assert said == "setar: say what to make: --class, a class name or id\n"


def test_masks_are_the_same_in_both_places():
    assert masks.MOST_MARGIN == MOST_MARGIN


@pytest.mark.parametrize(("kind", "rows"), [("model", 1), ("text_model", 2)])
def test_variations(run, request, kind, rows, image, tmp_path):
    asked = ("--class", "cat") if kind == "model" else ("--prompt", "dog")
    words = ("--vary", 0.4, "--count", 3, "--each", tmp_path / "each", "--out", tmp_path / "a.png")
    code, shown, err = run("edit", request.getfixturevalue(kind), image, *asked, *words)
    assert code == 0, err
    assert shown.startswith("3 files -> ")
    files = sorted((tmp_path / "each").iterdir())
    assert len({file.read_bytes() for file in files}) == 3
    side = 4 if kind == "model" else 8  # a model of any grid keeps the picture's size
    for file in files:
        with Image.open(file) as picture:
            assert picture.size == (side, side)


@pytest.mark.parametrize("words", [("--box", "4,0,8,8"), ("--outpaint", "0,3,9,0")])
def test_models_of_texts_edit_a_picture_at_its_own_size(run, text_model, image, tmp_path, words):
    code, _, err = run(
        "edit", text_model, image, "--prompt", "a red apple", "--negative-prompt", "dog", *words,
        "--count", 2, "--each", tmp_path / "each", "--out", tmp_path / "a.png",
    )  # fmt: skip
    assert code == 0, err
    with (
        Image.open(tmp_path / "each/000001-a red apple.png") as result,
        Image.open(image) as before,
    ):
        if words[0] == "--box":
            assert result.size == (8, 8)
            kept = (0, 0, 4, 8)
            assert result.crop(kept).tobytes() == before.crop(kept).tobytes()
        else:
            assert result.size == (17, 11)
            assert result.crop((0, 3, 8, 11)).tobytes() == before.tobytes()


def test_a_seam_and_a_grown_mask(run, text_model, image, tmp_path):
    made = {}
    for name, words in {
        "plain": ("--box", "4,0,6,8"),
        "grown": ("--box", "4,0,6,8", "--dilate", 2),
        "larger": ("--box", "2,0,8,8"),
        "soft": ("--box", "4,0,6,8", "--seam", 2),
        "large": ("--box", "4,0,6,8", "--size", "16x16"),
    }.items():
        words = (*words, "--prompt", "dog", "--count", 1, "--each", tmp_path / name)
        code, _, err = run("edit", text_model, image, *words, "--out", tmp_path / "a.png")
        assert code == 0, err
        made[name] = (tmp_path / name / "000000-dog.png").read_bytes()
    assert made["grown"] == made["larger"]
    assert len(set(made.values())) == 4
    with Image.open(tmp_path / "large/000000-dog.png") as picture:
        assert picture.size == (16, 16)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ([], 'drawn reads texts: say what to make, such as --prompt "a red apple, Twemoji style"'),
        (["--class", "cat"], "drawn has no classes: it reads texts"),
        (["--prompt", "dog", "--size", "6x6"], "must be multiples of 4 pixels"),
        (["--prompt", "dog", "--negative-prompt", "cat", "--guidance", 1], "needs guidance"),
    ],
)
def test_mistakes_with_models_of_texts(refused, text_model, image, tmp_path, words, rule):
    out = tmp_path / "a.png"
    assert rule in refused("edit", text_model, image, "--box", "0,0,4,4", "--out", out, *words)
    assert not out.exists()
