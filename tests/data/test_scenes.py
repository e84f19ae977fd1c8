"""Scenes of drawings: where parts lie, and what is said of them."""

import random
from collections import Counter

import pytest
import torch

from setar.data.base import Dataset
from setar.data.scenes import KINDS, LAYOUTS, Scenes, ScenesConfig, scene_caption
from setar.text import check_text

NAMES = ["apple", "ball", "cat", "dog", "egg", "owl", "pie", "star"]
STYLE = ["noto"] * 4 + ["twemoji"] * 4
ALL = ScenesConfig(1.0, 1.0, 1.0, 1.0, pool=50)


def drawings(size=(2, 2), captions=None, **changes):
    """Drawing i is of the grey level i alone."""
    levels = torch.arange(len(NAMES), dtype=torch.uint8)[:, None, None, None]
    captions = [(f"a {name}", f"some {name}") for name in NAMES] if captions is None else captions
    given = {"captions": captions, "meta": {"name": NAMES, "style": STYLE}, **changes}
    labels = torch.zeros(len(NAMES), dtype=torch.int64)
    return Dataset(levels.expand(-1, 3, *size), labels, ("x",), **given)


def items_of(kind, count=30):
    return torch.arange(count) * len(KINDS) + KINDS.index(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_lie_in_reading_order(kind):
    scenes, layout = Scenes(drawings(), ALL), LAYOUTS[kind]
    items = items_of(kind)
    pictures = scenes[items]
    assert pictures.shape == (30, 3, 2 * layout.rows, 2 * layout.columns)
    for item, picture in zip(items.tolist(), pictures, strict=True):
        levels = picture[:, ::2, ::2].reshape(3, -1)
        parts = scenes.scene(item).parts
        assert levels.tolist() == [list(parts)] * 3
        assert (
            picture == picture[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)
        ).all()
        assert len({STYLE[part] for part in parts}) == 1
        assert len(set(parts)) == len(parts)


SAID = {
    "beside": [
        "a cat next to a dog", "a cat to the left of a dog", "a dog to the right of a cat",
    ],
    "above": ["a cat above a dog", "a dog below a cat", "a cat on top of a dog"],
}  # fmt: skip


@pytest.mark.parametrize("kind", SAID)
def test_a_caption_says_what_is_where(kind):
    """The first part is on the left, or above, whichever way it is said."""
    draw = random.Random(0)
    found = {scene_caption(kind, ["a cat", "a dog"], "", draw) for _ in range(200)}
    assert found == set(SAID[kind])


def test_a_caption_of_four():
    draw = random.Random(0)
    found = {scene_caption("four", ["a", "b", "c", "d"], "", draw) for _ in range(100)}
    assert found == {"a, b, c and d", "a and b above c and d"}
    assert scene_caption("four", ["a", "b", "c", "d"]) == "a, b, c and d"


def test_the_style_is_said_in_three_of_four_captions():
    draw = random.Random(0)
    texts = [scene_caption("above", ["a cat", "a dog"], "twemoji", draw) for _ in range(400)]
    said = sum("Twemoji" in text for text in texts)
    assert 255 < said < 345  # 300 +- 35, four standard deviations of 8.7 and some
    assert scene_caption("beside", ["a cat", "a dog"], "own") == "a cat next to a dog, own style"


def test_captions_name_the_parts_of_the_scene():
    scenes = Scenes(drawings(), ALL)
    for item in items_of("beside").tolist():
        scene = scenes.scene(item)
        left, right = (NAMES[part] for part in scene.parts)
        places = [scene.caption.index(left), scene.caption.index(right)]
        assert (places[0] < places[1]) != ("to the right of" in scene.caption)


def test_captions_of_scenes_are_what_a_text_encoder_takes():
    odd = {"name": ["ca\0t \ud83d"] * len(NAMES), "style": ["my\x1bown"] * len(NAMES)}
    scenes = Scenes(drawings(meta=odd), ALL)
    for item in items_of("four").tolist():
        check_text(scenes.scene(item).caption)
    assert "a ca t" in scenes.scene(1).caption


def test_scenes_follow_from_the_seed_alone():
    items = [*items_of("four", 20).tolist(), *items_of("above", 20).tolist()]
    made = [[Scenes(drawings(), ALL, seed=seed).scene(i) for i in items] for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    batches = [Scenes(drawings(), ALL).batches(8, seed) for seed in (5, 5, 6)]
    steps = [[batch.indices(step).tolist() for step in range(20)] for batch in batches]
    assert steps[0] == steps[1] != steps[2]
    assert batches[0].indices(13).tolist() == steps[0][13]


def test_batches_are_of_one_kind_in_their_shares():
    config = ScenesConfig(one=0.5, beside=0.25, above=0.0, four=0.25, pool=7)
    batches, seen = Scenes(drawings(), config).batches(8, 0), Counter[str]()
    for step in range(400):
        items = batches.indices(step)
        [kind] = {KINDS[item % len(KINDS)] for item in items.tolist()}
        assert len(items) == 8 // LAYOUTS[kind].parts
        assert (items // len(KINDS)).max() < (8 if kind == "one" else 7)
        seen[kind] += 1
    # Of 400 steps, 200 +- 40 and 100 +- 35: four standard deviations.
    assert seen.keys() == {"one", "beside", "four"}
    assert 160 < seen["one"] < 240
    assert 65 < seen["four"] < 135
    with pytest.raises(ValueError, match=r"`batch_size` \(=6\) must be a multiple of 4"):
        Scenes(drawings(), config).batches(6, 0)
    assert len(Scenes(drawings(), ScenesConfig()).batches(6, 0).indices(0)) == 6


def test_balance_makes_variants_as_rare_as_their_name():
    names = ["cat", "hand", "hand, dark", "hand, light", "cat", "hand", "hand, dark", "hand, light"]
    data = drawings(meta={"name": names, "style": STYLE})
    shares = {}
    for balance in (0.0, 0.5, 1.0):
        scenes = Scenes(data, ScenesConfig(), balance)
        batches = scenes.batches(1000, 0)
        drawn = batches.indices(0) // len(KINDS)
        shares[balance] = sum(names[item] == "cat" for item in drawn.tolist()) / 1000
    # Deviations of at most 0.016: these bounds are four of them off.
    assert shares[0.0] == pytest.approx(1 / 4, abs=0.064)
    assert shares[0.5] == pytest.approx(1 / (1 + 3**0.5), abs=0.064)
    assert shares[1.0] == pytest.approx(1 / 2, abs=0.064)


def test_a_drawing_alone_has_its_own_captions():
    scenes = Scenes(drawings(), ALL)
    draw, item = random.Random(0), 2 * len(KINDS)
    assert scenes.scene(item) == ("one", (2,), "a cat")
    assert {*scenes.captions([item] * 40, draw)} == {"a cat", "some cat"}
    again = item + len(KINDS) * len(NAMES)  # there are more scenes than drawings
    assert again < len(scenes)
    assert scenes.scene(again) == scenes.scene(item)
    assert torch.equal(scenes[torch.tensor([again])], scenes[torch.tensor([item])])
    assert scenes.captions([again], draw)[0] in ("a cat", "some cat")


def test_drawings_without_captions_are_no_part():
    captions = [() if name == "ball" else (f"a {name}",) for name in NAMES]
    scenes = Scenes(drawings(captions=captions), ScenesConfig(one=1, beside=1, pool=30))
    parts = {part for item in items_of("beside").tolist() for part in scenes.scene(item).parts}
    assert parts == {*range(len(NAMES))} - {1}
    shown = {int(i) for step in range(60) for i in scenes.batches(4, 0).indices(step) if i % 4 == 0}
    assert 4 not in shown
    assert len(shown) == 7
    assert scenes.scene(4).caption == ""
    assert scenes.captions([4], random.Random(0)) == [""]


def test_without_names_and_styles_captions_do():
    scenes = Scenes(drawings(meta={}), ALL)
    scene = scenes.scene(1)
    assert all(NAMES[part] in scene.caption for part in scene.parts)
    unknown = Scenes(drawings(meta={"name": [""] * 7 + [", dark"], "style": [""] * 8}), ALL)
    for item in items_of("beside").tolist():
        scene = unknown.scene(item)
        assert all(NAMES[part] in scene.caption for part in scene.parts)


def test_too_few_drawings_of_a_style_are_refused():
    few = {"name": NAMES, "style": ["noto"] * 5 + ["twemoji"] * 3}
    message = (
        "scenes of the kind 'four' need 4 captioned drawings of each style; of 'twemoji' there "
        "are 3"
    )
    for config in (ALL, ScenesConfig(0, 0, 0, 1)):
        with pytest.raises(ValueError, match=message):
            Scenes(drawings(meta=few), config)
    pairs = Scenes(drawings(meta=few), ScenesConfig(1, 1, 1))
    assert len(set(pairs.scene(1).parts)) == 2
    with pytest.raises(ValueError, match=message):
        pairs.scene(3)
    with pytest.raises(ValueError, match=message):
        pairs.shared_as(ALL)
    captions = [("x",)] * 5 + [()] * 2 + [("x",)]  # of what has no caption there is nothing
    with pytest.raises(ValueError, match="of 'twemoji' there are 1"):
        Scenes(drawings(captions=captions, meta=few), ScenesConfig(1, 1))


def test_of_a_handful_without_styles_some_come_twice():
    captions = [("x",)] * 2 + [()] * 6
    scene = Scenes(drawings(captions=captions, meta={}), ALL).scene(3)
    assert {*scene.parts} <= {0, 1}
    assert len(scene.parts) == 4


def test_other_shares_of_the_same_drawings():
    scenes = Scenes(drawings(), ScenesConfig())
    other = scenes.shared_as(ALL)
    assert other.drawings is scenes.drawings
    assert (scenes.config, other.config) == (ScenesConfig(), ALL)
    assert other.scene(7) == scenes.scene(7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"one": -1.0}, "shares of scenes"),
        ({"one": 0.0}, "shares of scenes"),
        ({"pool": 0}, r"`pool` \(=0\) must be from 1"),
    ],
)
def test_shares_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        ScenesConfig(**changes)


def test_data_that_make_no_scenes():
    with pytest.raises(ValueError, match="scenes need captions: no picture has one"):
        Scenes(drawings(captions=()), ALL)
    with pytest.raises(ValueError, match="scenes need square pictures, not 2x4"):
        Scenes(drawings(size=(2, 4)), ALL)
