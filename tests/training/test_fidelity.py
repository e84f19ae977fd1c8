"""The Frechet distance on the way is that of an evaluation."""

import json

import pytest
import torch

import setar
from setar.data.base import open_data
from setar.evaluation.metrics import evaluate
from setar.features.base import make_extractor
from setar.training.distributed import ALONE
from setar.training.fidelity import Fidelity
from training.test_training_run import DIGITS


def test_it_is_the_distance_of_an_evaluation():
    data = open_data("digits:heldout")
    noise = torch.randint(256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    noise = noise.to(torch.uint8)
    fidelity = Fidelity(lambda module: noise.__getitem__, 40, data, ALONE, torch.device("cpu"))
    found = fidelity(torch.nn.Identity())
    features = make_extractor(data.features)
    real = data.images[torch.arange(len(data))]
    assert found["FD-digits"] == pytest.approx(evaluate(noise, real, features)["FD-digits"])
    same = Fidelity(lambda module: real.__getitem__, len(data), data, ALONE, torch.device("cpu"))
    assert same(torch.nn.Identity())["FD-digits"] == pytest.approx(0, abs=1e-3)
    assert found["FD-digits"] > 100


def test_a_run_measures_it_on_the_way_and_at_the_end(tmp_path):
    loop = {**DIGITS["loop"], "steps": 3, "fd_every": 2, "fd_samples": 12, "log_every": 10}
    setar.train({**DIGITS, "data": {"source": "digits:heldout"}, "loop": loop}, tmp_path / "a")
    lines = [json.loads(t) for t in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "FD-digits" in line] == [2, 3]
    del loop["fd_every"]
    setar.train({**DIGITS, "data": {"source": "digits:heldout"}, "loop": loop}, tmp_path / "b")
    files = [tmp_path / n / "checkpoints/step-00000003/model.safetensors" for n in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
