import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from random_weights import differ, randomise
from setar import checkpoint
from setar.tokenizers.base import TOKENIZERS
from setar.tokenizers.multiscale import (
    PRESETS,
    MultiScaleConfig,
    MultiScaleVQ,
    parse_scales,
    phi_map,
    scale_sizes,
    scales_up_to,
)
from setar.training.tokenizer import TokenizerLossConfig, TokenizerObjective

OFFICIAL = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
WIDE = ((1, 2), (2, 4), (4, 8))


def tiny(**changes) -> MultiScaleVQ:
    """Every weight random; image sides are four times the last scale's."""
    config = dataclasses.replace(PRESETS["tiny"], **changes)
    return randomise(MultiScaleVQ(config)).eval()


def random_images(model: MultiScaleVQ, count: int = 2, seed: int = 0) -> Tensor:
    rows, columns = model.scales[-1]
    generator = torch.Generator().manual_seed(seed)
    f = model.downsampling
    return torch.rand(count, 3, rows * f, columns * f, generator=generator) * 2 - 1


def random_codes(model: MultiScaleVQ, count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.vocabulary, (count, model.tokens), generator=generator)


class TestScales:
    def test_one_number_is_a_square(self):
        assert scale_sizes((1, 2, (4, 8))) == ((1, 1), (2, 2), (4, 8))
        assert scale_sizes(range(1, 4)) == ((1, 1), (2, 2), (3, 3))

    @pytest.mark.parametrize(
        ("scales", "message"),
        [
            ((), "at least 1"),
            ((0, 1), "at least 1"),
            ((1, (2, -2)), "at least 1"),
            (((1, 2, 3),), "sides, or"),
            ((1, 4, 2), "2x2 follows 4x4"),
            ((1, 2, 2), "2x2 follows 2x2"),
            (((1, 4), (2, 2)), "2x2 follows 1x4"),
            (((4, 1), (2, 2)), "2x2 follows 4x1"),
        ],
    )
    def test_bad_lists_are_refused_in_one_line(self, scales, message):
        with pytest.raises(ValueError, match=message) as error:
            MultiScaleConfig(scales=scales, phis=1)
        assert "\n" not in str(error.value)

    @settings(max_examples=60)
    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5))
    def test_exactly_the_growing_lists_are_taken(self, scales):
        growing = all(a != b and a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(scales))
        try:
            assert scale_sizes(scales) == tuple(scales)
        except ValueError:
            assert not growing
        else:
            assert growing

    @settings(max_examples=60)
    @given(st.data())
    def test_text_reads_back(self, data):
        steps = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=6)
        sizes = np.cumsum(data.draw(steps), axis=0).tolist()
        squares = data.draw(st.booleans())
        scales = tuple(max(size) if squares else tuple(size) for size in sizes)
        if squares:  # the larger side may stand still
            scales = tuple(sorted(set(scales)))
        text = ",".join(str(s) if squares else f"{s[0]}x{s[1]}" for s in scales)
        assert parse_scales(text) == scales
        assert parse_scales(text.upper().replace(",", " , ")) == scales

    @settings(max_examples=100)
    @given(st.one_of(st.text(max_size=12), st.text("0123x,- ", max_size=12)))
    def test_other_text_is_refused_in_one_line(self, text):
        refusals = []
        try:
            assert len(scale_sizes(parse_scales(text))) == text.count(",") + 1
        except ValueError as error:
            refusals.append(str(error))
        assert "\n" not in "".join(refusals)

    @pytest.mark.parametrize("text", ["", "1,", "1x", "1x2x3", "-1", "1.5", "٣", "1;2", "123456"])
    def test_text_that_is_no_list(self, text):
        with pytest.raises(ValueError, match="scales read like"):
            parse_scales(text)


class TestScalesOfASize:
    @pytest.mark.parametrize(
        ("size", "scales"),
        [
            ((1, 1), (1,)),
            ((8, 8), (1, 2, 3, 4, 6, 8)),
            ((16, 16), (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)),
            ((32, 32), (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)),
            ((2, 4), ((1, 1), (1, 2), (2, 3), (2, 4))),
            ((6, 1), ((1, 1), (2, 1), (3, 1), (4, 1), (6, 1))),
        ],
    )
    def test_published_ones_and_others(self, size, scales):
        assert scales_up_to(*size) == scales

    @given(st.integers(1, 80), st.integers(1, 80))
    def test_they_grow_up_to_the_size(self, rows, columns):
        scales = scale_sizes(scales_up_to(rows, columns))
        assert scales[0] == (1, 1)
        assert scales[-1] == (rows, columns)
        for before, after in pairwise(scales):
            assert max(after) <= 2 * max(before)

    @pytest.mark.parametrize(("size", "phis"), [((32, 32), 4), ((8, 16), 4), ((8, 4), 2)])
    def test_a_config_for_images_of_a_size(self, size, phis):
        config = MultiScaleVQ.fitted(dataclasses.replace(PRESETS["tiny"], phis=2), *size)
        assert MultiScaleVQ(config).image_size == size
        config = MultiScaleVQ.fitted(MultiScaleConfig(multipliers=(1, 1, 2)), *size)
        assert config.phis == phis

    def test_images_that_have_none(self):
        with pytest.raises(ValueError, match="multiples of 4 pixels, got 10x8"):
            MultiScaleVQ.fitted(PRESETS["tiny"], 10, 8)


class TestPhiMap:
    def test_the_published_map(self):
        assert phi_map(10, 4) == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]

    @settings(max_examples=80)
    @given(st.data())
    def test_neighbours_share_and_every_phi_is_used(self, data):
        scales = data.draw(st.integers(1, 40))
        phis = data.draw(st.integers(1, scales))
        found = phi_map(scales, phis)
        assert len(found) == scales
        assert found == sorted(found)
        assert sorted(set(found)) == list(range(phis))

    def test_a_phi_for_each_scale(self):
        for scales in range(1, 12):
            assert phi_map(scales, scales) == list(range(scales))

    @pytest.mark.parametrize("scales", range(4, 33))
    def test_four_phis_are_nearest_in_floats_too(self, scales):
        """The published places of four phis, with ties left to float rounding."""
        places = np.linspace(1 / 12, 11 / 12, 4)
        nearest = [np.argmin(np.abs(places - s / (scales - 1))) for s in range(scales)]
        assert phi_map(scales, 4) == nearest

    def test_each_scale_gets_its_phi(self):
        """Zero one phi's weights: its scales alone add half of what was upsampled."""
        book = tiny().codebook
        assert book.phi_of_scale == [0, 0, 1, 1]
        for parameter in book.phis[1].parameters():
            parameter.data.zero_()
        for scale, (rows, columns) in enumerate(book.scales):
            codes = torch.arange(rows * columns)[None]
            vectors = F.embedding(codes, book.weight).mT.unflatten(2, (rows, columns))
            half = F.interpolate(vectors, size=(4, 4), mode="bicubic") / 2
            assert torch.allclose(book.spread(codes, scale), half, atol=1e-6) == (scale >= 2)


class TestConfig:
    def test_the_published_size(self):
        """VAR, section 5.1, counts 109 M; `PRESETS` says so."""
        with torch.device("meta"):
            model = MultiScaleVQ(PRESETS["VAR"])
        assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 109
        assert model.tokens == 680
        assert model.config.scales == OFFICIAL
        assert model.image_size == (256, 256)
        assert model.grid(256, 256) == (1, 680)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"multipliers": ()}, "at least 1"),
            ({"multipliers": (1, 0)}, "at least 1"),
            ({"blocks": 0}, "at least 1"),
            ({"codebook_dim": 0}, "at least 1"),
            ({"channels": 12}, r"`channels` \(=12\) must be a multiple of 8"),
            ({"phis": 0}, r"`phis` \(=0\) must be at least 1"),
            ({"phis": 10**9}, r"`phis` \(=1000000000\) must be at most 256"),
            ({"phi_of_scale": (0, 1)}, "for each of the 10 scales"),
            ({"phi_of_scale": (0,) * 9 + (4,)}, "must be a number from 0 to 3 for each"),
            ({"codebook_size": 10**9}, "must be at most 1048576"),
            ({"channels": 2**13}, r"`channels \* multipliers` .* must be at most 16384"),
            ({"multipliers": (1,) * 13}, "at most 12: each level but the first halves"),
            ({"blocks": 10**9}, "`blocks`"),
            ({"scales": tuple(range(1, 258))}, "at most 256 sizes"),
            ({"scales": (1, 2**11)}, "must not hold more than 1048576 tokens"),
            ({"scales": (1, 2.0)}, "must list sides"),
        ],
    )
    def test_impossible_shapes(self, changes, message):
        with pytest.raises(ValueError, match=message):
            MultiScaleConfig(**changes)

    def test_model_folder(self, tmp_path):
        model = tiny(scales=(1, (2, 4), (4, 8)))
        entry = {"tokenizer": checkpoint.describe(model, TOKENIZERS)}
        checkpoint.save(tmp_path / "vq", entry, {"tokenizer": model.state_dict()})
        config = checkpoint.verify(tmp_path / "vq")
        assert config["tokenizer"]["family"] == "multiscale"
        entry = config["tokenizer"]
        loaded = checkpoint.load_module(tmp_path / "vq", "tokenizer", entry, TOKENIZERS)
        assert loaded.config == model.config
        codes = random_codes(model)
        assert torch.equal(loaded.decode(codes), model.decode(codes))

    @pytest.mark.parametrize("scales", [["1"], [[1, 2, 3]], [1.5], "1,2", [[4, 4], [2, 2]]])
    def test_bad_scales_of_a_config_file(self, scales):
        entry = {"family": "multiscale", "scales": scales, "phis": 1}
        with pytest.raises(ValueError, match="scale") as error:
            checkpoint.create(entry, TOKENIZERS)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("scales", [(1, 2, 3, 4), (1, 2, 4), WIDE, ((3, 1), (3, 2)), (4,)])
class TestAnyScales:
    @pytest.fixture
    def model(self, scales, cosine) -> MultiScaleVQ:
        return tiny(scales=scales, cosine=cosine, phis=1)

    @torch.inference_mode()
    def test_encode_and_decode(self, model):
        images = random_images(model, 3)
        grid = model.grid(*images.shape[-2:])
        assert grid == (1, model.tokens)
        codes = model.encode(images)
        assert codes.shape == (3, model.tokens)
        assert codes.dtype == torch.int64
        assert 0 <= codes.min() < codes.max() < model.vocabulary == 32
        assert len(codes.unique()) > 4
        assert model.decode(codes, grid).shape == images.shape

    @torch.inference_mode()
    def test_training_and_use_agree(self, model):
        images = random_images(model)
        quantized = model.quantizer(model.features(images))
        reconstruction = model.picture(quantized.vectors)
        codes = model.encode(images)
        assert torch.equal(quantized.codes, codes)
        assert differ(reconstruction[0], reconstruction[1])
        torch.testing.assert_close(model.decode(codes), reconstruction, atol=1e-4, rtol=1e-4)

    @torch.inference_mode()
    def test_every_code_is_the_nearest_to_what_is_still_missing(self, model):
        """The residual is the features minus the sum of all scales before (algorithm 1)."""
        book, features = model.codebook, torch.randn(2, 8, *model.scales[-1])
        codes = book(features).codes
        before = [torch.zeros_like(features), *book.sums(codes)]
        for size, part, latents in zip(model.scales, book.split(codes), before, strict=False):
            cells = F.adaptive_avg_pool2d(features - latents, size).flatten(2).mT
            table = book.weight
            if book.cosine:
                cells, table = F.normalize(cells, dim=-1), F.normalize(table, dim=-1)
            distances = torch.cdist(cells, table.expand(2, -1, -1))
            chosen = distances.gather(2, part[..., None])[..., 0]
            torch.testing.assert_close(chosen, distances.amin(2), atol=1e-4, rtol=0)

    @torch.inference_mode()
    def test_step_by_step_is_all_at_once(self, model):
        codes = random_codes(model)
        latents, inputs = None, []
        sums = list(model.codebook.sums(codes))
        for scale, part in enumerate(model.codebook.split(codes)):
            latents, following = model.accumulate(latents, part, scale)
            torch.testing.assert_close(latents, sums[scale])
            inputs.append(following)
        assert inputs[-1].shape == (2, 0, 8)
        whole = model.next_inputs(codes)
        assert whole.shape == (2, model.tokens - math.prod(model.scales[0]), 8)
        torch.testing.assert_close(torch.cat(inputs, 1), whole)
        torch.testing.assert_close(model.picture(latents), model.decode(codes))

    @torch.inference_mode()
    def test_stages_end_at_decode(self, model):
        codes = random_codes(model)
        pictures = list(model.stages(codes))
        assert len(pictures) == len(model.scales)
        torch.testing.assert_close(pictures[-1], model.decode(codes))
        assert all(differ(a, b) for a, b in pairwise(pictures))

    def test_gradient_passes_straight_through(self, model):
        features = torch.randn(2, 8, *model.scales[-1], requires_grad=True)
        weights = torch.randn_like(features)
        vectors = model.codebook(features).vectors
        assert differ(vectors, features)
        (found,) = torch.autograd.grad((vectors * weights).sum(), features)
        torch.testing.assert_close(found, weights)


class TestNextInputs:
    @torch.inference_mode()
    def test_an_input_is_the_mean_of_the_cells_of_the_sum(self):
        """What predicts the last scale is f-hat itself, in raster order."""
        model = tiny(scales=(2, 4), phis=1)
        codes = random_codes(model)
        first = next(iter(model.codebook.sums(codes)))
        torch.testing.assert_close(model.next_inputs(codes), first.flatten(2).mT)

    @torch.inference_mode()
    def test_nothing_of_the_scale_to_predict_leaks(self):
        model = tiny()
        codes = random_codes(model)
        before = model.next_inputs(codes)
        starts = np.cumsum([0, *(rows * columns for rows, columns in model.scales)])
        for start, end in pairwise(starts):
            changed = codes.clone()
            changed[:, start:end] = (codes[:, start:end] + 7) % model.vocabulary
            after = model.next_inputs(changed)
            known = end - 1  # inputs are those of tokens 1.. : the first scale has one token
            assert torch.equal(after[:, :known], before[:, :known])
            assert end == model.tokens or differ(after[:, known:], before[:, known:])


class TestTraining:
    def test_losses_are_means_over_scales_and_pull_one_side_each(self):
        book, features = tiny().codebook, torch.randn(2, 8, 4, 4, requires_grad=True)
        quantized = book(features)
        distances = [F.mse_loss(latents, features) for latents in book.sums(quantized.codes)]
        expected = sum(distances) / 4
        torch.testing.assert_close(quantized.codebook_loss, expected)
        torch.testing.assert_close(quantized.commitment_loss, expected)
        sides = (features, book.weight, *(phi.weight for phi in book.phis))
        pulled = [
            [g is not None and g.any() for g in torch.autograd.grad(loss, sides, allow_unused=True)]
            for loss in (quantized.codebook_loss, quantized.commitment_loss)
        ]
        assert pulled == [[False, True, True, True], [True, False, False, False]]

    def test_the_picture_moves_the_encoder(self):
        model = tiny()
        quantized = model.quantizer(model.features(random_images(model)))
        model.picture(quantized.vectors).square().mean().backward()
        gradient = model.encoder.input.weight.grad
        assert gradient.abs().max() > 0
        assert model.codebook.weight.grad is None

    def test_quantising_is_float32_under_autocast(self):
        book, features = tiny().codebook, torch.randn(2, 8, 4, 4)
        with torch.autocast("cpu", torch.bfloat16):
            quantized = book(features)
        assert quantized.vectors.dtype == torch.float32
        assert torch.equal(quantized.codes, book(features).codes)

    def test_counts_by_scale(self):
        model = tiny(scales=(1, 2), phis=1, multipliers=(1,), codebook_size=4)
        counts = model.codebook.counts(torch.tensor([[3, 0, 0, 1, 3], [3, 1, 1, 1, 1]]))
        assert counts.tolist() == [[0, 0, 0, 2], [2, 5, 0, 1]]

    def test_dead_codes_restart_at_the_residuals_of_all_scales(self):
        features, dead = torch.randn(2, 8, 4, 4), torch.arange(1, 32, 2)
        taken = set()
        for seed in range(20):
            book = tiny().codebook
            before, compared = book.weight.detach().clone(), residuals(book, features)
            assert compared.shape == (2 * 30, 8)
            means = compared.unflatten(0, (2, 30))[:, 0]
            torch.testing.assert_close(means, features.mean((2, 3)))
            torch.manual_seed(seed)
            book.restart(dead, features)
            assert torch.equal(book.weight[::2], before[::2])
            gaps = (book.weight[dead].detach()[:, None] - compared).abs().amax(2)
            distance, nearest = gaps.min(1)
            assert distance.max() < 1e-6
            taken |= set((nearest % 30).tolist())
        assert taken == set(range(30)), "cells of every scale"


class TestCorrect:
    """Self-correction: what is read and what should be answered after mistakes."""

    def features(self, model, count=3):
        with torch.no_grad():
            return model.features(random_images(model, count))

    def test_without_mistakes_nothing_changes(self):
        model = tiny()
        codes, features = model.encode(random_images(model, 3)), self.features(model)
        inputs, right = model.correct(features, codes + 1, torch.zeros_like(codes).bool())
        assert torch.equal(right, codes)
        torch.testing.assert_close(inputs, model.next_inputs(codes))

    @pytest.mark.parametrize("scales", [(4,), (1, 2, 3, 4), ((1, 2), (4, 4))])
    def test_the_inputs_are_those_of_the_codes_with_mistakes(self, scales):
        model = tiny(scales=scales, phis=1)
        features, wrong = self.features(model), random_codes(model, 3)
        where = torch.rand(wrong.shape, generator=torch.Generator().manual_seed(2)) < 0.4
        inputs, right = model.correct(features, wrong, where)
        torch.testing.assert_close(inputs, model.next_inputs(torch.where(where, wrong, right)))

    def test_a_mistake_changes_only_later_scales(self):
        model = tiny()
        features, wrong = self.features(model), random_codes(model, 3)
        clean = model.encode(random_images(model, 3))
        where = torch.zeros_like(wrong, dtype=torch.bool)
        where[:, 1:5] = True  # the whole scale 2x2
        _, right = model.correct(features, wrong, where)
        assert torch.equal(right[:, :5], clean[:, :5])
        assert differ(right[:, 5:].float(), clean[:, 5:].float())

    def test_right_codes_make_up_for_mistakes(self):
        """After the same mistakes, they end nearer to the features than the codes of before."""
        torch.manual_seed(0)
        model = MultiScaleVQ(PRESETS["tiny"]).eval()
        vectors = torch.randn(32, 8)
        model.codebook.table.weight.data.copy_(vectors / vectors.norm(dim=1, keepdim=True))
        for phi in model.codebook.phis:
            torch.nn.init.zeros_(phi.weight)
        features = torch.randn(8, 8, 4, 4)
        clean = torch.cat([codes for _, codes, _ in model.codebook.steps(features)], 1)
        where = torch.zeros_like(clean, dtype=torch.bool)
        where[:, :5] = True
        wrong = torch.randint(32, clean.shape)
        _, right = model.correct(features, wrong, where)

        def error(codes):
            *_, latents = model.codebook.sums(torch.where(where, wrong, codes))
            return (latents - features).square().mean().item()

        assert error(right) < 0.98 * error(clean)


def residuals(book, features: Tensor) -> Tensor:
    """The vectors ``[n, D]`` that any scale compares with codes."""
    return torch.cat([cells for cells, _, _ in book.steps(features)], 1).flatten(0, 1).detach()


def tokenizer_objective(model: MultiScaleVQ, **config) -> TokenizerObjective:
    torch.manual_seed(0)
    images = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8)
    return TokenizerObjective(model, images, TokenizerLossConfig(**config))


class TestObjective:
    def test_the_loss_by_hand(self):
        objective = tokenizer_objective(tiny(), commitment=0.7)
        loss = objective.losses(torch.arange(6), step=0).losses["model"]
        images = objective.images.float() / 127.5 - 1
        quantized = objective.quantizer(objective.model.features(images))
        decoded = objective.model.picture(quantized.vectors)
        pixels = (decoded - images).abs().mean() + (decoded - images).square().mean()
        expected = pixels + quantized.codebook_loss + 0.7 * quantized.commitment_loss
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_usage_of_each_scale_and_of_all(self):
        objective = tokenizer_objective(tiny())
        metrics = objective.losses(torch.arange(6), step=5).metrics
        codes = objective.model.encode(objective.images.float() / 127.5 - 1)
        for index, part in enumerate(objective.model.codebook.split(codes)):
            assert metrics[f"usage/scale_{index + 1}"] == pytest.approx(len(part.unique()) / 32)
        assert metrics["usage"] == pytest.approx(len(codes.unique()) / 32)
        assert metrics["usage/scale_1"] < metrics["usage/scale_4"] < 1

    def test_the_state_remembers_every_scale(self):
        objective, other = (tokenizer_objective(tiny()) for _ in range(2))
        objective.losses(torch.arange(6), step=150)
        other.load_state(objective.state())
        assert torch.equal(other.last_used, objective.last_used)
        assert (objective.last_used == 150).any(1).all()

    def test_a_code_is_dead_only_if_no_scale_uses_it(self):
        objective = tokenizer_objective(tiny(), revive_every=4)
        book, table = objective.model.codebook, objective.model.codebook.weight
        before = table.detach().clone()
        step = objective.losses(torch.arange(6), step=7)
        used = (objective.last_used == 7).any(0)
        assert 0 < used.sum() < 32
        assert torch.equal(table, before)
        with torch.no_grad():
            features = objective.model.features(objective.images.float() / 127.5 - 1)
        compared = residuals(book, features)
        step.finish()
        assert torch.equal(table[used], before[used])
        away = (table[~used].detach()[:, None] - compared).abs().amax(2).amin(1)
        assert away.max() < 1e-6, "dead codes restart at residuals of some scale"
        assert (table[~used] != before[~used]).any(1).all()

    def test_a_new_tokenizer_learns(self):
        torch.manual_seed(0)
        model = MultiScaleVQ(PRESETS["tiny"])
        objective = tokenizer_objective(model, revive_every=10)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses, usages = [], []
        for step in range(30):
            found, metrics, finish = objective.losses(torch.arange(6), step)
            optimizer.zero_grad()
            found["model"].backward()
            optimizer.step()
            finish()
            losses.append(found["model"].item())
            usages.append(metrics["usage"])
        assert losses[-1] < 0.9 * losses[0]
        assert usages[0] < usages[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode(torch.zeros(1, 3, 6, 16)), "multiples of 4 pixels, got 6x16"),
        (
            lambda m: m.encode(torch.zeros(1, 3, 8, 16)),
            "8x16 pixels has 2x4 tokens at its last scale, but that of this tokenizer is 4x4",
        ),
        (lambda m: m.decode(torch.zeros(2, 30).long(), (2, 8)), "the grid is 1x30, not 2x8"),
        (
            lambda m: m.decode(torch.zeros(2, 16).long()),
            r"\(images, 30\) for 4 scales up to 4x4, not \(2, 16\)",
        ),
        (lambda m: m.next_inputs(torch.zeros(30).long()), r"not \(30,\)"),
    ],
)
def test_what_does_not_fit_the_scales(call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny())
