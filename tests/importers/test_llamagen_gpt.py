import json
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import foreign_files
from foreign_files import assert_float32_frozen, read_golden, relative_error, save_vqgan
from random_weights import randomise
from setar import checkpoint
from setar.importers import foreign, llamagen_gpt
from setar.models.decoder_only import DecoderOnlyConfig, DecoderOnlyTransformer
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults

SMALL = DecoderOnlyConfig(
    vocabulary=24, classes=5, grid=(2, 3), width=32, heads=2, layers=3, class_rotation="zero"
)


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
    """Their state dict, inputs and outputs, and the architecture."""
    return read_golden("llamagen_gpt_c2i")


def convert_golden(golden) -> DecoderOnlyTransformer:
    state, _, shape = golden
    return llamagen_gpt.convert(state, tuple(shape["grid"]), shape["heads"])


def foreign_state(config: DecoderOnlyConfig) -> dict[str, Tensor]:
    """A random model under LlamaGen's names."""
    ours = randomise(DecoderOnlyTransformer(config)).state_dict()
    return {llamagen_gpt.foreign_name(name): value for name, value in ours.items()}


@pytest.fixture
def state() -> dict[str, Tensor]:
    return foreign_state(SMALL)


def convert(state, **changes) -> DecoderOnlyTransformer:
    return llamagen_gpt.convert(state, **{"grid": SMALL.grid, "heads": SMALL.heads, **changes})


assert_same_weights = partial(
    foreign_files.assert_same_weights, foreign_name=llamagen_gpt.foreign_name
)


class TestGolden:
    """The authors' own code made these outputs."""

    def test_the_shape_is_read_off_the_tensors(self, golden):
        shape, config = golden[2], convert_golden(golden).config
        assert (config.width, config.layers) == (shape["dim"], shape["layers"])
        assert (config.vocabulary, config.classes) == (shape["vocab_size"], shape["num_classes"])
        assert (config.rope_base, config.class_rotation) == (shape["rope_base"], "zero")

    def test_logits_agree(self, golden):
        expected, model = golden[1], convert_golden(golden)
        plan = Recipe.parse("ar").plan(model.config.grid, len(expected["labels"]))
        logits = model(expected["tokens"], expected["labels"], plan)
        assert model.config.classes in expected["labels"]  # the row for "no class"
        assert relative_error(logits, expected["logits"]) < 1e-3
        torch.testing.assert_close(logits, expected["logits"], rtol=1e-3, atol=1e-3)

    def test_without_their_class_rotation_logits_would_not_agree(self, golden):
        expected, model = golden[1], convert_golden(golden)
        other = DecoderOnlyTransformer(
            DecoderOnlyConfig(**{**vars(model.config), "class_rotation": "identity"})
        )
        other.load_state_dict(model.state_dict())
        plan = Recipe.parse("ar").plan(model.config.grid, len(expected["labels"]))
        logits = other.eval()(expected["tokens"], expected["labels"], plan)
        assert relative_error(logits, expected["logits"]) > 1e-2

    @pytest.mark.parametrize("cache", [True, False])
    def test_decoding_token_by_token_agrees(self, golden, cache):
        expected, model = golden[1], convert_golden(golden)
        tokens, logits = expected["tokens"], []
        decoding = model.start(expected["labels"], tokens.shape[1], cache=cache)
        for position in range(tokens.shape[1]):
            here = torch.full((len(tokens), 1), position)
            logits.append(decoding.predict(here))
            decoding.absorb(tokens[:, position : position + 1], here)
        assert relative_error(torch.cat(logits, 1), expected["logits"]) < 1e-3

    def test_every_tensor_of_theirs_is_used(self, golden):
        model = convert_golden(golden)
        assert_same_weights(model, golden[0])
        assert len(model.state_dict()) == len(golden[0])

    def test_imported_and_sampled_on_the_command_line(self, golden, tmp_path, run):
        state, expected, shape = golden
        torch.save({"model": state}, tmp_path / "gpt.pt")
        tokenizer = save_vqgan(tmp_path / "vq", codes=shape["vocab_size"])
        folder, picture = tmp_path / "gpt", tmp_path / "new" / "sample.png"
        options = ["--tokenizer", tokenizer, "--out", folder, "--grid", "4x4", "--heads", 4]
        code, shown, err = run("import", "llamagen-gpt", tmp_path / "gpt.pt", *options)
        assert (code, shown.count("\n"), err) == (0, 1, "")
        assert "3 layers of width 64, 10 classes" in shown
        pipe = Pipeline.from_pretrained(folder)
        plan = Recipe.parse("ar").plan((4, 4), 2)
        logits = pipe.model(expected["tokens"], expected["labels"], plan)
        assert relative_error(logits, expected["logits"]) < 1e-3
        code, shown, _ = run("sample", folder, "--classes", "0,9", "--count", 2, "--out", picture)
        assert code == 0
        assert "4 images" in shown
        with Image.open(picture) as image:
            assert image.width > 100


class TestConvert:
    def test_infers_every_size(self, state):
        assert llamagen_gpt.infer_config(state, (2, 3), 2) == SMALL

    @pytest.mark.parametrize(
        ("width", "layers", "heads"),
        [(768, 12, 12), (1024, 24, 16), (1280, 36, 20), (1536, 48, 24), (3200, 24, 32)],
    )
    def test_heads_of_published_models(self, width, layers, heads):
        shapes = {llamagen_gpt.CLASS_TABLE: (1001, width), "tok_embeddings.weight": (16384, width)}
        shapes |= {f"layers.{i}.attention.wo.weight": (width, width) for i in range(layers)}
        state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        config = llamagen_gpt.infer_config(state)
        assert (config.heads, config.classes, config.grid) == (heads, 1000, (16, 16))
        assert config.class_dropout > 0
        assert llamagen_gpt.infer_config(state, heads=4).heads == 4
        del state[f"layers.{layers - 1}.attention.wo.weight"]
        with pytest.raises(ValueError, match="must be given"):
            llamagen_gpt.infer_config(state)

    def test_other_widths_need_their_heads(self, state):
        with pytest.raises(ValueError, match=r"has the width 32, so .* must be given \(`heads`\)"):
            convert(state, heads=None)

    @pytest.mark.parametrize(
        ("changes", "rule"), [({"heads": 3}, "4 x `heads`"), ({"grid": (0, 4)}, "at least 1")]
    )
    def test_impossible_shapes(self, state, changes, rule):
        with pytest.raises(ValueError, match=rule):
            convert(state, **changes)

    def test_result_is_float32_frozen_and_its_own(self, state):
        half = {name: value.half() for name, value in state.items()}
        model = convert(half)
        assert_same_weights(model, half)
        assert_float32_frozen(model)
        own = convert(state)
        state["tok_embeddings.weight"].zero_()
        assert own.tokens.weight.any()

    def test_a_constant_of_theirs_may_be_there(self, state):
        state["freqs_cis"] = torch.zeros(7, 8, 2)
        assert_same_weights(convert(state), state)

    @pytest.mark.parametrize("changes", [{"grid": (3, 3)}, {"heads": 4}])
    def test_and_it_tells_grid_and_heads(self, state, changes):
        state["freqs_cis"] = torch.zeros(7, 8, 2)
        with pytest.raises(ValueError, match=r"'freqs_cis' has the shape \(7, 8, 2\) instead of"):
            convert(state, **changes)

    @pytest.mark.parametrize(("classes", "dropout"), [(1000, 0.0), (999, 0.1)])
    def test_a_thousand_rows_may_be_either(self, state, classes, dropout):
        state[llamagen_gpt.CLASS_TABLE] = torch.randn(1000, 32)
        with pytest.raises(ValueError, match="say which, --classes 1000 or --classes 999"):
            convert(state)
        model = convert(state, classes=classes)
        assert (model.config.classes, model.config.class_dropout) == (classes, dropout)
        table = model.condition.table.weight
        assert torch.equal(table[:1000], state[llamagen_gpt.CLASS_TABLE])
        assert len(table) == classes + 1

    @pytest.mark.parametrize("classes", [4, 7, True, "5"])
    def test_classes_that_the_table_does_not_have(self, state, classes):
        with pytest.raises(ValueError, match="must be 5, or 6 if there is no row for 'no class'"):
            convert(state, classes=classes)

    def test_a_model_without_class_dropout(self, state):
        """Just the 1000 classes of ImageNet, and none for "no class"."""
        state[llamagen_gpt.CLASS_TABLE] = torch.randn(1000, 32)
        model = convert(state, classes=1000)
        assert (model.config.classes, model.config.class_dropout) == (1000, 0.0)
        table = model.condition.table.weight
        assert torch.equal(table[:1000], state[llamagen_gpt.CLASS_TABLE])
        assert table[1000:].eq(0).all()
        state[llamagen_gpt.CLASS_TABLE] = torch.randn(1001, 32)
        model = convert(state)
        assert (model.config.classes, model.config.class_dropout) == (1000, 0.1)

    @pytest.mark.parametrize(
        "name",
        [
            "cls_embedding.embedding_table.weight",  # also: a text-conditional model
            "tok_embeddings.weight",
            "layers.0.attention_norm.weight",
            "layers.1.attention.wqkv.weight",
            "layers.2.feed_forward.w3.weight",
            "norm.weight",
            "output.weight",
        ],
    )
    def test_missing_tensor(self, state, name):
        del state[name]
        with pytest.raises(ValueError, match=f"must have the tensor '{name}', which is missing"):
            convert(state)

    def test_nothing_of_theirs(self):
        with pytest.raises(ValueError, match="a class-conditional GPT of LlamaGen must have"):
            convert({"w": torch.zeros(1)})

    @pytest.mark.parametrize(
        "name", ["layers.7.ffn_norm.weight", "cls_embedding.cap_proj.fc1.weight", "output.bias"]
    )
    def test_unknown_tensor(self, state, name):
        state[name] = torch.zeros(1)
        with pytest.raises(ValueError, match=f"of this size has no tensor '{name}'"):
            convert(state)

    def test_misshapen_tensor(self, state):
        state["layers.1.attention.wqkv.weight"] = torch.zeros(64, 32)
        with pytest.raises(
            ValueError, match=r"wqkv.weight' has the shape \(64, 32\) instead of \(96, 32\)"
        ):
            convert(state)

    @pytest.mark.parametrize("name", [llamagen_gpt.CLASS_TABLE, "tok_embeddings.weight"])
    def test_a_vector_has_no_size_to_infer(self, state, name):
        state[name] = torch.ones(5)
        with pytest.raises(ValueError, match=rf"'{name}' has the shape \(5,\) instead of \(c"):
            convert(state)

    def test_integers_are_no_weights(self, state):
        state["output.weight"] = state["output.weight"].long()
        with pytest.raises(ValueError, match=r"'output.weight' must hold floats, not torch.int64"):
            convert(state)


class TestRead:
    @pytest.mark.parametrize("wrapper", [None, "model", "module", "state_dict"])
    def test_wrappers(self, state, tmp_path, wrapper):
        torch.save({wrapper: state} if wrapper else state, tmp_path / "gpt.pt")
        found = foreign.read(tmp_path / "gpt.pt", llamagen_gpt.WRAPPERS)
        assert_same_weights(convert(found), state)

    def test_safetensors(self, state, tmp_path):
        save_file(state, tmp_path / "gpt.safetensors")
        found = foreign.read(tmp_path / "gpt.safetensors", llamagen_gpt.WRAPPERS)
        assert_same_weights(convert(found), state)


class TestImport:
    """`import_llamagen_gpt` and its command."""

    @pytest.fixture
    def file(self, state, tmp_path) -> Path:
        torch.save({"model": state}, tmp_path / "gpt.pt")
        return tmp_path / "gpt.pt"

    def test_a_pipeline_like_any_other(self, file, state, tmp_path):
        tokenizer = save_vqgan(tmp_path / "vq")
        model = llamagen_gpt.import_llamagen_gpt(file, tokenizer, tmp_path / "gpt", (2, 3), 2)
        assert_same_weights(model, state)
        pipe = Pipeline.from_pretrained(tmp_path / "gpt")
        assert pipe.model.config == model.config == SMALL
        assert_same_weights(pipe.model, state)
        assert pipe.classes == ("0", "1", "2", "3", "4")
        assert pipe.defaults == SamplingDefaults(Recipe.parse("ar"), Guidance(2.0))
        written = json.loads((tmp_path / "gpt" / "config.json").read_text())
        assert json.loads(json.dumps(pipe.describe())) == written
        images = pipe([0, "4"], count=2)
        assert [image.size for image in images] == [(6, 4)] * 4
        again = pipe.sample_codes([0, 4], count=2, cache=False)
        assert torch.equal(again, pipe.sample_codes([0, 4], count=2))
        with pytest.raises(ValueError, match="one token at a time in raster order"):
            pipe([0], recipe="random-3-cosine")
        with pytest.raises(ValueError, match="`attention` must be 'causal'"):
            pipe([0], attention="full")

    def test_large_models_are_guided_less(self, file, tmp_path, monkeypatch):
        assert llamagen_gpt.SCALES.keys() < {width for width, _ in llamagen_gpt.HEADS}
        monkeypatch.setitem(llamagen_gpt.SCALES, SMALL.width, 1.65)
        tokenizer = save_vqgan(tmp_path / "vq")
        llamagen_gpt.import_llamagen_gpt(file, tokenizer, tmp_path / "gpt", (2, 3), 2)
        assert Pipeline.from_pretrained(tmp_path / "gpt").defaults.guidance == Guidance(1.65)

    def test_a_model_that_knows_no_null_is_sampled_without_guidance(self, state, tmp_path):
        state[llamagen_gpt.CLASS_TABLE] = torch.randn(1000, 32)
        torch.save(state, tmp_path / "gpt.pt")
        tokenizer = save_vqgan(tmp_path / "vq")
        llamagen_gpt.import_llamagen_gpt(
            tmp_path / "gpt.pt", tokenizer, tmp_path / "gpt", (2, 3), 2, 1000
        )
        pipe = Pipeline.from_pretrained(tmp_path / "gpt")
        assert pipe.defaults.guidance.scale == 1
        assert len(pipe("999")) == 1
        with pytest.raises(ValueError, match="knows no 'no class'"):
            pipe("999", guidance=2.0)

    def refusal(self, refused, file, tokenizer, *options) -> str:
        """The one line of a refused command, after which nothing is written."""
        out = file.parent / "out"
        words = ["--tokenizer", tokenizer, "--out", out, "--grid", "2x3", *options]
        shown = refused("import", "llamagen-gpt", file, *words)
        assert not out.exists()
        return shown

    def test_tensors_that_do_not_fit(self, state, tmp_path, refused):
        tokenizer = save_vqgan(tmp_path / "vq")
        del state["layers.1.attention.wo.weight"]
        torch.save(state, tmp_path / "gpt.pt")
        shown = self.refusal(refused, tmp_path / "gpt.pt", tokenizer, "--heads", 2)
        assert "gpt.pt: " in shown
        assert "layers.1.attention.wo.weight" in shown

    def test_a_thousand_rows_are_asked_for(self, state, tmp_path, run, refused):
        state[llamagen_gpt.CLASS_TABLE] = torch.randn(1000, 32)
        torch.save(state, tmp_path / "gpt.pt")
        tokenizer = save_vqgan(tmp_path / "vq")
        shown = self.refusal(refused, tmp_path / "gpt.pt", tokenizer, "--heads", 2)
        assert "--classes 1000 or --classes 999" in shown
        options = ["--tokenizer", tokenizer, "--grid", "2x3", "--heads", 2, "--classes", 999]
        code, shown, _ = run(
            "import", "llamagen-gpt", tmp_path / "gpt.pt", *options, "--out", tmp_path / "gpt"
        )
        assert (code, "999 classes" in shown) == (0, True)

    def test_heads_that_are_not_known(self, file, tmp_path, refused):
        shown = self.refusal(refused, file, save_vqgan(tmp_path / "vq"))
        assert "has the width 32" in shown

    def test_tokenizers_that_do_not_fit(self, file, tmp_path, refused):
        small = save_vqgan(tmp_path / "small", codes=7)
        shown = self.refusal(refused, file, small, "--heads", 2)
        assert "has 7 codes, the model" in shown
        shown = self.refusal(refused, file, tmp_path, "--heads", 2)
        assert "is no model folder" in shown
        checkpoint.save(tmp_path / "empty", {}, {})
        assert "has no tokenizer" in self.refusal(refused, file, tmp_path / "empty", "--heads", 2)
