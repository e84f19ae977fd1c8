"""Clocks: the docstring's drawing, the one comparison, padding and prefixes."""

import dataclasses
import re

import torch

from setar.recipes import clocks
from setar.recipes.clocks import (
    PADDING,
    attention_clocks,
    dense_masks,
    prefix_clock,
)
from setar.recipes.recipe import Recipe


def drawn_masks():
    """Read the three matrices, with the clocks at their edges, from the docstring of clocks."""
    assert clocks.__doc__ is not None
    lines = clocks.__doc__.splitlines()
    start = next(index for index, line in enumerate(lines) if "encoder self  " in line)
    titles = [match.start() for match in re.finditer(r"\S+( \S+)*", lines[start])]
    ends = [*titles[1:], None]
    masks = []
    for left, right in zip(titles, ends, strict=True):
        column = [line[left:right].rstrip() for line in lines[start + 1 : start + 8]]
        keys = [int(clock) for clock in column[0].split()[1:]]
        rows = [row.split() for row in column[2:] if row]
        queries = [int(row[0]) for row in rows]
        masks.append((keys, queries, [[cell == "1" for cell in row[2:]] for row in rows]))
    return masks


def test_the_docstring_draws_the_masks():
    plan = Recipe.parse("raster-1,2,1").plan((2, 2))
    known, asks, decoder = (clock[0].tolist() for clock in attention_clocks(plan))
    expected = [(known, known), (known, asks), (asks, decoder)]
    drawn = drawn_masks()
    assert [(keys, queries) for keys, queries, _ in drawn] == expected
    assert [matrix for _, _, matrix in drawn] == [mask[0].tolist() for mask in dense_masks(plan)]


def test_the_last_set_is_seen_by_no_decoder_query():
    masks = dense_masks(Recipe.parse("random-5-cosine").plan((4, 4), 3))
    size = Recipe.parse("random-5-cosine").plan((4, 4)).sizes[-1]
    assert not masks.cross[..., -size:].any()
    assert masks.cross[..., -size - 1].any()


def test_masked_training_opens_only_the_decoder():
    plan = Recipe.parse("mar").plan((4, 4), 2, torch.Generator().manual_seed(0))
    masks = dense_masks(plan)
    causal = dense_masks(dataclasses.replace(plan, decoder_causal=True))
    assert masks.decoder_self.all()
    assert not causal.decoder_self.all()
    assert torch.equal(masks.encoder_self, causal.encoder_self)
    assert torch.equal(masks.cross, causal.cross)


def test_a_text_prefix_is_causal():
    assert prefix_clock(3).tolist() == [-2, -1, 0]
    masks = dense_masks(Recipe.parse("raster-2-uniform").plan((2, 2)), prefix=3)
    assert masks.encoder_self.shape == (1, 7, 7)
    assert torch.equal(masks.encoder_self[0, :3, :3], torch.ones(3, 3).tril().bool())
    assert not masks.encoder_self[0, :3, 3:].any()
    assert masks.cross[0, :, :3].all()


def test_no_condition_is_possible():
    masks = dense_masks(Recipe.parse("ar").plan((2, 2)), prefix=0)
    assert torch.equal(masks.encoder_self[0], torch.ones(4, 4).tril().bool())
    assert torch.equal(masks.cross[0], torch.ones(4, 4).tril(-1).bool())


def test_nobody_sees_padding_and_every_row_sees_something():
    plan = Recipe.parse("mar").plan((2, 3), 2, torch.Generator().manual_seed(0))
    for causal in (True, False):
        known = plan.known.clone()
        known[:, 4:] = PADDING
        padded = dataclasses.replace(plan, known=known, decoder_causal=causal)
        encoder_self, cross, decoder_self = dense_masks(padded)
        assert not encoder_self[:, :5, 5:].any()
        assert not cross[:, :4, 5:].any()
        assert not decoder_self[:, :4, 4:].any()
        assert all(mask.any(-1).all() for mask in (encoder_self, cross, decoder_self))
