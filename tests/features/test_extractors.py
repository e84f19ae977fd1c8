"""`setar.features.base`: the names, and the one batched driver."""

import pytest
import torch

from setar.features.base import (
    EXTRACTORS,
    FeatureExtractor,
    Features,
    check_images,
    extract_features,
    make_extractor,
)


class Corners(FeatureExtractor):
    """Features that a test can tell by hand."""

    name = "corners"

    def __init__(self, spatial=True):
        self.spatial = spatial
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        corner = images[:, :, 0, 0].float()
        return Features(corner, images.flatten(1).float() if self.spatial else None, corner / 3)


def numbered(count):
    """Images whose every byte is their index."""
    return torch.arange(count).byte().reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_the_extractor_sees_one_batch_at_a_time():
    extractor = Corners()
    features = extract_features(extractor, numbered(7), batch=3)
    assert extractor.batches == [3, 3, 1]
    assert features.pooled[:3].tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_extracting_keeps_the_order_and_every_field():
    features = extract_features(Corners(), numbered(7), batch=3)
    assert features.pooled.tolist() == [[i, i, i] for i in range(7)]
    assert features.spatial.shape == (7, 12)
    assert features.probabilities[6].tolist() == [2, 2, 2]
    assert extract_features(Corners(spatial=False), numbered(2)).spatial is None


def test_progress_is_shown_only_when_asked(capsys):
    extract_features(Corners(), numbered(2))
    assert capsys.readouterr().err == ""
    extract_features(Corners(), numbered(2), progress=True)
    assert "features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("EffLite0", "did you mean 'efflite0'?"),
        ("inseption:FILE", "did you mean 'inception'?"),
        ("", "known: efflite0, digits, inception"),
        ("zebra\nstripes", "known: efflite0, digits, inception"),
    ],
)
def test_unknown_names_are_one_clear_line(text, hint):
    name = text.partition(":")[0]
    with pytest.raises(ValueError, match="unknown feature extractor") as error:
        make_extractor(text)
    assert f"{name!r}; {hint}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inception", "'inception' need their weights: inception:FILE"),
        ("inception:", "'inception' need their weights: inception:FILE"),
        ("efflite0:64", "'efflite0' take nothing after them, not '64'"),
        ("digits:FILE", "'digits' take nothing after them, not 'FILE'"),
        ("inception:nowhere.pth", "nowhere.pth does not exist"),
    ],
)
def test_what_follows_a_name_is_checked(text, message):
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as error:
        make_extractor(text)
    assert message in str(error.value)


def test_names_of_reports():
    assert make_extractor("digits").name == "digits"
    assert make_extractor("digits").described == "digits"


def test_an_extractor_of_ones_own_gets_argument_and_device(monkeypatch):
    monkeypatch.setattr(EXTRACTORS, "_entries", dict(EXTRACTORS._entries))

    @EXTRACTORS.register("corners")
    class Mine(Corners):
        @classmethod
        def make(cls, argument, device):
            extractor = cls()
            extractor.made_of = (argument, device)
            return extractor

    assert make_extractor("corners:a:b", "meta").made_of == ("a:b", "meta")
    assert make_extractor("corners").described == "corners"


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"must be uint8 in 0..255, got torch\.float32"):
        check_images(torch.rand(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"\[batch, 3, height, width\], got \[3, 2, 2\]"):
        check_images(torch.zeros(3, 2, 2).byte())
