import math

import pytest
import torch
from torch import nn

from setar.models.fmt import PRESETS, FullyMaskedTransformer
from setar.tokenizers.losses import PatchDiscriminator
from setar.tokenizers.vqgan import PRESETS as VQGANS
from setar.tokenizers.vqgan import VQGAN
from setar.training.optim import (
    AveragedWeights,
    OptimizerConfig,
    check_optimizer_state,
    load_optimizer_state,
    lr_factor,
    make_optimizers,
    optimizer_state,
    set_learning_rate,
)


def adamw(module, config):
    """The only optimiser of the default settings."""
    (optimizer,) = make_optimizers(module, config).values()
    return optimizer


def decayed_names(module):
    """Names of the parameters in the group with weight decay, after checking the groups."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    decayed, plain = adamw(module, OptimizerConfig(weight_decay=0.05)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    grouped = [id(p) for group in (decayed, plain) for p in group["params"]]
    assert sorted(grouped) == sorted(names), "every parameter is in exactly one group"
    return {names[id(parameter)] for parameter in decayed["params"]}


def test_embeddings_decay_where_it_is_asked_for_as_in_llamagen():
    model = FullyMaskedTransformer(PRESETS["tiny"])
    config = OptimizerConfig(weight_decay=0.05, decay_embeddings=True)
    decayed, plain = adamw(model, config).param_groups
    assert {id(p) for p in decayed["params"]} == {id(p) for p in model.parameters() if p.ndim == 2}
    assert {p.ndim for p in plain["params"]} == {1}


def test_only_the_matrices_of_an_fmt_decay():
    model = FullyMaskedTransformer(PRESETS["tiny"])
    linear = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert decayed_names(model) == linear
    assert "head.weight" in linear


@pytest.mark.parametrize("module", [VQGAN(VQGANS["tiny"]), PatchDiscriminator(8, 1)])
def test_only_the_kernels_of_a_tokenizer_and_a_critic_decay(module):
    kernels = {f"{n}.weight" for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    assert decayed_names(module) == kernels


def test_frozen_parameters_are_left_out():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    groups = adamw(module, OptimizerConfig()).param_groups
    assert [len(group["params"]) for group in groups] == [1, 1]


def test_the_optimiser_takes_the_settings():
    config = OptimizerConfig(learning_rate=3e-3, betas=(0.8, 0.9))
    for group in adamw(nn.Linear(2, 2), config).param_groups:
        assert group["lr"] == 3e-3
        assert group["betas"] == (0.8, 0.9)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0), (6, 0.55), (8, 0.1)],
)
def test_warmup_then_cosine(step, rate):
    config = OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_steps=4, final_rate=0.1)
    assert lr_factor(config, step, steps=8) == pytest.approx(rate)


def test_a_constant_rate_after_warmup():
    config = OptimizerConfig(warmup_steps=2)
    assert [lr_factor(config, step, 5) for step in range(5)] == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_a_warmup_longer_than_the_run_only_rises():
    config = OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_steps=10)
    assert [lr_factor(config, step, 3) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = FullyMaskedTransformer(PRESETS["tiny"])
    optimizers = make_optimizers(model, OptimizerConfig(name="muon"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    grouped = {
        kind: {names[id(p)] for group in optimizer.param_groups for p in group["params"]}
        for kind, optimizer in optimizers.items()
    }
    inner = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert grouped["muon"] == inner - {"head.weight"}
    assert grouped["adamw"] == set(names.values()) - grouped["muon"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_orthogonalises_the_update(dtype):
    module = nn.Sequential(nn.Linear(6, 4, bias=False))
    before = module[0].weight.detach().clone()
    config = OptimizerConfig(name="muon", learning_rate=0.1, muon_rate=2.0, weight_decay=0.0)
    module[0].weight.grad = torch.randn(4, 6)
    make_optimizers(module, config, dtype)["muon"].step()
    assert module[0].weight.dtype == torch.float32
    singular = torch.linalg.svdvals(before - module[0].weight.detach())
    size = 0.2 * 0.2 * math.sqrt(6)  # rate 0.1 x 2, and 0.2 sqrt(larger side)
    assert (singular / size > 0.5).all()
    assert (singular / size < 1.5).all()


def test_the_share_scales_every_optimiser():
    model = FullyMaskedTransformer(PRESETS["tiny"])
    config = OptimizerConfig(name="muon", learning_rate=1e-2, muon_rate=3.0)
    optimizers = make_optimizers(model, config)
    set_learning_rate(optimizers, 0.5)
    assert {g["lr"] for g in optimizers["adamw"].param_groups} == {5e-3}
    assert {g["lr"] for g in optimizers["muon"].param_groups} == {1.5e-2}


def test_the_average_by_hand():
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    average = AveragedWeights(module, decay=0.2)
    expected = 0.0
    for update, weight in enumerate([1.0, 5.0, -2.0], start=1):
        module.weight.data.fill_(weight)
        average.update(module)
        decay = min(0.2, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * weight
        assert average.state["weight"].item() == pytest.approx(expected)
    assert (1 + 1) / (10 + 1) < 0.2 < (1 + 3) / (10 + 3), "both halves of the minimum were met"


def test_the_average_copies_what_is_no_float_and_owns_its_tensors():
    module = nn.BatchNorm1d(2)
    average = AveragedWeights(module, decay=0.5)
    module(torch.randn(4, 2))
    average.update(module)
    assert average.state["num_batches_tracked"].item() == 1
    assert not math.isclose(average.state["running_mean"][0], module.running_mean[0])


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 0.0},
        {"muon_rate": 0.0},
        {"clip": 0.0},
        {"warmup_steps": -1},
        {"ema": 1.0},
        {"ema": -0.1},
        {"final_rate": 1.5},
    ],
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        OptimizerConfig(**values)


@pytest.mark.parametrize(
    "values", [{"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)}, {"weight_decay": -1.0}]
)
def test_impossible_betas_and_decays_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        OptimizerConfig(**values)


def test_what_is_replaced_is_taken_over_as_it_is():
    module = nn.Linear(2, 3)
    average = AveragedWeights(module, decay=0.9)
    before = average.state["weight"].clone()
    with torch.no_grad():
        module.weight.add_(1.0)
    average.replace(module, {"weight": torch.tensor([[True, True], [False, False], [False, True]])})
    expected = before + torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    assert torch.equal(average.state["weight"], expected)


@pytest.fixture
def moved():
    """The optimisers of a small network, after a step."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizers = make_optimizers(module, OptimizerConfig(name="muon"))
    module(torch.ones(1, 3)).sum().backward()
    for optimizer in optimizers.values():
        optimizer.step()
    return module, optimizers


def test_the_state_of_an_optimiser_there_and_back(moved):
    module, optimizers = moved
    for name, fresh in make_optimizers(module, OptimizerConfig(name="muon")).items():
        state = optimizer_state(optimizers[name])
        check_optimizer_state(fresh, state, "f")
        check_optimizer_state(fresh, {}, "f")  # of a network that has not moved yet
        load_optimizer_state(fresh, state)
        again = optimizer_state(fresh)
        assert again.keys() == state.keys()
        assert all(torch.equal(again[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.exp_avg": None}, "f lacks the tensor '0.exp_avg'"),
        (
            {"9.exp_avg": torch.ones(3)},
            "f has a tensor '9.exp_avg' that the optimiser does not know",
        ),
        ({"x.exp_avg": torch.ones(3)}, "f has a tensor 'x.exp_avg'"),
        ({"0.max": torch.ones(3)}, "f has a tensor '0.max'"),
        ({"0.exp_avg": torch.ones(9)}, r"f: '0.exp_avg' has the shape \(9,\) instead of \(4,\)"),
        ({"0.step": torch.ones(2)}, r"f: '0.step' has the shape \(2,\) instead of \(\)"),
    ],
)
def test_a_state_that_does_not_fit_is_named(moved, change, message):
    optimizer = moved[1]["adamw"]
    state = {k: v for k, v in (optimizer_state(optimizer) | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        check_optimizer_state(optimizer, state, "f")
