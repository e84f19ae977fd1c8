"""Masks: boxes and margins, sizes and modes, and that what is hidden is gone."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from setar.pictures.masks import (
    box_mask,
    dilated,
    fitted,
    grow,
    hide,
    outpaint,
    prepare,
    seam_mask,
    show_mask,
)


def test_a_box_is_white_inside():
    mask = np.asarray(box_mask((5, 4), (1, 2, 3, 4)))
    assert mask.tolist() == [[0] * 5, [0] * 5, [0, 255, 255, 0, 0], [0, 255, 255, 0, 0]]


@pytest.mark.parametrize(
    "box", [(0, 0, 6, 4), (0, 0, 5, 5), (-1, 0, 2, 2), (2, 0, 2, 4), (0, 3, 5, 1)]
)
def test_boxes_that_are_empty_or_outside_are_refused(box):
    with pytest.raises(ValueError, match="inside an image of 5x4 pixels"):
        box_mask((5, 4), box)


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_outpainting_keeps_the_whole_image_in_its_proportions():
    image = picture(8, 8)
    canvas, mask = outpaint(image, (16, 16), (4, 2, 4, 6))
    assert canvas.size == mask.size == (16, 16)
    assert mask.getcolors() == [(64, 0), (192, 255)]
    inside = canvas.crop((4, 2, 12, 10))
    assert inside.tobytes() == image.tobytes()
    assert np.asarray(mask)[2:10, 4:12].max() == 0
    # A box of 8 x 16 leaves room above and below a square image.
    wide, mask = outpaint(image, (16, 16), (8, 0, 0, 0))
    assert wide.crop((8, 4, 16, 12)).tobytes() == image.tobytes()
    assert np.asarray(mask)[4:12, 8:].max() == 0
    assert np.asarray(mask)[:4].min() == 255


@pytest.mark.parametrize("margins", [(0, 0, 0, 0), (-1, 0, 2, 2), (8, 0, 8, 0), (0, 20, 0, 0)])
def test_margins_that_leave_nothing_are_refused(margins):
    with pytest.raises(ValueError, match="leave room for the image in 16x16 pixels"):
        outpaint(picture(8, 8), (16, 16), margins)


@pytest.mark.parametrize(
    "wrong", [8, None, "1234", (1, 2, 3), (1, 2, 3, 4, 5), (1.0, 2, 3, 4), [True, 0, 1, 1], {}]
)
def test_edges_are_four_whole_numbers(wrong):
    with pytest.raises(ValueError, match=r"the margins \(=.*must be four whole numbers: left, top"):
        outpaint(picture(8, 8), None, wrong)
    with pytest.raises(ValueError, match=r"the box \(=.*must be four whole numbers: left, top"):
        box_mask((8, 8), wrong)
    edges = np.array([0, 0, 4, 8])
    assert box_mask((8, 8), edges).tobytes() == box_mask((8, 8), (0, 0, 4, 8)).tobytes()
    assert outpaint(picture(8, 8), None, edges).image.size == (12, 16)


def test_an_image_of_the_models_size_stays_as_it_is():
    image, mask = picture(6, 4), box_mask((6, 4), (1, 1, 2, 2))
    found, drawn = prepare(image, mask, (6, 4))
    assert found.tobytes() == image.tobytes()
    assert drawn.tobytes() == mask.tobytes()


def test_other_sizes_are_cropped_in_the_middle_and_resized_with_their_mask():
    image = Image.new("RGB", (30, 10), "red")
    image.paste("blue", (10, 0, 20, 10))
    mask = box_mask((30, 10), (19, 9, 30, 10))
    found, drawn = prepare(image, mask, (5, 5))
    assert found.size == (5, 5)
    assert all(blue > 235 for _, (_, _, blue) in found.getcolors())  # the filter is a little wider
    assert drawn.getcolors() == [(24, 0), (1, 255)]  # a quarter of a pixel is enough
    assert drawn.getpixel((4, 4)) == 255


def test_masks_come_as_pictures_of_any_mode_or_as_arrays():
    image, where = picture(6, 4), np.zeros((4, 6), dtype=bool)
    where[1:3, 2:5] = True
    drawn = Image.fromarray(np.where(where, 255, 0).astype(np.uint8))
    faint = Image.fromarray(np.where(where, 128, 127).astype(np.uint8))
    for mask in (
        where, torch.from_numpy(where), where.tolist(), drawn, faint, drawn.convert("1"),
        drawn.convert("RGB"), drawn.convert("P"), drawn.convert("LA"), drawn.convert("I;16"),
    ):  # fmt: skip
        if isinstance(mask, Image.Image) and mask.mode == "I;16":
            mask = mask.point(lambda level: level * 257)
        _, found = prepare(image, mask, (6, 4))
        assert ((np.asarray(found) > 0) == where).all()


@pytest.mark.parametrize(
    ("mask", "rule"),
    [
        (Image.new("L", (4, 6), 255), r"the mask has 4x6 pixels, the image 6x4"),
        (np.ones((6, 4), dtype=bool), r"the mask has 4x6 pixels"),
        (Image.new("L", (6, 4)), r"the mask is empty: its white pixels are what is made anew"),
        (Image.new("L", (6, 4), 127), r"the mask is empty"),
        (np.ones((4, 6)), r"a mask must be .* not ndarray of float64 \[4, 6\]"),
        (np.ones((4, 6, 1), dtype=bool), r"a mask must be"),
        (np.ones((0, 6), dtype=bool), r"a mask must be"),
        (None, r"a mask must be .* not NoneType"),
        ("mask.png", r"a mask must be .* not str"),
    ],
)
def test_wrong_masks_are_refused(mask, rule):
    with pytest.raises(ValueError, match=rule):
        prepare(picture(6, 4), mask, (6, 4))


def test_a_mask_in_what_is_cropped_away_is_empty():
    with pytest.raises(ValueError, match="the mask is empty"):
        prepare(picture(30, 10), box_mask((30, 10), (0, 0, 9, 10)), (5, 5))


def test_unreadable_images_are_refused(tmp_path):
    picture(64, 64).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "a.png") as cut, pytest.raises(ValueError, match="cannot read"):
        prepare(cut, np.ones((64, 64), dtype=bool), (64, 64))
    with pytest.raises(ValueError, match=r"an image must be a PIL image, not str"):
        prepare("a.png", np.ones((64, 64), dtype=bool), (64, 64))


def test_without_a_size_an_image_keeps_its_own():
    image, mask = picture(7, 5), box_mask((7, 5), (1, 1, 2, 2))
    found, drawn = prepare(image, mask)
    assert (found.tobytes(), drawn.tobytes()) == (image.tobytes(), mask.tobytes())
    assert fitted(image).tobytes() == image.tobytes()
    assert fitted(image, (3, 3)).tobytes() == prepare(image, mask, (3, 3)).image.tobytes()


def test_margins_around_an_image_of_its_own_size():
    image = picture(7, 5)
    canvas, mask = outpaint(image, None, (2, 0, 3, 1))
    assert canvas.size == mask.size == (12, 6)
    assert canvas.crop((2, 0, 9, 5)).tobytes() == image.tobytes()
    assert mask.getcolors() == [(35, 0), (37, 255)]
    for margins in ((0, 0, 0, 0), (-1, 0, 2, 0)):
        with pytest.raises(ValueError, match="must not be negative nor all 0"):
            outpaint(image, None, margins)
    with pytest.raises(ValueError, match="would have 10000007x4005 pixels, more than"):
        outpaint(image, None, (10**7, 0, 0, 4000))


def test_masks_grow_in_every_direction():
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[2, 1] = True
    assert torch.equal(dilated(mask, 0), mask)
    grown = torch.zeros(5, 7, dtype=torch.bool)
    grown[:, :4] = True
    assert torch.equal(dilated(mask, 2), grown)
    assert dilated(mask, 4096).all()
    task = prepare(picture(7, 5), mask)
    assert grow(task, 0) is task
    assert np.array_equal(np.asarray(grow(task, 2).mask) > 0, grown)
    assert not dilated(torch.zeros(3, 3, dtype=torch.bool), 2).any()


def test_a_seam_falls_evenly():
    """The drawing of `seam_mask`."""
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[:, 0] = True
    assert np.asarray(seam_mask(mask, 3)).tolist() == [[255, 191, 128, 64, 0, 0]] * 2
    assert np.asarray(seam_mask(mask, 0)).tolist() == [[255, 0, 0, 0, 0, 0]] * 2
    wide = [round(255 * (101 - distance) / 101) for distance in range(6)]
    assert np.asarray(seam_mask(mask, 100)).tolist() == [wide] * 2  # all of it is soon in reach


@given(st.lists(st.booleans(), min_size=20, max_size=20), st.integers(0, 9))
@settings(max_examples=30)
def test_hidden_pixels_are_gone_and_the_others_stay(pixels, seed):
    mask = torch.tensor(pixels).view(4, 5)
    assume(mask.any())
    random = torch.Generator().manual_seed(seed)
    image, noise = (
        torch.randint(256, (3, 4, 5), generator=random, dtype=torch.uint8) for _ in range(2)
    )
    found = hide(image, mask)
    assert found.dtype == torch.uint8
    assert torch.equal(found[:, ~mask], image[:, ~mask])
    assert torch.equal(hide(torch.where(mask, noise, image), mask), found)
    if not mask.all():  # means lie within the range of what is kept
        kept = image[:, ~mask]
        assert (found.amin((1, 2)) >= kept.amin(1)).all()
        assert (found.amax((1, 2)) <= kept.amax(1)).all()


def test_hiding_repeats_what_is_nearest():
    image = torch.zeros(3, 5, 8, dtype=torch.uint8)
    image[:, :, :2], image[:, :, 2:] = 200, 77
    mask = torch.zeros(5, 8, dtype=torch.bool)
    mask[:, 2:] = True
    assert (hide(image, mask) == 200).all()


def test_shown_masks_hide_what_is_made_and_nothing_else():
    image, mask = picture(32, 32), box_mask((32, 32), (8, 0, 24, 32))
    shown = np.asarray(show_mask(image, mask))
    assert (shown[:, :8] == np.asarray(image)[:, :8]).all()
    assert len(np.unique(shown[:, 8:24])) == 2  # stripes of two greys


def turned(image, mode):
    """The same picture as a camera held sideways stores it."""
    stored = image.convert(mode).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.info["exif"] = exif.tobytes()
    return stored


def test_pictures_and_masks_are_turned_as_a_viewer_does():
    image, mask = picture(8, 6), box_mask((8, 6), (1, 2, 4, 5))
    expected = prepare(image, mask, (4, 4))
    for first in (image, turned(image, "RGB")):
        for second in (mask, turned(mask, "L"), np.asarray(mask) > 0):
            task = prepare(first, second, (4, 4))
            assert np.array_equal(task.image, expected.image)
            assert np.array_equal(task.mask, expected.mask)
    stored = turned(image, "RGB")
    assert np.array_equal(
        outpaint(stored, (8, 8), (1, 1, 1, 1)).image, outpaint(image, (8, 8), (1, 1, 1, 1)).image
    )


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_wide_levels_are_scaled(kind):
    levels = np.linspace(0, 65535, 48).reshape(6, 8)
    image = Image.fromarray((levels if kind == np.int32 else levels / 65535).astype(kind))
    task = prepare(image, box_mask((8, 6), (0, 0, 2, 2)), (8, 6))
    assert np.asarray(task.image).mean() == pytest.approx(127.5, abs=1)
    white = prepare(picture(8, 6), Image.fromarray(np.ones((6, 8), np.float32)), (8, 6)).mask
    assert np.asarray(white).min() == 255
