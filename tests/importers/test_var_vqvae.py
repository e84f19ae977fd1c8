import pytest
import torch
from torch import Tensor

import foreign_files
from foreign_files import read_golden, relative_error
from random_weights import randomise
from setar import checkpoint
from setar.importers import var_vqvae
from setar.models.var import SCALES_256, SCALES_512
from setar.pretrained import load_tokenizer
from setar.tokenizers.base import TOKENIZERS
from setar.tokenizers.multiscale import MultiScaleConfig, MultiScaleVQ

SCALES = (1, 2, 3, 4)

SMALL = MultiScaleConfig(
    channels=32,
    multipliers=(1, 2),
    blocks=1,
    codebook_size=7,
    codebook_dim=3,
    scales=SCALES,
    phis=4,
)

LAYOUTS = {"shared": 1, "partly": 4, "each": 4}
"""How the four scales of `SMALL` may share phis, and how many there are."""


def joined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value in one tensor, as in their files."""
    found = {}
    for name in state:
        whole, _, part = name.partition(" ")
        if not part:
            found[name] = state[name]
        elif part == "(query)":
            thirds = [state[f"{whole} ({kind})"] for kind in ("query", "key", "value")]
            found[whole] = torch.cat(thirds)
    return found


def under_their_names(model: MultiScaleVQ, layout: str = "partly") -> dict[str, Tensor]:
    levels = len(model.config.multipliers)
    theirs = {
        var_vqvae.foreign_name(name, levels, layout): value
        for name, value in model.state_dict().items()
    }
    statistic = torch.zeros(len(model.scales), model.vocabulary)
    return {**joined(theirs), "quantize.ema_vocab_hit_SV": statistic}


def small(layout: str = "partly") -> MultiScaleVQ:
    config = MultiScaleConfig(**{**vars(SMALL), "phis": LAYOUTS[layout]})
    return randomise(MultiScaleVQ(config)).eval()


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return read_golden("var_vqvae")[:2]


@pytest.fixture
def state() -> dict[str, Tensor]:
    return under_their_names(small())


def assert_same_weights(ours: MultiScaleVQ, theirs: MultiScaleVQ) -> None:
    foreign_files.assert_same_weights(ours, theirs.state_dict(), str)


class TestGolden:
    """The authors' own code made these outputs."""

    def test_codes_are_exact_and_floats_agree(self, golden):
        state, expected = golden
        model = var_vqvae.convert(state)
        with torch.inference_mode():
            features = model.features(expected["image"].float())
            quantized = model.codebook(features)
            # Theirs clamps pictures, ours leaves that to `to_uint8`.
            picture = model.decode(quantized.codes).clamp(-1, 1)
        assert relative_error(features, expected["features"]) < 1e-3
        assert len(quantized.codes.unique()) > 10
        assert torch.equal(quantized.codes, expected["code_ids"])
        assert relative_error(quantized.vectors, expected["f_hat"]) < 1e-3
        assert relative_error(picture, expected["reconstruction"]) < 1e-3

    def test_codes_give_f_hat(self, golden):
        state, expected = golden
        with torch.inference_mode():
            *_, latents = var_vqvae.convert(state).codebook.sums(expected["code_ids"])
        assert relative_error(latents, expected["f_hat"]) < 1e-3

    def test_import_writes_a_loadable_tokenizer(self, golden, tmp_path):
        state, expected = golden
        torch.save(state, tmp_path / "vae.pth")
        model = var_vqvae.import_var_vqvae(tmp_path / "vae.pth", tmp_path / "vq")
        config = checkpoint.verify(tmp_path / "vq")
        assert list(config) == ["tokenizer", "plugins"]
        entry = config["tokenizer"]
        loaded = checkpoint.load_module(tmp_path / "vq", "tokenizer", entry, TOKENIZERS)
        assert_same_weights(loaded, model)
        with torch.inference_mode():
            codes = loaded.codebook(expected["features"]).codes
        assert torch.equal(codes, expected["code_ids"])


class TestNames:
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("encoder.input.weight", "encoder.conv_in.weight"),
            ("encoder.levels.1.resample.conv.bias", "encoder.down.1.downsample.conv.bias"),
            ("encoder.levels.4.attention.0.norm.bias", "encoder.down.4.attn.0.norm.bias"),
            ("encoder.middle.1.output.weight", "encoder.mid.attn_1.proj_out.weight"),
            ("encoder.middle.1.key.bias", "encoder.mid.attn_1.qkv.bias (key)"),
            ("decoder.middle.2.conv1.bias", "decoder.mid.block_2.conv1.bias"),
            ("decoder.levels.0.resample.conv.bias", "decoder.up.4.upsample.conv.bias"),
            ("decoder.levels.1.residual.0.shortcut.bias", "decoder.up.3.block.0.nin_shortcut.bias"),
            ("decoder.norm.weight", "decoder.norm_out.weight"),
            ("to_code.bias", "quant_conv.bias"),
            ("codebook.table.weight", "quantize.embedding.weight"),
            ("codebook.phis.3.bias", "quantize.quant_resi.qresi_ls.3.bias"),
        ],
    )
    def test_examples(self, ours, theirs):
        assert var_vqvae.foreign_name(ours, levels=5) == theirs

    def test_thirds_of_an_attention(self):
        tensor = torch.arange(6.0)
        parts = var_vqvae.split_attention({"a.qkv.bias": tensor, "b": tensor})
        assert {name: part.tolist() for name, part in parts.items()} == {
            "a.qkv.bias (query)": [0, 1],
            "a.qkv.bias (key)": [2, 3],
            "a.qkv.bias (value)": [4, 5],
            "b": tensor.tolist(),
        }


class TestConvert:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_weight_finds_its_place(self, layout):
        original = small(layout)
        model = var_vqvae.convert(under_their_names(original, layout), SCALES)
        assert model.config == original.config
        assert_same_weights(model, original)

    def test_result_is_float32_frozen_and_its_own(self, state):
        half = {name: value.half() for name, value in state.items()}
        model = var_vqvae.convert(half, SCALES)
        assert not model.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in model.parameters())
        own = var_vqvae.convert(state, SCALES)
        state["encoder.mid.attn_1.qkv.weight"].zero_()
        assert own.encoder.middle[1].query.weight.any()

    def test_the_scales_are_the_callers(self, state):
        wide = ((1, 2), (2, 4), (3, 6), (4, 8))
        assert var_vqvae.convert(state, wide).scales == wide
        assert var_vqvae.infer_config(state).scales == SCALES_256
        assert var_vqvae.infer_config(state, SCALES_512).phis == 4

    def test_the_statistic_may_be_absent_or_of_other_scales(self, state):
        state["quantize.ema_vocab_hit_SV"] = torch.zeros(10, 3)
        assert var_vqvae.convert(state, SCALES).config == SMALL
        del state["quantize.ema_vocab_hit_SV"]
        assert var_vqvae.convert(state, SCALES).config == SMALL

    @pytest.mark.parametrize(
        "name",
        [
            "encoder.conv_in.bias",
            "encoder.down.0.block.0.conv1.bias",
            "encoder.down.1.block.0.conv1.bias",
            "decoder.mid.attn_1.proj_out.weight",
            "decoder.up.0.block.1.norm2.bias",
            "quant_conv.bias",
            "quantize.embedding.weight",
        ],
    )
    def test_missing_tensor(self, state, name):
        del state[name]
        with pytest.raises(ValueError, match=f"must have the tensor '{name}', which is missing"):
            var_vqvae.convert(state, SCALES)

    def test_missing_attention(self, state):
        del state["decoder.up.1.attn.0.qkv.bias"]
        message = r"'decoder.up.1.attn.0.qkv.bias \(query\)', which is missing"
        with pytest.raises(ValueError, match=message):
            var_vqvae.convert(state, SCALES)

    def test_an_attention_that_is_no_three_parts(self, state):
        state["decoder.up.1.attn.0.qkv.bias"] = torch.zeros(7)
        with pytest.raises(ValueError, match=r"qkv.bias' has the shape \(7,\), not three equal"):
            var_vqvae.convert(state, SCALES)

    def test_no_phis(self, state):
        without = {name: value for name, value in state.items() if "qresi" not in name}
        with pytest.raises(ValueError, match=r"qresi_ls.0.weight', which is missing"):
            var_vqvae.convert(without, SCALES)

    @pytest.mark.parametrize(
        "name", ["discriminator.weight", "encoder.down.7.block.0.norm1.bias", "quantize.beta"]
    )
    def test_unknown_tensor(self, state, name):
        state[name] = torch.zeros(1)
        with pytest.raises(ValueError, match=f"of this size has no tensor '{name}'"):
            var_vqvae.convert(state, SCALES)

    def test_wrong_shape(self, state):
        state["quant_conv.weight"] = torch.zeros(3, 3, 1, 1)
        with pytest.raises(ValueError, match=r"'quant_conv.weight' has the shape \(3, 3, 1, 1\)"):
            var_vqvae.convert(state, SCALES)

    def test_widths_that_32_groups_cannot_share(self, state):
        state["encoder.conv_in.bias"] = torch.zeros(24)
        with pytest.raises(ValueError, match="24 channels, which 32 groups cannot share"):
            var_vqvae.convert(state, SCALES)

    def test_phis_whose_scales_float_rounding_decides(self, state):
        """Their formula in float64 says this; by ours a tie goes to the later phi."""
        for kind in ("weight", "bias"):
            del state[f"quantize.quant_resi.qresi_ls.3.{kind}"]
        model = var_vqvae.convert(state, SCALES)
        assert (model.config.phis, model.codebook.phi_of_scale) == (3, [0, 0, 1, 2])
        assert var_vqvae.convert(state, (1, 2, 4)).codebook.phi_of_scale == [0, 1, 2]

    def test_more_phis_than_scales(self, state, tmp_path):
        """Four phis are theirs for any number of scales; one of them then is of no use."""
        torch.save(state, tmp_path / "vae.pth")
        model = var_vqvae.import_var_vqvae(tmp_path / "vae.pth", tmp_path / "vq", (1, 2, 4))
        assert (model.config.phis, model.codebook.phi_of_scale) == (4, [0, 2, 3])
        loaded = load_tokenizer(tmp_path / "vq")
        assert_same_weights(loaded, model)
        codes = torch.arange(2 * 21).view(2, 21) % 7
        assert torch.equal(loaded.decode(codes, (1, 21)), model.decode(codes))

    def test_scales_that_do_not_grow(self, state):
        with pytest.raises(ValueError, match="2x2 follows 3x3"):
            var_vqvae.convert(state, (1, 3, 2, 4))


class TestImport:
    @pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
    def test_bare_or_wrapped(self, state, tmp_path, wrapper):
        torch.save({wrapper: state} if wrapper else state, tmp_path / "vae.pth")
        model = var_vqvae.import_var_vqvae(tmp_path / "vae.pth", tmp_path / "vq", SCALES)
        assert_same_weights(model, small())

    def test_refuses_in_one_line_and_writes_nothing(self, state, tmp_path):
        del state["quant_conv.weight"]
        torch.save(state, tmp_path / "vae.pth")
        with pytest.raises(ValueError, match=r"^[^\n]*vae.pth: [^\n]*'quant_conv.weight'[^\n]*$"):
            var_vqvae.import_var_vqvae(tmp_path / "vae.pth", tmp_path / "vq", SCALES)
        assert not (tmp_path / "vq").exists()
