"""Whether a run that is resumed is still the one that was started.

Its newest checkpoint is the truth: a default may have become another one since, a class may have
been renamed, a tokenizer trained on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from setar.config import build, table
from setar.models.base import FAMILIES
from setar.registry import Table
from setar.tokenizers.base import TOKENIZERS

ANOTHER = "resume it as it was, or choose another --out"

MODULES: dict[str, Table[Any]] = {"model": FAMILIES, "tokenizer": TOKENIZERS}
"""Entries of ``config.json`` that say what a module is."""


class AnotherRun(ValueError):
    """The checkpoint is whole, but not of this run."""


def check_identity(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise AnotherRun, naming the difference, unless two ``config.json`` are of one run."""
    _check_classes(run, before.get("classes"), now.get("classes"))
    for name, kinds in MODULES.items():
        was, is_ = (flat(_complete(config.get(name), kinds), name) for config in (before, now))
        for key in [*was, *is_]:
            if was.get(key) != is_.get(key):
                raise AnotherRun(different(run, key, was.get(key), is_.get(key)))


def check_weights(
    run: Path, part: str, before: Mapping[str, Tensor], now: Mapping[str, Tensor]
) -> None:
    """Raise AnotherRun unless a part that is not trained, such as the tokenizer, is the same."""
    for name, tensor in now.items():
        if name not in before or not torch.equal(before[name], tensor.cpu()):
            raise AnotherRun(
                f"{run} was started with {part} weights that are not these (`{name}` differs): it "
                f"was trained on since, or is another one; the run has a copy of its own, which "
                f"is used with --set {part}={run}"
            )


def different(run: Path, key: str, before: object, now: object) -> str:
    """The message of a setting that is another one than it was."""
    return f"{run} was started with {key} = {before!r:.80}, not {now!r:.80}: {ANOTHER}"


def _check_classes(run: Path, before: Any, now: Any) -> None:
    before, now = (names if isinstance(names, list) else [] for names in (before, now))
    for index in range(max(len(before), len(now))):
        was, is_ = (repr(c[index])[:80] if index < len(c) else "none" for c in (before, now))
        if was != is_:
            raise AnotherRun(f"class {index} of {run} was {was}, now {is_}: {ANOTHER}")


def _complete(entry: Any, kinds: Table[Any]) -> Any:
    """An entry with the defaults of what it does not say; as it is if that is unknown."""
    if not isinstance(entry, Mapping):
        return entry
    values = dict(entry)
    try:
        family = values.pop("family", None)
        return {"family": family, **table(build(kinds.find(family).Config, values))}
    except ValueError:
        return entry


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with keys such as ``model.width``."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else key)
    return found
