"""How good is a model of texts, trained on drawings that each have a name and a style?

Its samples are looked up among all real drawings, training and held out, in the features of an
extractor (`setar.evaluation.drawings`). Every figure stands beside what the tokenizer's
reconstructions of the real drawings reach, and what the real drawings themselves do.

There are figures only beside the captioned drawings themselves, whose `Dataset.meta` has ``name``
and ``style`` for each.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from setar.data.base import Dataset
from setar.data.scenes import scene_caption
from setar.data.styles import with_article
from setar.evaluation.drawings import (
    RANK,
    Gallery,
    closer,
    distinct_styles,
    find,
    find_others,
    find_sides,
    share,
    share_of_prompts,
)
from setar.evaluation.manner import Classifier, fit_styles
from setar.evaluation.metrics import Evidence, register_metric
from setar.evaluation.neighbours import near_copies, near_copy_threshold
from setar.evaluation.samples import Prompt
from setar.features.base import extract_features
from setar.pictures.masks import box_mask, outpaint, prepare
from setar.pictures.sheets import to_pil
from setar.tokenizers.base import decode_codes, encode_images

STYLE_SEEDS, STYLE_PROMPTS = 8, 100
"""Samples of each of so many prompts without a style."""
COMMON = 4
"""Such a prompt has a name that at least so many styles draw."""
FEWER = 2 / 3
"""Scenes and edits for each held-out prompt: 200 of 300."""


@register_metric("text-heldout", heading="held-out pairs")
def heldout_figures(evidence: Evidence) -> dict[str, float]:
    """Are the samples of held-out captions the drawings that the model has never seen?"""
    return _pairs(evidence, lambda prompt, known: prompt.drawing >= known)


@register_metric("text-train", heading="training pairs")
def train_figures(evidence: Evidence) -> dict[str, float]:
    """The same of training captions."""
    return _pairs(evidence, lambda prompt, known: prompt.drawing < known)


def _pairs(evidence: Evidence, counts: Callable[[Prompt, int], bool]) -> dict[str, float]:
    """Figures of the prompts of one kind; none without drawings or such prompts."""
    real = drawings_of(evidence)
    if real is None:
        return {}
    samples, made = evidence.samples, evidence.made.pooled
    assert samples is not None
    assert made is not None
    kept = [i for i, prompt in enumerate(samples.prompts) if counts(prompt, real.known)]
    if not kept:
        return {}
    each = samples.count
    rows = torch.arange(each) * len(samples.prompts) + torch.tensor(kept)[:, None]
    rows = rows.flatten()  # the samples of a prompt in a row
    asked = torch.tensor([samples.prompts[index].drawing for index in kept])
    found = find(real.gallery, made[rows], asked.repeat_interleave(each))
    rebuilt = find(real.gallery, real.rebuilt_features[asked], asked)
    others = find_others(real.gallery, asked)
    copies = real.rebuilt[: real.known]
    pictures = real.pipeline.decode(samples.codes[rows])
    return {
        "prompts": len(kept),
        f"drawing within {RANK}": share(found.drawing),
        f"drawing within {RANK}, any of {each}": share_of_prompts(found.drawing, each),
        f"drawing within {RANK}, reconstructed": share(rebuilt.drawing),
        "drawing, share of reconstructed": _of(found.drawing, rebuilt.drawing),
        **_recognised(real, made[rows], asked, each),
        "style of nearest": share(found.style),
        f"style of nearest, any of {each}": share_of_prompts(found.style, each),
        "style of nearest, reconstructed": share(rebuilt.style),
        "style of nearest other, real": share(others.style),
        f"name within {RANK}": share(found.name),
        f"name within {RANK}, any of {each}": share_of_prompts(found.name, each),
        f"name within {RANK}, reconstructed": share(rebuilt.name),
        "name, share of reconstructed": _of(found.name, rebuilt.name),
        f"name within {RANK} others, real": share(others.name),
        "near copies": near_copies(pictures, copies, real.threshold),
        "near copies, reconstructed": near_copies(real.rebuilt[asked], copies, real.threshold),
        "near copies, threshold": real.threshold,
    }


def _recognised(real: "Drawings", made: Tensor, asked: Tensor, each: int) -> dict[str, float]:
    """In how many samples a classifier sees the asked drawing's style; none where it has no two.

    ``made`` are features ``[n * each, d]``: ``each`` samples in a row of each of ``asked`` ``[n]``.
    """
    if real.classifier is None:
        return {}
    styled = real.styled(made, asked.repeat_interleave(each))
    rebuilt = real.styled(real.rebuilt_features[asked], asked)
    return {
        "style recognised": share(styled),
        f"style recognised, any of {each}": share_of_prompts(styled, each),
        "style recognised, reconstructed": share(rebuilt),
        "style, share of reconstructed": _of(styled, rebuilt),
    }


def _of(made: Tensor, rebuilt: Tensor) -> float:
    """Hits of samples as a share of those of reconstructions: what the tokenizer lets one see."""
    return share(made) / max(share(rebuilt), 1e-9)


@register_metric("text-styles", heading="prompts without a style")
def style_figures(evidence: Evidence) -> dict[str, float]:
    """Does a prompt that names no style give several?"""
    real = drawings_of(evidence)
    if real is None:
        return {}
    styles_of = real.gallery.styles_of
    names = sorted({name for name in real.names[: real.known] if styles_of[name] >= COMMON})
    names = [names[index] for index in shuffled(len(names))[: min(STYLE_PROMPTS, real.prompts)]]
    if not names:
        return {}
    prompts = [with_article(name) for name in names]
    codes = real.pipeline.sample_codes(prompts, count=STYLE_SEEDS, seed=evidence.seed)
    seen = real.seen(real.pipeline.decode(codes))
    nearest = real.gallery.nearest(seen)
    asked = [name for name in names for _ in range(STYLE_SEEDS)]
    return {
        "prompts": len(names),
        f"different styles of {STYLE_SEEDS} samples": distinct_styles(
            real.gallery, seen, STYLE_SEEDS
        ),
        "styles that draw the name": sum(styles_of[name] for name in names) / len(names),
        f"name within {RANK}": share(real.gallery.named(nearest, asked)),
    }


@register_metric("text-scenes", heading="scenes")
def scene_figures(evidence: Evidence) -> dict[str, float]:
    """Are both of two training drawings there, each on its side?"""
    real = drawings_of(evidence)
    if real is None or not real.pipeline.model.any_grid:
        return {}
    figures: dict[str, float] = {}
    pairs = real.pairs_of_a_style(real.edits)
    half = -(-len(pairs) // 2)
    asked, swapped, ceiling = [], [], []
    for kind, some in (("beside", pairs[:half]), ("above", pairs[half:])):
        if not some:
            continue
        prompts = [real.scene(kind, pair) for pair in some]
        seed = evidence.seed + (kind == "above") * half
        size = real.scene_size(kind)
        made = pixels(real.pipeline(prompts, size=size, seed=seed))
        sides = real.sides(kind, made, some)
        asked.append(sides.asked)
        swapped.append(sides.swapped)
        figures[f"halves as asked, {kind}"] = share(sides.asked)
        whole = join(kind, *(real.images(torch.tensor([pair[i] for pair in some])) for i in (0, 1)))
        tokenizer = real.pipeline.tokenizer
        rebuilt = decode_codes(tokenizer, encode_images(tokenizer, whole), tokenizer.grid(*size))
        ceiling.append(real.sides(kind, rebuilt, some).asked)
    halves, rebuilt_halves = torch.cat(asked, dim=1), torch.cat(ceiling, dim=1)
    return {
        "prompts": len(pairs),
        "halves as asked": share(halves),
        **figures,
        "both halves as asked": share(halves.all(dim=0)),
        "halves as asked, reconstructed": share(rebuilt_halves),
        "halves, share of reconstructed": _of(halves, rebuilt_halves),
        f"name within {RANK} others, real": real.relatives([i for pair in pairs for i in pair]),
        "halves with the other's name instead": share(torch.cat(swapped, dim=1)),
    }


@register_metric("text-edits", heading="editing")
def edit_figures(evidence: Evidence) -> dict[str, float]:
    """Is an inpainted half nearer to the truth than another drawing's, and a scene completed?"""
    real = drawings_of(evidence)
    if real is None or real.pipeline.model.editing != "kept-first":
        return {}
    samples, pipe = evidence.samples, real.pipeline
    assert samples is not None
    heldout = [prompt for prompt in samples.prompts if prompt.drawing >= real.known]
    chosen = (heldout or [*samples.prompts])[: real.edits]
    truth = real.images(torch.tensor([prompt.drawing for prompt in chosen]))
    height, width = truth.shape[-2:]
    right = box_mask((width, height), (width // 2, 0, width, height))
    tasks = [prepare(image, right, pipe.size) for image in to_pil(truth)]
    texts = [prompt.text for prompt in chosen]
    made = pixels(pipe.redraw(tasks, texts, seed=evidence.seed))
    kept = truth[..., : width // 2]
    others = torch.tensor(
        [real.other(prompt.drawing, index) for index, prompt in enumerate(chosen)]
    )
    pasted = torch.cat([kept, real.images(others)[..., width // 2 :]], dim=3)
    rebuilt = torch.cat([kept, real.reconstructed(truth)[..., width // 2 :]], dim=3)
    facts = real.seen(truth), real.seen(pasted)

    def nearer(pictures: Tensor) -> float:
        return share(closer(real.gallery, real.seen(pictures), facts[1], facts[0]))

    figures = {
        "inpainted halves": len(chosen),
        "inpainted nearer than pasted": nearer(made),
        "reconstructed nearer than pasted": nearer(rebuilt),
        "inpainted, rest unchanged": share((made[..., : width // 2] == kept).flatten(1).all(1)),
    }
    if not pipe.model.any_grid:
        return figures
    pairs = real.pairs_of_a_style(real.edits)
    first = real.images(torch.tensor([pair[0] for pair in pairs]))
    tasks = [outpaint(image, (2 * width, height), (0, 0, width, 0)) for image in to_pil(first)]
    texts = [real.scene("beside", pair) for pair in pairs]
    larger = pixels(pipe.redraw(tasks, texts, seed=evidence.seed))
    names = [real.names[pair[1]] for pair in pairs]
    nearest = real.gallery.nearest(real.seen(larger[..., width:]))
    return {
        **figures,
        "outpainted halves": len(pairs),
        "outpainted as asked": share(real.gallery.named(nearest, names)),
        f"name within {RANK} others, real": real.relatives([pair[1] for pair in pairs]),
        "outpainted, rest unchanged": share((larger[..., :width] == first).flatten(1).all(1)),
    }


@register_metric("clip-score")
def clip_score(evidence: Evidence) -> dict[str, float]:
    """100 times the mean cosine of the samples and their prompts (Hessel et al. 2021, w = 1).

    The real pictures and the same prompts have their own beside it.
    """
    samples, data, images = evidence.samples, evidence.data, evidence.images
    if evidence.scorer is None or samples is None or not samples.prompts or images is None:
        return {}
    texts = [samples.prompts[int(label)].text for label in samples.labels]
    scores = [
        evidence.scorer(images[rows], [texts[row] for row in rows])
        for rows in torch.arange(len(images)).split(64)
    ]
    figures = {"CLIP score": 100 * float(torch.cat(scores).mean())}
    if data is not None:
        real = [
            evidence.scorer(
                _pictures(data, torch.tensor([prompt.drawing for prompt in some])),
                [prompt.text for prompt in some],
            )
            for some in (samples.prompts[i : i + 64] for i in range(0, len(samples.prompts), 64))
        ]
        figures["CLIP score, real"] = 100 * float(torch.cat(real).mean())
    return figures


class Drawings:
    """What the figures of one evaluation share: the real drawings, as features and as pictures.

    A drawing has an index: those of the training split first, then those held out.
    """

    def __init__(self, evidence: Evidence) -> None:
        data, pipeline, samples = evidence.data, evidence.pipeline, evidence.samples
        assert data is not None
        assert pipeline is not None
        assert samples is not None
        assert evidence.real.pooled is not None
        self.data, self.pipeline, self.extractor = data, pipeline, evidence.extractor
        self.progress, self.known = evidence.progress, len(data)
        self.asked = {prompt.drawing for prompt in samples.prompts}
        held = 0 if data.heldout is None else len(data.heldout)
        self.prompts = max(
            sum(prompt.drawing >= self.known for prompt in samples.prompts),
            sum(prompt.drawing < self.known for prompt in samples.prompts),
        )
        self.edits = max(1, round(self.prompts * FEWER))
        self.names, self.styles = (
            [*data.meta[column], *data.heldout_meta.get(column, ())] for column in ("name", "style")
        )
        rest = torch.arange(self.known, self.known + held)
        features = [evidence.real.pooled, *([self.seen(self.images(rest))] if held else [])]
        self.gallery = Gallery(torch.cat(features), self.names, self.styles)

    def images(self, drawings: Tensor) -> Tensor:
        """Pictures uint8 ``[n, 3, H, W]``."""
        return _pictures(self.data, drawings)

    def seen(self, pictures: Tensor) -> Tensor:
        """Features ``[n, d]``."""
        return extract_features(self.extractor, pictures, progress=self.progress).pooled

    def reconstructed(self, pictures: Tensor) -> Tensor:
        """Pictures through the tokenizer and back."""
        tokenizer = self.pipeline.tokenizer
        codes = encode_images(tokenizer, pictures)
        return decode_codes(tokenizer, codes, tokenizer.grid(*pictures.shape[-2:]))

    @cached_property
    def rebuilt(self) -> Tensor:
        """All drawings through the tokenizer and back: uint8 ``[m, 3, H, W]``."""
        every = torch.arange(len(self.names)).split(256)
        return torch.cat([self.reconstructed(self.images(some)) for some in every])

    @cached_property
    def rebuilt_features(self) -> Tensor:
        """What is seen of them: ``[m, d]``."""
        return self.seen(self.rebuilt)

    @cached_property
    def classifier(self) -> Classifier | None:
        """Of styles, by reconstructed training drawings that no prompt asks for; None of one style.

        Those that are asked for are left out, so that their reconstructions can be judged too.
        """
        rest = [index for index in range(self.known) if index not in self.asked]
        styles = [self.styles[index] for index in rest]
        return fit_styles(self.rebuilt_features[rest], styles) if len({*styles}) > 1 else None

    def styled(self, features: Tensor, drawings: Tensor) -> Tensor:
        """Whether pictures with features ``[n, d]`` are recognised in the drawings' styles."""
        assert self.classifier is not None
        told, asked = self.classifier(features), [self.styles[index] for index in drawings]
        return torch.tensor([a == b for a, b in zip(told, asked, strict=True)])

    @cached_property
    def threshold(self) -> float:
        """`near_copy_threshold` of the training drawings without variants in skin tone."""
        plain = [i for i in range(self.known) if "skin tone" not in self.names[i]]
        return near_copy_threshold(self.images(torch.tensor(plain)))

    def relatives(self, drawings: Sequence[int]) -> float:
        """How many real drawings have another one of their name among the nearest.

        About so often is a drawing recognised that is right, and a drawing of one's own.
        """
        return share(find_others(self.gallery, torch.tensor(drawings)).name)

    def other(self, drawing: int, index: int) -> int:
        """The ``index``-th of the training drawings in a random order, but not ``drawing``."""
        order = shuffled(self.known)[::-1]
        found = order[index % self.known]
        return order[(index + 1) % self.known] if found == drawing else found

    def pairs_of_a_style(self, count: int) -> list[tuple[int, int]]:
        """Random pairs of training drawings of one style and two names."""
        members: dict[str, list[int]] = {}
        for index in range(self.known):
            members.setdefault(self.styles[index], []).append(index)
        generator, pairs = torch.Generator().manual_seed(1), list[tuple[int, int]]()
        firsts = shuffled(self.known)
        for first in (firsts * -(-count // len(firsts)))[:count]:
            same = members[self.styles[first]]
            others = [index for index in same if self.names[index] != self.names[first]]
            if others:
                drawn = int(torch.randint(len(others), (1,), generator=generator))
                pairs.append((first, others[drawn]))
        if not pairs:
            raise ValueError("scenes need a style with two drawings of different names")
        return pairs

    def scene(self, kind: str, pair: tuple[int, int]) -> str:
        """The prompt of two drawings of a style."""
        names = [with_article(self.names[index]) for index in pair]
        return scene_caption(kind, names, self.styles[pair[0]])

    def scene_size(self, kind: str) -> tuple[int, int]:
        """(height, width) in pixels of two drawings beside or above each other."""
        width, height = self.pipeline.size
        return (height, 2 * width) if kind == "beside" else (2 * height, width)

    def sides(self, kind: str, pictures: Tensor, pairs: Sequence[tuple[int, int]]) -> Any:
        """`setar.evaluation.drawings.Sides` of pictures of two drawings each."""
        first, second = (self.seen(half) for half in pictures.chunk(2, dim=axis(kind)))
        names = [[self.names[pair[side]] for pair in pairs] for side in (0, 1)]
        return find_sides(self.gallery, (first, second), (names[0], names[1]))


@lru_cache(maxsize=1)  # shared by the metrics of an evaluation
def drawings_of(evidence: Evidence) -> Drawings | None:
    """The real drawings beside which the samples of a model of texts stand; None without them."""
    data, samples, real = evidence.data, evidence.samples, evidence.real.pooled
    if data is None or samples is None or not samples.prompts or evidence.pipeline is None:
        return None
    if not {"name", "style"} <= data.meta.keys() or real is None or len(real) != len(data):
        return None
    some = torch.arange(0, len(real), max(1, len(real) // 4))  # a file may be of other pictures
    again = extract_features(evidence.extractor, data.images[some]).pooled
    return Drawings(evidence) if torch.cosine_similarity(again, real[some]).min() > 0.99 else None


def _pictures(data: Dataset, drawings: Tensor) -> Tensor:
    """Pictures of the training split, or, from its length on, held-out ones."""
    found = torch.zeros(0)
    for images, offset, where in (
        (data.images, 0, drawings < len(data)),
        (data.heldout, len(data), drawings >= len(data)),
    ):
        if where.any():
            assert images is not None
            some = images[drawings[where] - offset]
            if not len(found):
                found = some.new_zeros(len(drawings), *some.shape[1:])
            found[where] = some
    return found


def axis(kind: str) -> int:
    """Along which two drawings of a scene lie, of pictures ``[n, 3, H, W]``."""
    return 3 if kind == "beside" else 2


def join(kind: str, first: Tensor, second: Tensor) -> Tensor:
    """Drawings ``[n, 3, h, w]`` beside or above each other."""
    return torch.cat([first, second], dim=axis(kind))


def pixels(pictures: "Sequence[Image.Image] | Any") -> Tensor:
    """RGB pictures of one size as uint8 ``[n, 3, H, W]``."""
    arrays = [np.asarray(picture) for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def shuffled(count: int) -> list[int]:
    """0 .. count - 1 in an order that no seed changes: all evaluations ask for the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
