"""Models that others have published on the hub, by names of ours: from there to a model folder.

A row of `PUBLISHED` says which file it is, whose importer reads it, and which other row is its
tokenizer. How a model is sampled by default (recipe, guidance) is what its importer takes from its
authors. Rows were read off the authors' own pages; a model whose tokenizer nobody here can read
(RandAR with MaskGIT's) is not among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from setar.models.var import SCALES_512
from setar.pretrained import hub_file
from setar.registry import Table, did_you_mean, quoted

IMPORTERS: Table[Any] = Table(
    "importer",
    {
        "llamagen-vq": "setar.importers.llamagen_vq:import_llamagen_vq",
        "llamagen-gpt": "setar.importers.llamagen_gpt:import_llamagen_gpt",
        "llamagen-t2i": "setar.importers.llamagen_t2i:import_llamagen_t2i",
        "var-vqvae": "setar.importers.var_vqvae:import_var_vqvae",
        "var": "setar.importers.var:import_var",
        "randar": "setar.importers.randar:import_randar",
        "arpg": "setar.importers.arpg:import_arpg",
        "lpd": "setar.importers.lpd:import_lpd",
    },
)
"""What reads the files, by the name of its command."""

NOT_STATED = "not stated"
"""The licence of files whose page says none."""


@dataclass(frozen=True)
class Published:
    """A file on the hub that an importer reads."""

    importer: str
    """A name of `IMPORTERS`."""
    repository: str
    """On the hub, owner/name."""
    file: str
    """Its name there."""
    license: str
    """As its page says."""
    tokenizer: str = ""
    """The row of the tokenizer of its codes; empty if it is one itself."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the file does not tell, as its importer takes it."""

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return f"{self.repository}, {self.file} (licence: {self.license})"


LLAMAGEN, LLAMAGEN_T2I = "FoundationVision/LlamaGen", "peizesun/llamagen_t2i"
VAR, RANDAR, ARPG = "FoundationVision/var", "ziqipang/RandAR", "hp-l33/ARPG"


def _llamagen(size: str, pixels: int) -> Published:
    options = {"grid": (pixels // 16, pixels // 16)}
    file = f"c2i_{size}_{pixels}.pt"
    return Published("llamagen-gpt", LLAMAGEN, file, "MIT", "llamagen-vq-16", options)


def _llamagen_t2i(stage: int, pixels: int) -> Published:
    options = {"grid": (pixels // 16, pixels // 16)}
    file = f"t2i_XL_stage{stage}_{pixels}.pt"
    return Published("llamagen-t2i", LLAMAGEN_T2I, file, "MIT", "llamagen-vq-16-t2i", options)


def _var(depth: int, tokenizer: str = "var-vqvae") -> Published:
    return Published("var", VAR, f"var_d{depth}.pth", "MIT", tokenizer)


def _randar(size: str) -> Published:
    file = f"randar_{size}_llamagen_360k_bs_1024_lr_0.0004.safetensors"
    return Published("randar", RANDAR, file, "MIT", "llamagen-vq-16")


def _arpg(size: str) -> Published:
    return Published("arpg", ARPG, f"arpg_{size}.pt", "MIT", "llamagen-vq-16")


def _lpd(name: str) -> Published:
    return Published("lpd", f"mit-han-lab/{name}", f"{name}.pth", NOT_STATED, "llamagen-vq-16")


PUBLISHED = {
    "llamagen-vq-16": Published("llamagen-vq", LLAMAGEN, "vq_ds16_c2i.pt", "MIT"),
    "llamagen-vq-8": Published("llamagen-vq", LLAMAGEN, "vq_ds8_c2i.pt", "MIT"),
    "llamagen-b-256": _llamagen("B", 256),
    "llamagen-b-384": _llamagen("B", 384),
    "llamagen-l-256": _llamagen("L", 256),
    "llamagen-l-384": _llamagen("L", 384),
    "llamagen-xl-384": _llamagen("XL", 384),
    "llamagen-xxl-384": _llamagen("XXL", 384),
    "llamagen-3b-384": _llamagen("3B", 384),
    "llamagen-vq-16-t2i": Published("llamagen-vq", LLAMAGEN_T2I, "vq_ds16_t2i.pt", "MIT"),
    "llamagen-t2i-256": _llamagen_t2i(1, 256),
    "llamagen-t2i-512": _llamagen_t2i(2, 512),
    "var-vqvae": Published("var-vqvae", VAR, "vae_ch160v4096z32.pth", "MIT"),
    "var-vqvae-512": Published(
        "var-vqvae", VAR, "vae_ch160v4096z32.pth", "MIT", options={"scales": SCALES_512}
    ),
    "var-d16": _var(16),
    "var-d20": _var(20),
    "var-d24": _var(24),
    "var-d30": _var(30),
    "var-d36": _var(36, "var-vqvae-512"),
    "randar-l": _randar("0.3b"),
    "randar-xl": _randar("0.7b"),
    "arpg-l": _arpg("300m"),
    "arpg-xl": _arpg("700m"),
    "arpg-xxl": _arpg("1b"),
    "lpd-l-256": _lpd("lpd_l_256"),
    "lpd-xl-256": _lpd("lpd_xl_256"),
    "lpd-xxl-256": _lpd("lpd_xxl_256"),
    "lpd-l-512": _lpd("lpd_l_512"),
    "lpd-xl-512": _lpd("lpd_xl_512"),
}
"""By our names, tokenizers before what needs them."""


def find_published(name: str) -> Published:
    """The row of a name; ValueError, with the nearest ones, if there is none."""
    if name not in PUBLISHED:
        hint = did_you_mean(name, PUBLISHED, 3)
        raise ValueError(f"no published model is called {quoted(name)} here; {hint}")
    return PUBLISHED[name]


def files_of(name: str) -> list[Published]:
    """What `import_published` downloads: the file of the name, and before it its tokenizer's."""
    row = find_published(name)
    return [PUBLISHED[row.tokenizer], row] if row.tokenizer else [row]


def import_published(name: str, out: Path) -> nn.Module:
    """Download a published model, and its tokenizer, and convert both into one model folder.

    Files that were downloaded before are taken from the hub client's cache.

    Args:
        name: a key of `PUBLISHED`.
        out: where to write.

    Returns:
        The generator, or the tokenizer if the name is one's.

    Raises:
        ValueError: there is no such name, the hub does not give a file, or a file is not what it
            should be; nothing is written then.
    """
    rows = files_of(name)
    files = [hub_file(row.repository, row.file) for row in rows]
    made = IMPORTERS.find(rows[-1].importer)
    if len(rows) == 1:
        return made(files[0], out, **rows[0].options)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=".tokenizer-") as beside:
        tokenizer = Path(beside) / "tokenizer"
        IMPORTERS.find(rows[0].importer)(files[0], tokenizer, **rows[0].options)
        return made(files[1], tokenizer, out, **rows[1].options)
