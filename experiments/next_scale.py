"""Next-scale prediction: VAR against the recipe `next-scale` of an FMT, on emoji."""

from dataclasses import asdict
from functools import partial
from typing import Any

from lab import (
    MULTISCALE,
    SEEDS,
    Claim,
    Section,
    count_of_seeds,
    emoji_run,
    key,
    lasting,
    mean,
    remember,
    shipped_model,
    shown,
    table,
    train,
)

from setar import Pipeline
from setar.evaluation.emoji import evaluate_generator
from setar.training.generator import GeneratorRun

EMOJI_STEPS = 1500
"""Of 32 images, for the VAR and for the FMT."""

COUNT = 8
"""Emoji that are sampled of each of the 99 subgroups."""

OPTIONS = {"guidance": 1.25, "temperature": 0.5}
"""How both are sampled, fixed before anything was measured."""

OF_CLASSES = ("emoji", "emoji-var")
"""The shipped models that draw emoji of the 99 subgroups."""


SCALES = "raster-1,4,9,16,36,64"
FMT = {"family": "fmt", "width": 128, "encoder_layers": 2, "decoder_layers": 2}


def var_run(seed: int, self_correction: float = 0.0) -> GeneratorRun:
    """1.42 M parameters."""
    var = {"family": "var"}
    return emoji_run(
        SCALES, var, EMOJI_STEPS, MULTISCALE, seed=seed, self_correction=self_correction
    )


def sar_run(seed: int) -> GeneratorRun:
    """1.33 M parameters."""
    return emoji_run("next-scale", FMT, EMOJI_STEPS, seed=seed)


NEXT_SCALE = {
    "VAR": var_run,
    "SAR, next-scale": sar_run,
    "VAR with self-correction": partial(var_run, self_correction=0.3),
}
"""What is compared on emoji: from a seed to a run."""


def judged(source: GeneratorRun | str, **options: Any) -> dict[str, Any]:
    """The figures of an emoji model, trained by a run or shipped under a name, and its passes."""
    model = shipped_model(source) if isinstance(source, str) else lasting(source)
    name = key({"model": model, "options": options, "count": COUNT, "what": "emoji"})
    return remember(f"figures/{name}", lambda: _judged(source, options))


def _judged(source: GeneratorRun | str, options: dict[str, Any]) -> dict[str, Any]:
    pipe = Pipeline.from_pretrained(source if isinstance(source, str) else train(source))
    recipe = pipe.defaults.recipe
    report, _ = evaluate_generator(pipe, COUNT, progress=False, **options)
    return {
        **asdict(report),
        "recipe": str(recipe),
        "passes": recipe.set_count(pipe.grid),
        "parameters": sum(p.numel() for p in pipe.model.parameters()),
    }


def emoji_row(name: str, seen: str, seeds: list[dict[str, Any]]) -> tuple[str, ...]:
    """A row of the emoji table; figures of several seeds with their spread."""
    first = seeds[0]

    def over(field: str, digits: int = 3) -> str:
        return shown([figures[field] for figures in seeds], digits)

    return (
        name,
        f"{first['parameters'] / 1e6:.2f} M",
        seen,
        f"`{first['recipe']}`",
        str(first["passes"]),
        over("class_share"),
        over("distance", 1),
        f"{first['distance_reconstructed_balanced']:.1f}",
        over("near_copies"),
        f"{first['seconds']:.1f}",
    )


EMOJI_HEAD = ("model", "parameters", "images seen", "sampled with", "passes", "class share")
EMOJI_HEAD += ("FD-EffLite0", "FD of reconstructions", "near copies", "seconds")


def section() -> Section:
    found = {
        name: [judged(run(seed), seed=seed * 99 * COUNT, **OPTIONS) for seed in SEEDS]
        for name, run in NEXT_SCALE.items()
    }
    rows = [emoji_row(name, f"{32 * EMOJI_STEPS:,}", seeds) for name, seeds in found.items()]
    rows += [emoji_row(f"shipped `{name}`", "see its card", [judged(name)]) for name in OF_CLASSES]
    means = {
        name: {field: mean([f[field] for f in seeds]) for field in ("class_share", "distance")}
        for name, seeds in found.items()
    }
    var, sar = means["VAR"], means["SAR, next-scale"]
    claim = Claim(
        11,
        "next-scale as a recipe of SAR, on tokens of one scale, lags VAR",
        "of two models with the same data, images and size the VAR has the higher class share and "
        "the lower FD-EffLite0",
        "; ".join(
            f"{name}: class share {f['class_share']:.3f}, FD {f['distance']:.1f}"
            for name, f in means.items()
        ),
        var["class_share"] > sar["class_share"] and var["distance"] < sar["distance"],
    )
    real = found["VAR"][0]
    body = f"""
Emoji. The VAR predicts six maps of a multi-scale tokenizer, up to 8x8; the FMT is trained with the recipe `next-scale` on the one 8x8 map of the shipped
tokenizer, whose coarse sets are some of its tokens. With self-correction, up to 0.3 of an image's codes are wrong while training, and those that make up for it are asked for. Same data, every
subgroup equally often, {EMOJI_STEPS:,} steps of 32 images, Muon as in `configs/emoji.toml`, {count_of_seeds()}; {99 * COUNT} samples at guidance {OPTIONS["guidance"]:g} and temperature {OPTIONS["temperature"]:g}. The shipped
models were trained far longer and are sampled by their own defaults. Real emoji have a class share of {real["class_share_real"]:.3f}, and as many of them an FD of
{real["distance_real_balanced"]:.1f}; the two tokenizers differ, so the FD of what each makes of real emoji stands beside it.

{table(EMOJI_HEAD, rows)}
"""
    return Section("Next-scale: VAR against SAR", body, (claim,))


if __name__ == "__main__":
    print(section().markdown())
