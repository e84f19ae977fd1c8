"""Folders of codes, made by `setar.training.encoding.encode` of tiny pictures and tokenizers."""

import hashlib
import shutil

import tiny_runs
from random_weights import randomise
from setar.pretrained import save_tokenizer
from setar.tokenizers.multiscale import PRESETS as MULTISCALE
from setar.tokenizers.multiscale import MultiScaleVQ
from setar.tokenizers.vqgan import PRESETS, VQGAN
from setar.training.encoding import EncodeConfig, encode

BROKEN = ("cats/04.png", "dogs/07.png", "cats/20.png")


def save(folder, count=30):
    """Pictures of which `BROKEN` cannot be read, and two tokenizers of 16x16 pixels."""
    tiny_runs.save_pictures(folder / "pictures", count)
    for number, name in enumerate(BROKEN):
        file = folder / "pictures" / name
        if not file.exists():  # of fewer pictures
            continue
        content = (file.read_bytes()[:60], b"no picture", b"")[number]
        file.write_bytes(content)
    save_tokenizer(randomise(VQGAN(PRESETS["tiny"])), folder / "tokenizer")
    save_tokenizer(randomise(MultiScaleVQ(MULTISCALE["tiny"])), folder / "multiscale")
    return folder


def config(folder, **changes):
    """Shards of eight pictures of 16x16 pixels, four at once."""
    values = {"sizes": (16,), "shard": 8, "batch_size": 4, "device": "cpu"} | changes
    tokenizer = values.pop("tokenizer", folder / "tokenizer")
    source = values.pop("source", folder / "pictures")
    return EncodeConfig(str(tokenizer), str(source), **values)


def encoded(folder, out="codes", **changes):
    """A new folder of codes, in the one that `save` filled."""
    shutil.rmtree(folder / out, ignore_errors=True)
    encode(config(folder, **changes), folder / out)
    return folder / out


def sums(folder):
    """SHA-256 of every file below a folder, by its path; also of hidden ones but the lock."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }
