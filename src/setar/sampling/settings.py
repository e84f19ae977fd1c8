"""What a model is sampled with: a part of its config, and what the caller changes of it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from setar.config import build, table
from setar.recipes.recipe import Recipe
from setar.registry import quoted
from setar.sampling.guidance import Guidance
from setar.sampling.logits import check_filters, probabilities


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are drawn; the defaults are the paper's (section 4.1)."""

    temperature: float = 1.0
    """Divides the logits: below 1 likely codes get likelier; 0 is the likeliest alone."""
    top_k: int = 0
    """Keep the k likeliest codes; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest likeliest part of the distribution with this probability."""
    min_p: float = 0.0
    """Keep codes at least this fraction as likely as the likeliest."""
    attention: str = "causal"
    """``causal``, or ``full`` as in MAR: every step looks at all known tokens anew."""
    cache: bool = True
    """Keep keys and values of causal attention; False recomputes them (same images, slower)."""
    smoothing: bool = False
    """Mixtures of codes instead of codes, VAR's ``more_smooth``: smoother, less detail. A VAR only;
    the codes that come out are soft, float ``[B, N, V]``."""

    def __post_init__(self) -> None:
        check_filters(self.temperature, self.top_k, self.top_p, self.min_p)
        if self.attention not in ("causal", "full"):
            raise ValueError(f"`attention` must be causal or full, not {quoted(self.attention)}")
        for name in ("cache", "smoothing"):
            if not isinstance(getattr(self, name), bool):
                value = quoted(getattr(self, name))
                raise ValueError(f"`{name}` must be True or False, not {value}")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Distributions ``[..., V]`` from guided logits, filtered."""
        return probabilities(logits, self.temperature, self.top_k, self.top_p, self.min_p)


@dataclass(frozen=True)
class SamplingDefaults:
    """Recipe, guidance and settings of a model."""

    recipe: Recipe = field(default_factory=lambda: Recipe.parse("random-16-cosine"))
    guidance: Guidance = field(default_factory=Guidance)
    settings: SamplingSettings = field(default_factory=SamplingSettings)

    def changed(self, changes: Mapping[str, Any]) -> "SamplingDefaults":
        """The same with what a caller or a command line asks for.

        Args:
            changes: ``recipe`` (a `Recipe` or its text), ``guidance`` (a scale, which changes as
                this guidance does, or a `Guidance` in its place), and any field of `Guidance` or
                `SamplingSettings`; None changes nothing.

        Raises:
            ValueError: a name is unknown, or a value is out of range.
        """
        given = {name: _plain(value) for name, value in changes.items() if value is not None}
        recipe, guidance = given.pop("recipe", self.recipe), given.pop("guidance", self.guidance)
        if not isinstance(recipe, Recipe):
            recipe = Recipe.parse(recipe)
        if not isinstance(guidance, Guidance):
            guidance = dataclasses.replace(self.guidance, scale=guidance)
        names = {field.name for field in dataclasses.fields(Guidance)}
        of_guidance = {name: given.pop(name) for name in list(given) if name in names}
        guidance = build(Guidance, {**table(guidance), **of_guidance}, "guidance")
        settings = build(SamplingSettings, {**table(self.settings), **given}, "sampling")
        return SamplingDefaults(recipe, guidance, settings)


def _plain(value: Any) -> Any:
    """A number of numpy or torch as Python's."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
