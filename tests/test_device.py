import subprocess
import sys

import pytest
import torch

from setar.device import Unfilled, find_device


@pytest.mark.parametrize("name", ["cuda:99", "cuda:-1", "nonsense", "", "meta", "vulkan", "hpu"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="this machine has no device") as error:
        find_device(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_long_name_is_cut():
    with pytest.raises(ValueError, match="no device 'xxx") as error:
        find_device("x" * 10_000)
    assert len(str(error.value)) < 120


def test_devices_that_are_there():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_if_there_is_one(monkeypatch, there, expected):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda n, device: asked.append(device.type) or zeros(n))
    assert find_device("auto").type == expected
    assert asked == [expected], "it is tried before it is named"


def test_modules_without_weights_are_not_initialised():
    with torch.device("meta"), Unfilled():
        layer = torch.nn.Linear(3, 4)
        assert layer.weight.is_meta
        filled = torch.zeros(3, device="cpu").fill_(2)
    assert filled.tolist() == [2, 2, 2]


def test_loading_a_model_does_not_load_an_algebra_system():
    code = """
import sys
from setar import Pipeline
for name in ("emoji", "emoji-var"):
    Pipeline.from_pretrained(name)
print("sympy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
