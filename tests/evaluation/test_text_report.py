"""The figures of a model of texts, with models that draw by heart: well, swapped, or noise."""

import dataclasses
import re
from types import SimpleNamespace

import pytest
import torch

from fake_features import FakeFeatures
from grey_patches import GreyPatches
from setar.data.base import Dataset
from setar.data.scenes import scene_caption
from setar.data.styles import captions_of, with_article
from setar.evaluation.drawings import find_others, share
from setar.evaluation.manner import fit_styles
from setar.evaluation.metrics import METRICS, Evidence, measure
from setar.evaluation.samples import BalancedSampler, sample
from setar.evaluation.summary import summarise
from setar.evaluation.targets import TextTarget, chosen_prompts
from setar.evaluation.text import drawings_of
from setar.pictures.sheets import to_pil
from setar.tokenizers.base import decode_codes, encode_images

NAMES = ["apple", "cat face", "sun", "dog", "moon", "star", "tree", "wave"]
STYLES = ["noto", "twemoji", "fluent-emoji", "emojione"]
HELD_OUT = {("cat face", "twemoji"), ("sun", "noto"), ("wave", "emojione")}
TOKENIZER = GreyPatches()


def drawn(name, style):
    """A drawing of 32x32 pixels that the tokenizer keeps: most of it says what it shows."""
    of_name, of_style = (
        torch.randint(16, (64,), generator=torch.Generator().manual_seed(1000 * seed))
        for seed in (1 + NAMES.index(name), 50 + STYLES.index(style))
    )
    codes = torch.where(torch.arange(64) % 8 % 3 == 2, of_style, of_name)
    return decode_codes(TOKENIZER, codes[None], (8, 8))[0]


@pytest.fixture(scope="module")
def data():
    pairs = [(name, style) for style in STYLES for name in NAMES]
    train = [pair for pair in pairs if pair not in HELD_OUT]
    held = [pair for pair in pairs if pair in HELD_OUT]

    def columns(some):
        return {"name": [name for name, _ in some], "style": [style for _, style in some]}

    def captions(some):
        return [
            captions_of(SimpleNamespace(name=name, style=style, names=[name]))
            for name, style in some
        ]

    return Dataset(
        torch.stack([drawn(*pair) for pair in train]),
        torch.zeros(len(train), dtype=torch.int64),
        ("drawings",),
        captions=captions(train),
        meta=columns(train),
        heldout=torch.stack([drawn(*pair) for pair in held]),
        heldout_captions=captions(held),
        heldout_meta=columns(held),
    )


class Artist:
    """Knows all drawings by their captions; of a caption without a style, the seed chooses it."""

    reads, size, classes, tokenizer = "text", (32, 32), (), TOKENIZER
    model = SimpleNamespace(any_grid=True, editing="kept-first")

    def __init__(self, data):
        self.scenes, self.calls = {}, []
        for kind in ("beside", "above"):
            for style in STYLES:
                for first in NAMES:
                    for second in NAMES:
                        text = scene_caption(kind, [*map(with_article, (first, second))], style)
                        self.scenes[text] = kind, first, second, style

    def drawing(self, prompt, seed):
        style = next((s for s in STYLES if WORDS[s].search(prompt)), STYLES[seed % 4])
        return drawn(next(name for name in NAMES if name in prompt), style)

    def scene(self, prompt, seed):
        kind, first, second, style = self.scenes[prompt]
        return torch.cat([drawn(first, style), drawn(second, style)], 2 if kind == "beside" else 1)

    def sample_codes(self, prompts, count=1, seed=0, **_):
        prompts = [prompt for prompt in prompts for _ in range(count)]
        seeds = range(seed, seed + len(prompts)) if isinstance(seed, int) else seed
        self.calls.append(prompts)
        pictures = [self.drawing(*asked) for asked in zip(prompts, seeds, strict=True)]
        return encode_images(TOKENIZER, torch.stack(pictures))

    def decode(self, codes):
        return decode_codes(TOKENIZER, codes, (8, 8))

    def __call__(self, prompts, size, seed):
        made = torch.stack([self.scene(prompt, seed + i) for i, prompt in enumerate(prompts)])
        assert made.shape[-2:] == size
        return to_pil(made)

    def redraw(self, tasks, prompts, seed):
        """The right half of drawings, or what is right of them."""
        [box] = {task.mask.getbbox() for task in tasks}
        make = {(16, 0, 32, 32): self.drawing, (32, 0, 64, 32): self.scene}[box]
        made = [make(prompt, seed + i) for i, prompt in enumerate(prompts)]
        assert len(made) == len(tasks)
        return to_pil(torch.stack(made))


WORDS = {
    "noto": re.compile("Noto"),
    "twemoji": re.compile("Twemoji"),
    "fluent-emoji": re.compile("Fluent"),
    "emojione": re.compile("EmojiOne"),
}


class Swapper(Artist):
    """Mixes up the sides, and draws everything in one style."""

    def drawing(self, prompt, seed):
        return drawn(next(name for name in NAMES if name in prompt), "noto")

    def scene(self, prompt, seed):
        kind, first, second, style = self.scenes[prompt]
        return torch.cat([drawn(second, style), drawn(first, style)], 2 if kind == "beside" else 1)


def black_and_white(size, seed):
    generator = torch.Generator().manual_seed(10**6 + seed)
    return torch.randint(2, size, generator=generator).byte() * 255


class Noise(Artist):
    """Draws whatever it likes, also where it must not."""

    def drawing(self, prompt, seed):
        return black_and_white((3, 32, 32), seed)

    def scene(self, prompt, seed):
        size = (3, 32, 64) if self.scenes[prompt][0] == "beside" else (3, 64, 32)
        return black_and_white(size, seed)


def evidence_of(data, artist, each=4, most=5):
    """What there is to judge."""
    prompts = chosen_prompts(data, most)
    sampler = BalancedSampler(artist, each, 3, [prompt.text for prompt in prompts])
    samples = sample(lambda: sampler, len(prompts), each, 3, prompts=prompts)
    extractor = FakeFeatures()
    images = artist.decode(samples.codes)
    made, real = (summarise(some, extractor) for some in (images, data.images))
    return Evidence(
        made, real, extractor, 3, images=images, data=data, pipeline=artist, samples=samples
    )


@pytest.fixture(scope="module")
def tables(data):
    """Of each kind of artist."""
    return {
        kind: measure(evidence_of(data, kind(data)), TextTarget.report)
        for kind in (Artist, Swapper, Noise)
    }


def test_prompts_are_first_captions_of_held_out_and_training_drawings(data):
    prompts = chosen_prompts(data, 5)
    assert len(prompts) == 3 + 5
    assert {prompt.text for prompt in prompts[:3]} == {
        "a cat face, Twemoji style", "a sun, Noto style", "a wave, EmojiOne style",
    }  # fmt: skip
    for prompt in prompts[:3]:
        assert prompt.text == data.heldout_captions[prompt.drawing - len(data)][0]
    for prompt in prompts[3:]:
        assert prompt.text == data.captions[prompt.drawing][0]
    assert chosen_prompts(data, 2) == [*prompts[:2], *prompts[3:5]]


def test_pictures_without_a_caption_are_not_asked_for(data):
    without = dataclasses.replace(data, captions=[(), *data.captions[1:]])
    asked = {prompt.drawing for prompt in chosen_prompts(without, 100)}
    assert asked == set(range(1, len(data) + 3))


def test_a_model_that_knows_all_drawings_finds_all(tables):
    found = tables[Artist]
    for heading, count in (("held-out pairs", 3), ("training pairs", 5)):
        figures = found[heading]
        assert figures["prompts"] == count
        for name in ("drawing within 5", "style of nearest", "name within 5"):
            assert figures[name] == figures[f"{name}, reconstructed"] == 1
        for name in ("drawing within 5", "style of nearest", "style recognised", "name within 5"):
            assert figures[f"{name}, any of 4"] == figures[f"{name}, reconstructed"]
        for what in ("drawing", "style", "name"):
            assert figures[f"{what}, share of reconstructed"] == 1
    assert found["training pairs"]["near copies"] == 1
    held = found["held-out pairs"]
    assert held["near copies"] == held["near copies, reconstructed"] < 1, "never trained on"


def test_the_real_drawings_stand_beside_it(data, tables):
    evidence = evidence_of(data, Artist(data))
    real = drawings_of(evidence)
    asked = [p.drawing for p in evidence.samples.prompts if p.drawing < len(data)]
    found = find_others(real.gallery, torch.tensor(asked))
    figures = tables[Artist]["training pairs"]
    assert figures["style of nearest other, real"] == share(found.style) < 1
    assert figures["name within 5 others, real"] == share(found.name) > 0


def test_what_a_model_draws_in_another_style(tables, data):
    figures = tables[Swapper]["held-out pairs"]
    assert figures["name within 5"] == 1
    assert figures["style of nearest"] == 1 / 3, "only the sun is of Noto"
    assert figures["style of nearest, reconstructed"] == 1
    assert tables[Swapper]["training pairs"]["style of nearest"] < 1


@pytest.mark.parametrize("model", ["Artist", "Swapper"])
def test_styles_are_recognised_by_drawings_that_no_prompt_asks_for(data, tables, model):
    kind = {"Artist": Artist, "Swapper": Swapper}[model]
    evidence = evidence_of(data, kind(data))
    real, samples = drawings_of(evidence), evidence.samples
    asked = {prompt.drawing for prompt in samples.prompts}
    rest = [index for index in range(len(data)) if index not in asked]
    assert 0 < len(rest) < len(data)
    classifier = fit_styles(
        real.seen(decode_codes(TOKENIZER, encode_images(TOKENIZER, data.images[rest]), (8, 8))),
        [data.meta["style"][index] for index in rest],
    )
    told = classifier(evidence.made.pooled)
    by_prompt = list(zip([*samples.prompts] * samples.count, told, strict=True))
    for heading, counts in (
        ("held-out pairs", lambda drawing: drawing >= len(data)),
        ("training pairs", lambda drawing: drawing < len(data)),
    ):
        right = [s == real.styles[p.drawing] for p, s in by_prompt if counts(p.drawing)]
        figures = tables[kind][heading]
        assert figures["style recognised"] == pytest.approx(sum(right) / len(right))
        if kind is Artist:
            assert figures["style recognised"] == figures["style recognised, reconstructed"]


def test_drawings_of_one_style_leave_nothing_to_recognise(data):
    meta, held = data.meta, data.heldout_meta
    alike = dataclasses.replace(
        data,
        meta={**meta, "style": ["noto"] * len(meta["style"])},
        heldout_meta={**held, "style": ["noto"] * len(held["style"])},
    )
    evidence = evidence_of(alike, Artist(alike))
    figures = METRICS.find("text-heldout").function(evidence)
    assert figures["style of nearest"] == 1
    assert not any("recognised" in name for name in figures)


def test_noise_finds_nothing_in_particular(tables):
    figures = tables[Noise]["training pairs"]
    assert figures["drawing within 5"] < 0.8
    assert figures["near copies"] == 0
    for name in ("drawing within 5", "style of nearest", "style recognised", "name within 5"):
        assert figures[name] < figures[f"{name}, any of 4"]


def test_styles_of_prompts_that_name_none(tables):
    figures = tables[Artist]["prompts without a style"]
    assert figures["prompts"] == 5
    assert figures["different styles of 8 samples"] == figures["styles that draw the name"] == 4
    assert figures["name within 5"] == 1
    assert tables[Swapper]["prompts without a style"]["different styles of 8 samples"] == 1


def test_prompts_that_name_no_style_are_names_alone(data):
    artist = Artist(data)
    METRICS.find("text-styles").function(evidence_of(data, artist))
    assert set(artist.calls[-1]) <= set(map(with_article, NAMES))
    assert len(artist.calls[-1]) == 5 * 8


def test_scenes(tables):
    figures = tables[Artist]["scenes"]
    assert figures["prompts"] == 3
    for name in ("halves as asked", "halves as asked, beside", "halves as asked, above"):
        assert figures[name] == 1
    assert figures["both halves as asked"] == figures["halves as asked, reconstructed"] == 1
    assert figures["halves with the other's name instead"] == 0
    assert figures["name within 5 others, real"] == 1  # a name's drawings in all styles are alike
    mixed_up = tables[Swapper]["scenes"]
    assert mixed_up["halves as asked"] < 1
    expected = 1 - mixed_up["halves as asked"]
    assert mixed_up["halves with the other's name instead"] == pytest.approx(expected)
    assert mixed_up["halves as asked, reconstructed"] == 1


def test_editing(tables):
    figures = tables[Artist]["editing"]
    assert figures["inpainted halves"] == figures["outpainted halves"] == 3
    for name in (
        "inpainted nearer than pasted", "reconstructed nearer than pasted",
        "inpainted, rest unchanged", "outpainted as asked", "outpainted, rest unchanged",
        "name within 5 others, real",
    ):  # fmt: skip
        assert figures[name] == 1, name
    noise = tables[Noise]["editing"]
    assert noise["inpainted, rest unchanged"] == noise["outpainted, rest unchanged"] == 0
    assert noise["reconstructed nearer than pasted"] == 1


def test_without_held_out_drawings_training_ones_are_edited(data):
    changes = {"heldout": None, "heldout_captions": (), "heldout_meta": {}}
    alone = dataclasses.replace(data, **changes)
    tables = measure(evidence_of(alone, Artist(data)), TextTarget.report)
    assert "held-out pairs" not in tables
    assert tables["training pairs"]["drawing within 5"] == 1
    assert tables["editing"]["inpainted nearer than pasted"] == 1


def test_a_model_of_one_grid_makes_no_scenes(data):
    class Fixed(Artist):
        model = SimpleNamespace(any_grid=False, editing="kept-first")

    tables = measure(evidence_of(data, Fixed(data)), TextTarget.report)
    assert "scenes" not in tables
    assert "outpainted as asked" not in tables["editing"]
    assert tables["editing"]["inpainted nearer than pasted"] == 1


def test_there_are_no_figures_without_names_and_styles(data):
    evidence = evidence_of(data, Artist(data))
    nameless = dataclasses.replace(data, meta={}, heldout_meta={})
    for changes in ({"data": None}, {"samples": None}, {"pipeline": None}, {"data": nameless}):
        less = dataclasses.replace(evidence, **changes)
        assert drawings_of(less) is None
        for name in TextTarget.report:
            assert METRICS.find(name).function(less) == {}


def test_there_are_no_figures_beside_the_features_of_other_pictures(data):
    evidence = evidence_of(data, Artist(data))
    other = summarise(data.images.flip(0), FakeFeatures())
    assert drawings_of(evidence) is not None
    assert drawings_of(dataclasses.replace(evidence, real=other)) is None


def test_the_clip_score_is_that_of_samples_and_prompts(data):
    evidence = evidence_of(data, Artist(data))
    seen = []

    def score(pictures, texts):
        seen.append((pictures, texts))
        return torch.full((len(texts),), 0.25 if len(seen) == 1 else 0.5)

    figures = METRICS.find("clip-score").function(dataclasses.replace(evidence, scorer=score))
    assert figures == {"CLIP score": 25, "CLIP score, real": 50}
    prompts = evidence.samples.prompts
    assert torch.equal(seen[0][0], evidence.images)
    assert seen[0][1] == [prompts[label].text for label in evidence.samples.labels]
    assert seen[1][1] == [prompt.text for prompt in prompts]
    every = torch.cat([data.images, data.heldout])
    assert torch.equal(seen[1][0], every[[prompt.drawing for prompt in prompts]])
    assert METRICS.find("clip-score").function(evidence) == {}
