"""VAR's image tokenizer (arXiv 2404.02905): ``vae_ch160v4096z32.pth`` and other sizes of it.

Their network is our `MultiScaleVQ` under other names; only the attention differs, which keeps
query, key and value in one convolution. Sizes are read off the tensors, then every tensor must be
used, and have the shape that this size demands. The scales are not in the file: the published
tokenizer serves 256x256 and, with other scales, 512x512 pixels.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from setar.importers import foreign
from setar.models.var import SCALES_256
from setar.pretrained import save_tokenizer
from setar.tokenizers import multiscale
from setar.tokenizers.multiscale import MultiScaleConfig, MultiScaleVQ, Scale, scale_sizes

KIND = "a VAR tokenizer"

# Our names to theirs: outside the two networks, at the top of each, and inside their blocks.
OUTER_NAMES = {
    "to_code": "quant_conv",
    "from_code": "post_quant_conv",
    "codebook.table": "quantize.embedding",
}
NETWORK_NAMES = {"input": "conv_in", "norm": "norm_out", "output": "conv_out"}
MIDDLE_NAMES = {"0": "block_1", "1": "attn_1", "2": "block_2"}
LEVEL_NAMES = {"encoder": "down", "decoder": "up"}
BLOCK_NAMES = {
    "residual": "block",
    "attention": "attn",
    "shortcut": "nin_shortcut",
    "output": "proj_out",
}
RESAMPLE_NAMES = {"encoder": "downsample", "decoder": "upsample"}
PHI_NAMES = {
    "shared": "quantize.quant_resi.qresi",
    "partly": "quantize.quant_resi.qresi_ls.",
    "each": "quantize.quant_resi.",
}
PARTS = ("query", "key", "value")
"""The thirds of their ``qkv``, in this order."""

NOT_PARAMETERS = frozenset({"quantize.ema_vocab_hit_SV"})
"""How often each scale used each code in training: a statistic."""

WRAPPERS = ("trainer", "vae_local", "model", "state_dict", "module", "ema")
"""Entries that may hold the weights: those of VAR's own training, and usual ones. The published
file has them bare."""


def import_var_vqvae(file: Path, out: Path, scales: Sequence[Scale] = SCALES_256) -> MultiScaleVQ:
    """Convert a checkpoint of VAR's tokenizer into the model folder ``out``.

    Args:
        file: theirs.
        out: a model folder.
        scales: sizes of the token maps, coarse to fine; the last one times 16 is the images' size.

    Returns:
        The tokenizer, as `convert` makes it.

    Raises:
        ValueError: the file cannot be read, or is not such a tokenizer; nothing is written then.
    """
    state = foreign.read(file, WRAPPERS)
    with foreign.blame(file):
        model = convert(state, scales)
    save_tokenizer(model, out)
    return model


def convert(state: Mapping[str, Tensor], scales: Sequence[Scale] = SCALES_256) -> MultiScaleVQ:
    """VAR's state dict as our tokenizer, in float32 and frozen; errors of `foreign.load`."""
    config = infer_config(state, scales)
    names = partial(foreign_name, levels=len(config.multipliers), phis=_phi_layout(state))
    tensors = split_attention(state)
    return foreign.load(MultiScaleVQ, config, tensors, names, KIND, NOT_PARAMETERS)


def infer_config(
    state: Mapping[str, Tensor], scales: Sequence[Scale] = SCALES_256
) -> MultiScaleConfig:
    """The shape of the tokenizer, from its biases and its codebook; ValueError if there is none."""
    channels = foreign.first_width(state, "encoder.conv_in.bias", KIND)
    codebook = foreign.find(state, "quantize.embedding.weight", ("codes", "dimensions"), KIND)
    multipliers = tuple(
        foreign.multiple(state, f"encoder.down.{level}.block.0.conv1.bias", channels, KIND)
        for level in range(foreign.count_parts(state, "encoder.down."))
    )
    layout, grids = _phi_layout(state), len(scale_sizes(scales))
    phis = 1 if layout == "shared" else foreign.count_parts(state, PHI_NAMES[layout])
    theirs = phi_map(grids, phis)
    return MultiScaleConfig(
        channels=channels,
        multipliers=multipliers,
        blocks=foreign.count_parts(state, "encoder.down.0.block."),
        codebook_size=codebook.shape[0],
        codebook_dim=codebook.shape[1],
        scales=tuple(scales),
        phis=phis,
        phi_of_scale=None if theirs == multiscale.phi_map(grids, phis) else tuple(theirs),
    )


def phi_map(scales: int, phis: int) -> list[int]:
    """The phi of each scale as their code finds it, in float64: rounding decides ties.

    >>> phi_map(3, 4), phi_map(10, 4)
    ([0, 2, 3], [0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
    """
    first = 1 / 3 / phis if phis == 4 else 1 / 2 / phis
    places = np.linspace(first, 1 - first, phis)
    shares = [scale / (scales - 1) for scale in range(scales)] if scales > 1 else [0.0]
    return [int(np.argmin(np.abs(places - share))) for share in shares]


def foreign_name(name: str, levels: int, phis: str = "partly") -> str:
    """VAR's name of one of our tensors, after `split_attention`.

    Their decoder counts its levels from the finest one, ours from the first that computes.

    >>> foreign_name("decoder.levels.0.attention.2.query.weight", levels=5)
    'decoder.up.4.attn.2.qkv.weight (query)'
    """
    module, _, kind = name.rpartition(".")
    if module in OUTER_NAMES:
        return f"{OUTER_NAMES[module]}.{kind}"
    if module.startswith("codebook.phis."):
        number = "" if phis == "shared" else module.rpartition(".")[2]
        return f"{PHI_NAMES[phis]}{number}.{kind}"
    network, *parts = module.split(".")
    if parts[0] == "middle":
        parts = ["mid", MIDDLE_NAMES[parts[1]], *_inner(parts[2:], network)]
    elif parts[0] == "levels":
        level = int(parts[1]) if network == "encoder" else levels - 1 - int(parts[1])
        parts = [LEVEL_NAMES[network], str(level), *_inner(parts[2:], network)]
    else:
        parts = [NETWORK_NAMES[parts[0]]]
    if parts[-1] in PARTS:
        return ".".join([network, *parts[:-1], "qkv", f"{kind} ({parts[-1]})"])
    return ".".join([network, *parts, kind])


def _inner(parts: list[str], network: str) -> list[str]:
    names = {**BLOCK_NAMES, "resample": RESAMPLE_NAMES[network]}
    return [names.get(part, part) for part in parts]


def split_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors with every ``qkv`` in thirds, named ``... (query)``, ``(key)``, ``(value)``."""
    found = {}
    for name, tensor in state.items():
        if not name.endswith((".qkv.weight", ".qkv.bias")):
            found[name] = tensor
            continue
        if not tensor.ndim or len(tensor) % 3:
            raise ValueError(f"{name!r} has the shape {tuple(tensor.shape)}, not three equal parts")
        thirds = zip(PARTS, tensor.chunk(3), strict=True)
        found |= {f"{name} ({part})": third for part, third in thirds}
    return found


def _phi_layout(state: Mapping[str, Tensor]) -> str:
    """How their phis are shared by the scales."""
    if f"{PHI_NAMES['shared']}.weight" in state:
        return "shared"
    return "each" if f"{PHI_NAMES['each']}0.weight" in state else "partly"
