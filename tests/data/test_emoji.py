import hashlib
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setar.data import build_emoji, emoji

ASSETS = files("setar.data") / "assets"

needs_debian_files = pytest.mark.skipif(
    not (build_emoji.FONT.is_file() and build_emoji.EMOJI_TEST.is_file()),
    reason="needs the Debian packages fonts-noto-color-emoji and unicode-data",
)

EXCERPT = """\
# group: People & Body

# subgroup: hand-fingers-open
1F44B                                      ; fully-qualified     # 👋 E0.6 waving hand
1F44B 1F3FB                                ; fully-qualified     # 👋🏻 E1.0 waving hand: light skin tone
# subgroup: family
1F441 FE0F 200D 1F5E8 FE0F                 ; fully-qualified     # 👁️‍🗨️ E2.0 eye in speech bubble
1F441 200D 1F5E8 FE0F                      ; unqualified         # 👁‍🗨️ E2.0 eye in speech bubble
1F46A                                      ; fully-qualified     # 👪 E0.6 family
# group: Component
# subgroup: skin-tone
1F3FB                                      ; component           # 🏻 E1.0 light skin tone
"""  # noqa: E501


def pixel_rows(one_split: emoji.EmojiSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in one_split.images}


# The shipped file


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


# The builder


def test_parser_takes_the_fully_qualified_only():
    waving, toned, eye, family = build_emoji.parse_emoji_test(EXCERPT)
    assert (waving.name, waving.group) == ("waving hand", "People & Body")
    assert (waving.subgroup, family.subgroup) == ("hand-fingers-open", "family")
    assert toned.name == "waving hand: light skin tone"
    assert eye.text == "\U0001f441\ufe0f\u200d\U0001f5e8\ufe0f"
    assert [one.skin_tone for one in (waving, toned, eye)] == [False, True, False]


@given(st.text("abé: ", max_size=20), st.sampled_from(["", "\U0001f3fb", "\U0001f3ff"]))
@settings(max_examples=50, deadline=None)
def test_only_toned_names_with_hash_zero_are_held_out(name, tone):
    one = build_emoji.Emoji("\U0001f44b" + tone, name, "group", "subgroup")
    remainder = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    assert (one.split == "heldout") == (bool(tone) and remainder == 0)


def test_duplicates_leave_training_first(monkeypatch):
    monkeypatch.setattr(build_emoji, "is_one_glyph", lambda text, font: text != "two glyphs")
    hidden = next(str(n) for n in range(99) if build_emoji.name_hash(str(n)) % 10 == 0)
    rows = [("a", "a", 1), ("\U0001f3fb", hidden, 1), ("b", "b", 2), ("c", "c", 2)]
    rows += [("two glyphs", "d", 3)]
    items = [build_emoji.Emoji(text, name, "group", "family") for text, name, _ in rows]
    images = [np.full((32, 32, 3), (level, 0, 0), dtype=np.uint8) for *_, level in rows]
    font = None  # only `is_one_glyph` looks at it
    reasons = build_emoji.drop_reasons(items, images, font)  # pyright: ignore[reportArgumentType]
    assert reasons == ["exact duplicate", "", "", "exact duplicate", "not one glyph"]
    images = [np.full((32, 32, 3), level, dtype=np.uint8) for level in range(5)]
    reasons = build_emoji.drop_reasons(items, images, font)  # pyright: ignore[reportArgumentType]
    assert reasons[:4] == ["grey family pictogram"] * 4


@needs_debian_files
@pytest.mark.parametrize("name", ["grinning face", "flag: Norway", "pirate flag", "keycap: #"])
def test_rendering_agrees_with_the_shipped_pixels(name):
    text = build_emoji.EMOJI_TEST.read_text(encoding="utf-8")
    one = next(one for one in build_emoji.parse_emoji_test(text) if one.name == name)
    shipped = emoji.load("all")
    if name not in shipped.names:  # Norway's flag is also that of Bouvet Island, which comes first
        name = "flag: Bouvet Island"
    expected = shipped.images[shipped.names.index(name)].permute(1, 2, 0).int().numpy()
    rendered = build_emoji.render(one.text, build_emoji.open_font()).astype(int)
    # Another release of the font or of Pillow may move a few pixels by a little.
    assert np.abs(rendered - expected).mean() < 3


@needs_debian_files
def test_unjoined_sequences_are_not_one_glyph():
    font = build_emoji.open_font()
    assert build_emoji.is_one_glyph("\U0001f468\u200d\U0001f469\u200d\U0001f466", font)
    assert not build_emoji.is_one_glyph("\U0001f468\u200d\U0001f44b", font)


@needs_debian_files
def test_build_is_deterministic_and_reports(tmp_path, capsys):
    source = tmp_path / "emoji-test.txt"
    source.write_text(EXCERPT, encoding="utf-8")
    for out in ("one.npz", "two"):
        build_emoji.main(["--out", str(tmp_path / out), "--emoji-test", str(source)])
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two").read_bytes()
    assert "dropped 1 train: grey family pictogram\nkept 3: 3 train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "package"),
    [("--font", "fonts-noto-color-emoji"), ("--emoji-test", "unicode-data")],
)
def test_missing_source_names_the_package(option, package, tmp_path, capsys):
    there = tmp_path / "there"
    there.touch()
    sources = {"--font": there, "--emoji-test": there, option: tmp_path / "absent"}
    arguments = [str(word) for pair in sources.items() for word in pair]
    with pytest.raises(SystemExit) as exit_info:
        build_emoji.main(["--out", str(tmp_path / "out.npz"), *arguments])
    message = capsys.readouterr().err
    assert exit_info.value.code == 2
    assert message.count("\n") == 1
    assert package in message
