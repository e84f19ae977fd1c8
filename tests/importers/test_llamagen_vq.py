from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import foreign_files
from foreign_files import assert_float32_frozen, read_golden, relative_error
from setar import checkpoint
from setar.importers import llamagen_vq
from setar.tokenizers.base import TOKENIZERS
from setar.tokenizers.vqgan import VQGAN, VQGANConfig

SMALL = VQGANConfig(
    channels=32,
    multipliers=(1, 2),
    blocks=1,
    latent_channels=5,
    codebook_size=7,
    codebook_dim=3,
)


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return read_golden("llamagen_vq")[:2]


@pytest.fixture
def state() -> dict[str, Tensor]:
    """A tokenizer under LlamaGen's names, with the statistic that is no parameter."""
    torch.manual_seed(0)
    ours = VQGAN(SMALL).state_dict()
    theirs = {llamagen_vq.foreign_name(name): value for name, value in ours.items()}
    return {**theirs, "quantize.codebook_used": torch.zeros(65536)}


assert_same_weights = partial(
    foreign_files.assert_same_weights, foreign_name=llamagen_vq.foreign_name
)


class TestGolden:
    """The authors' own code made these outputs."""

    def test_codes_are_exact_and_floats_agree(self, golden):
        state, expected = golden
        model = llamagen_vq.convert(state)
        images = expected["image"].float()
        with torch.inference_mode():
            features = model.features(images)
            quantized = model.quantizer(features)
            reconstruction = model.picture(quantized.vectors)
            codes = model.encode(images)
        assert relative_error(features, expected["pre_quant"]) < 1e-3
        assert len(codes.unique()) > 10
        assert torch.equal(codes.view_as(expected["code_ids"]), expected["code_ids"])
        assert torch.equal(quantized.codes, codes)
        assert relative_error(quantized.vectors, expected["quantized"]) < 1e-3
        assert relative_error(reconstruction, expected["reconstruction"]) < 1e-3

    def test_decoding_codes_gives_the_reconstruction(self, golden):
        state, expected = golden
        codes = expected["code_ids"]
        with torch.inference_mode():
            images = llamagen_vq.convert(state).decode(codes.flatten(1), tuple(codes.shape[1:]))
        assert relative_error(images, expected["reconstruction"]) < 1e-3

    def test_every_tensor_of_theirs_is_used(self, golden):
        state, _ = golden
        model = llamagen_vq.convert(state)
        assert_same_weights(model, state)
        assert len(model.state_dict()) == len(state) - 1  # but quantize.codebook_used

    def test_import_writes_a_loadable_tokenizer(self, golden, tmp_path):
        state, expected = golden
        torch.save({"model": state}, tmp_path / "vq.pt")
        llamagen_vq.import_llamagen_vq(tmp_path / "vq.pt", tmp_path / "vq")
        config = checkpoint.verify(tmp_path / "vq")
        assert list(config) == ["tokenizer", "plugins"]
        entry = config["tokenizer"]
        model = checkpoint.load_module(tmp_path / "vq", "tokenizer", entry, TOKENIZERS)
        codes = model.encode(expected["image"].float())
        assert torch.equal(codes, expected["code_ids"].flatten(1))


class TestConvert:
    def test_infers_every_size(self, state):
        assert llamagen_vq.infer_config(state) == SMALL

    def test_result_is_float32_frozen_and_its_own(self, state):
        half = {name: value.half() for name, value in state.items()}
        model = llamagen_vq.convert(half)
        assert_same_weights(model, half)
        assert_float32_frozen(model)
        own = llamagen_vq.convert(state)
        state["encoder.conv_in.weight"].zero_()
        assert own.encoder.input.weight.any()

    def test_the_statistic_may_be_absent(self, state):
        del state["quantize.codebook_used"]
        assert llamagen_vq.convert(state).config == SMALL

    @pytest.mark.parametrize(
        "name",
        [
            "encoder.conv_in.bias",
            "encoder.conv_blocks.0.res.0.conv1.bias",
            "encoder.conv_blocks.1.res.0.conv1.bias",
            "encoder.conv_blocks.0.downsample.conv.weight",
            "decoder.mid.1.proj_out.weight",
            "decoder.conv_blocks.0.attn.1.norm.weight",
            "quant_conv.bias",
            "quantize.embedding.weight",
        ],
    )
    def test_missing_tensor(self, state, name):
        del state[name]
        with pytest.raises(ValueError, match=f"must have the tensor '{name}', which is missing"):
            llamagen_vq.convert(state)

    def test_nothing_of_theirs(self):
        with pytest.raises(ValueError, match=r"'encoder.conv_in.bias', which is missing"):
            llamagen_vq.convert({"w": torch.zeros(1)})

    @pytest.mark.parametrize(
        "name", ["discriminator.weight", "encoder.conv_blocks.7.res.0.norm1.bias", "quantize.beta"]
    )
    def test_unknown_tensor(self, state, name):
        state[name] = torch.zeros(1)
        with pytest.raises(ValueError, match=f"of this size has no tensor '{name}'"):
            llamagen_vq.convert(state)

    def test_misshapen_tensor(self, state):
        state["decoder.conv_out.weight"] = torch.zeros(3, 32, 1, 1)
        message = (
            r"'decoder.conv_out.weight' has the shape \(3, 32, 1, 1\) instead of \(3, 32, 3, 3\)"
        )
        with pytest.raises(ValueError, match=message):
            llamagen_vq.convert(state)

    @pytest.mark.parametrize("name", ["encoder.conv_in.bias", "quantize.embedding.weight"])
    def test_a_scalar_has_no_size_to_infer(self, state, name):
        state[name] = torch.tensor(1.0)
        with pytest.raises(ValueError, match=rf"'{name}' has the shape \(\) instead of"):
            llamagen_vq.convert(state)

    def test_encoder_and_decoder_of_other_multipliers_are_refused(self, state):
        other = VQGANConfig(**{**vars(SMALL), "multipliers": (2, 2)})
        for name, value in VQGAN(other).decoder.state_dict().items():
            state[llamagen_vq.foreign_name(f"decoder.{name}")] = value
        with pytest.raises(ValueError, match="'decoder"):
            llamagen_vq.convert(state)

    def test_integers_are_no_weights(self, state):
        state["quant_conv.bias"] = state["quant_conv.bias"].long()
        with pytest.raises(
            ValueError, match=r"'quant_conv.bias' must hold floats, not torch.int64"
        ):
            llamagen_vq.convert(state)

    def test_widths_that_32_groups_cannot_share(self, state):
        """Our smaller models use fewer groups; with theirs that would be another network."""
        small = VQGAN(VQGANConfig(channels=8, multipliers=(1, 1), blocks=1, latent_channels=5))
        names = {llamagen_vq.foreign_name(k): v for k, v in small.state_dict().items()}
        with pytest.raises(ValueError, match="8 channels, which 32 groups cannot share"):
            llamagen_vq.convert(names)

    def test_width_that_is_no_multiple(self, state):
        state["encoder.conv_blocks.1.res.0.conv1.bias"] = torch.zeros(33)
        with pytest.raises(ValueError, match=r"\(=33 wide\) must be a multiple of 32 channels"):
            llamagen_vq.convert(state)


class TestRead:
    @pytest.mark.parametrize("wrapper", [None, "ema", "model", "state_dict"])
    def test_pt_wrappers(self, state, tmp_path, wrapper):
        torch.save({wrapper: state} if wrapper else state, tmp_path / "vq.pt")
        found = llamagen_vq.read(tmp_path / "vq.pt")
        assert found.keys() == state.keys()
        assert_same_weights(llamagen_vq.convert(found), state)

    def test_averaged_weights_are_preferred(self, tmp_path):
        entries = {n: {"x": torch.tensor(float(i))} for i, n in enumerate(llamagen_vq.WRAPPERS)}
        for first in ("ema", "model", "state_dict"):
            torch.save(dict(reversed(entries.items())), tmp_path / "vq.pt")
            assert torch.equal(llamagen_vq.read(tmp_path / "vq.pt")["x"], entries[first]["x"])
            del entries[first]

    def test_safetensors(self, state, tmp_path):
        save_file(state, tmp_path / "vq.safetensors")
        assert_same_weights(
            llamagen_vq.convert(llamagen_vq.read(tmp_path / "vq.safetensors")), state
        )


def test_import_refuses_in_one_line_and_writes_nothing(state, tmp_path):
    del state["quant_conv.weight"]
    torch.save({"model": state}, tmp_path / "vq.pt")
    with pytest.raises(ValueError, match=r"^[^\n]*vq.pt: [^\n]*'quant_conv.weight'[^\n]*$"):
        llamagen_vq.import_llamagen_vq(tmp_path / "vq.pt", tmp_path / "vq")
    assert not (tmp_path / "vq").exists()
