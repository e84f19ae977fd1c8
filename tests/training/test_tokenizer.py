"""Training a tokenizer: its config, what is minimised, and runs from end to end."""

import itertools
import shutil

import pytest
import torch
from torch.nn import functional as F

import tiny_runs
from random_weights import randomise
from setar.config import build, table
from setar.features.efficientnet import EfficientNetLite0
from setar.pictures.reconstructions import reconstruction_rows, stages
from setar.pictures.sheets import tile
from setar.pretrained import load_tokenizer
from setar.tokenizers.base import Tokenizer, to_float
from setar.tokenizers.multiscale import PRESETS as MULTISCALE
from setar.tokenizers.multiscale import MultiScaleConfig, MultiScaleVQ
from setar.tokenizers.vqgan import VQGAN, VQGANConfig
from setar.training.tokenizer import TokenizerConfig, TokenizerLossConfig, TokenizerObjective

# The table `tokenizer`


def test_without_a_table_it_is_llamagens():
    made = TokenizerConfig.from_table({}, "tokenizer")
    assert made == TokenizerConfig("vqgan", VQGANConfig())
    assert made.shape.codebook_size == 16384


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ({"channels": 8, "multipliers": [1, 2]}, VQGANConfig(channels=8, multipliers=(1, 2))),
        (
            {"family": "multiscale", "scales": [1, [2, 3]], "phis": 1},
            MultiScaleConfig(scales=(1, (2, 3)), phis=1),
        ),
    ],
)
def test_a_family_has_its_own_keys(values, shape):
    made = TokenizerConfig.from_table(values, "tokenizer")
    assert made.shape == shape
    assert type(made.create().config) is type(shape)
    assert build(TokenizerConfig, table(made)) == made
    assert {"family": "vqgan", **values}.items() <= table(made).items()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, "tokenizer must be a table, not 3"),
        ({"family": "vqgam"}, "tokenizer: unknown tokenizer 'vqgam'; did you mean 'vqgan'?"),
        ({"scales": [1, 2]}, "tokenizer: unknown key `scales`"),
        ({"channels": 12}, "tokenizer: `channels` (=12) must be a multiple of 8"),
        ({"channels": "8"}, "tokenizer: channels: Input should be a valid integer"),
        ({"family": "multiscale", "scales": [2, 1]}, "tokenizer: every scale must be larger"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as error:
        TokenizerConfig.from_table(values, "tokenizer")
    assert str(error.value).startswith(message)


def test_without_a_quantizer_there_is_nothing_to_train():
    made = TokenizerConfig.from_table({"family": "pixels"}, "tokenizer")
    with pytest.raises(ValueError, match="the tokenizer 'pixels' has nothing to train"):
        made.create()


# What is minimised


SHAPE = VQGANConfig(
    channels=8, multipliers=(1, 2), blocks=1, latent_channels=8, codebook_size=64, codebook_dim=4
)


def tokenizer_objective(maps=None, **config):
    torch.manual_seed(0)
    images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8)
    settings = TokenizerLossConfig(**{"critic_channels": 8, "critic_layers": 1, **config})
    return TokenizerObjective(VQGAN(SHAPE), images, settings, maps)


def gradients(module):
    return [p.grad for p in module.parameters() if p.grad is not None and p.grad.any()]


def test_the_tokenizer_loss_by_hand():
    objective = tokenizer_objective(commitment=0.7)
    losses, metrics, _ = objective.losses(torch.arange(6), step=0)
    images = objective.images.float() / 127.5 - 1
    quantized = objective.quantizer(objective.model.features(images))
    decoded = objective.model.picture(quantized.vectors)
    pixels = (decoded - images).abs().mean() + (decoded - images).square().mean()
    expected = pixels + quantized.codebook_loss + 0.7 * quantized.commitment_loss
    assert losses["model"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["loss"].item() == losses["model"].item()


def test_dead_codes_come_back_and_used_ones_stay():
    objective = tokenizer_objective(revive_every=4)
    table = objective.model.codebook.weight
    before = table.detach().clone()
    assert objective.usage(0) == {"usage": 0}, "nothing is in use before the first image"
    for step in range(3):
        objective.losses(torch.arange(6), step).finish()
    assert torch.equal(table, before), "a code gets a full window before it is called dead"
    objective.last_used.zero_()
    step = objective.losses(torch.arange(6), step=7)
    used = objective.last_used[0] == 7
    features = objective.model.features(to_float(objective.images))
    assert torch.equal(table, before), "the optimiser comes first"
    step.finish()
    assert 0 < used.sum() < 64
    assert torch.equal(table[used], before[used])
    assert (table[~used] != before[~used]).any(1).all()
    features = F.normalize(features.permute(0, 2, 3, 1).flatten(0, 2), dim=-1)
    differences = table[~used].detach()[:, None] - features
    assert differences.abs().amax(2).amin(1).max() < 1e-6, "they restart at features of the batch"
    assert objective.usage(106) == {"usage": used.float().mean()}, (
        "and count only once an image uses them"
    )


def test_what_came_back_is_told_once():
    objective = tokenizer_objective(revive_every=4)
    objective.last_used.zero_()
    assert objective.replaced() == {}
    step = objective.losses(torch.arange(6), step=7)
    used = objective.last_used[0] == 7
    step.finish()
    told = objective.replaced()
    assert torch.equal(told.pop("codebook.weight").any(1), ~used)
    assert not any(mask.any() for mask in told.values())
    assert objective.replaced() == {}


@pytest.mark.parametrize("text", [tiny_runs.FOLDER_TOKENIZER, tiny_runs.FOLDER_MULTISCALE])
def test_codes_that_came_back_are_in_the_averaged_weights(make, tmp_path, text):
    """What is exported: late in a long run the average alone would take thousands of steps."""
    source = f"data.source='{tiny_runs.save_pictures(tmp_path / 'pictures')}'"
    trainer = make(text, source, "loop.steps=20", "loss.revive_every=5")
    trainer.ema.updates = 10**6
    objective, revived = trainer.objective, 0
    for step in range(20):
        dead = (objective.last_used.amax(0) <= step - 5).nonzero().flatten()
        before = {k: v.clone() for k, v in trainer.result.state_dict().items()}
        trainer._step(step)
        dead = dead[objective.last_used.amax(0)[dead] < step]
        if (step + 1) % 5 or not len(dead):
            continue
        name = next(
            k for k, v in before.items() if v.shape[0] == objective.quantizer.size and v.ndim == 2
        )
        live, averaged = trainer.result.state_dict()[name], trainer.ema.state[name]
        changed = (live != before[name]).any(1) & torch.isin(torch.arange(len(live)), dead)
        assert torch.equal(live[changed], averaged[changed])
        revived += int(changed.sum())
    assert revived > 0


def test_nothing_is_revived_between_times_or_when_it_is_off():
    for every, step in ((4, 6), (0, 7)):
        objective = tokenizer_objective(revive_every=every)
        before = objective.model.codebook.weight.detach().clone()
        objective.losses(torch.arange(6), step).finish()
        assert torch.equal(objective.model.codebook.weight, before)


def test_the_state_is_when_codes_were_used():
    objective, other = tokenizer_objective(), tokenizer_objective()
    objective.losses(torch.arange(6), step=150)
    other.load_state(objective.state())
    used = (objective.last_used == 150).sum().item()
    assert other.usage(150) == objective.usage(150) == {"usage": used / 64}
    assert 0 < used < 64


def test_no_critic_unless_wanted():
    assert list(tokenizer_objective().networks) == ["model"]
    assert list(tokenizer_objective(adversarial=0.5).networks) == ["model", "critic"]


def test_the_critic_rests_until_its_start():
    plain = tokenizer_objective()
    objective = tokenizer_objective(adversarial=0.5, critic_start=3)
    objective.model.load_state_dict(plain.model.state_dict())
    objective.images = plain.images
    items = torch.arange(6)
    for step, same in ((2, True), (3, False)):
        alone, _, _ = plain.losses(items, step)
        together, metrics, _ = objective.losses(items, step)
        assert (alone["model"].item() == together["model"].item()) == same
        assert ("critic" not in together) == ("critic_loss" not in metrics) == same
    together["critic"].backward()
    assert gradients(objective.networks["critic"])
    assert metrics["critic_loss"].item() > 0


def test_the_critics_loss_leaves_the_tokenizer_alone():
    objective = tokenizer_objective(adversarial=0.5, critic_start=0)
    objective.losses(torch.arange(6), step=0).losses["critic"].backward()
    assert gradients(objective.networks["critic"])
    assert not gradients(objective.model)


def test_the_adversarial_loss_moves_the_decoder():
    plain = tokenizer_objective()
    objective = tokenizer_objective(adversarial=0.5, critic_start=0)
    objective.model.load_state_dict(plain.model.state_dict())
    objective.images = plain.images
    for one in (plain, objective):
        one.losses(torch.arange(6), step=0).losses["model"].backward()
    ours, theirs = (o.model.decoder.output.weight.grad for o in (objective, plain))
    assert not torch.allclose(ours, theirs, rtol=1e-3)


def test_the_perceptual_loss_adds_its_weight():
    def maps(images):
        assert images.min() > -0.5, "feature maps read images in 0..1"
        return [images.mean((2, 3), keepdim=True)]

    def loss(*arguments, **config):
        objective = tokenizer_objective(*arguments, **config)
        return objective.losses(torch.arange(6), 0).losses["model"]

    alone = loss()
    extra = [loss(maps, perceptual=weight) - alone for weight in (1.0, 3.0)]
    assert extra[0].item() > 1e-4
    assert extra[1].item() == pytest.approx(3 * extra[0].item(), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("commitment", -1.0),
        ("perceptual", -1.0),
        ("adversarial", -0.5),
        ("critic_start", -1),
        ("critic_layers", 0),
        ("critic_channels", 6),
        ("critic_channels", 0),
        ("revive_every", -1),
    ],
)
def test_impossible_weights_are_refused(name, value):
    with pytest.raises(ValueError, match=r"must be|at least"):
        TokenizerLossConfig(**{name: value})


def test_usage_of_several_scales_is_told_for_each():
    torch.manual_seed(0)
    images = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8)
    model = randomise(MultiScaleVQ(MULTISCALE["tiny"]))
    objective = TokenizerObjective(model, images, TokenizerLossConfig())
    _, metrics, _ = objective.losses(torch.arange(6), step=3)
    codes = objective.quantizer.split(model.encode(to_float(images)))
    used = [len(part.unique()) / 32 for part in codes]
    assert [metrics[f"usage/scale_{scale}"] for scale in (1, 2, 3, 4)] == pytest.approx(used)
    assert metrics["usage"] == len(torch.cat(codes, 1).unique()) / 32


# Pictures on the way


class Negative(Tokenizer):
    """A tokenizer of one code per image that gives back the image in inverted colours."""

    Config, presets = VQGANConfig, {}
    vocabulary = 1000

    def __init__(self):
        super().__init__(VQGANConfig())

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
    picture = reconstruction_rows(Negative(), images, columns=4)
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
    above = 2 * 50 - 2 + 12  # a row of originals, one of reconstructions, and what lies between
    picture = reconstruction_rows(tokenizer, images)[:, above:]
    assert picture.shape[1] == 4 * 50 - 2, "four images"
    chosen = images[[0, 1, 3, 4]]
    expected = [*stages(tokenizer, chosen), chosen]  # four scales and the original
    for row, column in itertools.product(range(4), range(5)):
        cell = picture[:, row * 50 : row * 50 + 48, column * 50 : column * 50 + 48]
        assert torch.equal(cell, tile(expected[column][row : row + 1], 1, scale=3))
    assert (picture[:, :, 5 * 50 - 2 :] == 255).all()


# Runs


def source(folder):
    return f'data.source="{folder}"'


@pytest.mark.parametrize("text", [tiny_runs.FOLDER_TOKENIZER, tiny_runs.FOLDER_MULTISCALE])
def test_a_run_becomes_a_tokenizer(make, tmp_path, text):
    trainer = make(text, source(tiny_runs.save_pictures(tmp_path / "pictures")))
    trainer.run()
    tokenizer = load_tokenizer(tmp_path / "run")
    assert type(tokenizer) is type(trainer.result)
    assert tokenizer.config == trainer.result.config
    for name, weight in tokenizer.state_dict().items():
        assert torch.equal(weight, trainer.ema.state[name])
    assert (tmp_path / "run/samples/step-00000002.png").is_file()


def test_flips_double_the_images(make, tmp_path):
    folder = tiny_runs.save_pictures(tmp_path / "pictures")
    plain = make(tiny_runs.FOLDER_TOKENIZER, source(folder))
    flipped = make(tiny_runs.FOLDER_TOKENIZER, source(folder), "data.flips=true")
    assert (plain.objective.samples, flipped.objective.samples) == (12, 24)


def test_the_perceptual_loss_reads_three_stages_of_the_network(make, tmp_path, monkeypatch):
    monkeypatch.setattr(EfficientNetLite0, "pretrained", classmethod(lambda cls: cls()))
    folder = tiny_runs.save_pictures(tmp_path / "pictures")
    trainer = make(tiny_runs.FOLDER_TOKENIZER, source(folder), "loss.perceptual=1", "loop.steps=1")
    maps = trainer.objective.feature_maps(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 16, 16), (24, 8, 8), (40, 4, 4)]
    trainer.run()
    assert trainer.step == 1


def test_a_vqgan_run_can_train_a_critic_on_pictures_just_large_enough(make, tmp_path):
    folder = tiny_runs.save_pictures(tmp_path / "pictures", 4)
    overrides = [
        "loss={adversarial = 0.5, critic_layers = 2, critic_start = 0}",
        "data.image_size=12",
    ]
    trainer = make(tiny_runs.FOLDER_TOKENIZER, source(folder), *overrides, "loop.steps=1")
    trainer.run()
    assert list(trainer.optimizers) == ["model", "critic"]


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


def test_scales_of_another_shape_than_the_pictures_are_refused(make, tmp_path):
    folder = tiny_runs.save_pictures(tmp_path / "pictures", 2)
    message = "16x32 pixels has 4x8 tokens at its last scale, but that of this tokenizer is 4x4"
    with pytest.raises(ValueError, match=message):
        make(tiny_runs.FOLDER_MULTISCALE, source(folder), "data.image_size=[16, 32]")


def test_compiling_needs_a_compiler(make, tmp_path, monkeypatch):
    folder = tiny_runs.save_pictures(tmp_path / "pictures")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=r"needs a C.. compiler"):
        make(tiny_runs.FOLDER_TOKENIZER, source(folder), "loop.compile=true")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile on a CPU needs g++")
def test_a_compiled_tokenizer_and_its_critic_learn_the_same(make, tmp_path):
    folder = tiny_runs.save_pictures(tmp_path / "pictures")
    critic = "loss={adversarial = 0.5, critic_layers = 2, critic_start = 0}"
    found = []
    for compiled in ("false", "true"):
        trainer = make(
            tiny_runs.FOLDER_TOKENIZER, source(folder), critic, f"loop.compile={compiled}"
        )
        networks = trainer.objective.networks
        for seed, network in enumerate(networks.values()):
            randomise(network, seed)
        losses = trainer.objective.losses(torch.arange(4), 0).losses
        for loss in losses.values():
            loss.backward(retain_graph=True)
        gradients = [p.grad for module in networks.values() for p in module.parameters()]
        found.append([*losses.values(), *(g for g in gradients if g is not None)])
        fused = networks["model"].encoder._compiled_call_impl is not None
        assert fused == (compiled == "true")
    assert len(found[0]) > 20
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
