import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from random_weights import randomise
from setar.models.fmt import FMTConfig, FullyMaskedTransformer
from setar.models.next_scale import VARGenerator
from setar.models.var import PRESETS as VAR
from setar.models.var import VARTransformer, scale_recipe
from setar.recipes.recipe import Recipe
from setar.tokenizers.multiscale import PRESETS as MULTISCALE
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.vqgan import VQGAN, VQGANConfig
from setar.training.objectives import (
    GeneratorObjective,
    SelfCorrectionObjective,
    TokenizerLossConfig,
    TokenizerObjective,
    token_loss,
)

GRID, VOCABULARY = (4, 4), 16


# Generators


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


class TableModel(nn.Module):
    """Logits by output position, whatever the input; remembers the plan."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(16, VOCABULARY))

    def forward(self, codes, labels, plan):
        self.plan = plan
        return self.table.expand(len(codes), -1, -1)


class OracleModel(TableModel):
    """Knows the answer, in output order."""

    def forward(self, codes, labels, plan):
        logits = 50.0 * F.one_hot(codes.gather(1, plan.order), VOCABULARY)
        return logits + super().forward(codes, labels, plan)


def generator_objective(model, recipe="random-4-random", images=8):
    codes = torch.randint(VOCABULARY, (images, 16), generator=torch.Generator().manual_seed(0))
    return GeneratorObjective(model, codes, torch.arange(images), Recipe.parse(recipe), GRID)


def tiny_fmt(**changes):
    shape = {"width": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, **changes}
    return FullyMaskedTransformer(
        FMTConfig(vocabulary=VOCABULARY, classes=8, grid=GRID, dropout=0.0, **shape)
    )


def test_mar_is_supervised_on_its_second_set_only():
    torch.manual_seed(4)
    model = TableModel()
    objective = generator_objective(model, "mar")
    loss, _ = objective.loss("model", torch.tensor([3]), step=0)
    loss.backward()
    second = model.plan.known[0] == 2
    assert 0 < second.sum() < 16
    assert torch.equal(model.table.grad.abs().sum(-1) > 0, second)


@pytest.mark.parametrize("recipe", ["random-4-random", "roll-8-cosine", "next-scale", "ar"])
def test_targets_are_the_codes_in_output_order(recipe):
    torch.manual_seed(0)
    loss, metrics = generator_objective(OracleModel(), recipe).loss("model", torch.arange(8), 0)
    assert loss.item() < 1e-6
    assert metrics["loss"].item() == loss.item()


@pytest.mark.parametrize("recipe", ["random-4-random", "mar", "next-scale"])
def test_a_new_model_knows_nothing(recipe):
    torch.manual_seed(0)
    loss, _ = generator_objective(tiny_fmt().train(), recipe).loss("model", torch.arange(8), 0)
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
            loss, _ = objective.loss("model", torch.arange(8), step)
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
        def forward(self, codes, labels, plan):
            seen.append((codes, labels))
            return super().forward(codes, labels, plan)

    objective = GeneratorObjective(Watched(), codes, labels, recipe, GRID, epoch=epoch)
    assert objective.samples == 3
    objective.loss("model", torch.arange(3), step=0)
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
        generator = VARGenerator(randomise(VARTransformer(shape)), tokenizer)
        return SelfCorrectionObjective(generator, features, torch.arange(6) % 5, share)

    return objective


def test_without_mistakes_it_is_the_usual_loss(correcting):
    objective, items = correcting(0.0), torch.tensor([4, 1])
    var, config = objective.forward, objective.config
    steps = var.pyramid.codebook.steps(objective.features)
    codes = torch.cat([part for _, part, _ in steps], 1)
    recipe = scale_recipe(config.scales)
    plain = GeneratorObjective(var, codes, objective.labels, recipe, config.grid)
    usual, _ = plain.loss("model", items, 0)
    torch.testing.assert_close(objective.loss("model", items, 0)[0], usual)


def test_mistakes_are_other_ones_each_time_but_follow_from_the_seed(correcting):
    objective, items = correcting(1.0), torch.tensor([4, 1])
    losses = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        losses.append(objective.loss("model", items, 0)[0].item())
    assert losses[0] == losses[2] != losses[1]


def test_up_to_the_share_of_the_codes_is_wrong(correcting):
    objective, shares = correcting(0.5), []
    objective.forward.after_mistakes = lambda features, labels, wrong, where: (
        shares.append(where.float().mean(1))
        or (torch.zeros(*wrong.shape, 32, requires_grad=True), wrong)
    )
    for step in range(100):
        torch.manual_seed(step)
        objective.loss("model", torch.arange(6), step)
    found = torch.cat(shares)
    assert found.max() < 0.75
    assert found.mean() == pytest.approx(0.25, abs=0.02)
    assert found.std() > 0.1


def test_a_var_learns_what_makes_up_for_mistakes(correcting):
    """Trained with mistakes it is surer of the corrections than trained without them."""
    after = {}
    for share in (0.0, 0.6):
        objective = correcting(share)
        model = objective.players["model"]
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for step in range(60):
            torch.manual_seed(step)
            loss, _ = objective.loss("model", torch.arange(6), step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        objective.share = 0.6
        torch.manual_seed(1000)
        with torch.no_grad():
            after[share] = objective.loss("model", torch.arange(6), 0)[0].item()
    assert after[0.6] < 0.9 * after[0.0]


def test_a_generator_has_nothing_to_remember():
    objective = generator_objective(TableModel())
    assert objective.samples == 8
    assert objective.state() == {}


# Tokenizers

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
    loss, metrics = objective.loss("model", torch.arange(6), step=0)
    images = objective.images.float() / 127.5 - 1
    decoded, quantized = objective.model(images)
    pixels = (decoded - images).abs().mean() + (decoded - images).square().mean()
    expected = pixels + quantized.codebook_loss + 0.7 * quantized.commitment_loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["loss"].item() == loss.item()


def test_dead_codes_come_back_and_used_ones_stay():
    objective = tokenizer_objective(revive_every=4)
    table = objective.model.codebook.weight
    before = table.detach().clone()
    assert objective.usage(0) == 0, "nothing is in use before the first image"
    for step in range(3):
        objective.loss("model", torch.arange(6), step)
        objective.after_step(step)
    assert torch.equal(table, before), "a code gets a full window before it is called dead"
    objective.last_used.zero_()
    objective.loss("model", torch.arange(6), step=7)
    used = objective.last_used[0] == 7
    objective.after_step(step=7)
    assert 0 < used.sum() < 64
    assert torch.equal(table[used], before[used])
    assert (table[~used] != before[~used]).any(1).all()
    features = F.normalize(objective._features.permute(0, 2, 3, 1).flatten(0, 2), dim=-1)
    differences = table[~used].detach()[:, None] - features
    assert differences.abs().amax(2).amin(1).max() < 1e-6, "they restart at features of the batch"
    assert objective.usage(106) == used.float().mean(), "and count only once an image uses them"


def test_nothing_is_revived_between_times_or_when_it_is_off():
    for every, step in ((4, 6), (0, 7)):
        objective = tokenizer_objective(revive_every=every)
        before = objective.model.codebook.weight.detach().clone()
        objective.loss("model", torch.arange(6), step)
        objective.after_step(step)
        assert torch.equal(objective.model.codebook.weight, before)


def test_the_state_is_when_codes_were_used():
    objective, other = tokenizer_objective(), tokenizer_objective()
    objective.loss("model", torch.arange(6), step=150)
    other.load_state(objective.state())
    used = (objective.last_used == 150).sum().item()
    assert other.usage(150) == objective.usage(150) == used / 64
    assert 0 < used < 64


def test_no_critic_unless_wanted():
    assert list(tokenizer_objective().players) == ["model"]
    assert list(tokenizer_objective(adversarial=0.5).players) == ["model", "critic"]


def test_the_critic_rests_until_its_start():
    plain = tokenizer_objective()
    objective = tokenizer_objective(adversarial=0.5, critic_start=3)
    objective.model.load_state_dict(plain.model.state_dict())
    objective.images = plain.images
    items = torch.arange(6)
    for step, same in ((2, True), (3, False)):
        alone, _ = plain.loss("model", items, step)
        together, _ = objective.loss("model", items, step)
        assert (alone.item() == together.item()) == same
        loss, metrics = objective.loss("critic", items, step)
        assert (loss is None) == same
    assert loss is not None
    loss.backward()
    assert gradients(objective.players["critic"])
    assert metrics["critic_loss"].item() > 0


def test_the_critics_loss_leaves_the_tokenizer_alone():
    objective = tokenizer_objective(adversarial=0.5, critic_start=0)
    objective.loss("model", torch.arange(6), step=0)
    loss, _ = objective.loss("critic", torch.arange(6), step=0)
    loss.backward()
    assert gradients(objective.players["critic"])
    assert not gradients(objective.model)


def test_the_adversarial_loss_moves_the_decoder():
    plain = tokenizer_objective()
    objective = tokenizer_objective(adversarial=0.5, critic_start=0)
    objective.model.load_state_dict(plain.model.state_dict())
    objective.images = plain.images
    for one in (plain, objective):
        one.loss("model", torch.arange(6), step=0)[0].backward()
    ours, theirs = (o.model.decoder.output.weight.grad for o in (objective, plain))
    assert not torch.allclose(ours, theirs, rtol=1e-3)


def test_the_perceptual_loss_adds_its_weight():
    def maps(images):
        assert images.min() > -0.5, "feature maps read images in 0..1"
        return [images.mean((2, 3), keepdim=True)]

    alone, _ = tokenizer_objective().loss("model", torch.arange(6), 0)
    extra = [tokenizer_objective(maps, perceptual=w).loss("model", torch.arange(6), 0)[0] - alone
             for w in (1.0, 3.0)]  # fmt: skip
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
