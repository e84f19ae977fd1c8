import hashlib
from importlib.resources import files

import pytest
import torch

from setar.data import emoji

ASSETS = files("setar.data") / "assets"


def pixel_rows(one_split: emoji.EmojiSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in one_split.images}


def test_counts():
    assert [len(emoji.load(split)) for split in ("train", "heldout", "all")] == [3418, 198, 3616]
    assert len(emoji.subgroups()) == len(set(emoji.subgroups())) == 99
    assert emoji.subgroups()[0] == "face-smiling"
    assert emoji.subgroups()[-1] == "subdivision-flag"
    assert len(set(emoji.load("all").groups)) == 9


def test_file_is_small_and_its_licences_lie_beside_it():
    assert len((ASSETS / "emoji.npz").read_bytes()) < 6_000_000
    assert "SIL OPEN FONT LICENSE" in (ASSETS / "LICENSE-noto-emoji.txt").read_text()
    assert "UNICODE, INC. LICENSE" in (ASSETS / "LICENSE-unicode.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("split", ["train", "heldout", "all"])
def test_shapes_and_types(split):
    loaded = emoji.load(split)
    count = len(loaded)
    assert loaded.images.shape == (count, 3, 32, 32)
    assert loaded.images.dtype == torch.uint8
    assert loaded.images.is_contiguous()
    assert loaded.labels.shape == loaded.skin_tone.shape == (count,)
    assert loaded.labels.dtype == torch.int64
    assert loaded.skin_tone.dtype == torch.bool
    assert len(loaded.names) == len(set(loaded.names)) == len(loaded.groups) == count


@pytest.mark.parametrize("split", ["train", "heldout", "all"])
def test_names_are_the_captions(split):
    loaded = emoji.load(split)
    assert loaded.captions == tuple((name,) for name in loaded.names)
    assert loaded.classes == emoji.subgroups()


def test_every_class_is_seen_in_training():
    assert emoji.load("train").labels.unique().tolist() == list(range(99))


def test_class_ids_do_not_depend_on_the_split():
    everything = emoji.load("all")
    class_of = dict(zip(everything.names, everything.labels.tolist(), strict=True))
    for split in ("train", "heldout"):
        loaded = emoji.load(split)
        assert [class_of[name] for name in loaded.names] == loaded.labels.tolist()


def test_heldout_is_what_the_names_say():
    everything = emoji.load("all")
    expected = [
        name
        for name, toned in zip(everything.names, everything.skin_tone.tolist(), strict=True)
        if toned and int(hashlib.sha256(name.encode("utf-8")).hexdigest(), 16) % 10 == 0
    ]
    assert list(emoji.load("heldout").names) == expected
    assert set(emoji.load("train").names) == set(everything.names) - set(expected)


def test_skin_tone_agrees_with_the_names():
    everything = emoji.load("all")
    for name, toned in zip(everything.names, everything.skin_tone.tolist(), strict=True):
        assert toned == ("skin tone" in name), name


def test_no_picture_appears_twice_and_none_leaks_into_training():
    train, heldout = pixel_rows(emoji.load("train")), pixel_rows(emoji.load("heldout"))
    assert (len(train), len(heldout)) == (3418, 198)
    assert not train & heldout


def test_no_family_picture_is_grey():
    everything = emoji.load("all")
    family = everything.images[everything.labels == emoji.subgroups().index("family")].int()
    chroma = (family.amax(dim=1) - family.amin(dim=1)).flatten(1).amax(dim=1)
    assert len(family) == 312
    assert chroma.min() > 0


def test_colours_and_orientation():
    everything = emoji.load("all")
    image = everything.images[everything.names.index("flag: Poland")].float()
    upper, lower = image[:, 8:13, 8:24].mean(dim=(1, 2)), image[:, 19:24, 8:24].mean(dim=(1, 2))
    assert upper.min() > 200  # white above
    assert lower[0] > 150 > 80 > lower[1:].max()  # red below
    assert (image[:, 0] == 255).all()  # white background


def test_caller_may_change_what_was_loaded():
    emoji.load("all").images.zero_()
    assert emoji.load("all").images.any()


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"'test'.*must be one of train, heldout, all"):
        emoji.load("test")  # pyright: ignore[reportArgumentType]
