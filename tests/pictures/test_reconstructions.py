"""Reconstructions for people to look at: every stage in its column, its PSNR above it."""

import dataclasses

import numpy as np
import pytest
import torch

from random_weights import randomise
from setar.pictures import reconstructions
from setar.pictures.reconstructions import reconstruction_rows, reconstruction_sheet, stages
from setar.tokenizers.autoencoder import psnr
from setar.tokenizers.base import decode_codes, encode_images, to_float
from setar.tokenizers.multiscale import PRESETS, MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig

IMAGES = torch.randint(256, (3, 3, 8, 16), generator=torch.Generator().manual_seed(0)).byte()
LEVELS = PixelLevels(PixelLevelsConfig(3))


@pytest.fixture(scope="module")
def wide():
    config = dataclasses.replace(PRESETS["tiny"], scales=((1, 2), (2, 4)), phis=1)
    return randomise(MultiScaleVQ(config)).eval()


def there_and_back(tokenizer, images):
    codes = encode_images(tokenizer, images)
    return decode_codes(tokenizer, codes, tokenizer.grid(*images.shape[-2:]))


def test_a_multi_scale_tokenizer_has_a_stage_for_each_scale(wide):
    found = stages(wide, IMAGES)
    assert [stage.shape for stage in found] == [IMAGES.shape] * 2
    assert torch.equal(found[-1], there_and_back(wide, IMAGES))
    assert not torch.equal(found[0], found[1])


def test_many_images_go_through_in_batches(wide, monkeypatch):
    whole = stages(wide, IMAGES)
    monkeypatch.setattr(reconstructions, "BATCH", 2)
    for stage, parts in zip(whole, stages(wide, IMAGES), strict=True):
        assert (stage.int() - parts.int()).abs().max() <= 1, "up to the rounding of a batch"


def test_other_tokenizers_have_one():
    (found,) = stages(LEVELS, IMAGES)
    assert torch.equal(found, there_and_back(LEVELS, IMAGES))


def test_what_cannot_go_through_is_refused(wide):
    class DecoderOnly(PixelLevels):
        can_encode = False

    with pytest.raises(ValueError, match="multiples of 4 pixels, got 6x16"):
        stages(wide, IMAGES[:, :, :6])
    with pytest.raises(ValueError, match="DecoderOnly cannot encode pictures"):
        stages(DecoderOnly(PixelLevelsConfig(3)), IMAGES)


def test_a_sheet_has_a_row_for_each_image_and_the_original_last(wide):
    names = ["one", "two", "a name that is much longer than there is room for"]
    _, decibels = reconstruction_sheet(wide, IMAGES.flip(3), names, "model")
    made = there_and_back(wide, IMAGES.flip(3))
    expected = psnr(to_float(made), to_float(IMAGES.flip(3)))
    assert decibels == pytest.approx(expected.mean().item(), abs=0.01)
    flat = torch.full_like(IMAGES, 255)
    flat[:, 1:] = 0
    red = np.asarray(reconstruction_sheet(wide, flat, names)[0])
    rows, columns = np.nonzero((red == [255, 0, 0]).all(-1))
    assert len(rows) >= 3 * 96 * 48
    right = columns >= columns.max() - 95
    assert right.sum() == 3 * 96 * 48, "three wide originals in the last column"


def test_what_is_written_on_a_sheet(wide, monkeypatch):
    """Each column by its scale and its mean PSNR, each row by its name and its own."""
    written = []
    monkeypatch.setattr(reconstructions, "labelled_rows", lambda *parts: written.append(parts))
    names = ["one", "two", "a name that is much longer than there is room for"]
    for tokenizer, scales in ((wide, ["1x2", "2x4"]), (LEVELS, ["decoded"])):
        reconstruction_sheet(tokenizer, IMAGES, names, "model")
        rows, title, _, columns = written.pop()
        quality = [psnr(to_float(s), to_float(IMAGES)) for s in stages(tokenizer, IMAGES)]
        means = [f"{stage.mean():.1f} dB" for stage in quality]
        assert title == f"model · {means[-1]}"
        expected = [f"{name}, {mean}" for name, mean in zip(scales, means, strict=True)]
        assert columns == [*expected, "original"]
        assert [name for name, _, _ in rows] == ["one", "two", "a name that is much long"]
        assert [own for _, own, _ in rows] == [f"{number:.1f} dB" for number in quality[-1]]


def test_rows_of_originals_stand_above_their_reconstructions():
    """Pictures 48 pixels wide are not enlarged, and 2 white ones lie between."""
    shades = torch.tensor([0, 90, 200, 255, 60]).byte().view(5, 1, 1, 1)
    found = reconstruction_rows(LEVELS, shades.expand(5, 3, 8, 48), columns=2)
    assert found.shape == (3, 4 * 8 + 3 * 2, 2 * 48 + 2)  # the fifth picture fills no row
    assert (found == found[0]).all()
    assert found[0, 4::10, [24, 74]].tolist() == [[0, 90], [0, 128], [200, 255], [255, 255]]


def test_a_picture_of_several_scales_shows_them_below(wide):
    found = reconstruction_rows(wide, IMAGES, columns=16)
    above, below = 48 // 16 * 8, 48 // 16 * 16  # heights and widths, three times as large
    assert found.shape[1] == (2 * above + 2) + 12 + (3 * above + 2 * 2)
    assert found.shape[2] == 3 * below + 2 * 2
    rows = found[:, 2 * above + 2 + 12 :]
    originals = found[:, :above]
    for index in range(3):
        first = index * (above + 2)
        shown = rows[:, first : first + above, 2 * (below + 2) :]
        left = index * (below + 2)
        assert torch.equal(shown, originals[:, :, left : left + below]), "the original comes last"
