"""The VAR transformer: shapes, sizes, no leaks between scales, cached against uncached."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from random_weights import differ, randomise
from setar.models.var import (
    PRESETS,
    SCALES_256,
    SCALES_512,
    CachedDecoding,
    VARConfig,
    VARGenerator,
    VARTransformer,
    scale_plan,
    scale_recipe,
    square,
)
from setar.recipes.clocks import visible
from setar.recipes.recipe import Recipe
from setar.sampling.generate import SamplingSettings, generate, noise_and_plan
from setar.sampling.guidance import Guidance

VOCABULARY, CLASSES, DIM = 24, 5, 6
SQUARE, WIDE = square(1, 2, 3), ((1, 2), (2, 4), (3, 5))
SCALES = [SQUARE, WIDE, square(2), ((2, 1), (2, 2), (4, 2))]


class FakePyramid:
    """Sums of code vectors, spread and shrunk by nearest neighbours and means."""

    def __init__(self, scales):
        self.scales = scales
        generator = torch.Generator().manual_seed(3)
        self.table = torch.randn(VOCABULARY, DIM, generator=generator)

    def accumulate(self, latents, codes, scale):
        maps = self.table[codes].mT.unflatten(2, self.scales[scale])
        spread = (scale + 1) * F.interpolate(maps, self.scales[-1], mode="nearest")
        latents = spread if latents is None else latents + spread
        following = self.scales[min(scale + 1, len(self.scales) - 1)]
        return latents, F.interpolate(latents, following, mode="area").flatten(2).mT

    def next_inputs(self, codes):
        sizes, latents = [rows * columns for rows, columns in self.scales], None
        inputs = [torch.empty(len(codes), 0, DIM)]
        for scale, part in enumerate(codes.split(sizes, 1)[:-1]):
            latents, following = self.accumulate(latents, part, scale)
            inputs.append(following)
        return torch.cat(inputs, 1)

    def correct(self, features, wrong, where):
        raise NotImplementedError("it cannot encode")


def random_var(scales=SQUARE, **changes):
    """A tiny model of random weights in evaluation mode."""
    shape = {"width": 32, "heads": 2, "layers": 2, "drop_path": 0.0, **changes}
    config = VARConfig(VOCABULARY, DIM, CLASSES, scales, **shape)
    return randomise(VARTransformer(config)).eval().requires_grad_(False)


def random_generator(scales=SQUARE, **changes):
    return VARGenerator(random_var(scales, **changes), FakePyramid(scales))


def random_codes(batch, scales, seed=0):
    tokens = sum(rows * columns for rows, columns in scales)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (batch, tokens), generator=generator)


def fed(decoding, codes, scales):
    """Logits of all scales, each scale absorbed after it was predicted."""
    logits = []
    for start, stop in scale_plan(scales).slices():
        positions = torch.arange(start, stop).expand(len(codes), -1)
        logits.append(decoding.predict(positions))
        decoding.absorb(codes[:, start:stop], positions)
    return torch.cat(logits, 1)


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
    found = model(inputs, torch.tensor([3]))[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_classes_matter_and_no_class_is_the_last_row():
    model, inputs = random_var(), FakePyramid(SQUARE).next_inputs(random_codes(1, SQUARE))
    one, other, none = (model(inputs, torch.tensor([label])) for label in (0, 1, CLASSES))
    assert differ(one, other)
    assert differ(one, none)
    assert model.null(torch.tensor([0, 4])).tolist() == [CLASSES, CLASSES]


@pytest.mark.parametrize("scales", SCALES)
def test_no_scale_sees_itself_or_a_later_one(scales):
    """Changed codes of one scale change the logits of all later scales and of no other."""
    generator, codes, plan = random_generator(scales), random_codes(1, scales), scale_plan(scales)
    label = torch.tensor([2])
    before = generator(codes, label, plan)
    for start, stop in plan.slices():
        changed = codes.clone()
        changed[:, start:stop] = (changed[:, start:stop] + 1) % VOCABULARY
        after = generator(changed, label, plan)
        assert torch.equal(after[:, :stop], before[:, :stop])
        for later, end in plan.slices():
            assert later < stop or differ(after[:, later:end], before[:, later:end])


def test_every_token_sees_all_of_its_own_scale():
    """An input changes the logits of its scale from the first token to the last."""
    model, label = random_var(), torch.tensor([1])
    inputs = FakePyramid(SQUARE).next_inputs(random_codes(1, SQUARE))
    before = model(inputs, label)
    for place in (4, 12):  # the first and the last token of the 3x3 map
        changed = inputs.clone()
        changed[:, place] += 1
        moved = (model(changed, label) - before)[0].abs().amax(-1)
        assert (moved[5:] > 1e-4).all()
        assert (moved[:5] == 0).all()


def test_a_prefix_of_scales_gives_the_same_logits():
    model, labels = random_var(), torch.tensor([0, 3])
    inputs = FakePyramid(SQUARE).next_inputs(random_codes(2, SQUARE))
    whole = model(inputs, labels)
    assert whole.shape == (2, 14, VOCABULARY)
    for length in (0, 4):
        part = model(inputs[:, :length], labels)
        torch.testing.assert_close(part, whole[:, : 1 + length], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 5, 14])
def test_inputs_that_end_inside_a_scale_are_refused(length):
    with pytest.raises(ValueError, match=rf"`inputs` \(={length} tokens\) must be whole scales"):
        random_var()(torch.zeros(1, length, DIM), torch.tensor([0]))


# Decoding


@pytest.mark.parametrize("changes", [{}, {"shared_adaln": True}, {"l2_norm": False}], ids=str)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("cache", [True, False])
def test_decoding_agrees_with_teacher_forcing(scales, cache, changes):
    generator, codes = random_generator(scales, **changes), random_codes(2, scales)
    labels = torch.tensor([1, CLASSES])
    forced = generator(codes, labels, scale_plan(scales, 2))
    assert differ(forced[0], forced[1])
    decoded = fed(generator.start(labels, codes.shape[1], cache=cache), codes, scales)
    torch.testing.assert_close(decoded, forced, atol=1e-5, rtol=1e-5)


def test_the_cache_is_filled_once_and_each_token_is_read_once(monkeypatch):
    generator, codes = random_generator(), random_codes(2, SQUARE)
    read, lengths = VARTransformer.read, []

    def counted(self, x, *args, **kwargs):
        lengths.append(x.shape[1])
        return read(self, x, *args, **kwargs)

    monkeypatch.setattr(VARTransformer, "read", counted)
    decoding = generator.start(torch.tensor([0, 1]), 14)
    assert isinstance(decoding, CachedDecoding)
    buffers = [cache.buffer for cache in decoding.caches]
    fed(decoding, codes, SQUARE)
    assert lengths == [1, 4, 9]
    for cache, buffer in zip(decoding.caches, buffers, strict=True):
        assert cache.buffer is buffer
        assert cache.length == buffer.shape[3] == 14


@pytest.mark.parametrize("cache", [True, False])
def test_scales_may_be_absorbed_that_were_not_asked_for(cache):
    generator, codes, labels = random_generator(), random_codes(1, SQUARE), torch.tensor([2])
    decoding, plan = generator.start(labels, 14, cache=cache), scale_plan(SQUARE)
    (_, first), (_, second), (_, last) = plan.slices()
    decoding.absorb(codes[:, :first], torch.arange(first)[None])
    decoding.absorb(codes[:, first:second], torch.arange(first, second)[None])
    asked = decoding.predict(torch.arange(second, last)[None])
    torch.testing.assert_close(asked, generator(codes, labels, plan)[:, second:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance", [Guidance(1.0), Guidance(1.5, "var")], ids=str)
@pytest.mark.parametrize("scales", [SQUARE, WIDE])
def test_the_sampling_loop_serves_it_as_any_other_model(scales, guidance):
    generator, labels = random_generator(scales), torch.tensor([0, 1, 4])
    recipe = scale_recipe(scales)
    noise, plan = noise_and_plan(recipe, generator.config.grid, [5, 6, 7], 5)
    generator.check(plan)
    seen = []
    cached, uncached = (
        generate(
            generator,
            labels,
            plan,
            noise,
            guidance,
            SamplingSettings(cache=cache),
            lambda done: seen.append((done.codes >= 0).sum(1).tolist()),
        )
        for cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    assert len(cached.unique(dim=0)) == 3
    ends = list(generator.config.ends)
    assert seen == [[end] * 3 for end in ends] * 2  # a call after each scale
    alone = generate(generator, labels[1:2], plan_of(recipe, generator), noise[1:2], guidance)
    assert torch.equal(alone, cached[1:2])


def plan_of(recipe, generator):
    return recipe.sampling_plan(generator.config.grid, [torch.Generator()])


def test_guidance_moves_later_scales_only():
    """In VAR's dialect the first scale is drawn from the plain model."""
    generator, labels = random_generator(), torch.arange(CLASSES)
    noise, plan = noise_and_plan(scale_recipe(SQUARE), (1, 14), range(CLASSES), 0)
    plain, guided = (
        generate(generator, labels, plan, noise, Guidance(scale, "var")) for scale in (0.0, 4.0)
    )
    assert torch.equal(plain[:, :1], guided[:, :1])
    assert (plain != guided).any(1).all()


# Training


def test_training_lowers_the_loss_and_reaches_every_weight():
    """Five images by heart: from ln 24 to less than a third of it."""
    torch.manual_seed(0)
    config = VARConfig(
        VOCABULARY, DIM, CLASSES, SQUARE, width=32, heads=2, layers=2, class_dropout=0, drop_path=0
    )
    model = VARTransformer(config)
    generator, plan = VARGenerator(model, FakePyramid(SQUARE)), scale_plan(SQUARE, CLASSES)
    codes, labels = random_codes(CLASSES, SQUARE), torch.arange(CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(generator(codes, labels, plan).flatten(0, 1), codes.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=0.02)
    assert losses[-1] < 1.0
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("shared", [False, True])
def test_a_new_model_begins_near_the_identity(shared):
    torch.manual_seed(0)
    config = VARConfig(
        VOCABULARY, DIM, CLASSES, SQUARE, width=256, heads=4, layers=2, shared_adaln=shared
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
    after = model.read(x, model.modulate(model.condition(torch.tensor([1]))))
    assert (after - x).norm() < 0.02 * x.norm()


def test_labels_are_dropped_in_training_only():
    model, labels = random_var(class_dropout=1.0), torch.tensor([0, 3])
    inputs = FakePyramid(SQUARE).next_inputs(random_codes(2, SQUARE))
    none = model(inputs, model.null(labels))
    assert differ(model(inputs, labels), none)
    assert torch.equal(model.train()(inputs, labels), none)


def test_drop_path_grows_with_depth():
    model = random_var(layers=3, drop_path=0.2)
    assert [block.drop_path.probability for block in model.blocks] == pytest.approx([0, 0.1, 0.2])


def test_logits_are_float32_also_in_half_precision():
    generator, codes, labels = random_generator(), random_codes(1, SQUARE), torch.tensor([1])
    exact = generator(codes, labels, scale_plan(SQUARE))
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator(codes, labels, scale_plan(SQUARE))
        cached = fed(generator.start(labels, 14), codes, SQUARE)
    assert rough.dtype == cached.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.3
    torch.testing.assert_close(rough, cached, atol=0.3, rtol=0)


def test_only_matrices_have_more_than_one_axis():
    """Weight decay and Muon look at axes: embeddings, biases, scales and offsets must have one."""
    for shared in (False, True):
        for part in random_var(shared_adaln=shared).modules():
            if not isinstance(part, nn.Linear | nn.Embedding):
                assert all(p.ndim == 1 for p in part.parameters(recurse=False))


# Refusals


@pytest.mark.parametrize("recipe", ["ar", "raster-4,1,9", "raster-14,", "reversed-raster-1,4,9"])
def test_other_recipes_are_refused(recipe):
    generator, plan = random_generator(), Recipe.parse(recipe).plan((1, 14))
    rule = r"a whole scale at a time.*\(here the recipe raster-1,4,9\)"
    with pytest.raises(ValueError, match=rule):
        generator(random_codes(1, SQUARE), torch.tensor([0]), plan)
    noise = torch.rand(1, 14)
    with pytest.raises(ValueError, match=rule):
        generate(generator, torch.tensor([0]), plan, noise)


def test_other_grids_are_refused():
    plan = Recipe.parse("raster-1,4,9").plan((2, 7))
    with pytest.raises(ValueError, match=r"for a grid of \(2, 7\), not the \(1, 14\)"):
        random_generator().check(plan)


@pytest.mark.parametrize("cache", [True, False])
def test_other_positions_than_the_next_scale_are_refused(cache):
    decoding = random_generator().start(torch.tensor([0, 1]), 14, cache=cache)
    first = torch.zeros(2, 1, dtype=torch.int64)
    decoding.absorb(first, first)
    scale = torch.arange(1, 5)
    wrong = [
        scale[:3].expand(2, 3),
        torch.arange(1, 6).expand(2, 5),
        scale.flip(0).expand(2, 4),
        torch.stack([scale, scale + 1]),
        first,
    ]
    for positions in wrong:
        with pytest.raises(ValueError, match="a whole scale at a time"):
            decoding.predict(positions)
        with pytest.raises(ValueError, match="a whole scale at a time"):
            decoding.absorb(torch.zeros_like(positions), positions)
    assert decoding.predict(scale.expand(2, 4)).shape == (2, 4, VOCABULARY)
    decoding.absorb(torch.zeros(2, 4, dtype=torch.int64), scale.expand(2, 4))
    last = torch.arange(5, 14).expand(2, 9)
    decoding.absorb(torch.zeros_like(last), last)
    with pytest.raises(ValueError, match="a whole scale at a time"):
        decoding.predict(torch.empty(2, 0, dtype=torch.int64))


@pytest.mark.parametrize("attention", ["full", "fast"])
def test_other_attention_is_refused(attention):
    with pytest.raises(ValueError, match=rf"\A`attention` must be 'causal'.*not '{attention}'"):
        random_generator().start(torch.tensor([0]), 14, attention=attention)


def test_a_pyramid_of_other_scales_is_refused():
    with pytest.raises(ValueError, match=r"the tokenizer has the scales .*, the model "):
        VARGenerator(random_var(), FakePyramid(WIDE))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"vocabulary": 0}, "at least 1"),
        ({"layers": 0}, "at least 1"),
        ({"scales": ()}, r"`scales` \(=\(\)\) must be"),
        ({"scales": ((1, 1), (2, 0))}, "of at least 1 each"),
        ({"scales": ((1, 1, 1),)}, r"must be \(rows, columns\)"),
        ({"width": 1000}, r"`width` \(=1000\) must be a multiple of `heads` \(=16\)"),
        ({"class_dropout": 1.5}, "`class_dropout` <= 1"),
        ({"drop_path": 1.0}, "`drop_path` < 1"),
        ({"gate_start": -1.0}, "`gate_start` >= 0"),
        ({"gate_start": math.nan}, "`gate_start` >= 0"),
    ],
)
def test_impossible_shapes_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        VARConfig(**changes)
    assert "\n" not in str(caught.value)
