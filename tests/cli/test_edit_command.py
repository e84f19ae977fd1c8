"""``setar edit``."""

import numpy as np
import pytest
from PIL import Image

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
        ([], "give one of --mask, --box and --outpaint: what is made anew"),
        (["--box", "0,0,4,4", "--outpaint", "1,1,1,1"], "give one of"),
        (["--box", "0,0,4"], "--box reads LEFT,TOP,RIGHT,BOTTOM, such as 0,16,32,32; got '0,0,4'"),
        (["--box", "a,b,c,d"], "--box reads LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "-1,0,4,4"], "--box reads LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "4,0,4,4"], "the box (4, 0, 4, 4) must have left < right"),
        (["--box", "0,0,9,8"], "inside an image of 8x8 pixels"),
        (["--outpaint", "2,0,2,0"], "the margins (2, 0, 2, 0) must"),
        (["--outpaint", "²,0,2,0"], "--outpaint reads"),
        (["--mask", "{0}/none.png"], "none.png does not exist"),
        (["--mask", "{0}/small.png"], "the mask has 4x4 pixels, the image 8x8"),
        (["--mask", "{0}/black.png"], "the mask is empty"),
        (["--mask", "{0}/text.png"], "cannot read the image"),
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


def test_the_class_must_be_given(run, model, image):
    code, _, err = run("edit", model, image, "--box", "0,0,4,4")
    assert code == 2
    assert "--class" in err
