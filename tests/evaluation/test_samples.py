import pytest
import torch

import tiny_runs
from fake_features import random_pictures
from random_weights import randomise
from setar.evaluation.samples import (
    BalancedSampler,
    Reconstructor,
    decoded_by,
    decoded_samples,
    reconstruct_all,
    sample,
)
from setar.pipeline import Pipeline
from setar.tokenizers.multiscale import PRESETS, MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig

CLASSES = len(tiny_runs.CLASSES)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tiny_runs.save_pipeline(tmp_path_factory.mktemp("models") / "model")
    return Pipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def samples(pipeline):
    return sample(lambda: BalancedSampler(pipeline, 20, 7), CLASSES, 20, 7)


def test_every_class_comes_equally_often_and_in_turn(samples):
    assert samples.labels.bincount().tolist() == [20] * CLASSES
    assert samples.labels[: 2 * CLASSES].tolist() == list(range(CLASSES)) * 2


def test_samples_are_those_of_the_pipeline_in_another_order(pipeline, samples):
    whole = pipeline.sample_codes(list(range(CLASSES)), count=20, seed=7)
    by_class = whole.unflatten(0, (CLASSES, 20)).transpose(0, 1).flatten(0, 1)
    assert torch.equal(samples.codes, by_class)
    assert len(whole.unique(dim=0)) > 50
    assert samples.seconds > 0


def test_options_reach_the_pipeline(pipeline, samples):
    sampler = BalancedSampler(pipeline, 20, 7, temperature=0.1)
    assert not torch.equal(sampler(torch.arange(64))[0], samples.codes[:64])


def test_codes_are_decoded_when_asked_for(pipeline, samples):
    images = decoded_samples(pipeline, samples.codes.numpy())
    assert len(images) == 20 * CLASSES
    items = torch.tensor([5, 0, 99])
    assert torch.equal(images[items], pipeline.decode(samples.codes[items]))


def test_a_reconstruction_by_hand():
    tokenizer = PixelLevels(PixelLevelsConfig(3))  # grey 0, 127.5 (rounded to 128), 255
    images = torch.tensor([0, 128, 255, 100]).byte()[:, None, None, None].expand(-1, 3, 2, 2)
    found = reconstruct_all(lambda: Reconstructor(tokenizer, images[2:]), 2, tokenizer)
    assert found.codes.tolist() == [[2] * 4, [1] * 4]
    assert found.usage == 2 / 3
    error = torch.tensor([0.0, (28 / 127.5) ** 2])
    quality = 10 * torch.log10(4 / error.clamp_min(1e-12))
    assert found.psnr == pytest.approx(float(quality.mean()), rel=1e-5)
    assert found.usage_of_scales == {}


def test_every_scale_has_its_own_usage():
    tokenizer = randomise(MultiScaleVQ(PRESETS["tiny"])).eval()
    images = random_pictures(6, side=16)
    found = reconstruct_all(lambda: Reconstructor(tokenizer, images), 6, tokenizer)
    coarse, *_, fine = found.codes.split([1, 4, 9, 16], dim=1)
    assert list(found.usage_of_scales) == ["1x1", "2x2", "3x3", "4x4"]
    assert found.usage_of_scales["1x1"] == pytest.approx(len(coarse.unique()) / 32)
    assert found.usage_of_scales["4x4"] == pytest.approx(len(fine.unique()) / 32)
    assert found.usage == pytest.approx(len(found.codes.unique()) / 32)


def test_a_tokenizer_alone_decodes_by_the_size_of_its_pictures():
    tokenizer = PixelLevels(PixelLevelsConfig(256))
    grey = random_pictures(5)[:, :1, :, :2].expand(-1, 3, -1, -1)
    images = decoded_by(tokenizer, grey[:, 0].flatten(1).long().numpy(), (4, 2))
    assert torch.equal(images[torch.tensor([4, 1])], grey[[4, 1]])


def test_more_pictures_than_a_batch_holds():
    tokenizer = PixelLevels(PixelLevelsConfig(256))
    grey = random_pictures(100)[:, :1].expand(-1, 3, -1, -1)
    found = reconstruct_all(lambda: Reconstructor(tokenizer, grey), 100, tokenizer)
    assert torch.equal(found.codes, grey[:, 0].flatten(1).long())
    assert found.usage == len(grey.unique()) / 256
