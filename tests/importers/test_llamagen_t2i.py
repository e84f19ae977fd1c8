import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import foreign_files
import tiny_texts
from foreign_files import assert_float32_frozen, save_vqgan
from random_weights import differ, random_codes, randomise
from setar.importers import foreign, llamagen_gpt, llamagen_t2i
from setar.models.decoder_only import PRESETS, DecoderOnlyConfig, DecoderOnlyTransformer
from setar.models.text_condition import pack
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings
from setar.text import TextConfig

SMALL = DecoderOnlyConfig(
    vocabulary=24,
    classes=1,
    grid=(2, 3),
    width=32,
    heads=2,
    layers=3,
    condition="text",
    condition_length=7,
    condition_dim=12,
    condition_projection="mlp",
    class_rotation="zero",
)
LENGTHS = [1, 4, 7]

assert_same_weights = partial(
    foreign_files.assert_same_weights, foreign_name=llamagen_t2i.foreign_name
)


def foreign_state(config: DecoderOnlyConfig) -> dict[str, Tensor]:
    """A random model under LlamaGen's names."""
    ours = randomise(DecoderOnlyTransformer(config)).state_dict()
    return {llamagen_t2i.foreign_name(name): value for name, value in ours.items()}


@pytest.fixture
def state() -> dict[str, Tensor]:
    return foreign_state(SMALL)


def convert(state, **changes) -> DecoderOnlyTransformer:
    return llamagen_t2i.convert(state, **{"grid": SMALL.grid, "heads": SMALL.heads, **changes})


def normed(x: Tensor, gain: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """``[B, heads, L, d]`` with neighbouring pairs turned by ``[L, d / 2]``; NaN makes a pair 0."""
    even, odd, cos, sin = x[..., ::2], x[..., 1::2], angles.cos(), angles.sin()
    pairs = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
    return pairs.nan_to_num(0).flatten(-2)


def recomputed(state, states, mask, codes) -> Tensor:
    """Logits of LlamaGen's network from its tensors alone, in plain torch and nothing of ours.

    ``states`` are ``[B, 7, 12]`` with ``mask`` ``[B, 7]``, codes ``[B, 6]`` of a grid of 2x3.
    """
    w = {name.removesuffix(".weight"): value for name, value in state.items()}
    hidden = F.gelu(states @ w["cls_embedding.cap_proj.fc1"].T, approximate="tanh")
    prefix = hidden @ w["cls_embedding.cap_proj.fc2"].T
    x = torch.cat([prefix, w["tok_embeddings"][codes[:, :-1]]], 1)
    batch, length, width = x.shape

    frequencies = 10000 ** -(torch.arange(4) / 4)  # two heads of 16: four of rows, four of columns
    rows, columns = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 2, 0, 1]])[..., None] * frequencies
    angles = torch.cat([torch.full((7, 8), torch.nan), torch.cat([rows, columns], 1)])

    seen = torch.ones(length, length).tril().bool().repeat(batch, 1, 1)
    seen[:, :, :7] &= mask.bool()[:, None]
    seen |= torch.eye(length).bool()

    for layer in (f"layers.{i}." for i in range(3)):
        h = normed(x, w[layer + "attention_norm"]) @ w[layer + "attention.wqkv"].T
        query, key, value = h.view(batch, length, 3, 2, 16).permute(2, 0, 3, 1, 4)
        scores = turned(query, angles) @ turned(key, angles).mT / 16**0.5
        weights = scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, length, width)
        x = x + mixed @ w[layer + "attention.wo"].T
        h = normed(x, w[layer + "ffn_norm"])
        gate, up = h @ w[layer + "feed_forward.w1"].T, h @ w[layer + "feed_forward.w3"].T
        x = x + (F.silu(gate) * up) @ w[layer + "feed_forward.w2"].T
    return (normed(x, w["norm"]) @ w["output"].T)[:, 6:]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """The folder of a tiny T5."""
    return tiny_texts.save(tmp_path_factory.mktemp("t5"), "t5")


class TestNetwork:
    """What their checkpoint computes, with padding, beside what ours computes of it."""

    @pytest.fixture
    def texts(self) -> tuple[Tensor, Tensor]:
        """States of three texts and their mask."""
        mask = torch.arange(7) >= 7 - torch.tensor(LENGTHS)[:, None]
        states = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))
        return states * mask[..., None], mask

    def test_logits_of_texts(self, state, texts):
        states, mask = texts
        codes, plan = random_codes(3, (2, 3)), Recipe.parse("ar").plan((2, 3), 3)
        expected = recomputed(state, states, mask, codes)
        logits = convert(state)(codes, pack(states, mask), plan)
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=0)
        assert differ(expected[0], expected[1])

    def test_logits_of_no_text(self, state, texts):
        """Their null states, of which each text's padding hides as many as of its own."""
        states, mask = texts
        codes, plan = random_codes(3, (2, 3)), Recipe.parse("ar").plan((2, 3), 3)
        null = state[llamagen_t2i.NULL_STATES].expand(3, -1, -1)
        model, condition = convert(state), pack(states, mask)
        expected = recomputed(state, null, mask, codes)
        logits = model(codes, model.null(condition), plan)
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=0)
        assert differ(expected, recomputed(state, null, torch.ones(3, 7), codes))
        assert differ(expected, recomputed(state, states, mask, codes))

    def test_decoding_of_trimmed_texts_token_by_token(self, state, texts):
        states, mask = texts
        codes, model = random_codes(3, (2, 3)), convert(state)
        expected = recomputed(state, states, mask, codes)
        for i, length in enumerate(LENGTHS):
            one, logits = slice(i, i + 1), []
            decoding = model.start(pack(states, mask)[one, -length:], 6)
            for position in range(6):
                here = torch.tensor([[position]])
                logits.append(decoding.predict(here))
                decoding.absorb(codes[one, position : position + 1], here)
            torch.testing.assert_close(torch.cat(logits, 1), expected[one], atol=2e-5, rtol=0)


class TestConvert:
    def test_infers_every_size(self, state):
        assert llamagen_t2i.infer_config(state, (2, 3), 2) == SMALL

    def test_the_published_model(self):
        """XL: 120 states of 2048 numbers before 16x16 or 32x32 tokens."""
        config = dataclasses.replace(
            PRESETS["XL"],
            classes=1,
            condition="text",
            condition_length=120,
            condition_dim=2048,
            condition_projection="mlp",
        )
        with torch.device("meta"):
            model = DecoderOnlyTransformer(config)
        state = {llamagen_t2i.foreign_name(n): value for n, value in model.state_dict().items()}
        assert state["cls_embedding.cap_proj.fc1.weight"].shape == (1280, 2048)
        assert state["cls_embedding.cap_proj.fc2.weight"].shape == (1280, 1280)
        assert state["cls_embedding.uncond_embedding"].shape == (120, 2048)
        assert len(state) == 36 * 7 + 6
        assert llamagen_t2i.infer_config(state) == config
        larger = llamagen_t2i.infer_config(state, (32, 32))
        assert larger == dataclasses.replace(config, grid=(32, 32))
        # 774,699,520 with classes; less the class table, plus 2048 x 1280, 1280^2 and 120 x 2048.
        assert sum(value.numel() for value in state.values()) == (
            774_699_520 - 1001 * 1280 + 2048 * 1280 + 1280**2 + 120 * 2048
        )

    def test_result_is_float32_frozen_and_has_every_tensor(self, state):
        half = {name: value.bfloat16() for name, value in state.items()}
        model = convert(half)
        assert_same_weights(model, half)
        assert len(model.state_dict()) == len(half)
        assert_float32_frozen(model)

    @pytest.mark.parametrize("wrapper", [None, *llamagen_gpt.WRAPPERS])
    def test_wrappers(self, state, tmp_path, wrapper):
        torch.save({wrapper: state} if wrapper else state, tmp_path / "gpt.pt")
        found = foreign.read(tmp_path / "gpt.pt", llamagen_gpt.WRAPPERS)
        assert_same_weights(convert(found), state)

    def test_angles_tell_grid_and_heads(self, state):
        state["freqs_cis"] = torch.zeros(7 + 6, 8, 2)
        assert_same_weights(convert(state), state)
        for changes in ({"grid": (3, 3)}, {"heads": 4}):
            with pytest.raises(ValueError, match=r"'freqs_cis' has the shape \(13, 8, 2\) instead"):
                convert(state, **changes)

    def test_other_widths_need_their_heads(self, state):
        with pytest.raises(ValueError, match=r"has the width 32, so .* must be given \(`heads`\)"):
            convert(state, heads=None)

    @pytest.mark.parametrize(
        ("changes", "rule"), [({"heads": 3}, "4 x `heads`"), ({"grid": (0, 4)}, "at least 1")]
    )
    def test_impossible_shapes(self, state, changes, rule):
        with pytest.raises(ValueError, match=rule):
            convert(state, **changes)

    @pytest.mark.parametrize(
        "name",
        [
            "cls_embedding.uncond_embedding",
            "cls_embedding.cap_proj.fc1.weight",
            "cls_embedding.cap_proj.fc2.weight",
            "tok_embeddings.weight",
            "layers.1.attention.wo.weight",
            "output.weight",
        ],
    )
    def test_missing_tensor(self, state, name):
        del state[name]
        with pytest.raises(ValueError, match=f"must have the tensor '{name}', which is missing"):
            convert(state)

    @pytest.mark.parametrize(
        "name",
        ["cls_embedding.cap_proj.fc1.bias", llamagen_gpt.CLASS_TABLE, "layers.7.ffn_norm.weight"],
    )
    def test_unknown_tensor(self, state, name):
        state[name] = torch.zeros(1)
        with pytest.raises(ValueError, match=f"of this size has no tensor '{name}'"):
            convert(state)

    @pytest.mark.parametrize(
        ("name", "found", "expected"),
        [
            ("cls_embedding.cap_proj.fc1.weight", (32, 13), (32, 12)),
            ("cls_embedding.cap_proj.fc2.weight", (32, 31), (32, 32)),
            ("output.weight", (25, 32), (24, 32)),
        ],
    )
    def test_misshapen_tensor(self, state, name, found, expected):
        state[name] = torch.zeros(found)
        with pytest.raises(ValueError) as caught:  # noqa: PT011, checked in words below
            convert(state)
        assert f"'{name}' has the shape {found} instead of {expected}" in str(caught.value)

    def test_a_vector_has_no_size_to_infer(self, state):
        state[llamagen_t2i.NULL_STATES] = torch.ones(5)
        with pytest.raises(ValueError, match=r"\(5,\) instead of \(tokens, numbers\)"):
            convert(state)

    def test_models_of_classes_are_another_command(self, state):
        """Each importer names what it misses in a file that is for the other."""
        with pytest.raises(
            ValueError, match=r"a class-conditional GPT .*'cls_embedding.embedding_t"
        ):
            llamagen_gpt.convert(state, SMALL.grid, SMALL.heads)
        classes = randomise(DecoderOnlyTransformer(PRESETS["tiny"])).state_dict()
        state = {llamagen_gpt.foreign_name(name): value for name, value in classes.items()}
        with pytest.raises(ValueError, match=r"a text-to-image GPT .*'cls_embedding.uncond_embed"):
            llamagen_t2i.convert(state, (4, 4), 2)


class TestImport:
    """`import_llamagen_t2i` and its command."""

    @pytest.fixture
    def file(self, tmp_path) -> Path:
        """A checkpoint for the states of the tiny T5, which are 16 numbers."""
        state = foreign_state(dataclasses.replace(SMALL, condition_dim=16))
        torch.save({"model": state, "steps": 3}, tmp_path / "t2i.pt")
        return tmp_path / "t2i.pt"

    def test_a_pipeline_of_texts(self, encoder, file, tmp_path):
        tokenizer = save_vqgan(tmp_path / "vq")
        model = llamagen_t2i.import_llamagen_t2i(
            file, tokenizer, tmp_path / "t2i", (2, 3), 2, encoder
        )
        pipe = Pipeline.from_pretrained(tmp_path / "t2i")
        assert pipe.model.config == model.config
        assert_same_weights(pipe.model, torch.load(file)["model"])
        assert (pipe.reads, pipe.classes) == ("text", ())
        assert pipe.text == TextConfig(encoder, layer=-1, length=7, lowercase=True)
        assert pipe.defaults == SamplingDefaults(
            Recipe.parse("ar"), Guidance(7.5), SamplingSettings(top_k=1000)
        )
        prompts = ["a red apple", "the small blue cat next to a dog"]
        images = pipe(prompts, count=2)
        assert [image.size for image in images] == [(6, 4)] * 4
        sample = partial(
            pipe.sample_codes, seed=4, guidance=2.0
        )  # 7.5 leaves random weights no doubt
        codes = sample([*prompts, "house"])
        assert len(codes.unique(dim=0)) == 3
        assert torch.equal(sample([*prompts, "house"], cache=False), codes)
        assert torch.equal(sample(["A Red APPLE", *prompts[1:], "House"]), codes)
        for i, prompt in enumerate(prompts):
            assert torch.equal(sample(prompt, seed=4 + i), codes[i : i + 1])
        assert not torch.equal(sample(prompts, negative_prompt="a house"), codes[:2])
        with pytest.raises(ValueError, match="one token at a time in raster order"):
            pipe("cat", recipe="random-3-cosine")

    def test_on_the_command_line(self, file, tmp_path, run):
        words = ["--tokenizer", save_vqgan(tmp_path / "vq"), "--out", tmp_path / "t2i"]
        words += ["--encoder", "./my-t5", "--grid", "2x3", "--heads", 2]
        code, shown, err = run("import", "llamagen-t2i", file, *words)
        assert (code, shown.count("\n"), err) == (0, 1, "")
        shown = " ".join(shown.split())
        assert "3 layers of width 32, texts of at most 7 tokens of 16 numbers" in shown
        assert Pipeline.from_pretrained(tmp_path / "t2i").text.encoder == "./my-t5"

    def test_the_published_encoder_is_named_and_not_loaded(self, file, tmp_path, run):
        tokenizer, out = save_vqgan(tmp_path / "vq"), tmp_path / "t2i"
        words = ["--tokenizer", tokenizer, "--out", out, "--grid", "2x3", "--heads", 2]
        assert run("import", "llamagen-t2i", file, *words)[0] == 0
        text = json.loads((out / "config.json").read_text())["text"]
        assert text == {
            "encoder": "google/flan-t5-xl",
            "layer": -1,
            "length": 7,
            "lowercase": True,
        }

    def test_an_encoder_of_another_size_is_refused_when_it_is_asked(self, encoder, file, tmp_path):
        tokenizer = save_vqgan(tmp_path / "vq")
        other = foreign_state(SMALL)  # reads 12 numbers
        torch.save(other, file)
        llamagen_t2i.import_llamagen_t2i(file, tokenizer, tmp_path / "t2i", (2, 3), 2, encoder)
        pipe = Pipeline.from_pretrained(tmp_path / "t2i")
        with pytest.raises(ValueError, match=r"\A[^\n]*must be \[B, T, 12 \+ 1\][^\n]*\Z"):
            pipe("a red apple")

    @pytest.mark.parametrize(
        ("words", "rule"),
        [
            ([], "has the width 32"),
            (["--heads", 2, "--encoder", ""], "`encoder` (='') must be"),
            (["--heads", 2, "--grid", "0x3"], "--grid"),
        ],
    )
    def test_refusals(self, file, tmp_path, refused, words, rule):
        out = tmp_path / "out"
        given = ["--tokenizer", save_vqgan(tmp_path / "vq"), "--out", out, "--grid", "2x3", *words]
        assert rule in " ".join(refused("import", "llamagen-t2i", file, *given).split())
        assert not out.exists()

    def test_files_and_tokenizers_that_do_not_fit(self, file, tmp_path, refused):
        out, options = tmp_path / "out", ["--grid", "2x3", "--heads", 2]
        small = save_vqgan(tmp_path / "small", codes=7)
        words = ["--tokenizer", small, "--out", out, *options]
        assert "has 7 codes, the model" in refused("import", "llamagen-t2i", file, *words)
        state = torch.load(file)["model"]
        del state["layers.1.attention.wo.weight"]
        torch.save(state, file)
        words = ["--tokenizer", save_vqgan(tmp_path / "vq"), "--out", out, *options]
        shown = refused("import", "llamagen-t2i", file, *words)
        assert "t2i.pt: " in shown
        assert "layers.1.attention.wo.weight" in shown
        assert not out.exists()
