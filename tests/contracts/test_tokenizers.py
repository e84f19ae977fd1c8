"""What every tokenizer promises, and every quantizer inside one."""

import dataclasses

import pytest
import torch

from entries import TOKENIZERS
from setar import checkpoint
from setar.pictures.reconstructions import reconstruction_rows, stages
from setar.pretrained import load_tokenizer, save_tokenizer
from setar.tokenizers.base import decode_codes, encode_images, to_float
from setar.training.tokenizer import TokenizerLossConfig, TokenizerObjective

each_tokenizer = pytest.mark.parametrize("name", [*TOKENIZERS])


def make(name):
    """The tiny preset with its first weights, in evaluation mode, and two pictures for it."""
    kind = TOKENIZERS.find(name)
    torch.manual_seed(0)
    tokenizer = kind(kind.presets["tiny"]).eval()
    height, width = tokenizer.image_size or (16, 8)
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(256, (2, 3, height, width), generator=generator).byte()
    return tokenizer, pictures


@each_tokenizer
def test_codes_have_the_grid_and_pictures_their_size(name):
    tokenizer, pictures = make(name)
    rows, columns = tokenizer.grid(*pictures.shape[-2:])
    codes = encode_images(tokenizer, pictures)
    assert codes.shape == (2, rows * columns)
    assert codes.dtype == torch.int64
    assert 0 <= int(codes.min()) <= int(codes.max()) < tokenizer.vocabulary
    assert (codes[0] != codes[1]).any()
    decoded = decode_codes(tokenizer, codes, (rows, columns))
    assert decoded.shape == pictures.shape
    alone = encode_images(tokenizer, pictures[1:])
    assert torch.equal(alone[0], codes[1])
    with pytest.raises((ValueError, RuntimeError)):
        tokenizer.decode(codes[:, 1:], (rows, columns))


@each_tokenizer
def test_one_that_keeps_no_colours_says_so(name):
    tokenizer, pictures = make(name)
    grid = tokenizer.grid(*pictures.shape[-2:])
    decoded = decode_codes(tokenizer, encode_images(tokenizer, pictures), grid)
    assert tokenizer.colours == bool((decoded != decoded[:, :1]).any())


@each_tokenizer
def test_a_config_that_leaves_out_what_follows_is_fitted_to_the_images(name):
    kind = TOKENIZERS.find(name)
    config = kind.presets["tiny"]
    names = {field.name for field in dataclasses.fields(config)}
    assert names >= {*kind.FOLLOWS}
    fitted = kind(kind.fitted(config, 32, 16))
    assert len(fitted.grid(32, 16)) == 2
    if not kind.FOLLOWS:
        assert kind.fitted(config, 32, 16) == config


@each_tokenizer
def test_scales_and_stages_belong_together(name):
    tokenizer, pictures = make(name)
    grid = tokenizer.grid(*pictures.shape[-2:])
    codes = encode_images(tokenizer, pictures)
    with torch.inference_mode():
        images = list(tokenizer.stages(codes, grid))
        later = list(tokenizer.stages(codes, grid, len(images)))
        assert torch.equal(images[-1], tokenizer.decode(codes, grid))
    assert len(later) == 1
    torch.testing.assert_close(later[0], images[-1])
    if tokenizer.scales is None:
        assert len(images) == 1
    else:
        assert grid == (1, sum(rows * columns for rows, columns in tokenizer.scales))
        assert len(images) == len(tokenizer.scales)
        assert tokenizer.image_size == tuple(pictures.shape[-2:])
    assert len(stages(tokenizer, pictures)) == len(images)
    assert reconstruction_rows(tokenizer, pictures).dtype == torch.uint8


@each_tokenizer
def test_a_saved_tokenizer_makes_the_same_codes(name, tmp_path):
    tokenizer, pictures = make(name)
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    loaded = load_tokenizer(tmp_path / "tokenizer")
    assert type(loaded) is type(tokenizer)
    assert loaded.config == tokenizer.config
    assert torch.equal(encode_images(loaded, pictures), encode_images(tokenizer, pictures))
    entry = checkpoint.describe(loaded, TOKENIZERS)
    assert entry["family"] == name
    assert type(checkpoint.create(entry, TOKENIZERS)) is type(tokenizer)


trained = [name for name in TOKENIZERS if make(name)[0].quantizer is not None]


def test_some_tokenizers_are_trained():
    assert {"vqgan", "multiscale", "fsq"} <= {*trained}
    assert "pixels" not in trained


@pytest.mark.parametrize("name", trained)
def test_a_quantizer_agrees_with_itself(name):
    tokenizer, pictures = make(name)
    quantizer, grid = tokenizer.quantizer, tokenizer.grid(*pictures.shape[-2:])
    features = tokenizer.features(to_float(pictures))
    quantized, codes = quantizer(features), quantizer.encode(features)
    assert torch.equal(quantized.codes, codes)
    assert torch.equal(codes, tokenizer.encode(to_float(pictures)))
    torch.testing.assert_close(quantized.vectors, quantizer.decode(codes, grid))
    torch.testing.assert_close(tokenizer.picture(quantized.vectors), tokenizer.decode(codes, grid))
    for loss in (quantized.codebook_loss, quantized.commitment_loss):
        assert loss.shape == ()
        assert loss >= 0
    assert quantizer.size == tokenizer.vocabulary
    assert features.shape[1] == tokenizer.code_dim
    counts = quantizer.counts(codes)
    assert counts.shape == (quantizer.scale_count, quantizer.size)
    assert int(counts.sum()) == codes.numel()
    quantizer.restart(torch.tensor([0, 1]), features.detach())
    with torch.autocast("cpu", torch.bfloat16):
        assert quantizer(features).vectors.dtype == torch.float32


@pytest.mark.parametrize("name", trained)
def test_training_reaches_encoder_and_decoder_and_lowers_the_loss(name):
    tokenizer, pictures = make(name)
    config = TokenizerLossConfig(
        adversarial=0.1, critic_start=3, critic_layers=1, critic_channels=8, revive_every=2
    )
    objective = TokenizerObjective(tokenizer.train(), pictures, config)
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    losses = []
    for step in range(12):
        found = objective.losses(torch.arange(2), step)
        assert set(found.losses) == ({"model", "critic"} if step >= 3 else {"model"})
        optimizer.zero_grad()
        found.losses["model"].backward()
        learned = [name for name, p in tokenizer.named_parameters() if p.grad is not None]
        assert {name for name, _ in tokenizer.named_parameters()} == {*learned}
        assert tokenizer.last_layer.grad.any()
        optimizer.step()
        found.finish()
        losses.append(float(found.metrics["loss"]))
    assert losses[2] < losses[0]
    assert 0 < objective.usage(11)["usage"] <= 1
    assert objective.state()["last_used"].shape[1] == tokenizer.vocabulary


@each_tokenizer
def test_shapes_of_nothing_are_refused(name):
    kind = TOKENIZERS.find(name)
    tiny = kind.presets["tiny"]
    sizes = [f.name for f in dataclasses.fields(tiny) if type(getattr(tiny, f.name)) is int]
    assert sizes
    for field in sizes:
        with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
            kind(dataclasses.replace(tiny, **{field: 0}))
