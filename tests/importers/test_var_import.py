"""VAR transformers from their authors' files: golden logits, strict loading, the command."""

import dataclasses
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import foreign_files
from foreign_files import assert_float32_frozen, read_golden, relative_error, save_vqgan
from random_weights import randomise
from setar import checkpoint
from setar.config import build
from setar.importers import var
from setar.models.base import FAMILIES
from setar.models.var import VARConfig, VARTransformer, square
from setar.pipeline import Pipeline
from setar.pretrained import save_tokenizer
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings
from setar.tokenizers.base import TOKENIZERS
from setar.tokenizers.multiscale import MultiScaleConfig, MultiScaleVQ
from tiny_var import scale_plan

SMALL = VARConfig(
    vocabulary=24,
    code_dim=6,
    classes=5,
    scales=square(1, 2, 3),
    width=32,
    heads=2,
    layers=2,
    drop_path=0.1 * 2 / 24,
)
SHARED = dataclasses.replace(SMALL, shared_adaln=True)


@pytest.fixture(scope="module", params=["var", "var_shared_adaln"])
def golden(request) -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
    """Their state dict, inputs and outputs, and the architecture."""
    return read_golden(request.param)


def foreign_state(config: VARConfig) -> dict[str, Tensor]:
    """A random model under VAR's names and in its shapes, with the buffers of its files."""
    ours = randomise(VARTransformer(config)).state_dict()
    state = {var.foreign_name(name): value for name, value in ours.items()}
    shapes = {"pos_start": (1, -1, config.width), "pos_1LC": (1, -1, config.width)}
    for index in range(config.layers):
        shapes[f"blocks.{index}.attn.scale_mul_1H11"] = (1, -1, 1, 1)
        shapes[f"blocks.{index}.ada_gss"] = (1, 1, 6, -1)
        state[f"blocks.{index}.attn.zero_k_bias"] = torch.zeros(config.width)
    state |= {name: state[name].reshape(shape) for name, shape in shapes.items() if name in state}
    levels = torch.arange(len(config.sizes)).repeat_interleave(torch.tensor(config.sizes))[None]
    hidden = levels[:, :, None] < levels[:, None, :]
    bias = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)[:, None]
    return {**state, "lvl_1L": levels, "attn_bias_for_masking": bias}


@pytest.fixture(params=[SMALL, SHARED], ids=["own", "shared"])
def state(request) -> dict[str, Tensor]:
    return foreign_state(request.param)


def convert(state) -> VARTransformer:
    return var.convert(state, SMALL.scales)


def save_multiscale(folder: Path, **changes) -> Path:
    """A multi-scale tokenizer of 2x2 pixels per token with random weights."""
    shape = {"codebook_size": 24, "codebook_dim": 6, "scales": (1, 2, 3), "phis": 2, **changes}
    config = MultiScaleConfig(channels=8, multipliers=(1, 1), blocks=1, **shape)
    save_tokenizer(randomise(MultiScaleVQ(config)), folder)
    return folder


assert_same_weights = partial(foreign_files.assert_same_weights, foreign_name=var.foreign_name)


class GoldenPyramid:
    """The inputs of one image, whatever its codes."""

    @property
    def pyramid(self) -> "GoldenPyramid":
        return self

    def __init__(self, inputs: Tensor, config: VARConfig) -> None:
        self.scales, self.inputs, self.sizes = config.scales, inputs, config.sizes

    def next_inputs(self, codes):
        return self.inputs

    def accumulate(self, latents, codes, scale):
        start = sum(self.sizes[1 : scale + 1])
        return torch.zeros(1), self.inputs[:, start : start + self.sizes[scale + 1]]

    def correct(self, features, wrong, where):
        raise NotImplementedError("it cannot encode")


class TestGolden:
    """The authors' own code made these outputs."""

    def test_the_shape_is_read_off_the_tensors(self, golden):
        shape, config = golden[2], var.convert(golden[0]).config
        assert (config.width, config.heads) == (shape["embed_dim"], shape["heads"])
        assert (config.layers, config.shared_adaln) == (shape["depth"], shape["shared_adaln"])
        assert (config.vocabulary, config.classes) == (shape["vocab_size"], shape["num_classes"])
        assert config.scales == square(*shape["scales"])
        assert config.l2_norm == shape["attn_l2_norm"]

    def test_logits_agree(self, golden):
        expected, model = golden[1], var.convert(golden[0])
        logits = model.predict_maps(expected["var_input"], expected["labels"])
        assert relative_error(logits, expected["logits"]) < 1e-3
        torch.testing.assert_close(logits, expected["logits"], rtol=1e-3, atol=1e-3)

    def test_cached_decoding_agrees(self, golden):
        expected, model = golden[1], var.convert(golden[0])
        model.attach(GoldenPyramid(expected["var_input"], model.config))
        decoding, logits = model.start(expected["labels"], 680), []
        for start, stop in scale_plan(model.config.scales).slices():
            positions = torch.arange(start, stop)[None]
            logits.append(decoding.predict(positions))
            decoding.absorb(expected["code_ids"][:, start:stop], positions)
        assert relative_error(torch.cat(logits, 1), expected["logits"]) < 1e-3

    def test_every_tensor_of_theirs_is_used(self, golden):
        model = var.convert(golden[0])
        assert_same_weights(model, golden[0])
        buffers = [name for name in golden[0] if name == "lvl_1L" or "zero_k_bias" in name]
        assert len(model.state_dict()) + len(buffers) == len(golden[0])


class TestConvert:
    def test_infers_every_size(self, state):
        config = var.infer_config(state, SMALL.scales)
        assert config == (SHARED if "shared_ada_lin.1.weight" in state else SMALL)

    def test_result_is_float32_frozen_and_its_own(self, state):
        half = {name: value.half() for name, value in state.items() if name != "lvl_1L"}
        model = convert(half)
        assert_same_weights(model, half)
        assert_float32_frozen(model)
        own = convert(state)
        state["pos_1LC"].zero_()
        assert own.positions.weight.any()

    def test_buffers_may_be_absent(self, state):
        for name in [*state]:
            if name in ("lvl_1L", "attn_bias_for_masking") or "zero_k_bias" in name:
                del state[name]
        assert_same_weights(convert(state), state)

    @pytest.mark.parametrize(
        "name",
        [
            "class_emb.weight",
            "word_embed.weight",
            "word_embed.bias",
            "pos_start",
            "pos_1LC",
            "lvl_embed.weight",
            "blocks.0.attn.scale_mul_1H11",
            "blocks.1.attn.scale_mul_1H11",
            "blocks.1.attn.q_bias",
            "blocks.1.ffn.fc2.bias",
            "head_nm.ada_lin.1.weight",
            "head.weight",
        ],
    )
    def test_missing_tensor(self, state, name):
        del state[name]
        with pytest.raises(ValueError, match=f"must have the tensor '{name}', which is missing"):
            convert(state)

    def test_missing_modulation(self, state):
        shared = "shared_ada_lin.1.weight" in state
        name = "blocks.1.ada_gss" if shared else "blocks.1.ada_lin.1.bias"
        del state[name]
        with pytest.raises(ValueError, match=f"must have the tensor '{name}', which is missing"):
            convert(state)

    @pytest.mark.parametrize("name", ["blocks.7.attn.q_bias", "blocks.1.attn.k_bias", "ema"])
    def test_unknown_tensor(self, state, name):
        state[name] = torch.zeros(1)
        with pytest.raises(ValueError, match=f"of this size has no tensor '{name}'"):
            convert(state)

    @pytest.mark.parametrize(
        ("name", "shape", "expected"),
        [
            ("pos_1LC", (14, 32), "(1, 14, 32)"),
            ("pos_start", (1, 32), "(1, 1, 32)"),
            ("lvl_1L", (14,), "(1, 14)"),
            ("attn_bias_for_masking", (14, 14), "(1, 1, 14, 14)"),
            ("blocks.1.attn.zero_k_bias", (1, 32), "(32,)"),
            ("blocks.1.attn.scale_mul_1H11", (2, 1, 1), "(1, 2, 1, 1)"),
            ("blocks.1.attn.mat_qkv.weight", (32, 96), "(96, 32)"),
        ],
    )
    def test_misshapen_tensor(self, state, name, shape, expected):
        before = tuple(state[name].shape)
        state[name] = state[name].reshape(shape)
        with pytest.raises(ValueError, match=f"'{name}' has the shape") as caught:
            convert(state)
        assert f"{shape} instead of {expected}" in str(caught.value)
        assert str(before) == expected

    def test_a_bias_of_keys_is_refused(self, state):
        state["blocks.1.attn.zero_k_bias"][3] = 0.5
        with pytest.raises(ValueError, match=r"'blocks.1.attn.zero_k_bias' must be zero"):
            convert(state)

    def test_other_scales_are_refused(self, state):
        rule = "its scales have 1, 4, 9 tokens, the tokenizer's 1, 4, 16"
        with pytest.raises(ValueError, match=rule):
            var.convert(state, square(1, 2, 4))
        with pytest.raises(ValueError, match="the tokenizer's 1, 4, 9, 16, 25"):
            var.convert(state)


class TestImport:
    """`import_var` and its command."""

    @pytest.fixture
    def file(self, state, tmp_path) -> Path:
        torch.save(state, tmp_path / "var.pth")
        return tmp_path / "var.pth"

    def test_a_model_folder_like_any_other(self, file, state, tmp_path, run):
        tokenizer = save_multiscale(tmp_path / "vq")
        folder = tmp_path / "out"
        code, shown, err = run("import", "var", file, "--tokenizer", tokenizer, "--out", folder)
        assert (code, shown.count("\n"), err) == (0, 1, "")
        assert "2 layers of width 32, 3 scales, 5 classes" in shown
        config = checkpoint.verify(folder)
        model = checkpoint.load_module(folder, "model", config["model"], FAMILIES)
        assert_same_weights(model, state)
        assert model.config == var.infer_config(state, SMALL.scales)
        assert config["classes"] == ["0", "1", "2", "3", "4"]
        published = SamplingSettings(top_k=900, top_p=0.96)
        recipe = Recipe.parse("raster-1,4,9")
        expected = SamplingDefaults(recipe, Guidance(1.5, "var"), published)
        assert build(SamplingDefaults, config["sampling"]) == expected

    def test_sampled_with_the_imported_tokenizer(self, file, state, tmp_path):
        """Cached sampling equals teacher forcing on its own output."""
        folder = save_multiscale(tmp_path / "vq")
        model = var.import_var(file, folder, tmp_path / "out")
        entry = checkpoint.verify(tmp_path / "out")["tokenizer"]
        tokenizer = checkpoint.load_module(tmp_path / "out", "tokenizer", entry, TOKENIZERS)
        model.attach(tokenizer)
        labels = torch.tensor([2, 5])
        plan = scale_plan(SMALL.scales, 2)
        decoding, logits, codes = model.start(labels, 14), [], []
        for start, stop in plan.slices():
            positions = torch.arange(start, stop).expand(2, -1)
            logits.append(decoding.predict(positions))
            codes.append(logits[-1].argmax(-1))
            decoding.absorb(codes[-1], positions)
        forced = model(torch.cat(codes, 1), labels, plan)
        torch.testing.assert_close(torch.cat(logits, 1), forced, atol=1e-4, rtol=1e-5)
        assert (forced[0] - forced[1]).abs().max() > 0.1
        images = Pipeline.from_pretrained(tmp_path / "out")(["1", "3"], count=2)
        assert len({image.tobytes() for image in images}) == 4

    def test_safetensors(self, state, tmp_path):
        save_file(state, tmp_path / "var.safetensors")
        tokenizer = save_multiscale(tmp_path / "vq")
        model = var.import_var(tmp_path / "var.safetensors", tokenizer, tmp_path / "out")
        assert_same_weights(model, state)

    def refusal(self, refused, file, tokenizer) -> str:
        """The one line of a refused command, after which nothing is written."""
        out = file.parent / "out"
        shown = refused("import", "var", file, "--tokenizer", tokenizer, "--out", out)
        assert not out.exists()
        return shown

    def test_tensors_that_do_not_fit(self, state, tmp_path, refused):
        del state["blocks.1.attn.proj.weight"]
        torch.save(state, tmp_path / "var.pth")
        shown = self.refusal(refused, tmp_path / "var.pth", save_multiscale(tmp_path / "vq"))
        assert "var.pth: a VAR transformer must have the tensor 'blocks.1.attn.proj.we" in shown

    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({"codebook_size": 23}, "var.pth: the tokenizer has 23 codes, the model 24"),
            ({"codebook_dim": 8}, "has codes of 8 dimensions, the model of 6"),
            ({"scales": (1, 2, 4)}, "its scales have 1, 4, 9 tokens, the tokenizer's 1, 4, 16"),
        ],
    )
    def test_tokenizers_that_do_not_fit(self, file, tmp_path, refused, changes, rule):
        assert rule in self.refusal(refused, file, save_multiscale(tmp_path / "vq", **changes))

    def test_tokenizers_of_one_scale(self, file, tmp_path, refused):
        folder = save_vqgan(tmp_path / "vq")
        assert "has one scale; a VAR needs a multi-scale one" in self.refusal(refused, file, folder)
        checkpoint.save(tmp_path / "empty", {}, {})
        assert "has no tokenizer" in self.refusal(refused, file, tmp_path / "empty")
        assert "is no model folder" in self.refusal(refused, file, tmp_path)

    def test_garbage(self, tmp_path, refused):
        (tmp_path / "var.pth").write_bytes(b"\x80\x02}.")
        shown = self.refusal(refused, tmp_path / "var.pth", save_multiscale(tmp_path / "vq"))
        assert "cannot read" in shown
