"""Training a generator: its config, what is minimised, and runs from end to end."""

import dataclasses
import math
import re
import shutil

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import tiny_runs
from random_weights import randomise
from setar import checkpoint
from setar.config import build, table
from setar.data.base import Dataset, open_data
from setar.models.base import Generator, GeneratorConfig
from setar.models.decoder_only import PRESETS as DECODER_ONLY_PRESETS
from setar.models.fmt import PRESETS, FMTConfig, FullyMaskedTransformer
from setar.models.var import PRESETS as VAR
from setar.models.var import VARTransformer, scale_recipe
from setar.pictures.sheets import sheet_size
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.tokenizers.base import encode_images
from setar.tokenizers.multiscale import PRESETS as MULTISCALE
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig
from setar.training.generator import (
    GeneratorObjective,
    ModelConfig,
    SelfCorrectionObjective,
    named_rows,
    shown_classes,
    token_loss,
)
from setar.training.stored import kept

GRID, VOCABULARY = (4, 4), 16


# What is minimised


def test_token_loss_by_hand():
    logits = torch.tensor([[[0.0, math.log(3)], [9.0, -9.0], [0.0, 0.0]]])
    targets = torch.tensor([[1, 1, 0]])
    supervised = torch.tensor([[True, False, True]])
    expected = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    assert token_loss(logits, targets, supervised).item() == pytest.approx(expected)


def test_unsupervised_tokens_get_no_gradient():
    logits = torch.randn(2, 5, 7, requires_grad=True)
    supervised = torch.rand(2, 5) < 0.5
    token_loss(logits, torch.randint(7, (2, 5)), supervised).backward()
    touched = logits.grad.abs().sum(-1) > 0
    assert torch.equal(touched, supervised)
    assert supervised.any()
    assert not supervised.all()


def test_nothing_supervised_is_no_loss():
    logits = torch.randn(1, 2, 3, dtype=torch.bfloat16)
    loss = token_loss(logits, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2).bool())
    assert loss.item() == 0
    assert loss.dtype == torch.float32


class TableModel(Generator):
    """Logits by output position, whatever the input; remembers the plan."""

    Config, presets, editing = GeneratorConfig, {}, "kept-first"

    def __init__(self):
        super().__init__(GeneratorConfig(VOCABULARY, classes=8, grid=GRID, width=4))
        self.table = nn.Parameter(torch.zeros(16, VOCABULARY))

    def forward(self, codes, condition, plan):
        self.plan = plan
        return self.table.expand(len(codes), -1, -1)


class OracleModel(TableModel):
    """Knows the answer, in output order."""

    def forward(self, codes, condition, plan):
        logits = 50.0 * F.one_hot(codes.gather(1, plan.order), VOCABULARY)
        return logits + super().forward(codes, condition, plan)


def generator_objective(model, recipe="random-4-random", images=8):
    codes = torch.randint(VOCABULARY, (images, 16), generator=torch.Generator().manual_seed(0))
    return GeneratorObjective(model, kept(codes), torch.arange(images), Recipe.parse(recipe))


def loss_of(objective, items, step=0):
    """The loss of the generator; nothing else is to be minimised."""
    losses, _, _ = objective.losses(items, step)
    assert list(losses) == ["model"]
    return losses["model"]


def tiny_fmt(**changes):
    shape = {"width": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, **changes}
    return FullyMaskedTransformer(
        FMTConfig(vocabulary=VOCABULARY, classes=8, grid=GRID, dropout=0.0, **shape)
    )


def test_mar_is_supervised_on_its_second_set_only():
    torch.manual_seed(4)
    model = TableModel()
    objective = generator_objective(model, "mar")
    loss_of(objective, torch.tensor([3])).backward()
    second = model.plan.known[0] == 2
    assert 0 < second.sum() < 16
    assert torch.equal(model.table.grad.abs().sum(-1) > 0, second)


@pytest.mark.parametrize("recipe", ["random-4-random", "roll-8-cosine", "next-scale", "ar"])
def test_targets_are_the_codes_in_output_order(recipe):
    torch.manual_seed(0)
    losses, metrics, _ = generator_objective(OracleModel(), recipe).losses(torch.arange(8), 0)
    assert losses["model"].item() < 1e-6
    assert metrics["loss"].item() == losses["model"].item()
    assert not metrics["loss"].requires_grad


@pytest.mark.parametrize("recipe", ["random-4-random", "mar", "next-scale"])
def test_a_new_model_knows_nothing(recipe):
    torch.manual_seed(0)
    loss = loss_of(generator_objective(tiny_fmt().train(), recipe), torch.arange(8))
    assert loss.item() == pytest.approx(math.log(VOCABULARY), abs=1e-5)


def test_an_fmt_learns_eight_images_by_heart():
    torch.manual_seed(0)
    model = tiny_fmt(class_dropout=0.0)
    objective = generator_objective(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        with sdpa_kernel(SDPBackend.MATH):  # the fused backward is slow on a CPU
            loss = loss_of(objective, torch.arange(8), step)
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=1e-5)
    assert losses[-1] < 0.3


def test_an_epoch_may_repeat_images():
    codes, labels = torch.arange(48).view(3, 16) % VOCABULARY, torch.arange(3)
    recipe, epoch = Recipe.parse("raster-4-uniform"), torch.tensor([2, 2, 0])
    seen = []

    class Watched(OracleModel):
        def forward(self, codes, condition, plan):
            seen.append((codes, condition))
            return super().forward(codes, condition, plan)

    objective = GeneratorObjective(Watched(), kept(codes), labels, recipe, epoch=epoch)
    assert objective.samples == 3
    objective.losses(torch.arange(3), step=0)
    assert torch.equal(seen[0][0], codes[epoch])
    assert torch.equal(seen[0][1], labels[epoch])


# Self-correction


@pytest.fixture
def correcting():
    """The objective of a random VAR with random features, for a share of mistakes."""
    tokenizer = randomise(MultiScaleVQ(MULTISCALE["tiny"])).eval()
    shape = dataclasses.replace(
        VAR["tiny"], scales=tokenizer.scales, code_dim=8, vocabulary=32, class_dropout=0.0
    )
    features = torch.randn(6, 8, 4, 4, generator=torch.Generator().manual_seed(1))

    def objective(share):
        model = randomise(VARTransformer(shape))
        model.attach(tokenizer)
        return SelfCorrectionObjective(model, kept(features), torch.arange(6) % 5, share)

    return objective


def test_without_mistakes_it_is_the_usual_loss(correcting):
    objective, items = correcting(0.0), torch.tensor([4, 1])
    var = objective.model
    steps = var.pyramid.codebook.steps(objective.features(torch.arange(6), 0))
    codes = torch.cat([part for _, part, _ in steps], 1)
    plain = GeneratorObjective(var, kept(codes), objective.labels, scale_recipe(var.config.scales))
    torch.testing.assert_close(loss_of(objective, items), loss_of(plain, items))


def test_mistakes_are_other_ones_each_time_but_follow_from_the_seed(correcting):
    objective, items = correcting(1.0), torch.tensor([4, 1])
    losses = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        losses.append(loss_of(objective, items).item())
    assert losses[0] == losses[2] != losses[1]


def test_up_to_the_share_of_the_codes_is_wrong(correcting):
    objective, shares = correcting(0.5), []
    objective.model.after_mistakes = lambda features, condition, wrong, where: (
        shares.append(where.float().mean(1))
        or (torch.zeros(*wrong.shape, 32, requires_grad=True), wrong)
    )
    for step in range(100):
        torch.manual_seed(step)
        objective.losses(torch.arange(6), step)
    found = torch.cat(shares)
    assert found.max() < 0.75
    assert found.mean() == pytest.approx(0.25, abs=0.02)
    assert found.std() > 0.1


def test_a_var_learns_what_makes_up_for_mistakes(correcting):
    """Trained with mistakes it is surer of the corrections than trained without them."""
    after = {}
    for share in (0.0, 0.6):
        objective = correcting(share)
        optimizer = torch.optim.Adam(objective.model.parameters(), 3e-3)
        for step in range(60):
            torch.manual_seed(step)
            optimizer.zero_grad()
            loss_of(objective, torch.arange(6), step).backward()
            optimizer.step()
        objective.share = 0.6
        torch.manual_seed(1000)
        with torch.no_grad():
            after[share] = loss_of(objective, torch.arange(6)).item()
    assert after[0.6] < 0.9 * after[0.0]


def test_a_generator_has_nothing_to_remember():
    objective = generator_objective(TableModel())
    assert objective.samples == 8
    assert objective.state() == {}


# The table `model`


def shape_of(values, tokenizer, classes, grid):
    """What a table makes of these facts: the shape of the model that it creates."""
    data = Dataset(torch.zeros(1, 3, 8, 8).byte(), torch.zeros(1).long(), ("a",) * classes)
    return ModelConfig.from_table(values, "model").create(tokenizer, data, grid).config


def levels(vocabulary):
    return PixelLevels(PixelLevelsConfig(vocabulary))


def test_a_preset_with_changes():
    values = {"preset": "XL", "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0}
    shape = shape_of({**values, "width": 80}, levels(512), 7, (8, 8))
    assert (shape.vocabulary, shape.classes, shape.grid) == (512, 7, (8, 8))
    assert (shape.encoder_layers, shape.decoder_layers, shape.dropout) == (1, 2, 0.0)
    assert (shape.width, shape.heads) == (80, PRESETS["XL"].heads)
    large = ModelConfig.from_table({"preset": "L", "encoder_layers": 3}, "model").shape
    assert large == dataclasses.replace(PRESETS["L"], encoder_layers=3)
    with pytest.raises(ValueError, match=r"\Amodel: `width` \(=30\) must be"):
        ModelConfig.from_table({"preset": "tiny", "width": 30}, "model")


def test_without_a_table_it_is_the_papers_model():
    made = ModelConfig.from_table({}, "model")
    assert (made.family, made.preset, made.shape) == ("fmt", "B", PRESETS["B"])


def test_a_var_takes_its_scales_from_the_tokenizer():
    multiscale = MultiScaleVQ(MULTISCALE["tiny"])
    values = {"family": "var", "preset": "tiny", "width": 64}
    shape = shape_of(values, multiscale, 7, (1, 30))
    assert (shape.scales, shape.code_dim) == (multiscale.scales, 8)
    assert (shape.vocabulary, shape.classes, shape.width) == (32, 7, 64)
    with pytest.raises(ValueError, match="needs a tokenizer of several scales"):
        shape_of(values, levels(9), 7, (4, 4))
    with pytest.raises(ValueError, match="needs a generator of the family 'var'"):
        shape_of({"preset": "tiny"}, multiscale, 7, (1, 30))


def test_a_family_has_its_own_layers():
    values = {"family": "decoder-only", "preset": "tiny"}
    assert shape_of({**values, "layers": 3}, levels(9), 2, (2, 2)).layers == 3
    for wrong in ({"layers": 3}, {**values, "encoder_layers": 3}):
        with pytest.raises(ValueError, match=r"\Amodel: unknown key `(encoder_)?layers`; did you"):
            ModelConfig.from_table(wrong, "model")
    known = ", ".join(DECODER_ONLY_PRESETS)
    with pytest.raises(ValueError, match=f"'decoder-only' has no preset 'emoji'; known: {known}"):
        ModelConfig.from_table({**values, "preset": "emoji"}, "model")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"preset": "tiny", "width": 16, "dropout": 0.0},
        {"family": "decoder-only", "preset": "tiny", "layers": 3},
        {"family": "var", "preset": "emoji", "shared_adaln": False},
    ],
)
def test_a_table_says_what_is_changed(values):
    made = ModelConfig.from_table(values, "model")
    assert table(made) == {"family": "fmt", "preset": "B", **values}
    assert build(ModelConfig, table(made)) == made


def test_nulls_are_no_changes():
    """Version 0.1 wrote every key that any family knows."""
    values = {
        "family": "fmt", "preset": "tiny", "width": 16, "heads": None, "encoder_layers": 1,
        "decoder_layers": 1, "layers": None, "dropout": None, "class_dropout": None,
    }  # fmt: skip
    given = {name: value for name, value in values.items() if value is not None}
    assert ModelConfig.from_table(values, "m") == ModelConfig.from_table(given, "m")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (7, "model must be a table, not 7"),
        ({"family": "fnt"}, "model: unknown family 'fnt'; did you mean 'fmt'?"),
        ({"family": 3}, "model: unknown family 3"),
        ({"preset": ["B"]}, "model: 'fmt' has no preset ['B']; known: B, L"),
        ({"withd": 16}, "model: unknown key `withd`; did you mean 'width'?"),
        ({"width": 16.0}, "model: width: Input should be a valid integer"),
        ({"heads": 0}, "model: `heads` (=0) must be at least 1"),
        ({"vocabulary": 7}, "model: `vocabulary` follows from tokenizer and data"),
        ({"grid": [4, 4]}, "model: `grid` follows from tokenizer and data"),
        (
            {"family": "var", "preset": "tiny", "code_dim": 8},
            "model: `code_dim` follows from tokenizer and data",
        ),
    ],
)
def test_wrong_tables_are_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as error:
        ModelConfig.from_table(values, "model")
    assert str(error.value).startswith(message)


# Pictures on the way


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


def test_rows_of_classes_have_their_names():
    pictures = torch.randint(256, (6, 3, 8, 16), dtype=torch.uint8)
    names = ["cats", "cats", "dogs", "dogs", "猫", "猫"]
    drawn = named_rows(pictures, names)
    assert drawn.dtype == torch.uint8
    rows = [("cats", "", 2), ("dogs", "", 2), ("猫", "", 2)]
    assert drawn.shape == (3, *sheet_size(rows, (16, 8), side=48)[::-1])
    other = named_rows(pictures, ["cats"] * 2 + ["cows"] * 2 + ["猫"] * 2)
    assert drawn.shape == other.shape
    assert not torch.equal(drawn, other)


# Runs


def source(folder):
    return f'data.source="{folder}"'


def trained(tokenizer):
    return f'tokenizer="{tokenizer}"'


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
    assert pipe.defaults.recipe == Recipe.parse("random-4-cosine")
    assert pipe.data == "digits"
    for name, weight in pipe.model.state_dict().items():
        assert torch.equal(weight, trainer.ema.state[name])
    assert (tmp_path / "run/samples/step-00000004.png").is_file()


def test_flips_double_a_generators_data(make, tmp_path):
    folder = tiny_runs.save_pictures(tmp_path / "pictures")
    make(tiny_runs.FOLDER_TOKENIZER, source(folder), out="tokenizer").run()
    trainer = make(tiny_runs.FOLDER_GENERATOR, source(folder), trained(tmp_path / "tokenizer"))
    assert trainer.objective.samples == 24
    assert trainer.objective.labels.tolist() == ([0] * 6 + [1] * 6) * 2
    codes = trainer.objective.codes(torch.arange(24), 0).view(2, 12, 8, 8)
    assert not torch.equal(codes[0], codes[1])


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
    make(tiny_runs.FOLDER_MULTISCALE, source(folder), out="tokenizer").run()
    make(tiny_runs.FOLDER_VAR, source(folder), trained(tmp_path / "tokenizer")).run()
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
    overrides = [source(tmp_path / "pictures"), trained(tmp_path / "tokenizer")]
    trainer = make(tiny_runs.FOLDER_VAR, *overrides, "self_correction=0.5", out="corrected")
    objective = trainer.objective
    assert isinstance(objective, SelfCorrectionObjective)
    features = objective.features(torch.arange(8), 0)
    tokenizer = objective.model.pyramid
    right = torch.cat([codes for _, codes, _ in tokenizer.codebook.steps(features)], 1)
    images = open_data(str(tmp_path / "pictures"), 16).images
    assert torch.equal(right[:4], encode_images(tokenizer, images[torch.arange(4)]))
    trainer.run()
    pipe = Pipeline.from_pretrained(tmp_path / "corrected")
    assert pipe.sample_codes([0], seed=0).shape == (1, 21)


def test_a_var_refuses_other_recipes_and_tokenizers(trained_var, make):
    with pytest.raises(ValueError, match=r"here the recipe raster-1,4,16"):
        trained_var(0, recipe="random-3-cosine")
    with pytest.raises(ValueError, match="needs a tokenizer of several scales"):
        make(tiny_runs.DIGITS, 'model={family="var", preset="tiny"}', out="digits")


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
    make(tokenizer, *sized, *own, out="tokenizer").run()
    others = [text for text in overrides if text not in own]
    make(generator, *sized, trained(tmp_path / "tokenizer"), *others).run()
    return Pipeline.from_pretrained(tmp_path / "run")


def check_pictures(pipe, size, tmp_path, steps):
    """Samples, partial samples and the pictures on the way have the trained shape."""
    height, width = size
    seen = []
    images = pipe([0, 1], on_set=lambda part: seen.append(part.images()))
    assert [image.size for image in images] == [(width, height)] * 2
    assert [part[0].size for part in seen] == [(width, height)] * steps
    assert seen[-1][1].tobytes() == images[1].tobytes()
    side = width * -(-48 // width)
    rows = [(name, "", 32) for name in pipe.classes]
    with Image.open(tmp_path / "run/samples/step-00000002.png") as drawn:
        assert drawn.size == sheet_size(rows, (width, height), side=side)


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


# Mistakes


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe=random-65-random"], "65"),
        (["sampling.recipe=random-100-cosine"], "100"),
        (["model.heads=3"], "heads"),
        (["tokenizer=nowhere"], "nowhere"),
        (["data.source=emoji"], "'pixels' does not suit the data 'emoji' untrained"),
        (['data.source="no such folder"'], "no such folder does not exist"),
        (["loop.device=cuda:99"], "no device"),
    ],
)
def test_mistakes_that_only_data_or_model_show(make, overrides, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_runs.DIGITS, *overrides)


@pytest.mark.parametrize(
    ("family", "value", "message"),
    [
        ("var", -0.1, "`self_correction` (=-0.1) must be from 0 to 1"),
        ("var", 1.5, "`self_correction` (=1.5) must be from 0 to 1"),
        ("fmt", 0.3, "such as 'var'; those of 'fmt' stay"),
        ("decoder-only", 0.3, "such as 'var'; those of 'decoder-only' stay"),
    ],
)
def test_who_can_correct_itself(read, family, value, message):
    model = f'model={{family="{family}", preset="tiny"}}'
    assert read(tiny_runs.DIGITS, model).self_correction == 0
    with pytest.raises(ValueError, match=re.escape(message)):
        read(tiny_runs.DIGITS, model, f"self_correction={value}")


def test_a_trained_tokenizer_may_be_called_like_a_family(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tiny_runs.save_pictures(tmp_path / "pictures", 4)
    make(tiny_runs.FOLDER_TOKENIZER, source(folder), out="vqgan").run()
    trainer = make(tiny_runs.FOLDER_GENERATOR, source(folder), "tokenizer=vqgan")
    assert trainer.result.config.vocabulary == 16


def test_a_model_folder_without_tokenizer_is_refused(make, tmp_path):
    checkpoint.save(tmp_path / "other", {}, {"model": {}})
    with pytest.raises(ValueError, match="has no tokenizer"):
        make(tiny_runs.DIGITS, trained(tmp_path / "other"))


# Balance and compilation


def test_a_balanced_run_trains_on_the_repeated_codes(make):
    plain, fair = make(tiny_runs.DIGITS), make(tiny_runs.DIGITS, "data.balance=1.0")
    assert fair.objective.samples >= plain.objective.samples
    shares = torch.bincount(fair.objective.labels[fair.objective.epoch]) / fair.objective.samples
    assert (shares - 0.1).abs().max() < 0.01


def test_compiling_needs_a_compiler(make, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=r"needs a C.. compiler"):
        make(tiny_runs.DIGITS, "loop.compile=true")


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
        loss = loss_of(trainer.objective, torch.arange(4))
        loss.backward()
        losses.append((loss.detach(), trainer.result.tokens.weight.grad))
    assert losses[0][1].abs().sum() > 0
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
