"""LPD's transformers from their authors' files: golden logits and codes, loading, the command."""

import argparse
from functools import partial

import pytest
import torch
from torch import Tensor

import foreign_files
from foreign_files import assert_float32_frozen, read_golden, relative_error, save_vqgan
from random_weights import differ, randomise
from setar.importers import foreign, lpd
from setar.models.lpd import LPD, LPDConfig
from setar.pipeline import Pipeline
from setar.recipes.recipe import Recipe, SetPlan
from setar.sampling.generate import generate
from setar.sampling.guidance import Guidance
from setar.sampling.settings import SamplingDefaults, SamplingSettings

SMALL = LPDConfig(vocabulary=24, classes=5, grid=(3, 3), width=32, heads=2, layers=2)
GREEDY = ("greedy_linear", "greedy_constant", "greedy_all_steps")


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Tensor], dict]:
    """Their state dict, inputs and outputs, and the architecture."""
    return read_golden("lpd")


def foreign_state(config: LPDConfig) -> dict[str, Tensor]:
    """A random model under LPD's names and in its shapes."""
    ours = randomise(LPD(config)).state_dict()
    state = {lpd.foreign_name(name): value for name, value in ours.items()}
    state["fake_latent"] = state["class_emb.weight"][-1:]
    state["class_emb.weight"] = state["class_emb.weight"][:-1]
    state["pos_embed"] = state["pos_embed"][None]
    return {**state, "mask_token": state["mask_token"][None, None]}


@pytest.fixture
def state() -> dict[str, Tensor]:
    return foreign_state(SMALL)


def plan_of(orders: Tensor, sizes: list[int]) -> SetPlan:
    """Their orders in sets of these sizes."""
    clocks = torch.arange(1, len(sizes) + 1).repeat_interleave(torch.tensor(sizes))
    known = clocks.expand(len(orders), -1)
    side = round(orders.shape[1] ** 0.5)
    return SetPlan((side, side), orders, known, known > 0)


class TestGolden:
    """The authors' own code made these outputs."""

    def test_the_shape_is_read_off_the_tensors(self, golden):
        config, shape = lpd.convert(golden[0], 4).config, golden[2]
        assert (config.width, config.layers) == (shape["dim"], shape["layers"])
        assert (config.vocabulary, config.classes) == (shape["vocab_size"], shape["num_classes"])
        assert config.grid == tuple(shape["grid"])

    def test_logits_agree(self, golden):
        state, expected, shape = golden
        model, plan = lpd.convert(state, 4), plan_of(expected["orders"], shape["set_sizes"])
        logits = model(expected["tokens"], expected["labels"], plan)
        assert relative_error(logits, expected["logits"]) < 1e-5
        torch.testing.assert_close(logits, expected["logits"], rtol=1e-3, atol=1e-3)
        other = plan_of(expected["orders"], [1, 1, 2, 3, 9])
        assert relative_error(model(expected["tokens"], expected["labels"], other)[:, 7:],
                              expected["logits"][:, 7:]) > 1e-2  # fmt: skip

    @pytest.mark.parametrize("cache", [True, False])
    def test_decoding_set_by_set_agrees(self, golden, cache):
        state, expected, shape = golden
        plan, tokens = plan_of(expected["orders"], shape["set_sizes"]), expected["tokens"]
        decoding, logits = lpd.convert(state, 4).start(expected["labels"], 16, cache=cache), []
        for start, stop in plan.slices():
            positions = plan.order[:, start:stop]
            logits.append(decoding.predict(positions))
            decoding.absorb(tokens.gather(1, positions), positions)
        assert relative_error(torch.cat(logits, 1), expected["logits"]) < 1e-5

    @pytest.mark.parametrize("cache", [True, False])
    @pytest.mark.parametrize("name", GREEDY)
    def test_greedy_codes_are_theirs(self, golden, name, cache):
        state, expected, shape = golden
        facts = shape[name]
        dialect = {"linear, per token": "linear-token", "constant": "constant"}
        guidance = Guidance(facts["guidance"], dialect[facts["guidance_schedule"]])
        codes = generate(
            lpd.convert(state, 4),
            expected["labels"],
            plan_of(expected["orders"], facts["set_sizes"]),
            torch.full((3, 16), 0.5),
            guidance,
            SamplingSettings(top_k=1, cache=cache),
        )
        assert torch.equal(codes, expected[name])

    def test_one_scale_for_a_step_would_give_other_codes(self, golden):
        state, expected, shape = golden
        facts = shape["greedy_linear"]
        plan = plan_of(expected["orders"], facts["set_sizes"])
        given = expected["labels"], plan, torch.full((3, 16), 0.5)
        guidance = Guidance(facts["guidance"], "linear")
        codes = generate(lpd.convert(state, 4), *given, guidance, SamplingSettings(top_k=1))
        assert not torch.equal(codes, expected["greedy_linear"])

    def test_every_tensor_of_theirs_is_used(self, golden):
        state = golden[0]
        assert_same_weights(lpd.convert(state, 4), state)
        ours = sum(p.numel() for p in lpd.convert(state, 4).parameters())
        assert ours == sum(value.numel() for value in state.values())

    def test_imported_and_sampled_on_the_command_line(self, golden, tmp_path, run):
        state, expected, shape = golden
        arguments = argparse.Namespace(model="lpd_l", lr=1e-4)
        torch.save({"model": state, "epoch": 449, "args": arguments}, tmp_path / "lpd.pth")
        tokenizer = save_vqgan(tmp_path / "vq", codes=shape["vocab_size"])
        folder, picture = tmp_path / "lpd", tmp_path / "sample.png"
        options = ["--tokenizer", tokenizer, "--out", folder, "--heads", 4]
        code, shown, err = run("import", "lpd", tmp_path / "lpd.pth", *options)
        assert (code, shown.count("\n"), err) == (0, 1, "")
        assert "3 layers of width 64, 4x4 tokens, 10 classes" in shown
        pipe = Pipeline.from_pretrained(folder)
        plan = plan_of(expected["orders"], shape["set_sizes"])
        logits = pipe.model(expected["tokens"], expected["labels"], plan)
        assert relative_error(logits, expected["logits"]) < 1e-5
        assert run("sample", folder, "--classes", "0,9", "--out", picture)[0] == 0
        assert picture.exists()


def assert_same_weights(model, state):
    """Whether a model has the weights of a state dict of theirs."""
    classes = torch.cat([state["class_emb.weight"], state["fake_latent"]])
    theirs = {**state, "class_emb.weight": classes}
    foreign_files.assert_same_weights(model, theirs, lpd.foreign_name)


convert = partial(lpd.convert, heads=SMALL.heads)


class TestConvert:
    def test_infers_every_size(self, state):
        assert lpd.infer_config(state, 2) == SMALL

    @pytest.mark.parametrize(
        ("width", "layers", "heads", "side"),
        [(1024, 24, 16, 16), (1280, 36, 20, 32), (1536, 48, 24, 16)],
    )
    def test_shapes_of_published_models(self, width, layers, heads, side):
        shapes = {
            "class_emb.weight": (1000, width),
            "token_emb.weight": (16384, width),
            "pos_embed": (1, 1 + side * side, width),
        }
        shapes |= {f"blocks.{i}.norm1.weight": (width,) for i in range(layers)}
        state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        config = lpd.infer_config(state)
        assert (config.layers, config.heads, config.grid) == (layers, heads, (side, side))
        assert (config.classes, config.vocabulary) == (1000, 16384)

    def test_other_widths_need_their_heads(self, state):
        with pytest.raises(ValueError, match=r"width 32, so its .* must be given \(`heads`\)"):
            lpd.convert(state)

    def test_tokens_that_fill_no_square(self, state):
        state["pos_embed"] = torch.zeros(1, 8, 32)
        with pytest.raises(ValueError, match="7 tokens after the class, which fill no square"):
            convert(state)

    def test_result_is_float32_frozen_and_has_their_null(self, state):
        half = {name: value.half() for name, value in state.items()}
        model = convert(half)
        assert_same_weights(model, half)
        assert_float32_frozen(model)
        assert torch.equal(model.condition.table.weight[-1], half["fake_latent"][0].float())
        codes, plan = torch.zeros(1, 9).long(), Recipe.parse("ar").plan((3, 3))
        label = torch.tensor([2])
        assert differ(model(codes, label, plan), model(codes, model.null(label), plan))

    @pytest.mark.parametrize(
        "name",
        [
            "class_emb.weight",
            "token_emb.weight",
            "fake_latent",
            "pos_embed",
            "mask_token",
            "z_proj_ln.bias",
            "blocks.0.norm1.weight",
            "blocks.1.attn.qkv.bias",
            "blocks.1.mlp.fc2.weight",
            "norm.weight",
            "head.weight",
        ],
    )
    def test_missing_tensor(self, state, name):
        del state[name]
        with pytest.raises(
            ValueError, match=f"an LPD must have the tensor '{name}', which is miss"
        ):
            convert(state)

    @pytest.mark.parametrize("name", ["blocks.7.norm1.weight", "head.bias", "blocks.0.attn.q_norm"])
    def test_unknown_tensor(self, state, name):
        state[name] = torch.zeros(1)
        with pytest.raises(ValueError, match=f"of this size has no tensor '{name}'"):
            convert(state)

    @pytest.mark.parametrize(
        ("name", "shape"),
        [("fake_latent", (2, 32)), ("mask_token", (1, 32)), ("blocks.1.attn.qkv.weight", (64, 32))],
    )
    def test_misshapen_tensor(self, state, name, shape):
        state[name] = torch.zeros(shape)
        with pytest.raises(ValueError, match=rf"\A'{name}' has the shape [^\n]* instead of"):
            convert(state)


class TestImport:
    """`import_lpd` and its command."""

    def test_a_checkpoint_of_their_training(self, state, tmp_path):
        """Beside the weights it has the optimizer's numbers, a scaler and a Namespace."""
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))]).state_dict()
        arguments = argparse.Namespace(model="lpd_l", bf16=True, group_sizes=[1, 2])
        content = {"model": state, "optimizer": optimizer, "epoch": 3, "args": arguments}
        torch.save({**content, "scaler": {"scale": 65536.0}}, tmp_path / "checkpoint-last.pth")
        found = foreign.read(tmp_path / "checkpoint-last.pth", lpd.WRAPPERS)
        assert_same_weights(convert(found), state)

    def test_a_pipeline_like_any_other(self, state, tmp_path):
        torch.save({"model": state}, tmp_path / "lpd.pth")
        tokenizer = save_vqgan(tmp_path / "vq")
        model = lpd.import_lpd(tmp_path / "lpd.pth", tokenizer, tmp_path / "lpd", 2)
        assert model.config == SMALL
        pipe = Pipeline.from_pretrained(tmp_path / "lpd")
        assert_same_weights(pipe.model, state)
        guidance = Guidance(4.8, "linear-token")
        assert pipe.defaults == SamplingDefaults(Recipe.parse("lpd-9-lpd"), guidance)
        codes = pipe.sample_codes([0, 4], count=2)
        assert torch.equal(pipe.sample_codes([0, 4], count=2, cache=False), codes)
        assert len(codes.unique(dim=0)) == 4

    @pytest.mark.parametrize(("side", "recipe"), [(16, "lpd-20-lpd"), (32, "lpd-48-lpd")])
    def test_it_is_sampled_as_published(self, side, recipe, tmp_path):
        config = LPDConfig(24, 5, (side, side), width=4, heads=1, layers=1)
        torch.save({"model": foreign_state(config)}, tmp_path / "lpd.pth")
        lpd.import_lpd(tmp_path / "lpd.pth", save_vqgan(tmp_path / "vq"), tmp_path / "lpd", 1)
        defaults = Pipeline.from_pretrained(tmp_path / "lpd").defaults
        assert str(defaults.recipe) == recipe
        assert defaults.guidance.schedule == "linear-token"

    def test_each_published_size_has_its_own_recipe_and_guidance(self, tmp_path, monkeypatch):
        sizes = {(256, LPD.presets[name].width) for name in ("L", "XL", "XXL")}
        assert sizes < {*lpd.PUBLISHED}
        monkeypatch.setitem(lpd.PUBLISHED, (256, 4), ("lpd-wide-20-lpd", 5.9))
        config = LPDConfig(24, 5, (16, 16), width=4, heads=1, layers=1)
        torch.save({"model": foreign_state(config)}, tmp_path / "lpd.pth")
        lpd.import_lpd(tmp_path / "lpd.pth", save_vqgan(tmp_path / "vq"), tmp_path / "lpd", 1)
        defaults = Pipeline.from_pretrained(tmp_path / "lpd").defaults
        guidance = Guidance(5.9, "linear-token")
        assert defaults == SamplingDefaults(Recipe.parse("lpd-wide-20-lpd"), guidance)

    def test_a_wrong_file_is_one_line_and_nothing_is_written(self, state, tmp_path, refused):
        del state["mask_token"]
        torch.save({"model": state}, tmp_path / "lpd.pth")
        tokenizer = save_vqgan(tmp_path / "vq")
        out = ["--tokenizer", tokenizer, "--out", tmp_path / "out", "--heads", 2]
        assert "'mask_token', which is missing" in refused(
            "import", "lpd", tmp_path / "lpd.pth", *out
        )
        assert not (tmp_path / "out").exists()
