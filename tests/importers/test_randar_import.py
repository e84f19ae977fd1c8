import json
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import foreign_files
from foreign_files import assert_float32_frozen, read_golden, relative_error, save_vqgan
from random_weights import randomise
from setar.importers import randar
from setar.models.randar import RandARConfig, RandARTransformer
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe, SetPlan
from setar.sampling.generate import generate
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings

SMALL = RandARConfig(vocabulary=24, classes=5, grid=(2, 3), width=32, heads=2, layers=3)
GREEDY = ("greedy_parallel", "greedy_constant", "greedy_all_steps")

assert_same_weights = partial(foreign_files.assert_same_weights, foreign_name=randar.foreign_name)


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
    """Their state dict, inputs and outputs, and the architecture."""
    return read_golden("randar")


@pytest.fixture
def state() -> dict[str, Tensor]:
    """A small random model under their names."""
    ours = randomise(RandARTransformer(SMALL)).state_dict()
    return {randar.foreign_name(name): value for name, value in ours.items()}


def convert_golden(golden) -> RandARTransformer:
    state, _, shape = golden
    return randar.convert(state, tuple(shape["grid"]), shape["heads"])


def convert(state, **changes) -> RandARTransformer:
    return randar.convert(state, **{"grid": SMALL.grid, "heads": SMALL.heads, **changes})


def plan_in(order: Tensor, grid: tuple[int, int], recipe: str) -> SetPlan:
    """The sets of a recipe, in a given order."""
    known = Recipe.parse(recipe).plan(grid, len(order)).known
    return SetPlan(grid, order, known, known > 0)


class TestGolden:
    """The authors' own code made these outputs."""

    def test_the_shape_is_read_off_the_tensors(self, golden):
        shape, config = golden[2], convert_golden(golden).config
        assert (config.width, config.layers) == (shape["dim"], shape["layers"])
        assert (config.vocabulary, config.classes) == (shape["vocab_size"], shape["num_classes"])
        assert config.rope_base == shape["rope_base"]

    def test_logits_agree(self, golden):
        expected, model = golden[1], convert_golden(golden)
        plan = plan_in(expected["orders"], (4, 4), "raster-N-uniform")
        logits = model(expected["tokens"], expected["labels"], plan)
        assert relative_error(logits, expected["logits"]) < 1e-3
        torch.testing.assert_close(logits, expected["logits"], rtol=1e-3, atol=1e-3)
        other = plan_in(expected["orders"].flip(1), (4, 4), "raster-N-uniform")
        logits = model(expected["tokens"], expected["labels"], other)
        assert relative_error(logits, expected["logits"]) > 1e-2

    @pytest.mark.parametrize("cache", [True, False])
    def test_decoding_token_by_token_agrees(self, golden, cache):
        expected, model = golden[1], convert_golden(golden)
        decoding, logits = model.start(expected["labels"], 16, cache=cache), []
        for positions in expected["orders"].split(1, 1):
            logits.append(decoding.predict(positions))
            decoding.absorb(expected["tokens"].gather(1, positions), positions)
        assert relative_error(torch.cat(logits, 1), expected["logits"]) < 1e-3

    @pytest.mark.parametrize("cache", [True, False])
    @pytest.mark.parametrize("name", GREEDY)
    def test_greedy_codes_are_theirs(self, golden, name, cache):
        (_, expected, shape), model = golden, convert_golden(golden)
        steps, (low, high) = shape[name]["steps"], shape[name]["guidance"]
        assert low in (1.0, high)
        guidance = Guidance(high, "linear" if low == 1.0 else "constant")
        plan = plan_in(expected["orders"], (4, 4), f"raster-{steps}-randar")
        noise, greedy = torch.rand(3, 16), SamplingSettings(temperature=0.0, cache=cache)
        codes = generate(model, expected["labels"], plan, noise, guidance, greedy)
        assert torch.equal(codes, expected[name])
        if steps < 16:  # other sets are other codes
            plan = plan_in(expected["orders"], (4, 4), f"raster-{steps}-uniform")
            other = generate(model, expected["labels"], plan, noise, guidance, greedy)
            assert not torch.equal(other, codes)

    def test_every_tensor_of_theirs_is_used(self, golden):
        model = convert_golden(golden)
        assert_same_weights(model, golden[0])
        assert len(model.state_dict()) == len(golden[0])

    def test_imported_and_sampled_on_the_command_line(self, golden, tmp_path, run):
        state, expected, shape = golden
        save_file(state, tmp_path / "randar.safetensors")
        tokenizer = save_vqgan(tmp_path / "vq", codes=shape["vocab_size"])
        folder, file = tmp_path / "randar", tmp_path / "randar.safetensors"
        options = ["--tokenizer", tokenizer, "--out", folder, "--grid", "4x4", "--heads", 4]
        code, shown, err = run("import", "randar", file, *options)
        assert (code, shown.count("\n"), err) == (0, 1, "")
        assert "3 layers of width 64, 10 classes" in shown
        pipe = Pipeline.from_pretrained(folder)
        plan = plan_in(expected["orders"], (4, 4), "raster-N-uniform")
        logits = pipe.model(expected["tokens"], expected["labels"], plan)
        assert relative_error(logits, expected["logits"]) < 1e-3
        picture = tmp_path / "sample.png"
        options = ["--classes", "0,9", "--recipe", "random-5-randar", "--out", picture]
        code, shown, _ = run("sample", folder, *options)
        assert code == 0
        assert picture.exists()


class TestConvert:
    def test_infers_every_size(self, state):
        model = convert(state)
        assert model.config == SMALL
        assert_same_weights(model, state)
        assert_float32_frozen(model)

    @pytest.mark.parametrize(
        ("preset", "vocabulary", "heads"), [("L", 16384, 16), ("XL", 16384, 20), ("L", 1024, 16)]
    )
    def test_published_models(self, preset, vocabulary, heads):
        """Names and shapes of the files that are published, the weights left out."""
        shape = RandARTransformer.presets[preset]
        width, hidden = shape.width, {1024: 2816, 1280: 3584}[shape.width]
        layer = {
            "attention.wqkv": (3 * width, width),
            "attention.wo": (width, width),
            "feed_forward.w1": (hidden, width),
            "feed_forward.w3": (hidden, width),
            "feed_forward.w2": (width, hidden),
            "attention_norm": (width,),
            "ffn_norm": (width,),
        }
        shapes = {
            f"layers.{i}.{n}.weight": s for i in range(shape.layers) for n, s in layer.items()
        }
        shapes |= {
            "cls_embedding.embedding_table.weight": (1001, width),
            "tok_embeddings.weight": (vocabulary, width),
            "norm.weight": (width,),
            "output.weight": (vocabulary, width),
            "pos_instruct_embeddings": (1, width),
        }
        with torch.device("meta"):
            state = {name: torch.empty(size) for name, size in shapes.items()}
            ours = RandARTransformer(RandARConfig(**{**vars(shape), "vocabulary": vocabulary}))
        sizes = {randar.foreign_name(n): tuple(w.shape) for n, w in ours.state_dict().items()}
        assert sizes == shapes
        network = randar.llamagen_gpt.infer_network(state, None, randar.KIND)
        assert (network["vocabulary"], network["heads"]) == (vocabulary, heads)
        assert randar.llamagen_gpt.infer_classes(state, None, randar.KIND) == (1001, True)

    @pytest.mark.parametrize("name", ["pos_instruct_embeddings", "layers.2.feed_forward.w3.weight"])
    def test_missing_tensor(self, state, name):
        del state[name]
        with pytest.raises(ValueError, match=f"a class-conditional RandAR must have .*'{name}'"):
            convert(state)

    def test_unknown_and_misshapen_tensors(self, state):
        with pytest.raises(ValueError, match="RandAR of this size has no tensor 'freqs_cis'"):
            convert({**state, "freqs_cis": torch.zeros(7, 8, 2)})
        with pytest.raises(ValueError, match=r"embeddings' has the shape \(32,\) instead of \(1, "):
            convert({**state, "pos_instruct_embeddings": torch.zeros(32)})

    def test_a_gpt_of_llamagen_is_none(self, state):
        del state["pos_instruct_embeddings"]
        with pytest.raises(ValueError, match="'pos_instruct_embeddings', which is missing"):
            convert(state)

    def test_other_widths_need_their_heads(self, state):
        with pytest.raises(ValueError, match=r"has the width 32, so .* must be given \(`heads`\)"):
            convert(state, heads=None)

    def test_a_model_without_class_dropout(self, state):
        model = convert(state, classes=6)
        assert (model.config.classes, model.config.class_dropout) == (6, 0.0)
        assert model.condition.table.weight[6].eq(0).all()


class TestImport:
    """`import_randar` and its command."""

    def test_a_pipeline_like_any_other(self, state, tmp_path):
        save_file(state, tmp_path / "a.safetensors")
        tokenizer, out = save_vqgan(tmp_path / "vq"), tmp_path / "model"
        model = randar.import_randar(tmp_path / "a.safetensors", tokenizer, out, (2, 3), 2)
        pipe = Pipeline.from_pretrained(out)
        assert pipe.model.config == model.config == SMALL
        assert_same_weights(pipe.model, state)
        expected = SamplingDefaults(Recipe.parse("random-6-randar"), Guidance(4.0, "linear"))
        assert pipe.defaults == expected
        written = json.loads((out / "config.json").read_text())
        assert json.loads(json.dumps(pipe.describe())) == written
        codes = pipe.sample_codes([0, 4], count=2)
        assert torch.equal(pipe.sample_codes([0, 4], count=2, cache=False), codes)
        assert len(pipe([0], recipe="locality-3-cosine")) == 1
        with pytest.raises(ValueError, match="`attention` must be 'causal'"):
            pipe([0], attention="full")

    @pytest.mark.parametrize(
        ("vocabulary", "width", "scale"),
        [(16384, 1024, 3.4), (1024, 1024, 4.0), (16384, 1280, 4.0)],
    )
    def test_guidance_of_published_models(self, vocabulary, width, scale):
        assert randar.SCALES.get((vocabulary, width), randar.SCALE) == scale

    def test_a_model_that_knows_no_null_is_sampled_without_guidance(self, state, tmp_path):
        save_file(state, tmp_path / "a.safetensors")
        tokenizer, out = save_vqgan(tmp_path / "vq"), tmp_path / "model"
        randar.import_randar(tmp_path / "a.safetensors", tokenizer, out, (2, 3), 2, classes=6)
        assert Pipeline.from_pretrained(out).defaults.guidance.off

    def test_what_does_not_fit_is_one_line_and_writes_nothing(self, state, tmp_path, refused):
        del state["layers.1.attention.wo.weight"]
        save_file(state, tmp_path / "a.safetensors")
        tokenizer, out = save_vqgan(tmp_path / "vq"), tmp_path / "model"
        words = ["--tokenizer", tokenizer, "--out", out, "--grid", "2x3", "--heads", 2]
        shown = refused("import", "randar", tmp_path / "a.safetensors", *words)
        assert "a.safetensors: " in shown
        assert "layers.1.attention.wo.weight" in shown
        assert not out.exists()

    def test_a_tokenizer_of_other_codes_is_refused(self, state, tmp_path, refused):
        save_file(state, tmp_path / "a.safetensors")
        tokenizer, out = save_vqgan(tmp_path / "vq", codes=20), tmp_path / "model"
        words = ["--tokenizer", tokenizer, "--out", out, "--grid", "2x3", "--heads", 2]
        refused("import", "randar", tmp_path / "a.safetensors", *words)
        assert not out.exists()
