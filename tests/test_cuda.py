"""What must be the same on a GPU: skipped where there is none."""

import copy
import json

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask

import tiny_runs
from random_weights import random_codes, random_fmt
from setar import Pipeline
from setar.pretrained import shipped
from setar.recipes.clocks import visible
from setar.recipes.recipe import Recipe
from setar.sampling.generate import generate, noise_and_plan
from setar.sampling.guidance import Guidance
from setar.training.run import open_run, read_run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.mark.parametrize("name", shipped())
def test_a_gpu_draws_the_codes_of_a_cpu(name):
    drawn = {
        device: Pipeline.from_pretrained(name, device).sample_codes([0, 1, 2, 3], seed=1).cpu()
        for device in ("cpu", "cuda")
    }
    # A number that falls on the border of two codes may fall on either side, and what follows.
    assert (drawn["cpu"] == drawn["cuda"]).float().mean() > 0.9


@pytest.mark.parametrize("recipe", ["raster-16-uniform", "random-5-random", "next-scale"])
def test_cached_logits_equal_masked_ones_on_a_gpu(recipe):
    model = copy.deepcopy(random_fmt()).cuda()
    seeds = [torch.Generator().manual_seed(i) for i in range(3)]
    plan = Recipe.parse(recipe).sampling_plan((4, 4), seeds).to("cuda")
    codes, labels = random_codes(3, (4, 4)).cuda(), torch.arange(3, device="cuda")
    with torch.inference_mode():
        masked = model(codes, labels, plan)
        decoding = model.start(labels, 16)
        for start, stop in plan.slices():
            positions = plan.order[:, start:stop]
            cached = decoding.predict(positions)
            torch.testing.assert_close(cached, masked[:, start:stop], atol=1e-4, rtol=1e-4)
            decoding.absorb(codes.gather(1, positions), positions)


@pytest.mark.parametrize("recipe", ["random-16-random", "mar", "raster-256-uniform"])
def test_blocks_of_masks_train_as_whole_masks_do_on_a_gpu(recipe):
    """FlexAttention, which only CUDA can train with: logits and gradients."""
    plan = Recipe.parse(recipe).plan((16, 16), 2, torch.Generator().manual_seed(0)).to("cuda")
    codes, labels = random_codes(2, (16, 16)).cuda(), torch.arange(2, device="cuda")
    found = {}
    for kind in ("blocks", "whole"):
        model = copy.deepcopy(random_fmt((16, 16))).requires_grad_(True).cuda()
        if kind == "whole":
            model.mask = lambda key, query: visible(key, query)[:, None]
        else:
            assert isinstance(model.mask(plan.known, plan.known), BlockMask)
        logits = model(codes, labels, plan)
        logits.square().mean().backward()
        found[kind] = [logits, *(part.grad for part in model.parameters())]
    for blocks, whole in zip(*found.values(), strict=True):
        torch.testing.assert_close(blocks, whole, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"mode": "reduce-overhead"}])
def test_compiled_sampling_draws_the_same_codes_on_a_gpu(options):
    """Three times, as graphs are warmed up, recorded and only then played."""
    plain = copy.deepcopy(random_fmt((16, 16))).cuda()
    model = copy.deepcopy(plain).compile_sampling(**options)
    labels = torch.arange(3, device="cuda")
    for seed in range(3):
        noise, plan = noise_and_plan(Recipe.parse("random-20-cosine"), (16, 16), range(3), seed)
        made = [generate(each, labels, plan, noise, Guidance(2.0)) for each in (model, plain)]
        # A number that falls on the border of two codes may fall on either side, and what follows.
        assert (made[0] == made[1]).float().mean() > 0.9


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def read(tmp_path, text, *overrides):
    file = tmp_path / "run.toml"
    file.write_text(text)
    return read_run(file, ["loop.device=cuda", *overrides])


def test_a_gpu_learns_what_a_cpu_learns(tmp_path):
    curves = {}
    for device in ("cpu", "cuda"):
        folder = tmp_path / device
        choices = [f"loop.device={device}", "loop.precision=float32", "model.class_dropout=0"]
        choices += ["sampling.guidance.scale=1"]
        run = read(tmp_path, tiny_runs.DIGITS, "model.dropout=0", *choices)
        open_run(run, folder).run()
        curves[device] = losses(folder)
    assert curves["cuda"] == pytest.approx(curves["cpu"], rel=1e-3)


def test_a_killed_run_goes_on_on_a_gpu(tmp_path):
    run = read(tmp_path, tiny_runs.DIGITS)
    open_run(run, tmp_path / "whole").run()
    shorter = read(tmp_path, tiny_runs.DIGITS, "loop.steps=3")
    open_run(shorter, tmp_path / "broken").run()
    second = open_run(run, tmp_path / "broken", resume=True)
    assert second.step == 3
    second.run()
    assert losses(tmp_path / "broken") == pytest.approx(losses(tmp_path / "whole"), rel=1e-2)


@pytest.mark.parametrize("correction", [0.0, 0.5])
def test_a_var_and_its_tokenizer_train_on_a_gpu(tmp_path, correction):
    tiny_runs.save_pictures(tmp_path / "pictures")
    source = f"data.source={tmp_path / 'pictures'}"
    tokenizer = tmp_path / "tokenizer"
    open_run(read(tmp_path, tiny_runs.FOLDER_MULTISCALE, source), tokenizer).run()
    choices = [source, f"tokenizer={tokenizer}", f"self_correction={correction}"]
    trainer = open_run(read(tmp_path, tiny_runs.FOLDER_VAR, *choices), tmp_path / "var")
    trainer.run()
    assert trainer.step == 2
    pipe = Pipeline.from_pretrained(tmp_path / "var", "cuda")
    assert pipe.sample_codes([0], seed=0).shape == (1, 21)
