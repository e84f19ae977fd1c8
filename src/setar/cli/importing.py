"""``setar import``: checkpoints of other projects, a command per family."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from setar.cli.console import say, show
from setar.cli.files import free_folder, prepare_folder
from setar.cli.models import find_config
from setar.cli.options import counted, parse_grid
from setar.files import check_file

if TYPE_CHECKING:
    from setar.models.base import Generator

Out = Annotated[Path, typer.Option(help="Model folder to write; a free name, if it is taken.")]
Heads = Annotated[
    int | None,
    typer.Option(
        help="Attention heads, for widths that were never published.", callback=counted(1, 1024)
    ),
]


def llamagen_vq(
    file: Annotated[Path, typer.Argument(help="vq_ds16_c2i.pt, vq_ds8_c2i.pt, ...")], out: Out
) -> None:
    """Import a VQ tokenizer of LlamaGen (VQ-16, VQ-8)."""
    out = _prepare(file, out)
    from setar.importers.llamagen_vq import import_llamagen_vq

    model = import_llamagen_vq(file, out)
    shape = model.config
    _report(out, f"f{model.downsampling}", f"{shape.codebook_size} codes of {shape.codebook_dim}")


def var_vqvae(
    file: Annotated[Path, typer.Argument(help="vae_ch160v4096z32.pth")],
    out: Out,
    scales: Annotated[
        str, typer.Option(help="Sizes of the token maps; 1,2,3,4,6,9,13,18,24,32 for 512 pixels.")
    ] = "1,2,3,4,5,6,8,10,13,16",
) -> None:
    """Import the multi-scale tokenizer of VAR."""
    out = _prepare(file, out)
    from setar.importers.var_vqvae import import_var_vqvae
    from setar.tokenizers.multiscale import parse_scales

    model = import_var_vqvae(file, out, parse_scales(scales))
    rows, columns = model.scales[-1]
    grids = f"{len(model.scales)} scales up to {rows}x{columns}"
    _report(out, grids, f"{model.vocabulary} codes of {model.config.codebook_dim}")


def llamagen_gpt(
    file: Annotated[Path, typer.Argument(help="c2i_B_256.pt, c2i_XL_384.pt, ...")],
    tokenizer: Annotated[str, typer.Option(help="Model folder that import llamagen-vq wrote.")],
    out: Out,
    grid: Annotated[
        str, typer.Option(help="Rows x columns of tokens; 24x24 for models of 384 pixels.")
    ] = "16x16",
    heads: Heads = None,
    classes: Annotated[
        int | None,
        typer.Option(
            help="Classes, where the file does not tell (1000 or 999).", callback=counted(1)
        ),
    ] = None,
) -> None:
    """Import a class-conditional GPT of LlamaGen, to be sampled with its tokenizer."""
    rows_and_columns = parse_grid(grid)
    out = _prepare(file, out, tokenizer)
    from setar.importers.llamagen_gpt import import_llamagen_gpt

    model = import_llamagen_gpt(file, tokenizer, out, rows_and_columns, heads, classes)
    _report(out, *_size(model), f"{model.config.classes} classes")


def llamagen_t2i(
    file: Annotated[Path, typer.Argument(help="t2i_XL_stage1_256.pt, t2i_XL_stage2_512.pt")],
    tokenizer: Annotated[
        str, typer.Option(help="Model folder that import llamagen-vq wrote of vq_ds16_t2i.pt.")
    ],
    out: Out,
    encoder: Annotated[
        str, typer.Option(help="Text encoder that it was trained with: a hub id or a folder.")
    ] = "google/flan-t5-xl",
    grid: Annotated[
        str, typer.Option(help="Rows x columns of tokens; 32x32 for the model of 512 pixels.")
    ] = "16x16",
    heads: Heads = None,
) -> None:
    """Import a text-to-image GPT of LlamaGen, to be sampled with its tokenizer."""
    rows_and_columns = parse_grid(grid)
    out = _prepare(file, out, tokenizer)
    from setar.importers.llamagen_t2i import import_llamagen_t2i

    model = import_llamagen_t2i(file, tokenizer, out, rows_and_columns, heads, encoder)
    shape = model.config
    texts = f"texts of at most {shape.condition_length} tokens of {shape.condition_dim} numbers"
    _report(out, *_size(model), f"{texts} by {encoder}")


def randar(
    file: Annotated[Path, typer.Argument(help="randar_0.3b_llamagen_....safetensors, ...")],
    tokenizer: Annotated[str, typer.Option(help="Model folder that import llamagen-vq wrote.")],
    out: Out,
    grid: Annotated[str, typer.Option(help="Rows x columns of tokens.")] = "16x16",
    heads: Heads = None,
    classes: Annotated[
        int | None,
        typer.Option(
            help="Classes, where the file does not tell (1000 or 999).", callback=counted(1)
        ),
    ] = None,
) -> None:
    """Import a RandAR, to be sampled with its tokenizer in any order."""
    rows_and_columns = parse_grid(grid)
    out = _prepare(file, out, tokenizer)
    from setar.importers.randar import import_randar

    model = import_randar(file, tokenizer, out, rows_and_columns, heads, classes)
    _report(out, *_size(model), f"{model.config.classes} classes")


def var(
    file: Annotated[Path, typer.Argument(help="var_d16.pth, var_d20.pth, ..., var_d36.pth")],
    tokenizer: Annotated[str, typer.Option(help="Model folder that import var-vqvae wrote.")],
    out: Out,
) -> None:
    """Import a transformer of VAR, to be sampled with its multi-scale tokenizer."""
    out = _prepare(file, out, tokenizer)
    from setar.importers.var import import_var

    model = import_var(file, tokenizer, out)
    shape = model.config
    _report(out, *_size(model), f"{len(shape.scales)} scales", f"{shape.classes} classes")


def arpg(
    file: Annotated[Path, typer.Argument(help="arpg_300m.pt, arpg_700m.pt, arpg_1b.pt")],
    tokenizer: Annotated[str, typer.Option(help="Model folder that import llamagen-vq wrote.")],
    out: Out,
    grid: Annotated[str, typer.Option(help="Rows x columns of tokens.")] = "16x16",
    heads: Heads = None,
) -> None:
    """Import an ARPG, which makes tokens in any order, to be sampled with LlamaGen's tokenizer."""
    rows_and_columns = parse_grid(grid)
    out = _prepare(file, out, tokenizer)
    from setar.importers.arpg import BEYOND, import_arpg

    model = import_arpg(file, tokenizer, out, rows_and_columns, heads)
    _report(out, *_size(model), f"{model.config.classes} classes", f"without {BEYOND}")


def lpd(
    file: Annotated[Path, typer.Argument(help="lpd_l_256.pth, lpd_xl_512.pth, ...")],
    tokenizer: Annotated[str, typer.Option(help="Model folder that import llamagen-vq wrote.")],
    out: Out,
    heads: Heads = None,
) -> None:
    """Import a transformer of LPD, to be sampled with LlamaGen's tokenizer."""
    out = _prepare(file, out, tokenizer)
    from setar.importers.lpd import import_lpd

    model = import_lpd(file, tokenizer, out, heads)
    rows, columns = model.config.grid
    _report(out, *_size(model), f"{rows}x{columns} tokens", f"{model.config.classes} classes")


def hub(
    name: Annotated[
        str | None, typer.Argument(help="A published model; left out, all are listed.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Model folder to write; a free name, if it is taken.")
    ] = None,
) -> None:
    """Import a published model from the hub, its tokenizer included; or list them."""
    from setar.importers.hub import files_of, import_published

    if name is None:
        if out is not None:
            raise ValueError("--out needs the name of a model; `setar import hub` lists them")
        _list_published()
        return
    files = files_of(name)
    if out is None:
        raise ValueError(f"say where to write it: setar import hub {name} --out models/{name}")
    prepare_folder(out.parent)
    out = free_folder(out)
    for row in files:
        say(f"from {row.origin}")
    made: Any = import_published(name, out)
    _report(out, *(_size(made) if files[-1].tokenizer else [f"{made.vocabulary} codes"]))


def _list_published() -> None:
    """The table of published models."""
    from rich.table import Table

    from setar.importers.hub import PUBLISHED

    table = Table("name", "on the hub", "file", "tokenizer", "licence")
    for name, row in PUBLISHED.items():
        table.add_row(name, row.repository, row.file, row.tokenizer, row.license)
    show(table, 160)


def _prepare(file: Path, out: Path, tokenizer: str = "") -> Path:
    """The folder to write, which is none that is there; ValueError if what is read is missing."""
    check_file(file)
    if tokenizer:
        find_config(tokenizer)
    prepare_folder(out.parent)
    return free_folder(out)


def _size(model: "Generator") -> list[str]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shape = model.config
    return [f"{parameters / 1e6:.1f} M parameters", f"{shape.layers} layers of width {shape.width}"]


def _report(out: Path, *facts: str) -> None:
    say(f"{', '.join(facts)} -> {out}")
