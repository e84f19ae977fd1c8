"""What a seed promises whatever the precision, the batch and the caller's own settings of torch."""

from contextlib import contextmanager

import pytest
import torch

from entries import CLASSES, TOKENIZERS, make, pipeline, tokenizer_of
from setar.models.base import FAMILIES
from setar.pictures.masks import box_mask
from setar.pictures.sheets import to_pil
from setar.pipeline import Pipeline
from setar.pretrained import load_tokenizer, save_tokenizer
from setar.sampling import generate
from setar.tokenizers.base import decode_codes, encode_images

each_family = pytest.mark.parametrize("family", [*FAMILIES])
half = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])

BOUND = 1e-4
"""How far rounding may move a probability."""


@contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def meta():
    """Stands for any default device: a tensor that is made without saying where has no content."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "float64": float64,
    "device": meta,
    "deterministic": deterministic,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no grad": torch.no_grad,
    "inference": torch.inference_mode,
}
each_setting = pytest.mark.parametrize("setting", SETTINGS)


@each_family
@each_setting
def test_what_the_caller_has_set_changes_no_picture(family, setting, tmp_path):
    pipe = pipeline(family, guidance=1.5)
    pipe.save_pretrained(tmp_path / "m")
    classes, options = CLASSES[:3], {"seed": 5, "top_p": 0.9, "top_k": 20}
    codes = pipe.sample_codes(classes, **options)
    pictures = pipe.decode(codes)
    image, mask = to_pil(pictures)[0], box_mask(pipe.size, (0, 8, *pipe.size))
    edited = pipe.edit(image, mask, 0)[0]
    with SETTINGS[setting]():
        again = Pipeline.from_pretrained(tmp_path / "m")
        assert {value.dtype for value in again.model.state_dict().values()} == {torch.float32}
        for other in (pipe, again):
            assert torch.equal(other.sample_codes(classes, **options), codes)
            assert torch.equal(other.decode(codes), pictures)
            assert other.size == pipe.size
            assert other.edit(image, mask, 0)[0].tobytes() == edited.tobytes()


@pytest.mark.parametrize("recipe", ["random-9-random", "halton-5-uniform", "next-scale", "ar"])
@each_setting
def test_and_no_order(recipe, setting):
    pipe = pipeline("fmt")
    codes = pipe.sample_codes("cat", count=3, recipe=recipe)
    with SETTINGS[setting]():
        assert torch.equal(pipe.sample_codes("cat", count=3, recipe=recipe), codes)


@each_setting
def test_smoothing_has_its_noise(setting):
    pipe = pipeline("var")
    codes = pipe.sample_codes("cat", count=2, smoothing=True)
    with SETTINGS[setting]():
        assert torch.equal(pipe.sample_codes("cat", count=2, smoothing=True), codes)


@each_family
@half
def test_models_in_half_precision_are_sampled(family, dtype):
    pipe = pipeline(family, guidance=1.5)
    exact = pipe.sample_codes(CLASSES, seed=1)
    rough = Pipeline(make(family).to(dtype), pipe.tokenizer, CLASSES, pipe.defaults)
    codes = rough.sample_codes(CLASSES, seed=1)
    assert codes.dtype == torch.int64
    same = float((codes == exact).float().mean())
    assert same > 1 / 4, "by chance a token in 32 would be the same"
    for attention in pipe.model.attentions:
        plain = rough.sample_codes(CLASSES, seed=1, cache=False, attention=attention)
        assert plain.shape == codes.shape
    assert torch.equal(rough.sample_codes("cat", seed=1), codes[:1])
    if pipe.model.takes_soft_codes:
        assert rough.sample_codes("cat", smoothing=True).dtype == torch.float32


@pytest.mark.parametrize("name", [*TOKENIZERS])
@half
def test_tokenizers_in_half_precision(name, dtype):
    kind = TOKENIZERS.find(name)
    torch.manual_seed(0)
    tokenizer = kind(kind.presets["tiny"]).eval().requires_grad_(False)
    height, width = tokenizer.image_size or (16, 8)
    pictures = torch.randint(256, (2, 3, height, width)).byte()
    grid, codes = tokenizer.grid(height, width), encode_images(tokenizer, pictures)
    exact = decode_codes(tokenizer, codes, grid).float()
    tokenizer.to(dtype)
    assert encode_images(tokenizer, pictures).shape == codes.shape
    assert (decode_codes(tokenizer, codes, grid) - exact).abs().max() < 16


@half
@each_family
def test_model_and_tokenizer_may_differ_in_precision(family, dtype):
    pipe = pipeline(family)
    tokenizer = type(tokenizer_of(family))(tokenizer_of(family).config).eval().to(dtype)
    mixed = Pipeline(make(family), tokenizer, CLASSES, pipe.defaults)
    assert len(mixed("cat", count=2)) == 2


def test_tokenizers_load_in_float32_whatever_the_default(tmp_path):
    save_tokenizer(tokenizer_of("fmt").to(torch.float32), tmp_path / "vq")
    with float64():
        loaded = load_tokenizer(tmp_path / "vq")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}


@each_family
def test_a_batch_changes_no_more_than_rounding(family, monkeypatch):
    """Where a token of an image differs, its draw lay within rounding of an edge."""
    pipe, drawn = pipeline(family, guidance=1.5), []
    own = generate.draw

    def remember(probs, uniform):
        drawn.append((probs.double().cumsum(-1), uniform, own(probs, uniform)))
        return drawn[-1][-1]

    monkeypatch.setattr(generate, "draw", remember)
    classes, seeds = [i % 5 for i in range(64)], [*range(64)]
    together = pipe.sample_codes(classes, seed=seeds)
    steps = list(drawn)
    for batch_size in (1, 7):
        drawn.clear()
        apart = pipe.sample_codes(classes, seed=seeds, batch_size=batch_size)
        batches = [drawn[i : i + len(steps)] for i in range(0, len(drawn), len(steps))]
        ours = [
            tuple(map(torch.cat, zip(*parts, strict=True))) for parts in zip(*batches, strict=True)
        ]
        alike = torch.ones(64, dtype=torch.bool)
        for (cdf, noise, codes), (other, _, found) in zip(steps, ours, strict=True):
            assert (cdf - other)[alike].abs().max() < BOUND
            wrong = (codes != found) & alike[:, None]
            edge = cdf.gather(-1, torch.minimum(codes, found)[..., None])[..., 0]
            assert ((edge - noise).abs()[wrong] < BOUND).all()
            alike &= ~wrong.any(1)
        assert alike.sum() > 60
        assert torch.equal(apart[alike], together[alike])


@each_family
def test_logits_that_are_no_numbers_name_the_weight(family):
    pipe = pipeline(family)
    broken = Pipeline(make(family), pipe.tokenizer, CLASSES, pipe.defaults)
    broken.model.condition.table.weight[2, 0] = torch.nan
    assert len(broken("cat")) == 1, "another class does not meet it"
    for options in ({}, {"temperature": 0.0}, {"top_k": 3, "top_p": 0.5}, {"cache": False}):
        with pytest.raises(ValueError, match="holds NaN, in the weights 'condition"):
            broken.sample_codes("sun", **options)
    with torch.inference_mode():
        broken.model.head.weight[0] = torch.inf
    with pytest.raises(ValueError, match="the model holds"):
        broken.sample_codes("cat")


def test_logits_beyond_half_precision():
    pipe = pipeline("fmt")
    model = make("fmt")
    model.head.weight.mul_(1e5)
    model.half()
    model.head.weight.clamp_(-6e4, 6e4)
    broken = Pipeline(model, pipe.tokenizer, CLASSES, pipe.defaults)
    with pytest.raises(ValueError, match=r"though its weights are: .* \(use float32 or bfloat16\)"):
        broken.sample_codes("cat")
