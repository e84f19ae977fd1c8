"""What is measured: a preset of a family with random weights, or a model that exists."""

from typing import Any

import torch

from setar.device import float32_by_default
from setar.models.base import FAMILIES, Generator
from setar.registry import did_you_mean
from setar.sampling.settings import SamplingDefaults


def load_subject(
    name: str,
    device: torch.device,
    sampling: dict[str, Any],
    precision: str | None,
    training: bool = False,
) -> tuple[Generator[Any], SamplingDefaults]:
    """The generator of ``family:preset`` or of a model, with its settings, ready to sample.

    For ``training`` it is in float32, as training makes it.

    Raises:
        ValueError: there is no such model, or it cannot be sampled in this way.
    """
    if (preset := _preset(name)) is None:
        from setar.pipeline import load_for_sampling

        pipe = load_for_sampling(name, device, sampling, None if training else precision)
        model, chosen = pipe.model, pipe.defaults
        pipe.check_sampling(chosen)
        if training:
            model = type(model)(model.config).to(device)
            model.attach(pipe.tokenizer)
        return model, chosen
    model = preset.to(device)
    try:
        model.start(model.condition.example(1).to(device), 1)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; measure a model folder instead") from error
    own = {"recipe": model.config.sampling_recipe}
    chosen = SamplingDefaults().changed({**own, **sampling})
    model.check_attention(chosen.settings.attention)
    if not training:
        model.compute_in(precision or "float32", device)
    return model, chosen


def _preset(name: str) -> Generator[Any] | None:
    """A model of random weights; None if the name is not ``family:preset``."""
    family, colon, size = name.partition(":")
    if not colon or family not in FAMILIES:
        return None
    kind = FAMILIES.find(family)
    if size not in kind.presets:
        raise ValueError(f"{family} has no preset {size!r}; {did_you_mean(size, kind.presets)}")
    with float32_by_default():
        torch.manual_seed(0)
        model = kind(kind.presets[size]).eval().requires_grad_(False)
    torch.nn.init.normal_(model.get_submodule("head").weight, std=0.02)  # type: ignore[arg-type]
    return model
