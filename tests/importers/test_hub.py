"""Published models: from a stand-in for the hub to folders that sample; nothing is downloaded."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from random_weights import randomise
from setar.importers import hub, llamagen_gpt, llamagen_vq, lpd, randar
from setar.models.base import FAMILIES
from setar.models.decoder_only import DecoderOnlyConfig, DecoderOnlyTransformer
from setar.models.lpd import LPD, LPDConfig
from setar.models.randar import RandARConfig, RandARTransformer
from setar.pipeline import Pipeline
from setar.pretrained import hub_file, load_tokenizer
from setar.registry import Table
from setar.tokenizers.vqgan import VQGAN, VQGANConfig

CODES = 24
NETWORK = {"vocabulary": CODES, "classes": 5, "grid": (16, 16), "width": 64, "layers": 1}


def vqgan(file: Path) -> None:
    config = VQGANConfig(
        channels=32,
        multipliers=(1, 1),
        blocks=1,
        latent_channels=4,
        codebook_size=CODES,
        codebook_dim=4,
    )
    state = randomise(VQGAN(config)).state_dict()
    torch.save({"model": {llamagen_vq.foreign_name(k): v for k, v in state.items()}}, file)


def gpt(file: Path) -> None:
    model = DecoderOnlyTransformer(DecoderOnlyConfig(**NETWORK, heads=2))
    state = randomise(model).state_dict()
    torch.save({"model": {llamagen_gpt.foreign_name(k): v for k, v in state.items()}}, file)


def randar_file(file: Path) -> None:
    state = randomise(RandARTransformer(RandARConfig(**NETWORK, heads=2))).state_dict()
    save_file({randar.foreign_name(k): v.contiguous() for k, v in state.items()}, file)


def lpd_file(file: Path) -> None:
    ours = randomise(LPD(LPDConfig(**NETWORK, heads=1))).state_dict()
    state = {lpd.foreign_name(name): value for name, value in ours.items()}
    classes = state["class_emb.weight"]
    own = {"fake_latent": classes[-1:], "class_emb.weight": classes[:-1].clone()}
    own |= {"pos_embed": state["pos_embed"][None], "mask_token": state["mask_token"][None, None]}
    torch.save({"model": {**state, **own}}, file)


SERVED = {
    "vq_ds16_c2i.pt": vqgan,
    "c2i_B_256.pt": gpt,
    "randar_0.3b_llamagen_360k_bs_1024_lr_0.0004.safetensors": randar_file,
    "lpd_l_256.pth": lpd_file,
}


@pytest.fixture
def served(monkeypatch, tmp_path):
    """What was asked for, of a hub that has small models under the published names."""
    monkeypatch.setattr(llamagen_gpt, "HEADS", {(64, 1): 2})
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        path = tmp_path / "cache" / file
        path.parent.mkdir(exist_ok=True)
        if file not in SERVED:
            raise ConnectionError(f"404 for {file}\nand so on")
        SERVED[file](path)
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return asked


@pytest.fixture
def command(run):
    """What a command says that does its work."""

    def said(*words):
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        return out

    return said


@pytest.mark.parametrize(
    ("name", "repository", "recipe", "scale"),
    [
        ("llamagen-b-256", "FoundationVision/LlamaGen", "raster-N-uniform", 2.0),
        ("randar-l", "ziqipang/RandAR", "random-88-randar", 4.0),
        ("lpd-l-256", "mit-han-lab/lpd_l_256", "lpd-20-lpd", 4.8),
    ],
)
def test_a_folder_that_samples(served, command, tmp_path, name, repository, recipe, scale):
    said = command("import", "hub", name, "--out", tmp_path / "models" / name)
    row = hub.PUBLISHED[name]
    assert served == [("FoundationVision/LlamaGen", "vq_ds16_c2i.pt"), (repository, row.file)]
    assert "from FoundationVision/LlamaGen, vq_ds16_c2i.pt (licence: MIT)" in said
    assert f"from {repository}, {row.file} (licence: {row.license})" in said
    assert "1 layers of width 64" in said
    pipe = Pipeline.from_pretrained(tmp_path / "models" / name)
    assert (str(pipe.defaults.recipe), pipe.defaults.guidance.scale) == (recipe, scale)
    assert pipe("3", recipe="ar")[0].size == (32, 32)
    assert [file.name for file in (tmp_path / "models").iterdir()] == [name]  # nothing beside it


def test_a_tokenizer_alone(served, command, tmp_path):
    said = command("import", "hub", "llamagen-vq-16", "--out", tmp_path / "vq")
    assert f"{CODES} codes" in said
    assert load_tokenizer(tmp_path / "vq").vocabulary == CODES


def test_what_is_wrong_is_one_line_and_nothing_is_written(served, refused, tmp_path):
    out = ["--out", tmp_path / "out"]
    near = refused("import", "hub", "lpd-l", *out)
    assert all(name in near for name in ("did you mean", "'lpd-l-256'", "'lpd-l-512'"))
    assert "say where to write it" in refused("import", "hub", "arpg-l")
    assert "needs the name" in refused("import", "hub", *out)
    assert served == []
    missing = refused("import", "hub", "arpg-l", *out)
    assert "cannot get arpg_300m.pt of hp-l33/ARPG: 404 for arpg_300m.pt" in missing
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]


def test_a_broken_file_leaves_nothing(served, refused, tmp_path, monkeypatch):
    monkeypatch.setitem(SERVED, "lpd_l_256.pth", lambda file: file.write_text("none"))
    out = tmp_path / "models" / "lpd"
    assert "not a PyTorch checkpoint" in refused("import", "hub", "lpd-l-256", "--out", out)
    assert [*out.parent.iterdir()] == []


def test_the_list_has_every_model(command):
    said = command("import", "hub")
    for name, row in hub.PUBLISHED.items():
        assert re.search(rf"\b{re.escape(name)}\b", said)
        assert row.repository in said


@pytest.mark.parametrize("name", hub.PUBLISHED)
def test_every_row_reaches_its_importer(name, monkeypatch, tmp_path):
    """With its tokenizer, and with what its file does not tell."""
    calls = []

    def importer(kind):
        def made(file, *folders, **options):
            folders[-1].mkdir()
            assert all(folder.is_dir() for folder in folders)
            calls.append((kind, Path(file).name, len(folders), options))
            return kind

        return made

    table = Table("importer", {})
    for kind in hub.IMPORTERS:
        table.add(kind, importer(kind))
        assert callable(hub.IMPORTERS.find(kind))
    monkeypatch.setattr(hub, "IMPORTERS", table)
    monkeypatch.setattr(hub, "hub_file", lambda repository, file: tmp_path / file)
    row = hub.PUBLISHED[name]
    assert hub.import_published(name, tmp_path / "out") == row.importer
    *before, last = calls
    assert last == (row.importer, row.file, 2 if row.tokenizer else 1, row.options)
    assert len(before) == bool(row.tokenizer)
    for kind, file, folders, options in before:
        tokenizer = hub.PUBLISHED[row.tokenizer]
        assert (kind, file) == (tokenizer.importer, tokenizer.file)
        assert (folders, options) == (1, tokenizer.options)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_the_table_is_consistent():
    names = [*hub.PUBLISHED]
    for name, row in hub.PUBLISHED.items():
        assert row.importer in hub.IMPORTERS
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", row.repository)
        if row.tokenizer:
            assert row.importer in {*FAMILIES, "llamagen-gpt", "llamagen-t2i"}
            assert names.index(row.tokenizer) < names.index(name)
            assert not hub.PUBLISHED[row.tokenizer].tokenizer
        pixels = name.rpartition("-")[2]
        if "grid" in row.options:
            assert row.options["grid"] == (int(pixels) // 16,) * 2
    files = [dataclasses.astuple(row)[:3] for row in hub.PUBLISHED.values()]
    assert len({*files}) == len(files) - 1  # VAR's tokenizer comes on two sets of scales


def test_the_hub_is_asked_for_one_file(served, tmp_path):
    assert hub_file("FoundationVision/LlamaGen", "c2i_B_256.pt") == tmp_path / "cache/c2i_B_256.pt"
    with pytest.raises(ValueError, match=r"\Acannot get none.pt of owner/name: 404 for none.pt\Z"):
        hub_file("owner/name", "none.pt")
