"""Editing pictures with a pipeline, of every family: what stays, what changes, what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_text
from random_weights import random_fmt, randomise
from setar.models.decoder_only import DecoderOnlyConfig, DecoderOnlyTransformer
from setar.models.var import PRESETS as VAR_PRESETS
from setar.models.var import VARTransformer
from setar.pictures.masks import box_mask, dilated, outpaint, prepare
from setar.pictures.sheets import to_pil
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe
from setar.sampling.edit import random_cells
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.base import Tokenizer, encode_images
from setar.tokenizers.multiscale import MultiScaleConfig, MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig
from setar.tokenizers.vqgan import PRESETS as VQGAN_PRESETS
from setar.tokenizers.vqgan import VQGAN

CLASSES = ("cat", "dog", "dragon", "7", "face-smiling")
SIZE = (16, 16)


def sampled_as(text, guidance=None):
    return SamplingDefaults(Recipe.parse(text), guidance or Guidance())


def fmt():
    torch.manual_seed(0)
    tokenizer = VQGAN(VQGAN_PRESETS["tiny"]).eval().requires_grad_(False)
    return Pipeline(random_fmt(vocabulary=32), tokenizer, CLASSES, sampled_as("random-5-cosine"))


def var():
    shape = {"channels": 8, "multipliers": (1, 1, 2), "blocks": 1, "phis": 2}
    config = MultiScaleConfig(codebook_size=32, codebook_dim=8, scales=(1, 2, 4), **shape)
    torch.manual_seed(0)
    tokenizer = MultiScaleVQ(config).eval().requires_grad_(False)
    torch.nn.init.normal_(tokenizer.codebook.table.weight, std=0.3)
    model = randomise(VARTransformer(VAR_PRESETS["tiny"])).eval().requires_grad_(False)
    return Pipeline(model, tokenizer, CLASSES, sampled_as("raster-1,4,16", Guidance(1.5)))


def decoder_only():
    config = DecoderOnlyConfig(32, classes=5, grid=(4, 4), width=32, heads=2, layers=1)
    model = randomise(DecoderOnlyTransformer(config)).eval().requires_grad_(False)
    return Pipeline(model, fmt().tokenizer, CLASSES, sampled_as("ar"))


FAMILIES = {"fmt": fmt, "var": var, "decoder-only": decoder_only}
ANYWHERE = ["fmt", "var"]


@pytest.fixture(scope="module")
def pipes():
    return {name: make() for name, make in FAMILIES.items()}


def picture(size=SIZE, seed=0):
    """Soft random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


LOWER = box_mask(SIZE, (0, 9, 16, 16))
CORNER = box_mask(SIZE, (3, 2, 9, 11))


def pixels(image, mask, inside):
    return np.asarray(image)[(np.asarray(mask) > 0) == inside]


def same(first, second):
    return [image.tobytes() for image in first] == [image.tobytes() for image in second]


def refused(call, *arguments, **options):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_outside_the_mask_stay_and_those_inside_are_new(pipes, family):
    image = picture()
    results = pipes[family].edit(image, LOWER, "dog", count=3, seed=4)
    assert [(result.size, result.mode) for result in results] == [(SIZE, "RGB")] * 3
    for result in results:
        assert (pixels(result, LOWER, False) == pixels(image, LOWER, False)).all()
        assert (pixels(result, LOWER, True) != pixels(image, LOWER, True)).any()
    assert len({result.tobytes() for result in results}) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_what_lies_under_the_mask_has_no_influence(pipes, family):
    image = picture()
    other = Image.composite(picture(seed=1), image, LOWER)
    assert image.tobytes() != other.tobytes()
    first, second = (pipes[family].edit(each, LOWER, "dog", count=2) for each in (image, other))
    assert same(first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_lies_outside_matters_and_so_does_the_class(pipes, family):
    pipe = pipes[family]
    inside = pixels(pipe.edit(picture(), LOWER, "dog")[0], LOWER, True)
    for image, name in ((picture(seed=1), "dog"), (picture(), "dragon")):
        assert (pixels(pipe.edit(image, LOWER, name)[0], LOWER, True) != inside).any()


@pytest.mark.parametrize("family", ANYWHERE)
def test_a_seed_gives_the_same_edit_in_any_batch(pipes, family):
    pipe = pipes[family]
    together = pipe.edit(picture(), CORNER, "cat", count=5, seed=20)
    assert same(pipe.edit(picture(), CORNER, "cat", count=5, seed=20, batch_size=2), together)
    assert same(pipe.edit(picture(), CORNER, "cat", seed=23), together[3:4])
    assert same(pipe.edit(picture(), CORNER, 0, count=2, seed=[24, 20]), together[4::-4])
    assert same(pipe.edit(picture(), CORNER, "cat", count=5, seed=20, cache=False), together)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_everything_masked_it_is_a_usual_image(pipes, family):
    everything = np.ones((16, 16), dtype=bool)
    assert same(
        pipes[family].edit(picture(), everything, "dog", count=2, seed=3),
        pipes[family]("dog", count=2, seed=3),
    )


@pytest.mark.parametrize("family", ANYWHERE)
def test_the_second_round_is_the_first_with_its_result_as_the_filling(pipes, monkeypatch, family):
    pipe, asked = pipes[family], []
    monkeypatch.setattr(
        "setar.editing.encode_images",
        lambda tokenizer, pictures: asked.append(pictures) or encode_images(tokenizer, pictures),
    )
    first = pipe.edit(picture(), CORNER, "cat", count=3, rounds=1)
    second = pipe.edit(picture(), CORNER, "cat", count=3)
    assert [len(pictures) for pictures in asked] == [1, 1, 3]
    assert torch.equal(asked[0], asked[1])
    assert same(to_pil(asked[2]), first)
    assert not same(first, second)


@pytest.mark.parametrize("recipe", ["ar", "next-scale", "random-16-random", "roll-64-cosine"])
def test_any_recipe_edits_an_fmt(pipes, recipe):
    if recipe == "roll-64-cosine":
        assert "must not exceed the 16 tokens" in refused(
            pipes["fmt"].edit, picture(), CORNER, "cat", recipe=recipe
        )
        return
    options = {"recipe": recipe, "seed": 5, "guidance": 3.0}
    plain, full = (
        pipes["fmt"].edit(picture(), CORNER, "cat", attention=attention, **options)
        for attention in ("causal", "full")
    )
    assert not same(plain, full)
    assert same(pipes["fmt"].edit(picture(), CORNER, "cat", cache=False, **options), plain)


def test_codes_outside_are_those_of_the_image(pipes):
    for family in ANYWHERE:
        pipe = pipes[family]
        given = pipe.sample_codes("cat", seed=8, count=6)
        free = torch.rand(given.shape[1], generator=torch.Generator().manual_seed(1)) < 0.4
        for kept in (given, given[:1]):
            codes = pipe.sample_codes(
                ["cat", "dog"], given=kept.masked_fill(free, -1), count=3, batch_size=4
            )
            assert (codes[:, ~free] == kept[:, ~free]).all()
            assert codes.min() >= 0
            assert len(codes[:, free].unique(dim=0)) > 1


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (
            torch.full((16,), -1),
            "(of shape [16], int64) must be whole numbers [images, 16]",
        ),
        (
            torch.full((1, 15), -1),
            "must be whole numbers [images, 16]",
        ),
        (torch.full((2, 16), -1), "`given` (of shape [2, 16]) must be [3 or 1, 16]"),
        (torch.zeros(1, 16).long(), "`given` must be -1 at as many tokens of each image, at"),
        (-torch.eye(16)[:3].long() * torch.tensor([[1], [1], [0]]), "at as many tokens of each"),
    ],
)
def test_wrong_given_codes_are_refused(pipes, given, rule):
    assert rule in refused(pipes["fmt"].sample_codes, "cat", given=given, count=3)


@pytest.mark.parametrize("family", ANYWHERE)
def test_partial_images_have_the_image_around_them(pipes, family):
    seen = []
    final = pipes[family].edit(picture(), CORNER, "cat", count=2, on_set=seen.append)
    assert [partial.step for partial in seen] == list(range(1, seen[0].steps + 1))
    for partial in seen:
        for image in partial.images():
            assert (pixels(image, CORNER, False) == pixels(picture(), CORNER, False)).all()
    assert same(seen[-1].images(), final)
    if family == "fmt":  # the kept tokens are the first set: nothing is made yet
        assert (pixels(seen[0].images()[0], CORNER, True) == 225).all()


def test_images_of_other_sizes_and_modes(pipes):
    pipe = pipes["fmt"]
    assert pipe.size == SIZE
    large = picture((80, 40)).convert("RGBA")
    [result] = pipe.edit(large, box_mask((80, 40), (20, 20, 60, 40)), "cat")
    whole = large.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS, (20, 0, 60, 40))
    assert result.size == SIZE
    assert np.array_equal(np.asarray(result)[:8], np.asarray(whole)[:8])
    clear = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    [result] = pipe.edit(clear, LOWER, "cat")
    assert (pixels(result, LOWER, False) == 255).all()


def test_wide_models_edit_wide_pictures():
    model = random_fmt(grid=(2, 3), vocabulary=4)
    pipe = Pipeline(model, PixelLevels(PixelLevelsConfig(4)), CLASSES, sampled_as("ar"))
    assert pipe.size == (3, 2)
    [result] = pipe.edit(picture((3, 2)), box_mask((3, 2), (0, 0, 1, 1)), "cat")
    assert result.size == (3, 2)


@pytest.mark.parametrize("family", ANYWHERE)
def test_a_prepared_task_can_be_redrawn(pipes, family):
    task = prepare(picture((32, 32)), box_mask((32, 32), (0, 18, 32, 32)), SIZE)
    assert same(
        pipes[family].redraw(task, "cat", count=2), pipes[family].edit(*task, "cat", count=2)
    )


def test_outpainting(pipes):
    for family in ANYWHERE:
        canvas, mask = outpaint(picture((8, 8)), pipes[family].size, (4, 4, 4, 4))
        [result] = pipes[family].edit(canvas, mask, "cat")
        assert result.crop((4, 4, 12, 12)).tobytes() == picture((8, 8)).tobytes()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"mask": box_mask((15, 16), (0, 0, 4, 4))}, "the mask has 15x16 pixels, the image 16x16"),
        ({"mask": Image.new("L", SIZE)}, "the mask is empty"),
        ({"mask": 3}, "a mask must be a PIL image or a bool array"),
        ({"image": "cat.png"}, "an image must be a PIL image, not str"),
        ({"class_": "cow"}, "unknown class 'cow'"),
        ({"class_": 5}, "class id 5 is not in 0..4"),
        ({"class_": ["cat", "dog"]}, "a class is a name or a whole number, not list"),
        ({"count": 0}, "`count`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"rounds": 0}, "`rounds` (=0) must be at least 1"),
        ({"dilate": -1}, "`dilate` (=-1) must be at least 0"),
        ({"seam": 1.5}, "`seam` (=1.5) must be a whole number of at least 0"),
        ({"seam": 4097}, "`seam` (=4097) must be at most 4096"),
        ({"size": (16, 20)}, "`size` (=16x20) must be 16x16: this model makes no pictures of"),
        ({"negative_prompt": "dog"}, "`negative_prompt` is for models that read texts"),
        ({"seed": -1}, "a seed (=-1) must be"),
        ({"recipe": "random-4,4"}, "`sizes` sum to 8 but must sum to the 9 tokens to be made"),
        ({"given": 1}, "`given` follows from the picture that is edited"),
        ({"temprature": 1.0}, "unknown key `temprature`; did you mean 'temperature'"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_wrong_arguments_are_refused_in_one_line(pipes, change, rule):
    arguments = {"image": picture(), "mask": CORNER, "class_": "cat", **change}
    assert rule in refused(pipes["fmt"].edit, **arguments)


def test_models_that_cannot_make_the_tokens_say_so(pipes):
    message = refused(pipes["decoder-only"].edit, picture(), CORNER, "cat")
    assert message.startswith("this model can only continue an image in raster order")
    for family, recipe in (("decoder-only", "random-4-cosine"), ("var", "raster-21,")):
        message = refused(pipes[family].edit, picture(), LOWER, "cat", recipe=recipe)
        assert "FMT" in message


@pytest.mark.parametrize("family", ANYWHERE)
def test_images_may_keep_different_tokens(pipes, family):
    """Each is what it is alone."""
    pipe, recipes = pipes[family], ["random-4-cosine", "next-scale"] if family == "fmt" else [None]
    codes = pipe.sample_codes("cat", seed=8, count=3)
    given = codes.masked_fill(random_cells(codes.shape[1], 0.4, [1, 2, 3]), -1)
    for recipe in recipes:
        made = pipe.sample_codes("dog", given=given, count=3, seed=20, recipe=recipe)
        assert (made == codes)[given >= 0].all()
        for i in range(3):
            how = {"given": given[i : i + 1], "seed": 20 + i, "recipe": recipe}
            assert torch.equal(pipe.sample_codes("dog", **how)[0], made[i])


def test_a_grown_mask_is_a_larger_mask(pipes):
    pipe = pipes["fmt"]
    larger = box_mask(SIZE, (1, 0, 11, 13))
    grown = pipe.edit(picture(), CORNER, "cat", count=2, dilate=2)
    assert same(grown, pipe.edit(picture(), larger, "cat", count=2))
    assert not same(grown, pipe.edit(picture(), CORNER, "cat", count=2))


def test_a_seam_blends_outside_the_mask_and_changes_nothing_else(pipes):
    pipe, image = pipes["fmt"], picture()
    [hard], [soft] = (pipe.edit(image, CORNER, "cat", seam=seam) for seam in (0, 2))
    hard, soft, before = (np.asarray(one).astype(int) for one in (hard, soft, image))
    near = np.asarray(dilated(torch.tensor(np.asarray(CORNER) > 0), 2))
    ring = near & (np.asarray(CORNER) == 0)
    assert (soft[~ring] == hard[~ring]).all()
    assert (before[~near] == hard[~near]).all()
    assert (soft[ring] != before[ring]).mean() > 0.5


@pytest.mark.parametrize("family", ANYWHERE)
def test_variations_differ_and_share_tokens_with_the_image(pipes, family):
    pipe = pipes[family]
    image = pipe("cat", seed=3)[0]
    some = pipe.vary(image, 0.3, "cat", count=3, seed=5)
    assert [one.size for one in some] == [SIZE] * 3
    assert len({one.tobytes() for one in [image, *some]}) == 4
    assert same(pipe.vary(image, 0.3, "cat", seed=6), some[1:2])
    assert same(pipe.vary(image, 1, "cat", count=2, seed=5), pipe("cat", count=2, seed=5))


@pytest.mark.parametrize("recipe", ["ar", "next-scale", "random-16-random"])
def test_any_recipe_varies(pipes, recipe):
    first, second = (
        pipes["fmt"].vary(picture(), 0.5, "cat", count=2, recipe=recipe, cache=cache)
        for cache in (True, False)
    )
    assert same(first, second)
    assert first[0].tobytes() != first[1].tobytes()


@pytest.mark.parametrize("share", [0, 1.1, -0.3, float("nan"), "0.3", True, None])
def test_wrong_shares_are_refused(pipes, share):
    assert "must be above 0 and at most 1" in refused(pipes["fmt"].vary, picture(), share, "cat")


def test_a_variation_keeps_what_it_chooses(pipes):
    for change in ({"given": torch.zeros(1, 16)}, {"recipe": "mar"}):
        rule = "`given` follows from the picture" if "given" in change else "is for training"
        assert rule in refused(pipes["fmt"].vary, picture(), 0.5, "cat", **change)


def test_a_decoder_only_model_cannot_vary(pipes):
    assert "continue an image" in refused(pipes["decoder-only"].vary, picture(), 0.3, "cat")


def test_outpainting_with_the_pipeline(pipes):
    margins = (4, 4, 4, 4)
    results = pipes["fmt"].outpaint(picture((8, 8)), margins, "cat", count=2)
    canvas, mask = outpaint(picture((8, 8)), SIZE, margins)
    assert same(results, pipes["fmt"].edit(canvas, mask, "cat", count=2))


# A model of texts, which makes any grid


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return tiny_text.text_pipeline(tmp_path_factory.mktemp("encoder"))


@pytest.mark.parametrize("size", [(16, 16), (24, 16), (22, 13), (9, 7)], ids=str)
def test_pictures_keep_their_own_size(text, size):
    image, mask = picture(size), box_mask(size, (1, 2, 3, 7))
    results = text.edit(image, mask, "a red apple", count=2)
    assert [one.size for one in results] == [size] * 2
    for one in results:
        assert (pixels(one, mask, False) == pixels(image, mask, False)).all()
    assert (pixels(results[0], mask, True) != pixels(results[1], mask, True)).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 4)], ids=str)
def test_pictures_of_fewer_tokens_than_the_recipe_has_sets(text, size):
    image, mask = picture(size), box_mask(size, (0, 0, 1, 1))
    results = text.edit(image, mask, "dog")
    assert [one.size for one in results] == [size]
    assert (pixels(results[0], mask, False) == pixels(image, mask, False)).all()
    assert [one.size for one in text.vary(image, 0.5, "dog")] == [size]
    message = refused(text.edit, image, mask, "dog", recipe="random-4-cosine")
    assert message.startswith("`sets` (=4) must not exceed")


def test_a_small_picture_is_made_a_token_per_set(text):
    steps = []
    tell = lambda partial: steps.append((partial.step, partial.steps))  # noqa: E731
    [made] = text("dog", size=(4, 8), on_set=tell)
    assert made.size == (8, 4)
    assert steps == [(1, 2), (2, 2)]


def test_an_edit_reads_the_text_and_the_negative_one(text):
    image, mask = picture((24, 16)), box_mask((24, 16), (12, 0, 24, 16))
    made = [
        text.edit(image, mask, prompt, negative_prompt=negative)[0].tobytes()
        for prompt, negative in (("dog", None), ("a red apple", None), ("dog", "small house"))
    ]
    assert len(set(made)) == 3
    assert "needs guidance, which is off" in refused(
        text.edit, image, mask, "dog", negative_prompt="cat", guidance=1
    )


def test_an_edit_is_of_a_size_if_one_is_given(text):
    image, mask = picture((60, 60)), box_mask((60, 60), (30, 0, 60, 60))
    [result] = text.edit(image, mask, "dog", size=(8, 20))
    task = prepare(image, mask, (20, 8))
    assert result.size == (20, 8)
    assert (pixels(result, task.mask, False) == pixels(task.image, task.mask, False)).all()


@pytest.mark.parametrize("margins", [(0, 0, 16, 0), (5, 0, 3, 9), (0, 7, 0, 0)])
def test_outpainting_to_any_size(text, margins):
    left, top, right, bottom = margins
    image, seen = picture((22, 13)), []
    results = text.outpaint(image, margins, "dog", count=2, on_set=seen.append)
    for one in (*results, *seen[0].images()):
        assert one.size == (22 + left + right, 13 + top + bottom)
        assert one.crop((left, top, left + 22, top + 13)).tobytes() == image.tobytes()
    assert same(seen[-1].images(), results)
    assert results[0].tobytes() != results[1].tobytes()


def test_tokens_outside_the_mask_are_kept(text, monkeypatch):
    """A picture that whole tokens do not cover goes on at its edges: nothing is free there."""
    given = []
    call = text.sample_codes
    monkeypatch.setattr(
        text, "sample_codes", lambda *a, **o: given.append(o["given"]) or call(*a, **o)
    )
    text.edit(picture((18, 15)), box_mask((18, 15), (5, 5, 8, 8)), "dog", rounds=1)
    assert (given[0].view(4, 5) < 0).nonzero().tolist() == [[1, 1]]
    text.outpaint(picture((16, 16)), (6, 0, 0, 0), "dog", rounds=1)  # the picture begins a token
    assert (given[1].view(4, 6) < 0).int().tolist() == [[1, 1, 0, 0, 0, 0]] * 4


def test_variations_of_any_size(text):
    image, seen = picture((22, 13)), []
    results = text.vary(image, 0.4, "dog", count=3, on_set=seen.append)
    assert [one.size for one in results] == [(22, 13)] * 3
    assert len({one.tobytes() for one in results}) == 3
    assert same(seen[-1].images(), results)
    again = text.vary(image, 0.4, "dog", count=3, negative_prompt="cat")
    assert not same(again, results)


def test_pictures_of_too_many_tokens_are_refused(text):
    full = Image.new("L", (260, 260), 255)
    message = refused(text.edit, picture((260, 260)), full, "dog")
    assert "a picture of 260x260 pixels (height x width) has 65x65 tokens, more than 64x64" in (
        message
    )
    message = refused(text.outpaint, picture(), (10**7, 0, 10**7, 0), "dog")
    assert "more than 16777216" in message


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        ((30, 64), "must be multiples of 4 pixels, the tokenizer's stride: 28x64 or 32x64"),
        ((3, 66), "the tokenizer's stride: 4x64 or 4x68"),
        ((0, 4), "must be (height, width) in pixels"),
        ((4,), "must be (height, width) in pixels"),
    ],
)
def test_sizes_that_whole_tokens_do_not_cover(text, size, rule):
    assert rule in refused(text, "dog", size=size)


def test_a_text_is_one_text(text):
    for wrong in (["dog", "cat"], 3):
        assert refused(text.edit, picture(), LOWER, wrong)


def test_a_tokenizer_without_an_encoder(pipes):
    class DecoderAlone(Tokenizer):
        vocabulary, can_encode = 32, False

        def decode(self, codes, grid):
            return torch.zeros(len(codes), 3, 16, 16)

    pipe = Pipeline(pipes["fmt"].model, DecoderAlone(None), CLASSES, sampled_as("ar"))
    message = refused(pipe.edit, picture(), CORNER, "cat")
    assert "the tokenizer DecoderAlone cannot encode" in message


def test_several_tasks_at_once_are_as_each_alone(text):
    mask = box_mask((16, 16), (8, 0, 16, 16))
    images = text(["one cat", "a red apple"], seed=3)
    tasks = [prepare(image, mask) for image in images]
    prompts = ["a red apple", "one cat"]
    together = text.redraw(tasks, prompts, seed=[5, 9])
    alone = [
        text.redraw(task, prompt, seed=seed)[0]
        for task, prompt, seed in zip(tasks, prompts, (5, 9), strict=True)
    ]
    assert [image.tobytes() for image in together] == [image.tobytes() for image in alone]
    assert together[0].tobytes() != together[1].tobytes() != images[1].tobytes()


def test_tasks_that_cannot_be_done_at_once_are_refused(text):
    image = text("one cat")[0]
    left, right = (box_mask((16, 16), box) for box in ((0, 0, 8, 16), (8, 0, 16, 16)))
    task = prepare(image, left)
    with pytest.raises(ValueError, match=r"\A2 tasks at once need as many [^\n]*\(=1\)"):
        text.redraw([task, task], ["one cat"])
    with pytest.raises(ValueError, match=r"`count` \(=2\) 1"):
        text.redraw([task, task], ["one cat", "one cat"], count=2)
    with pytest.raises(ValueError, match="must have one mask"):
        text.redraw([task, prepare(image, right)], ["one cat", "one cat"])
    with pytest.raises(ValueError, match="not none"):
        text.redraw([], [])
