"""The script that renders the emoji data set."""

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import setar
from setar.data import emoji

EXPERIMENTS = Path(setar.__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def build_emoji():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        yield importlib.import_module("build_emoji")


@pytest.fixture
def debian_files(build_emoji):
    if not (build_emoji.FONT.is_file() and build_emoji.EMOJI_TEST.is_file()):
        pytest.skip("needs the Debian packages fonts-noto-color-emoji and unicode-data")


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


def test_parser_takes_the_fully_qualified_only(build_emoji):
    waving, toned, eye, family = build_emoji.parse_emoji_test(EXCERPT)
    assert (waving.name, waving.group) == ("waving hand", "People & Body")
    assert (waving.subgroup, family.subgroup) == ("hand-fingers-open", "family")
    assert toned.name == "waving hand: light skin tone"
    assert eye.text == "\U0001f441\ufe0f\u200d\U0001f5e8\ufe0f"
    assert [one.skin_tone for one in (waving, toned, eye)] == [False, True, False]


@given(st.text("abé: ", max_size=20), st.sampled_from(["", "\U0001f3fb", "\U0001f3ff"]))
@settings(max_examples=50)
def test_only_toned_names_with_hash_zero_are_held_out(build_emoji, name, tone):
    one = build_emoji.Emoji("\U0001f44b" + tone, name, "group", "subgroup")
    remainder = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    assert (one.split == "heldout") == (bool(tone) and remainder == 0)


def test_duplicates_leave_training_first(build_emoji, monkeypatch):
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


@pytest.mark.usefixtures("debian_files")
@pytest.mark.parametrize("name", ["grinning face", "flag: Norway", "pirate flag", "keycap: #"])
def test_rendering_agrees_with_the_shipped_pixels(build_emoji, name):
    text = build_emoji.EMOJI_TEST.read_text(encoding="utf-8")
    one = next(one for one in build_emoji.parse_emoji_test(text) if one.name == name)
    shipped = emoji.load("all")
    if name not in shipped.names:  # Norway's flag is also that of Bouvet Island, which comes first
        name = "flag: Bouvet Island"
    expected = shipped.images[shipped.names.index(name)].permute(1, 2, 0).int().numpy()
    rendered = build_emoji.render(one.text, build_emoji.open_font()).astype(int)
    # Another release of the font or of Pillow may move a few pixels by a little.
    assert np.abs(rendered - expected).mean() < 3


@pytest.mark.usefixtures("debian_files")
def test_unjoined_sequences_are_not_one_glyph(build_emoji):
    font = build_emoji.open_font()
    assert build_emoji.is_one_glyph("\U0001f468\u200d\U0001f469\u200d\U0001f466", font)
    assert not build_emoji.is_one_glyph("\U0001f468\u200d\U0001f44b", font)


@pytest.mark.usefixtures("debian_files")
def test_build_is_deterministic_and_reports(build_emoji, tmp_path, capsys):
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
def test_missing_source_names_the_package(build_emoji, option, package, tmp_path, capsys):
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
