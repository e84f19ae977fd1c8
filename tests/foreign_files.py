"""What the tests of importers share: golden files, tokenizers on disk, comparisons."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from random_weights import randomise
from setar.pretrained import save_tokenizer
from setar.tokenizers.vqgan import VQGAN, VQGANConfig

GOLDEN = Path(__file__).parents[1].parent / "shared/golden"


def read_golden(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
    """Their state dict, inputs and outputs, and what the file says of the architecture."""
    path = GOLDEN / f"{name}.safetensors"
    if not path.exists():
        pytest.skip("the golden file is not there")
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        shape = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
    state, outputs = (
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        for prefix in ("model.", "golden.")
    )
    return state, outputs, shape


def save_vqgan(folder: Path, codes: int = 24) -> Path:
    """A tokenizer of one scale and 2x2 pixels per token, with random weights."""
    config = VQGANConfig(
        channels=8,
        multipliers=(1, 1),
        blocks=1,
        latent_channels=8,
        codebook_size=codes,
        codebook_dim=4,
    )
    save_tokenizer(randomise(VQGAN(config)), folder)
    return folder


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Size of the difference of two tensors beside that of the second."""
    return ((ours - theirs).norm() / theirs.norm()).item()


def assert_same_weights(
    ours: nn.Module, theirs: Mapping[str, Tensor], foreign_name: Callable[[str], str]
) -> None:
    """Whether a model has the weights of a state dict; axes of size 1 do not count."""
    for name, value in ours.state_dict().items():
        assert torch.equal(value.flatten(), theirs[foreign_name(name)].float().flatten())


def assert_float32_frozen(model: nn.Module) -> None:
    """What every converted model is."""
    assert not model.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in model.parameters())
