"""Pipelines that compute in another precision, and folders of whole numbers."""

import copy
import json

import pytest
import torch
from safetensors import safe_open

import tiny_runs
from contracts.entries import pipeline
from random_weights import random_fmt
from setar import checkpoint
from setar.layers import packed
from setar.layers.packed import PackedFloat, PackedInt8
from setar.models import base
from setar.models.base import FAMILIES, check_precision
from setar.pipeline import Pipeline, load_for_sampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_runs.save_pipeline(tmp_path_factory.mktemp("models") / "grey")


@pytest.fixture(scope="module")
def stored(folder, tmp_path_factory):
    """The same in int8."""
    place = tmp_path_factory.mktemp("models") / "grey8"
    Pipeline.from_pretrained(folder, precision="int8").save_pretrained(place)
    return place


def kinds(pipe):
    return {type(part) for part in pipe.model.modules()}


def test_small_models_in_float32_stay_as_they_are(folder):
    assert not {PackedFloat, PackedInt8} & kinds(Pipeline.from_pretrained(folder))


def test_large_layers_in_float32_make_the_same_images(folder, monkeypatch):
    plain = Pipeline.from_pretrained(folder)
    monkeypatch.setattr(packed, "LEAST", 1)
    assert PackedFloat not in kinds(Pipeline.from_pretrained(folder)), "which may be trained on"
    laid = load_for_sampling(folder)
    assert PackedFloat in kinds(laid)
    codes = [pipe.sample_codes([0, 1], count=8) for pipe in (plain, laid)]
    assert (codes[0] == codes[1]).float().mean() > 0.99
    state, found = plain.model.state_dict(), laid.model.state_dict()
    assert state.keys() == found.keys()
    assert all(torch.equal(state[name], found[name]) for name in state)


def test_compiled_sampling_is_for_cuda(folder):
    with pytest.raises(ValueError, match="on CUDA devices, and not on cpu"):
        Pipeline.from_pretrained(folder).compile()


def test_what_int8_leaves_in_float32(folder):
    pipe = Pipeline.from_pretrained(folder, precision="int8")
    assert PackedInt8 in kinds(pipe)
    assert isinstance(pipe.model.head, PackedInt8)
    for name, value in pipe.model.state_dict().items():
        whole = name.startswith(("encoder.", "decoder.", "head")) and "norm" not in name
        assert value.dtype == (torch.int8 if whole and name.endswith("weight") else torch.float32)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_samples_in_int8_cached_as_uncached(family, monkeypatch):
    if not (pipe := pipeline(family)).model.transformer_blocks():
        pytest.skip("no blocks")
    codes = pipe.sample_codes([0, 1, 2], seed=3)
    pipe.model.compute_in("int8", torch.device("cpu"))
    found = pipe.sample_codes([0, 1, 2], seed=3)
    assert found.shape == codes.shape
    # Rows are rounded one by one, so that neither the batch nor the cache matters, but for the
    # last digits of attention, which now and then round to the other side.
    assert (pipe.sample_codes([0, 1, 2], seed=3, batch_size=1) == found).float().mean() > 0.8
    monkeypatch.setattr(base, "slow_in_bfloat16", lambda device: True)  # no other rounding
    cached, anew = (pipe.sample_codes([0, 1, 2], seed=3, cache=cache) for cache in (True, False))
    assert (cached == anew).float().mean() > 0.8


@pytest.mark.parametrize("slow", [False, True])
def test_int8_caches_keys_and_values_in_bfloat16_where_that_is_fast(monkeypatch, slow):
    monkeypatch.setattr(base, "slow_in_bfloat16", lambda device: slow)
    model = copy.deepcopy(random_fmt((4, 4)))
    assert model.start(torch.arange(2), 16).decoder_caches[0].buffer.dtype == torch.float32
    positions = torch.arange(16).expand(2, -1)
    plain = logits_of(model, positions)
    caches = model.pack("int8").start(torch.arange(2), 16).decoder_caches
    assert caches[0].buffer.dtype == (torch.float32 if slow else torch.bfloat16)
    found = logits_of(model, positions)
    error = (found - plain).square().mean().sqrt() / plain.square().mean().sqrt()
    assert 0 < error < 0.05


def logits_of(model, positions):
    """Of the second half of some positions after the first, by a decoding with caches."""
    decoding = model.start(torch.arange(2), 16)
    decoding.predict(positions[:, :8])
    decoding.absorb(positions[:, :8] % 5, positions[:, :8])
    return decoding.predict(positions[:, 8:])


def test_a_folder_in_int8_is_the_same_model_in_a_quarter_of_the_bytes(folder, stored):
    codes = Pipeline.from_pretrained(folder, precision="int8").sample_codes([0, 1], count=4)
    pipe = Pipeline.from_pretrained(stored)
    assert PackedInt8 in kinds(pipe)
    assert torch.equal(pipe.sample_codes([0, 1], count=4), codes)
    assert json.loads((stored / "config.json").read_text())["precision"] == "int8"
    with safe_open(stored / "model.safetensors", "pt") as file:
        assert file.get_tensor("head.weight").dtype == torch.int8
        assert file.get_tensor("head.scale").shape == (17,)


def test_saved_again_it_is_the_same(stored, tmp_path):
    pipe = Pipeline.from_pretrained(stored)
    pipe.save_pretrained(tmp_path / "again", half=True)
    again = Pipeline.from_pretrained(tmp_path / "again")
    assert torch.equal(again.model.head.weight, pipe.model.head.weight)
    assert torch.equal(again.model.head.scale, pipe.model.head.scale)


def test_damage_is_found(stored, tmp_path):
    Pipeline.from_pretrained(stored).save_pretrained(tmp_path / "broken")
    file = tmp_path / "broken" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        Pipeline.from_pretrained(tmp_path / "broken")


@pytest.mark.parametrize(("precision", "word"), [("int4", "float32"), (3, "float32"), ("", "one")])
def test_unknown_precisions(folder, precision, word):
    with pytest.raises(ValueError, match=word):
        Pipeline.from_pretrained(folder, precision=precision)


def test_what_is_stored_in_int8_stays_so(stored):
    with pytest.raises(ValueError, match="stored in int8"):
        Pipeline.from_pretrained(stored, precision="float32")


def test_int8_is_for_cpus():
    with pytest.raises(ValueError, match="CPUs"):
        check_precision("int8", torch.device("cuda"))


def test_bfloat16(folder):
    pipe = Pipeline.from_pretrained(folder, precision="bfloat16")
    assert pipe.model.head.weight.dtype == torch.bfloat16
    assert pipe.sample_codes([0], count=2).shape == (2, 16)


def test_folders_of_another_precision(stored, tmp_path):
    pipe = Pipeline.from_pretrained(stored)
    states = {"model": pipe.model.state_dict(), "tokenizer": pipe.tokenizer.state_dict()}
    checkpoint.save(tmp_path / "odd", {**pipe.describe(), "precision": "int3"}, states)
    with pytest.raises(ValueError, match="int8"):
        Pipeline.from_pretrained(tmp_path / "odd")
