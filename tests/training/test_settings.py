import re
from pathlib import Path

import pytest

from setar.models.fmt import PRESETS
from setar.tokenizers.multiscale import PRESETS as MULTISCALE
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.pixels import PixelLevels, PixelLevelsConfig
from setar.training.settings import (
    GeneratorRun,
    ModelConfig,
    MultiScaleTokenizerRun,
    TokenizerRun,
    read_run,
)

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))

GENERATOR = """
task = "generator"
recipe = "random-16-random"
data.source = "digits"
"""
TOKENIZER = """
task = "tokenizer"
data.source = "emoji"
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(text, *overrides):
        file = tmp_path / "run.toml"
        file.write_text(text)
        return read_run(file, list(overrides))

    return write_and_read


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_of_the_project_reads(file):
    run = read_run(file, [])
    tokenizers = (TokenizerRun, MultiScaleTokenizerRun)
    assert isinstance(run, tokenizers if "tokenizer" in file.stem else GeneratorRun)
    assert f"configs/{file.name}" in file.read_text(), "its first lines give the command"


def test_there_are_configs():
    assert {"digits", "emoji", "emoji-tokenizer"} <= {file.stem for file in CONFIGS}


def test_defaults(read):
    run = read(GENERATOR)
    assert isinstance(run, GeneratorRun)
    assert (run.tokenizer, run.model.preset, run.optimizer.learning_rate) == ("pixels", "B", 1e-4)
    assert read(TOKENIZER).tokenizer.codebook_size == 16384


@pytest.mark.parametrize("value", ["[16]", "[16, 32, 8]", "[16, 0]", "0", "'16x32'", "[16, 1.5]"])
def test_an_image_size_is_a_side_or_two(read, value):
    assert read(TOKENIZER, "data.image_size=[16, 32]").data.image_size == (16, 32)
    with pytest.raises(ValueError, match=r"\A[^\n]*image_size[^\n]*\Z"):
        read(TOKENIZER, f"data.image_size={value}")


def test_overrides(read):
    run = read(
        GENERATOR, "loop.steps=7", "recipe=ar", "optimizer.learning_rate=1", "model.preset=tiny",
        "optimizer.betas=[0.5, 0.6]", "data.flips=true", 'sampling.recipe="random-4-cosine"',
    )  # fmt: skip
    assert (run.loop.steps, run.recipe, run.model.preset) == (7, "ar", "tiny")
    assert (run.optimizer.learning_rate, run.optimizer.betas) == (1.0, (0.5, 0.6))
    assert run.data.flips
    assert run.sampling.recipe == "random-4-cosine"


def test_a_preset_with_changes():
    shape = ModelConfig(preset="L", encoder_layers=3, dropout=0.0).shape(tokenizer(512), 7, (8, 8))
    assert (shape.vocabulary, shape.classes, shape.grid) == (512, 7, (8, 8))
    assert (shape.encoder_layers, shape.dropout) == (3, 0.0)
    large = PRESETS["L"]
    assert (shape.width, shape.decoder_layers) == (large.width, large.decoder_layers)
    with pytest.raises(ValueError, match="width"):
        ModelConfig(preset="tiny", width=30).shape(tokenizer(512), 7, (8, 8))


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        (GENERATOR, "loop.step=7", "unknown key `step`; did you mean `steps`?"),
        (GENERATOR, "receipt=ar", "unknown key `receipt`; did you mean `recipe`?"),
        (GENERATOR, "tokenizer.channels=8", "tokenizer"),
        (GENERATOR, "recipe=rndom-16-random", "did you mean 'random'"),
        (GENERATOR, "recipe=random-16-cosin", "cosine"),
        (GENERATOR, "sampling.recipe=nothing", "nothing"),
        (GENERATOR, "model.preset=XXL", f"known: {', '.join(PRESETS)}"),
        (GENERATOR, "loop.steps=0", "at least 1"),
        (GENERATOR, "loop.steps=2.5", "loop.steps"),
        (GENERATOR, "loop.steps=many", "loop.steps"),
        (GENERATOR, "loop.precision=float8", "loop.precision"),
        (GENERATOR, "optimizer.learning_rate=nan", "finite"),
        (GENERATOR, "sampling.settings.top_p=2", "top_p"),
        (GENERATOR, "data=7", "data"),
        (GENERATOR, "self_correction=1.5", "from 0 to 1"),
        (GENERATOR, "self_correction=0.3", "is for the family 'var'"),
        (TOKENIZER, "recipe=ar", "unknown key `recipe`"),
        (TOKENIZER, "loss.adversarial=-1", "at least 0"),
        (TOKENIZER, "tokenizer.channels=12", "multiple of 8"),
        (
            TOKENIZER,
            "task=tokeniser",
            "must be one of tokenizer, multiscale-tokenizer, generator, not 'tokeniser'",
        ),
        (TOKENIZER, 'task=["tokenizer"]', "must be one of"),
        (TOKENIZER, "task.name=tokenizer", "is a value, not a table"),
        (TOKENIZER, "loop.steps", "key=value"),
        ('task = "generator"\nrecipe = "ar"', "loop.steps=1", "data"),
        ("", "loop.steps=1", "must be one of tokenizer, multiscale-tokenizer, generator, not None"),
        ("task = ", "loop.steps=1", "not valid TOML"),
    ],
)
def test_mistakes_are_one_line(read, text, override, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(text, override)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"cannot read the config nowhere/run\.toml"):
        read_run(Path("nowhere/run.toml"), [])


def tokenizer(vocabulary):
    return PixelLevels(PixelLevelsConfig(vocabulary))


def test_a_var_takes_its_scales_from_the_tokenizer():
    multiscale = MultiScaleVQ(MULTISCALE["tiny"])
    shape = ModelConfig("var", "tiny", width=64).shape(multiscale, 7, (4, 4))
    assert (shape.scales, shape.code_dim) == (multiscale.scales, 8)
    assert (shape.vocabulary, shape.classes, shape.width) == (32, 7, 64)
    with pytest.raises(ValueError, match="needs a multi-scale tokenizer"):
        ModelConfig("var", "tiny").shape(tokenizer(9), 7, (4, 4))


def test_a_family_has_its_own_layers():
    assert ModelConfig("decoder-only", layers=3).shape(tokenizer(9), 2, (2, 2)).layers == 3
    with pytest.raises(ValueError, match="'fmt' has no 'layers'"):
        ModelConfig(layers=3)
    with pytest.raises(ValueError, match="'decoder-only' has no 'encoder_layers'"):
        ModelConfig("decoder-only", encoder_layers=3)
    with pytest.raises(ValueError, match="unknown preset 'emoji'"):
        ModelConfig("decoder-only", "emoji")
