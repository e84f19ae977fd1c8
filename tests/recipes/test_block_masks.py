"""Masks by blocks say what bools say, and FlexAttention computes the same with them.

Its kernels for CUDA are tested in `test_cuda`, on a machine that has it.
"""

import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask

from random_weights import differ, random_codes, randomise
from setar.layers.attention import attend
from setar.models.base import FAMILIES
from setar.recipes.block_masks import block_mask, training_mask
from setar.recipes.clocks import PADDING, attention_clocks, visible
from setar.recipes.padding import join_plans
from setar.recipes.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

RECIPES = ["ar", "mar", "next-scale", "random-16-random", "raster-7-uniform", "roll-3-cosine"]
SIDE, LENGTH = st.integers(4, 16), st.integers(0, 270)
CASES = {
    "recipe": st.sampled_from(RECIPES),
    "grids": st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=2),
    "texts": st.tuples(st.integers(1, 140), st.integers(0, 139)),
    "length": LENGTH,
    "seed": st.integers(0, 99),
}
"""Batches of plans, whole or padded to a length, after a text and a shorter one."""


def clocks(recipe, grids, texts, length, seed):
    generator = torch.Generator().manual_seed(seed)
    grids = grids[:1] if recipe == "mar" else grids  # which is not padded
    plans = [Recipe.parse(recipe).plan(grid, 1, generator) for grid in grids]
    plan = plans[0] if len(plans) == 1 else join_plans(plans, length)
    prefix = torch.arange(-texts[0] + 1, 1).repeat(len(plan.order), 1)
    prefix[-1, : min(texts[1], texts[0] - 1)] = PADDING
    return attention_clocks(plan, prefix)


@settings(max_examples=12)
@given(**CASES)
@example("ar", [(4, 4), (4, 4)], (1, 0), 270, 0)  # blocks of nothing but padding
def test_blocks_are_those_of_the_mask(recipe, grids, texts, length, seed):
    """Which are empty, whole and partly seen: as torch finds it by looking at every pair."""
    found = clocks(recipe, grids, texts, length, seed)
    for dense, blocks in zip(found.masks(visible), found.masks(block_mask), strict=True):
        expected = create_block_mask(blocks.mask_mod, len(dense), None, *dense.shape[1:], "cpu")
        for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
            assert torch.equal(getattr(blocks, name), getattr(expected, name)), name
        batch, query, key = torch.meshgrid(*map(torch.arange, dense.shape), indexing="ij")
        assert torch.equal(blocks.mask_mod(batch, batch, query, key), dense)


def attended(dense, blocks, head_dim=16, seed=0):
    """What attention gives with bools and with blocks."""
    batch, queries, keys = dense.shape
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(batch, 2, length, head_dim, generator=generator)
        for length in (queries, keys, keys)
    )
    with torch.inference_mode():
        return [attend(query, key, value, mask) for mask in (dense[:, None], blocks)]


@settings(max_examples=6)
@given(**CASES)
def test_attention_by_blocks_is_attention(recipe, grids, texts, length, seed):
    found = clocks(recipe, grids, texts, length, seed)
    for dense, blocks in zip(found.masks(visible), found.masks(block_mask), strict=True):
        expected, by_blocks = attended(dense, blocks, head_dim=(16, 44)[seed % 2])
        torch.testing.assert_close(by_blocks, expected, atol=1e-5, rtol=0)


def test_clocks_of_one_row_are_those_of_every_image():
    clock = torch.arange(150)[None]
    expected, by_blocks = attended(
        visible(clock, clock).expand(3, -1, -1), block_mask(clock, clock)
    )
    torch.testing.assert_close(by_blocks, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_kernels_skip_the_right_blocks_and_are_compiled_once():
    """Uncompiled, FlexAttention asks about every pair; compiled it follows the lists of blocks."""
    counted = torch._dynamo.testing.CompileCounterWithBackend("inductor")
    compiled = torch.compile(attend, backend=counted, dynamic=False)
    for seed in range(3):
        plan = Recipe.parse("random-16-random").plan(
            (16, 16), 2, torch.Generator().manual_seed(seed)
        )
        known = attention_clocks(plan, 1).known
        query, key, value = torch.randn(3, 2, 2, 257, 32).unbind()
        with torch.inference_mode():
            found = compiled(query, key, value, block_mask(known, known))
            expected = attend(query, key, value, visible(known, known)[:, None])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert counted.frame_count == 1


def by_blocks(model):
    """A twin of a model that has its masks by blocks, as on CUDA."""
    twin = type(model)(model.config).eval()
    twin.load_state_dict(model.state_dict())
    twin.mask = block_mask
    return twin


@pytest.mark.parametrize("family", ["fmt", "arpg", "decoder-only"])
def test_models_compute_the_same_by_blocks(family):
    grid = (3, 50)
    tiny = FAMILIES.find(family).presets["tiny"]
    kind, shape = FAMILIES.find(family), {**vars(tiny), "grid": grid, "dropout": 0.0}
    model = randomise(kind(type(tiny)(**shape))).eval()
    recipe = "ar" if family == "decoder-only" else "random-5-random"
    plan = Recipe.parse(recipe).plan(grid, 2, torch.Generator().manual_seed(0))
    codes, labels = random_codes(2, grid), torch.tensor([0, 1])
    with torch.inference_mode():
        found, expected = by_blocks(model)(codes, labels, plan), model(codes, labels, plan)
        assert differ(expected[0], expected[1])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def clock_on(device, keys):
    """Stands for a clock on a device that is not here."""
    return SimpleNamespace(device=torch.device(device), shape=(1, keys))


def test_only_what_has_the_kernels_gets_blocks(monkeypatch):
    asked = []
    monkeypatch.setattr("setar.recipes.block_masks.find_spec", lambda name: True)
    monkeypatch.setattr("setar.recipes.block_masks.block_mask", lambda *two: asked.append(two))
    small = torch.arange(3)[None]
    assert training_mask(small, small, 64).shape == (1, 1, 3, 3)
    assert training_mask(torch.arange(500)[None], small, 64).dtype == torch.bool
    assert asked == []
    training_mask(clock_on("cuda", 129), clock_on("cuda", 129), 16)  # type: ignore[arg-type]
    assert len(asked) == 1
