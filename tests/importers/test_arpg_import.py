"""ARPG's checkpoints: the golden file, what may be wrong with a file, the command."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foreign_files import assert_float32_frozen, read_golden, relative_error, save_vqgan
from random_weights import differ, randomise
from setar.importers import arpg, foreign
from setar.models.arpg import ARPGConfig, ARPGTransformer
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe, SetPlan
from setar.recipes.schedules import SCHEDULES
from setar.sampling.generate import generate
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings

SMALL = ARPGConfig(
    vocabulary=24, classes=5, grid=(2, 3), width=32, heads=2, self_layers=2, cross_layers=3
)
GREEDY = ("greedy_all_steps", "greedy_arccos_linear", "greedy_cosine_constant")

GREEDY_ORDER = torch.tensor([15, 12, 2, 7, 4, 1, 11, 9, 0, 10, 3, 8, 6, 5, 14, 13])
"""The order in which the greedy codes were made.

The file names another one, with which the authors' own code does not give these codes either: it is
what their seed (12) gives at once, but their code draws a number for each of the three labels first
(of their class dropout), and the order after that.
"""


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
    """Their state dict, inputs and outputs, and what the file says; one entry of it is no JSON."""
    return read_golden("arpg")


def convert_golden(golden) -> ARPGTransformer:
    state, _, shape = golden
    return arpg.convert(state, tuple(shape["grid"]), shape["heads"])


def plan_of(order: Tensor, sizes: list[int], grid: tuple[int, int]) -> SetPlan:
    """Sets of these sizes in an order ``[B, N]``."""
    clock = torch.repeat_interleave(torch.arange(1, len(sizes) + 1), torch.tensor(sizes))
    known = clock.expand(len(order), -1)
    return SetPlan(grid, order, known, torch.ones_like(known, dtype=torch.bool))


def foreign_state(config: ARPGConfig) -> dict[str, Tensor]:
    """A random model under ARPG's names, with a drop token."""
    ours = randomise(ARPGTransformer(config)).state_dict()
    parts = [ours.pop(f"{name}.weight") for name in ("tokens", "query", "condition.table")]
    theirs = {"embeddings.weight": torch.cat([*parts, torch.randn(1, config.width)])}
    for name, value in ours.items():
        if "qkv" in name:
            layer = f"layers.self_dec.{name.split('.')[1]}.attn"
            for part, matrix in zip(("to_q", "to_k", "to_v"), value.chunk(3), strict=True):
                theirs[f"{layer}.{part}.weight"] = matrix
        else:
            theirs[arpg.foreign_name(name)] = value
    return theirs


@pytest.fixture
def state() -> dict[str, Tensor]:
    return foreign_state(SMALL)


convert = partial(arpg.convert, grid=SMALL.grid, heads=SMALL.heads)


def assert_same_model(ours: ARPGTransformer, config: ARPGConfig = SMALL) -> None:
    """Whether it has the weights of `foreign_state`."""
    expected = randomise(ARPGTransformer(config)).state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())


class TestGolden:
    """The authors' own code made these outputs."""

    def test_the_shape_is_read_off_the_tensors(self, golden):
        shape, config = golden[2], convert_golden(golden).config
        assert (config.width, config.layers) == (shape["dim"], shape["layers"])
        assert (config.vocabulary, config.classes) == (shape["vocab_size"], shape["num_classes"])
        assert (config.rope_base, config.class_rotation) == (shape["rope_base"], "zero")

    def test_logits_agree(self, golden):
        expected, model = golden[1], convert_golden(golden)
        tokens, labels, order = (expected[name] for name in ("tokens", "labels", "orders"))
        logits = model(tokens, labels, plan_of(order, [1] * 16, model.config.grid))
        assert differ(logits[0], logits[1])
        assert relative_error(logits, expected["logits"]) < 1e-3
        torch.testing.assert_close(logits, expected["logits"], rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("cache", [True, False])
    def test_decoding_token_by_token_agrees(self, golden, cache):
        expected, model = golden[1], convert_golden(golden)
        tokens, order, logits = expected["tokens"], expected["orders"], []
        decoding = model.start(expected["labels"], 16, cache=cache)
        for here in order.split(1, 1):
            logits.append(decoding.predict(here))
            decoding.absorb(tokens.gather(1, here), here)
        assert relative_error(torch.cat(logits, 1), expected["logits"]) < 1e-3

    def test_with_sets_that_see_themselves_only_the_first_set_agrees(self, golden):
        """Their logits are those of a training, whose attention is causal."""
        expected, model = golden[1], convert_golden(golden)
        plan = plan_of(expected["orders"], [4] * 4, model.config.grid)
        logits = model(expected["tokens"], expected["labels"], plan)
        assert relative_error(logits[:, :1], expected["logits"][:, :1]) < 1e-3
        assert differ(logits[:, 1:], expected["logits"][:, 1:])

    @pytest.mark.parametrize("cache", [True, False])
    @pytest.mark.parametrize("name", GREEDY)
    def test_greedy_codes_are_the_same(self, golden, name, cache):
        _, expected, shape = golden
        model, how = convert_golden(golden), shape[name]
        sizes = SCHEDULES.find(how["schedule"]).draw(16, how["steps"])[0].tolist()
        labels = expected["labels"]
        order = GREEDY_ORDER.expand(len(labels), -1)
        schedule = {"linear": "linear-after", "constant": "constant"}[how["guidance_schedule"]]
        codes = generate(
            model,
            labels,
            plan_of(order, sizes, model.config.grid),
            torch.rand(len(labels), 16),
            Guidance(how["guidance"], schedule),
            SamplingSettings(top_k=1, cache=cache),
        )
        assert torch.equal(codes, expected[name])

    def test_imported_and_sampled_on_the_command_line(self, golden, tmp_path, run):
        state, expected, shape = golden
        torch.save({"module": state}, tmp_path / "arpg.pt")
        tokenizer = save_vqgan(tmp_path / "vq", codes=shape["vocab_size"])
        folder, picture = tmp_path / "arpg", tmp_path / "sample.png"
        options = ["--tokenizer", tokenizer, "--out", folder, "--grid", "4x4", "--heads", 4]
        code, shown, err = run("import", "arpg", tmp_path / "arpg.pt", *options)
        assert (code, shown.count("\n"), err) == (0, 1, "")
        assert "4 layers of width 64, 10 classes, without their drop token" in shown
        model = Pipeline.from_pretrained(folder).model
        plan = plan_of(expected["orders"], [1] * 16, (4, 4))
        logits = model(expected["tokens"], expected["labels"], plan)
        assert relative_error(logits, expected["logits"]) < 1e-3
        words = ["--classes", "0,9", "--count", 2, "--recipe", "random-16-arccos"]
        assert run("sample", folder, *words, "--out", picture)[0] == 0
        assert picture.exists()


class TestConvert:
    def test_infers_every_size_and_takes_every_weight(self, state):
        assert arpg.infer_config(state, (2, 3), 2) == SMALL
        assert_same_model(convert(state))

    def test_of_their_tensors_only_the_drop_token_is_left_out(self, state):
        taken = sum(value.numel() for value in convert(state).state_dict().values())
        assert sum(value.numel() for value in state.values()) == taken + SMALL.width

    def test_result_is_float32_frozen_and_its_own(self, state):
        half = {name: value.half() for name, value in state.items()}
        assert_float32_frozen(convert(half))
        model = convert(state)
        for value in state.values():
            value.zero_()
        assert_same_model(model)

    @pytest.mark.parametrize(
        ("width", "layers", "heads"), [(1024, 24, 16), (1280, 36, 20), (1536, 48, 24)]
    )
    def test_heads_of_published_models(self, width, layers, heads):
        shapes = {"embeddings.weight": (17387, width), "head.weight": (16384, width)}
        for part in ("self_dec", "cross_dec"):
            names = [f"layers.{part}.{i}.attn.proj.weight" for i in range(layers // 2)]
            shapes |= dict.fromkeys(names, (width, width))
        state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        config = arpg.infer_config(state)
        assert (config.heads, config.vocabulary, config.classes) == (heads, 16384, 1000)
        assert arpg.infer_config(state, heads=4).heads == 4
        del state[f"layers.self_dec.{layers // 2 - 1}.attn.proj.weight"]
        with pytest.raises(ValueError, match="must be given"):
            arpg.infer_config(state)

    def test_other_widths_need_their_heads(self, state):
        with pytest.raises(ValueError, match=r"has the width 32, so .* must be given \(`heads`\)"):
            convert(state, heads=None)

    @pytest.mark.parametrize(
        ("changes", "rule"), [({"heads": 3}, "4 x `heads`"), ({"grid": (0, 4)}, "at least 1")]
    )
    def test_impossible_shapes(self, state, changes, rule):
        with pytest.raises(ValueError, match=rule):
            convert(state, **changes)

    def test_a_table_too_short_for_classes(self, state):
        state["embeddings.weight"] = state["embeddings.weight"][:27]
        with pytest.raises(ValueError, match=r"\(=27 rows\) must have 24 codes, as 'head.weight'"):
            convert(state)

    @pytest.mark.parametrize(
        "name",
        [
            "embeddings.weight",
            "layers.self_dec.0.attn_norm.weight",
            "layers.self_dec.1.attn.to_k.weight",
            "layers.cross_dec.2.attn.to_q.weight",
            "layers.to_v.weight",
            "layers.norm.weight",
            "norm.weight",
            "head.weight",
        ],
    )
    def test_missing_tensor(self, state, name):
        del state[name]
        with pytest.raises(ValueError, match=f"must have the tensor '{name}', which is missing"):
            convert(state)

    @pytest.mark.parametrize(
        "name", ["layers.cross_dec.0.attn.to_k.weight", "layers.self_dec.7.ffn.w1.weight", "x"]
    )
    def test_whatever_else_they_carry_is_named(self, state, name):
        state[name] = torch.zeros(1)
        with pytest.raises(ValueError, match=f"an ARPG of this size has no tensor '{name}'"):
            convert(state)

    def test_misshapen_tensors(self, state):
        state["layers.self_dec.1.attn.to_k.weight"] = torch.zeros(64, 32)
        with pytest.raises(ValueError, match=r"to_k.weight' has the shape \(64, 32\) instead of"):
            convert(state)
        state = foreign_state(SMALL)
        state["head.weight"] = torch.zeros(24, 16)
        with pytest.raises(ValueError, match=r"'head.weight' has the shape \(24, 16\) instead of"):
            convert(state)

    def test_weights_that_are_no_numbers(self, state):
        state["layers.self_dec.1.attn.to_v.weight"][3, 4] = torch.nan
        with pytest.raises(ValueError, match=r"self_dec.1.attn.*to_v.* holds NaN"):
            convert(state)


class TestImport:
    """`import_arpg` and its command."""

    @pytest.fixture
    def file(self, state, tmp_path) -> Path:
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "arpg.pt")
        return tmp_path / "arpg.pt"

    @pytest.mark.parametrize("wrapper", [None, "model", "module", "state_dict"])
    def test_wrappers(self, state, tmp_path, wrapper):
        torch.save({wrapper: state} if wrapper else state, tmp_path / "arpg.pt")
        assert_same_model(convert(foreign.read(tmp_path / "arpg.pt", arpg.WRAPPERS)))

    def test_a_pipeline_like_any_other(self, file, tmp_path):
        tokenizer = save_vqgan(tmp_path / "vq")
        arpg.import_arpg(file, tokenizer, tmp_path / "arpg", (2, 3), 2)
        pipe = Pipeline.from_pretrained(tmp_path / "arpg")
        assert pipe.model.config == SMALL
        assert_same_model(pipe.model)
        published = Guidance(4.0, "linear-after")
        assert pipe.defaults == SamplingDefaults(Recipe.parse("random-6-arccos"), published)
        written = json.loads((tmp_path / "arpg" / "config.json").read_text())
        assert json.loads(json.dumps(pipe.describe())) == written
        codes = pipe.sample_codes([0, 4], count=2, recipe="random-3-cosine")
        again = pipe.sample_codes([0, 4], count=2, recipe="random-3-cosine", cache=False)
        assert torch.equal(again, codes)
        assert [image.size for image in pipe([0, "4"])] == [(6, 4)] * 2

    def test_refusals_are_one_line_and_write_nothing(self, file, state, tmp_path, refused):
        tokenizer, out = save_vqgan(tmp_path / "vq"), tmp_path / "out"
        words = ["--out", out, "--grid", "2x3"]
        shown = refused("import", "arpg", file, "--tokenizer", tokenizer, *words)
        assert "has the width 32" in shown
        words += ["--heads", 2]
        small = save_vqgan(tmp_path / "small", codes=7)
        shown = refused("import", "arpg", file, "--tokenizer", small, *words)
        assert "has 7 codes, the model" in shown
        torch.save({"state_dict": {**state, "more": torch.zeros(2)}}, file)
        shown = refused("import", "arpg", file, "--tokenizer", tokenizer, *words)
        assert "arpg.pt: " in shown
        assert "no tensor 'more'" in shown
        assert not out.exists()
