"""Floating-point operations of a step, and the most that a device can do."""

import json

import pytest
import torch

import setar
import tiny_runs
from setar.models.base import FAMILIES
from setar.recipes.recipe import Recipe
from setar.training import cost, loop
from setar.training.cost import flops_of, peak
from setar.training.generator import loss_of_one
from training.test_training_run import DIGITS


@pytest.mark.parametrize("layers", [1, 3])
def test_of_a_transformer_it_is_six_times_weights_and_tokens_and_attention(layers):
    kind, (rows, columns) = FAMILIES.find("fmt"), (8, 8)
    width, tokens, prefix = 64, rows * columns, 1
    config = kind.Config(
        vocabulary=512, classes=10, grid=(rows, columns), width=width, heads=2,
        encoder_layers=layers, decoder_layers=layers,
    )  # fmt: skip
    with torch.device("meta"):
        model = kind(config)
    found = flops_of(loss_of_one(model, (rows, columns), Recipe.parse("random-8-random")))
    matrices = sum(
        module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear)
    )
    views = 3 * layers  # self-attention of both halves, and across
    expected = 6 * matrices * tokens + 12 * views * width * tokens * (tokens + prefix)
    assert found == pytest.approx(expected, rel=0.03)


def test_what_does_not_run_on_meta_is_not_known():
    assert flops_of(lambda: torch.tensor(1.0)) is None
    assert flops_of(lambda: torch.ones(2, device="meta").nonzero().sum()) is None


def test_a_gpu_does_what_its_maker_says(monkeypatch):
    names = {
        "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H100 PCIe": 756e12, "NVIDIA A10": 125e12, "NVIDIA L4": 121e12,
        "NVIDIA L40S": 362e12, "NVIDIA H200": 989e12, "NVIDIA RTX A1000": 7.0,
    }  # fmt: skip
    monkeypatch.setattr(cost, "find_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(cost, "_measured", lambda device, dtype: 7.0)
    for number, (name, most) in enumerate(names.items()):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak(f"cuda:{number}", "bfloat16") == most
        assert peak(f"cuda:{number}", "float32") == 7.0


def test_a_cpu_is_measured():
    assert 1e8 < peak("cpu", "float32") < 1e14


def test_a_run_logs_its_utilisation_once_it_is_warm(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "WARM", 3)
    monkeypatch.setattr(loop, "peak", lambda device, precision: 1e9)
    setar.train(DIGITS, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert ["mfu" in line for line in lines] == [False, False, True, True]
    flops = lines[2]["mfu"] * 1e9 / lines[2]["images_per_second"]
    assert flops == pytest.approx(lines[3]["mfu"] * 1e9 / lines[3]["images_per_second"], rel=0.02)
    assert flops > 6 * 64 * 1000
    assert "mfu" in capsys.readouterr().out


def test_tokenizers_and_stages_have_a_cost(make, tmp_path):
    tiny_runs.save_pictures(tmp_path / "pictures")
    trainer = make(tiny_runs.FOLDER_TOKENIZER, f"data.source={tmp_path / 'pictures'}")
    assert trainer.flops(0) > 1e6
