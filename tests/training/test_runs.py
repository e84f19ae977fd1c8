import itertools
import shutil

import pytest
import torch
from PIL import Image

import tiny_runs
from random_weights import randomise
from setar import checkpoint
from setar.data import digits, emoji
from setar.features.efficientnet import EfficientNetLite0
from setar.pictures import tile
from setar.pipeline import Pipeline
from setar.sampling.guidance import Guidance
from setar.tokenizers.base import encode_images
from setar.tokenizers.multiscale import PRESETS as MULTISCALE
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.reconstruction import stages
from setar.training.objectives import SelfCorrectionObjective
from setar.training.runs import (
    balanced,
    load_data,
    make_trainer,
    progression,
    reconstructions,
    shown_classes,
)
from setar.training.settings import DataConfig, read_run


@pytest.fixture
def make(tmp_path):
    """A trainer of a config text with overrides."""

    def trainer(text, *overrides):
        file = tmp_path / "run.toml"
        file.write_text(text)
        return make_trainer(read_run(file, list(overrides)), tmp_path / "run")

    return trainer


def source(folder):
    return f'data.source="{folder}"'


# Data


def test_emoji_are_trained_without_the_heldout_ones():
    data = load_data(DataConfig("emoji"))
    heldout = {image.numpy().tobytes() for image in emoji.load("heldout").images}
    assert not heldout & {image.numpy().tobytes() for image in data.images}
    assert {image.numpy().tobytes() for image in data.heldout} <= heldout
    assert len(data.heldout) == 64
    assert len(data.labels) == len(data.images)
    assert data.classes == emoji.subgroups()


def test_digits_are_pictures_with_the_levels_of_their_codes():
    data = load_data(DataConfig("digits"))
    codes = digits.load("train").codes
    assert data.images.shape == (len(codes), 3, 8, 8)
    expected = (codes.float() * 255 / 16).round().to(torch.uint8)
    assert torch.equal(data.images[:, 1].flatten(1), expected)
    assert data.classes == tuple("0123456789")


def test_a_folder_shows_its_first_pictures(tmp_path):
    data = load_data(DataConfig(str(tiny_runs.save_pictures(tmp_path / "my pictures")), 16))
    assert data.classes == ("cats", "dogs")
    assert data.labels.tolist() == [0] * 6 + [1] * 6
    assert torch.equal(data.heldout, data.images[torch.arange(12)])


# Pictures on the way


class Negative:
    """A tokenizer of one code per image that gives back the image in inverted colours."""

    vocabulary = 1000

    def grid(self, height, width):
        return 1, 1

    def encode(self, images):
        self.images = images
        return torch.arange(len(images))[:, None]

    def decode(self, codes, grid):
        return -self.images[codes[:, 0]]


@pytest.mark.parametrize(("count", "columns", "rows"), [(4, 4, 1), (3, 3, 1), (9, 4, 2)])
def test_originals_stand_above_their_reconstructions(count, columns, rows):
    images = torch.randint(256, (count, 3, 48, 48), dtype=torch.uint8)
    picture = reconstructions(Negative(), images, columns=4)
    assert picture.shape == (3, rows * 100 - 2, columns * 50 - 2)
    for row in range(rows):
        for column in range(columns):
            cell = picture[:, row * 100 : row * 100 + 98, column * 50 : column * 50 + 48]
            original = images[row * columns + column]
            assert torch.equal(cell[:, :48], original)
            assert torch.equal(cell[:, 50:], 255 - original)


def test_a_row_shows_an_image_scale_by_scale():
    tokenizer = randomise(MultiScaleVQ(MULTISCALE["tiny"])).eval()
    images = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8)
    picture = progression(tokenizer, images, rows=3)
    assert picture.shape == (3, 3 * 50 - 2, 5 * 50 - 2), "four scales and the original"
    expected = [*stages(tokenizer, images[[0, 2, 4]]), images[[0, 2, 4]]]
    for row, column in itertools.product(range(3), range(5)):
        cell = picture[:, row * 50 : row * 50 + 48, column * 50 : column * 50 + 48]
        assert torch.equal(cell, tile(expected[column][row : row + 1], 1, scale=3))


@pytest.mark.parametrize(
    ("classes", "each", "columns"), [(1, 64, 64), (5, 12, 12), (10, 6, 6), (99, 1, 8), (1000, 1, 8)]
)
def test_few_classes_get_a_row_each(classes, each, columns):
    ids, found = shown_classes(classes)
    assert found == columns
    assert ids == sorted(ids)
    assert len(set(ids)) == min(classes, 64)
    assert {ids.count(label) for label in ids} == {each}
    assert 0 <= ids[0] <= ids[-1] < classes


# Trainers


def test_the_seed_decides_the_weights(make):
    def head(seed):
        return make(tiny_runs.DIGITS, f"loop.seed={seed}").result.positions.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_a_digits_run_becomes_a_pipeline(make, tmp_path):
    trainer = make(tiny_runs.DIGITS)
    assert trainer.result.config.vocabulary == 17
    assert trainer.result.config.grid == (8, 8)
    trainer.run()
    pipe = Pipeline.from_pretrained(tmp_path / "run")
    assert pipe.classes == tuple("0123456789")
    assert pipe.defaults.recipe == "random-4-cosine"
    for name, weight in pipe.model.state_dict().items():
        assert torch.equal(weight, trainer.average.state[name])
    assert (tmp_path / "run/samples/step-00000004.png").is_file()


def test_flips_double_a_generators_data(make, tmp_path):
    folder = tiny_runs.save_pictures(tmp_path / "pictures")
    make(tiny_runs.FOLDER_TOKENIZER, source(folder)).run()
    trainer = make(tiny_runs.FOLDER_GENERATOR, source(folder), f'tokenizer="{tmp_path / "run"}"')
    assert trainer.objective.samples == 24
    assert trainer.objective.labels.tolist() == ([0] * 6 + [1] * 6) * 2
    codes = trainer.objective.codes.view(2, 12, 8, 8)
    assert not torch.equal(codes[0], codes[1])


def test_the_perceptual_loss_reads_three_stages_of_the_network(make, tmp_path, monkeypatch):
    monkeypatch.setattr(EfficientNetLite0, "pretrained", classmethod(lambda cls: cls()))
    folder = tiny_runs.save_pictures(tmp_path / "pictures")
    trainer = make(tiny_runs.FOLDER_TOKENIZER, source(folder), "loss.perceptual=1", "loop.steps=1")
    maps = trainer.objective.feature_maps(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 16, 16), (24, 8, 8), (40, 4, 4)]
    trainer.run()
    assert trainer.step == 1


DECODER_ONLY = [
    'model={family="decoder-only", preset="tiny", width=16, layers=1}',
    "recipe=ar",
    "sampling.recipe=ar",
]


def test_the_decoder_only_baseline_trains_and_is_sampled(make, tmp_path):
    trainer = make(tiny_runs.DIGITS, *DECODER_ONLY, "loop.steps=2", "loop.checkpoint_every=2")
    trainer.run()
    pipe = Pipeline.from_pretrained(tmp_path / "run")
    assert type(pipe.model).__name__ == "DecoderOnlyTransformer"
    assert [image.size for image in pipe("7", count=2)] == [(8, 8)] * 2
    with pytest.raises(ValueError, match="one token at a time in raster order"):
        pipe("7", recipe="raster-8-cosine")


@pytest.fixture
def trained_var(make, tmp_path):
    """A VAR and its multi-scale tokenizer, two steps each, as a pipeline."""
    folder = tiny_runs.save_pictures(tmp_path / "pictures", 4)
    make(tiny_runs.FOLDER_MULTISCALE, source(folder)).run()
    (tmp_path / "run").rename(tmp_path / "tokenizer")
    make(tiny_runs.FOLDER_VAR, source(folder), f'tokenizer="{tmp_path / "tokenizer"}"').run()
    return Pipeline.from_pretrained(tmp_path / "run")


def test_a_var_trains_on_the_codes_of_its_tokenizer_and_is_sampled(trained_var):
    seen = []
    arguments = {"guidance": Guidance(1.5, "var"), "count": 2, "seed": 3}
    images = trained_var(0, on_set=lambda part: seen.append(part.images()), **arguments)
    assert [len(part) for part in seen] == [2, 2, 2], "a picture after each of three scales"
    assert seen[-1][0].tobytes() == images[0].tobytes()
    assert seen[0][0].tobytes() != images[0].tobytes()
    recomputed = trained_var(0, cache=False, **arguments)
    assert [i.tobytes() for i in recomputed] == [i.tobytes() for i in images]


def test_a_var_learns_to_correct_itself(trained_var, make, tmp_path):
    overrides = [source(tmp_path / "pictures"), f"tokenizer={tmp_path / 'tokenizer'}"]
    trainer = make(tiny_runs.FOLDER_VAR, *overrides, "self_correction=0.5")
    objective = trainer.objective
    assert isinstance(objective, SelfCorrectionObjective)
    assert len(objective.features) == 8
    tokenizer = objective.forward.pyramid
    right = torch.cat([codes for _, codes, _ in tokenizer.codebook.steps(objective.features)], 1)
    images = load_data(DataConfig(str(tmp_path / "pictures"), 16)).images
    assert torch.equal(right[:4], encode_images(tokenizer, images[torch.arange(4)]))
    trainer.run()
    assert Pipeline.from_pretrained(tmp_path / "run").sample_codes([0], seed=0).shape == (1, 21)


def test_a_var_refuses_other_recipes_and_tokenizers(trained_var, make):
    with pytest.raises(ValueError, match=r"here the recipe raster-1,4,16"):
        trained_var(0, recipe="random-3-cosine")
    with pytest.raises(ValueError, match="needs a multi-scale tokenizer"):
        make(tiny_runs.DIGITS, 'model={family="var", preset="tiny"}')


# Pictures that are not square

SHAPES = {
    "wide": ((16, 32), "[[1, 2], [2, 4], [4, 8]]"),
    "tall": ((32, 16), "[[2, 1], [4, 2], [8, 4]]"),
}


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


def trained_pair(make, tmp_path, tokenizer, generator, size, *overrides):
    """The pipeline of a generator and its tokenizer, trained on a folder at (height, width)."""
    folder = tiny_runs.save_pictures(tmp_path / "pictures", 6)
    sized = [source(folder), f"data.image_size={list(size)}"]
    own = [text for text in overrides if text.startswith("tokenizer.")]
    make(tokenizer, *sized, *own).run()
    (tmp_path / "run").rename(tmp_path / "tokenizer")
    others = [text for text in overrides if text not in own]
    make(generator, *sized, f'tokenizer="{tmp_path / "tokenizer"}"', *others).run()
    return Pipeline.from_pretrained(tmp_path / "run")


def check_pictures(pipe, size, tmp_path, steps):
    """Samples, partial samples and the pictures on the way have the trained shape."""
    height, width = size
    seen = []
    images = pipe([0, 1], on_set=lambda part: seen.append(part.images()))
    assert [image.size for image in images] == [(width, height)] * 2
    assert [part[0].size for part in seen] == [(width, height)] * steps
    assert seen[-1][1].tobytes() == images[1].tobytes()
    with Image.open(tmp_path / "run/samples/step-00000002.png") as drawn:
        scale = -(-48 // width)
        assert drawn.size == (32 * (scale * width + 2) - 2, 2 * (scale * height + 2) - 2)


def test_an_fmt_of_another_shape(make, tmp_path, shape):
    size, _ = shape
    parts = (tiny_runs.FOLDER_TOKENIZER, tiny_runs.FOLDER_GENERATOR)
    pipe = trained_pair(make, tmp_path, *parts, size)
    assert pipe.grid == (size[0] // 2, size[1] // 2)
    check_pictures(pipe, size, tmp_path, steps=4)
    assert pipe(0, recipe="next-scale", attention="full")[0].size == size[::-1]


def test_a_var_of_another_shape(make, tmp_path, shape):
    size, scales = shape
    recipe = "raster-2,8,32"
    pipe = trained_pair(
        make, tmp_path, tiny_runs.FOLDER_MULTISCALE, tiny_runs.FOLDER_VAR, size,
        f"tokenizer.scales={scales}", f"recipe={recipe}", f"sampling.recipe={recipe}",
    )  # fmt: skip
    assert pipe.tokenizer.image_size == size
    assert pipe.grid == (1, 42)
    check_pictures(pipe, size, tmp_path, steps=3)
    assert pipe(0, smoothing=True)[0].size == size[::-1]


def test_scales_of_another_shape_than_the_pictures_are_refused(make, tmp_path):
    folder = tiny_runs.save_pictures(tmp_path / "pictures", 2)
    with pytest.raises(
        ValueError, match="16x32 pixels has a grid of 4x8, but the last scale is 4x4"
    ):
        make(tiny_runs.FOLDER_MULTISCALE, source(folder), "data.image_size=[16, 32]")


def test_smoothing_of_a_model_of_one_scale_is_refused_before_the_work(make):
    with pytest.raises(ValueError, match=r"`smoothing` .* needs a VAR"):
        make(tiny_runs.DIGITS, "sampling.settings.smoothing=true")


@pytest.mark.parametrize("key", ["recipe", "sampling.recipe"])
def test_a_recipe_that_the_model_cannot_do_is_refused_before_the_work(make, key):
    with pytest.raises(ValueError, match="one token at a time in raster order"):
        make(tiny_runs.DIGITS, *DECODER_ONLY, f"{key}=random-8-cosine")


def test_masked_recipes_are_not_for_sampling(make):
    with pytest.raises(ValueError, match="is for training"):
        make(tiny_runs.DIGITS, "sampling.recipe=mar")


# Mistakes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe=random-65-random"], "65"),
        (["sampling.recipe=random-100-cosine"], "100"),
        (["model.heads=3"], "heads"),
        (["tokenizer=nowhere"], "nowhere"),
        (["data.source=emoji"], "for the digits"),
        (['data.source="no such folder"'], "there is no folder no such folder"),
        (["loop.device=cuda:99"], "no device"),
    ],
)
def test_mistakes_that_only_data_or_model_show(make, overrides, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_runs.DIGITS, *overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image_size=15", "multiples of 2"),
        ("data.image_size=0", "at least 1"),
        ("loss={adversarial = 0.5, critic_layers = 3}", "at least 24 pixels a side; these have 16"),
    ],
)
def test_pictures_that_do_not_fit_the_tokenizer(make, tmp_path, override, message):
    folder = tiny_runs.save_pictures(tmp_path / "pictures", 2)
    with pytest.raises(ValueError, match=message):
        make(tiny_runs.FOLDER_TOKENIZER, source(folder), override)


def test_a_model_folder_without_tokenizer_is_refused(make, tmp_path):
    checkpoint.save(tmp_path / "other", {}, {"model": {}})
    with pytest.raises(ValueError, match="has no tokenizer"):
        make(tiny_runs.DIGITS, f'tokenizer="{tmp_path / "other"}"')


def test_a_vqgan_run_can_train_a_critic_on_pictures_just_large_enough(make, tmp_path):
    folder = tiny_runs.save_pictures(tmp_path / "pictures", 4)
    overrides = [
        "loss={adversarial = 0.5, critic_layers = 2, critic_start = 0}",
        "data.image_size=12",
    ]
    trainer = make(tiny_runs.FOLDER_TOKENIZER, source(folder), *overrides, "loop.steps=1")
    trainer.run()
    assert list(trainer.optimizers) == ["model", "critic"]


# Balance and compilation


def test_balance_repeats_small_classes():
    labels = torch.tensor([0] * 16 + [1] * 4 + [3])
    counts = {
        balance: torch.bincount(labels[balanced(labels, balance)]).tolist()
        for balance in (0.0, 0.5, 1.0)
    }
    assert counts == {0.0: [16, 4, 0, 1], 0.5: [16, 8, 0, 4], 1.0: [16, 16, 0, 16]}


def test_a_balanced_run_trains_on_the_repeated_codes(make):
    plain, fair = make(tiny_runs.DIGITS), make(tiny_runs.DIGITS, "data.balance=1.0")
    assert fair.objective.samples >= plain.objective.samples
    shares = torch.bincount(fair.objective.labels[fair.objective.epoch]) / fair.objective.samples
    assert (shares - 0.1).abs().max() < 0.01


def test_compiling_needs_a_compiler(make, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=r"needs a C.. compiler"):
        make(tiny_runs.DIGITS, "loop.compile=true")
    folder = tiny_runs.save_pictures(tmp_path / "pictures")
    with pytest.raises(ValueError, match="is for generators"):
        make(tiny_runs.FOLDER_TOKENIZER, source(folder), "loop.compile=true")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile on a CPU needs g++")
def test_a_compiled_model_learns_the_same(make):
    losses = []
    for compiled in ("false", "true"):
        trainer = make(tiny_runs.DIGITS, f"loop.compile={compiled}", "model.dropout=0.0")
        torch.nn.init.normal_(trainer.result.head.weight, std=0.3)
        torch.manual_seed(0)
        trainer.result.train()
        trainer.result.condition.drop = 0.0
        loss, _ = trainer.objective.loss("model", torch.arange(4), 0)
        loss.backward()
        losses.append((loss.detach(), trainer.result.tokens.weight.grad))
    assert losses[0][1].abs().sum() > 0
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
