"""``setar export``: samples for other people's benchmarks of text models, a command per format."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from setar.cli import options
from setar.cli.console import say
from setar.cli.files import prepare_folder
from setar.cli.models import find_config
from setar.numbers import counted

Out = Annotated[Path, typer.Option(help="Folder to write; an export that was stopped goes on.")]
Count = Annotated[int, typer.Option(help="Samples of a prompt.", callback=options.counted(1, 1000))]
Seed = Annotated[
    int,
    typer.Option(
        help="Sample j of prompt i uses seed + i * count + j.", callback=options.whole_seed
    ),
]


@options.with_sampling
def geneval(
    model: options.Model,
    prompts: Annotated[Path, typer.Argument(help="GenEval's evaluation_metadata.jsonl.")],
    out: Out,
    count: Count = 4,
    size: options.Size = "",
    negative_prompt: options.Negative = None,
    sampling: options.Sampling = options.AS_TRAINED,
    seed: Seed = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Samples for GenEval: OUT/00000/samples/0000.png and its line of metadata."""
    _export("geneval", model, prompts, out, count, size, negative_prompt, sampling, seed, device)


@options.with_sampling
def dpg(
    model: options.Model,
    prompts: Annotated[Path, typer.Argument(help="DPG-Bench's folder of prompts, ID.txt.")],
    out: Out,
    count: Count = 4,
    size: options.Size = "",
    negative_prompt: options.Negative = None,
    sampling: options.Sampling = options.AS_TRAINED,
    seed: Seed = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Samples for DPG-Bench: OUT/ID.png, four samples two by two (or one)."""
    _export("dpg", model, prompts, out, count, size, negative_prompt, sampling, seed, device)


def _export(
    name: str,
    model: str,
    prompts: Path,
    out: Path,
    count: int,
    size: str,
    negative_prompt: str | None,
    sampling: options.Sampling,
    seed: int,
    device: str,
) -> None:
    shape = options.parse_size(size)
    find_config(model)
    if not prompts.exists():
        raise ValueError(f"{prompts} does not exist")
    prepare_folder(out.parent)

    from setar.evaluation.exports import export

    pipe = options.load_pipeline(model, device, sampling)
    done = export(
        name,
        pipe,
        prompts,
        out,
        count,
        seed,
        shape,
        negative_prompt,
        model,
        sys.stderr.isatty(),
    )
    before = done.prompts - done.made
    there = f", {before} were there already" if before else ""
    say(f"{counted(done.made, 'prompt')}, {counted(count, 'sample')} each{there} -> {out}")
    say(f"measured by: {_evaluator(name, out, done.size[0], count)}")


def _evaluator(name: str, out: Path, side: int, count: int) -> str:
    """The command of a benchmark's own checkout that looks at the samples."""
    if name == "dpg":
        return f"PIC_NUM={count} bash dpg_bench/dist_eval.sh {out} {side}"
    return f"python evaluation/evaluate_images.py {out} --outfile results.jsonl --model-path ..."
