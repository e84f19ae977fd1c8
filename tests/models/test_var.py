"""The VAR transformer: sizes, masks, no leaks between scales."""

import math

import pytest
import torch
from torch import nn

from setar.models.var import (
    PRESETS,
    SCALES_256,
    SCALES_512,
    VARConfig,
    VARTransformer,
    scale_recipe,
    square,
)
from setar.recipes.clocks import visible
from setar.recipes.recipe import Recipe
from tiny_var import (
    CLASSES,
    DIM,
    SCALES,
    SQUARE,
    VOCABULARY,
    FakePyramid,
    random_codes,
    random_var,
    scale_plan,
)

# Sizes


@pytest.mark.parametrize(
    ("name", "millions", "tokens"),
    [
        ("d16", 310, 680),
        ("d20", 600, 680),
        ("d24", 1000, 680),
        ("d30", 2000, 680),
        ("d36", 2300, 2240),
        ("small", 7.7, 204),
        ("medium", 60.6, 1496),
        ("large", 261, 1496),
        ("tiny", 0.042, 21),
    ],
)
def test_presets_have_their_sizes(name, millions, tokens):
    with torch.device("meta"):
        model = VARTransformer(PRESETS[name])
    found = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert found == pytest.approx(millions, rel=0.035)
    assert PRESETS[name].tokens == tokens


def test_published_shapes():
    for depth in (16, 20, 24, 30, 36):
        config = PRESETS[f"d{depth}"]
        assert (config.width, config.heads, config.layers) == (64 * depth, depth, depth)
        assert config.shared_adaln == (depth == 36)
        assert config.scales == (SCALES_512 if depth == 36 else SCALES_256)
        assert config.drop_path == pytest.approx(0.1 * depth / 24)
    assert PRESETS["d16"] == VARConfig()


# Plans and masks


def test_the_plan_is_raster_in_sets_of_a_scale():
    plan = scale_plan(((1, 1), (1, 2), (2, 2)), batch=2)
    assert (plan.grid, plan.sizes) == ((1, 7), (1, 2, 4))
    assert plan.order.tolist() == [[0, 1, 2, 3, 4, 5, 6]] * 2
    assert plan.known.tolist() == [[1, 2, 2, 3, 3, 3, 3]] * 2
    assert plan.supervised.all()
    assert plan.decoder_causal
    assert str(scale_recipe(square(1, 2, 3))) == "raster-1,4,9"
    assert str(scale_recipe(square(2))) == "raster-4,"


def test_the_recipe_of_a_config_is_read_back():
    for scales in SCALES:
        config = VARConfig(scales=scales)
        plan = Recipe.parse(config.recipe).plan(config.grid)
        assert plan.known.equal(scale_plan(scales).known)
        random_var(scales).check(plan)


def test_the_mask_of_the_docstring():
    drawing = """
        1 . . . . . .
        1 1 1 . . . .
        1 1 1 . . . .
        1 1 1 1 1 1 1
        1 1 1 1 1 1 1
        1 1 1 1 1 1 1
        1 1 1 1 1 1 1
    """
    clock = random_var(((1, 1), (1, 2), (2, 2)))._clock()
    assert clock.equal(scale_plan(((1, 1), (1, 2), (2, 2))).asks[0])
    expected = [[mark == "1" for mark in row.split()] for row in drawing.split("\n") if row.strip()]
    assert visible(clock, clock).tolist() == expected


# The function


@pytest.mark.parametrize("shared", [False, True])
def test_one_layer_written_out(shared):
    """Section 3.3 and the appendix, in explicit steps for one image."""
    model = random_var(layers=1, heads=1, shared_adaln=shared)
    codes, pyramid = random_codes(1, SQUARE), FakePyramid(SQUARE)
    inputs = pyramid.next_inputs(codes)
    scale_of = torch.tensor([0] + [1] * 4 + [2] * 9)
    condition = model.condition.table.weight[3]
    x = torch.cat([(condition + model.start_positions.weight), model.words(inputs[0])])
    x = x + model.levels.weight[scale_of] + model.positions.weight

    def norm(x):
        return (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()

    active = condition * condition.sigmoid()
    block = model.blocks[0]
    if shared:
        modulation = model.shared_modulation(active) + block.modulation.offset
    else:
        modulation = block.modulation(active)
    gate1, gate2, scale1, scale2, shift1, shift2 = modulation.chunk(6)
    attention = block.attention
    h = norm(x) * (1 + scale1) + shift1
    q, k, v = (h @ part.T for part in attention.qkv.weight.chunk(3))
    q, v = q + attention.query_bias, v + attention.value_bias
    q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
    scores = attention.log_scale.exp() * (q @ k.T)
    scores = scores.masked_fill(scale_of[None, :] > scale_of[:, None], -math.inf)
    x = x + gate1 * attention.output(scores.softmax(-1) @ v)
    first, _, second = block.feed_forward
    h = first(norm(x) * (1 + scale2) + shift2)
    h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    x = x + gate2 * second(h)
    scale, shift = model.head_modulation(active).chunk(2)
    expected = model.head(norm(x) * (1 + scale) + shift)
    found = model.predict_maps(inputs, torch.tensor([3]))[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_every_token_sees_all_of_its_own_scale():
    """An input changes the logits of its scale from the first token to the last."""
    model, label = random_var(), torch.tensor([1])
    inputs = FakePyramid(SQUARE).next_inputs(random_codes(1, SQUARE))
    before = model.predict_maps(inputs, label)
    for place in (4, 12):  # the first and the last token of the 3x3 map
        changed = inputs.clone()
        changed[:, place] += 1
        moved = (model.predict_maps(changed, label) - before)[0].abs().amax(-1)
        assert (moved[5:] > 1e-4).all()
        assert (moved[:5] == 0).all()


def test_a_prefix_of_scales_gives_the_same_logits():
    model, labels = random_var(), torch.tensor([0, 3])
    inputs = FakePyramid(SQUARE).next_inputs(random_codes(2, SQUARE))
    whole = model.predict_maps(inputs, labels)
    assert whole.shape == (2, 14, VOCABULARY)
    for length in (0, 4):
        part = model.predict_maps(inputs[:, :length], labels)
        torch.testing.assert_close(part, whole[:, : 1 + length], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 5, 14])
def test_inputs_that_end_inside_a_scale_are_refused(length):
    with pytest.raises(ValueError, match=rf"`inputs` \(={length} tokens\) must be whole scales"):
        random_var().predict_maps(torch.zeros(1, length, DIM), torch.tensor([0]))


# Training


@pytest.mark.parametrize("shared", [False, True])
def test_a_new_model_begins_near_the_identity(shared):
    torch.manual_seed(0)
    config = VARConfig(
        vocabulary=VOCABULARY,
        code_dim=DIM,
        classes=CLASSES,
        scales=SQUARE,
        width=256,
        heads=4,
        layers=2,
        shared_adaln=shared,
    )
    model = VARTransformer(config).requires_grad_(False)
    modulation = model.blocks[1].modulation
    gates, rest = (modulation.offset if shared else modulation.weight).split([512, 1024])
    usual = (3 * 256) ** -0.5
    stds = [rest, gates, model.words.weight, model.head.weight]
    expected = [256**-0.5 / 2 if shared else usual / 2, None, usual, 0.02 * usual]
    expected[1] = expected[0] * 2 * config.gate_start
    assert [part.std().item() for part in stds] == pytest.approx(expected, rel=0.1)
    x = torch.randn(1, 14, 256)
    after = model.read(x, model.modulate(model.condition.embed(torch.tensor([1]))))
    assert (after - x).norm() < 0.02 * x.norm()


def test_drop_path_grows_with_depth():
    model = random_var(layers=3, drop_path=0.2)
    assert [block.drop_path.probability for block in model.blocks] == pytest.approx([0, 0.1, 0.2])


def test_only_matrices_have_more_than_one_axis():
    """Weight decay and Muon look at axes: embeddings, biases, scales and offsets must have one."""
    for shared in (False, True):
        for part in random_var(shared_adaln=shared).modules():
            if not isinstance(part, nn.Linear | nn.Embedding):
                assert all(p.ndim == 1 for p in part.parameters(recurse=False))


# Refusals


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"vocabulary": 0}, "at least 1"),
        ({"layers": 0}, "at least 1"),
        ({"scales": ()}, r"`scales` \(=\(\)\) must be"),
        ({"scales": ((1, 1), (2, 0))}, "of at least 1 each"),
        ({"scales": ((1, 1, 1),)}, r"must be \(rows, columns\)"),
        ({"width": 1000}, r"`width` \(=1000\) must be a multiple of `heads` \(=16\)"),
        ({"class_dropout": 1.5}, r"0 <= `class_dropout` \(=1\.5\) <= 1 must hold"),
        ({"drop_path": 1.0}, "`drop_path` < 1"),
        ({"gate_start": -1.0}, "`gate_start` >= 0"),
        ({"gate_start": math.nan}, "`gate_start` >= 0"),
    ],
)
def test_impossible_shapes_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        VARConfig(**changes)
    assert "\n" not in str(caught.value)
