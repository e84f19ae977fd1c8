"""Drawings: every rank is written, colours are sets, any grid can be drawn."""

import io
import re

import pytest
import torch
from rich.console import Console

from setar.pictures.plans import render_grid, render_image, render_scales, render_text
from setar.recipes.recipe import Recipe


def printed(text, grid, width=120):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render_text(Recipe.parse(text).plan(grid, 1, torch.Generator().manual_seed(5))))
    return console.export_text()


def test_text_shows_the_ranks_of_figure_5():
    lines = printed("roll-8-cosine", (8, 8)).splitlines()
    assert "0  27  26  25  24  23  22  21" in lines[2]
    assert "7   8   9  10  11  12  13  14" in lines[9]


def test_text_shows_set_sizes_and_loss():
    assert "8 x 8 grid: 64 tokens in 4 sets" in printed("next-scale", (8, 8))
    assert "set 4: 43" in printed("next-scale", (8, 8))
    assert "sets 1 to 16: 1 each" in printed("ar", (4, 4))
    assert re.search(r"in 2 sets, loss on \d+ tokens", printed("mar", (8, 8)))
    assert "in 1 set" in printed("raster-1-uniform", (2, 2))


def test_text_draws_the_masks_without_colours():
    text = printed("raster-1,2,1", (2, 2))
    # Encoder self-attention of clocks 0 1 2 2 3, two rows to a line.
    assert re.search(r"│ █▄ +│", text)
    assert re.search(r"│ ████ +│", text)
    assert re.search(r"│ ▀▀▀▀▀ +│", text)


def test_text_says_when_masks_are_thinned():
    assert "34 of their 65 rows" in printed("roll-8-cosine", (8, 8))
    assert "of their" not in printed("ar", (4, 4))


@pytest.mark.parametrize("grid", [(1, 1), (1, 300), (300, 1), (3, 7), (40, 41), (128, 128)])
@pytest.mark.parametrize("text", ["ar", "roll-1-uniform", "next-scale"])
def test_any_grid_can_be_drawn(text, grid):
    plan = Recipe.parse(text).plan(grid)
    assert printed(text, grid)
    picture = render_image(plan, text)
    assert picture.mode == "RGBA"
    assert 400 < picture.width < 3000
    assert 300 < picture.height < 1500


def test_the_longest_title_and_a_random_plan_are_fine():
    plan = Recipe.parse("random-16-random").plan((16, 16), 2, torch.Generator().manual_seed(0))
    assert render_image(plan, "x" * 400).width < 3000


def colours(text, grid):
    picture = render_image(Recipe.parse(text).plan(grid))
    return {colour for _, colour in picture.getcolors(picture.width * picture.height) or []}


def test_first_and_last_set_have_the_ends_of_the_map():
    assert {(68, 1, 84, 255), (253, 231, 37, 255)} <= colours("raster-2-uniform", (4, 4))
    assert (253, 231, 37, 255) not in colours("raster-1-uniform", (4, 4))


def test_what_is_written_can_be_read_on_white_and_on_black():
    """A contrast of 4.5 : 1, as WCAG asks for, and nothing of a paper of its own around it."""
    plan = Recipe.parse("raster-1,3,12").plan((4, 4))
    for picture in (render_image(plan), render_grid(plan), render_scales(((1, 1), (4, 4)))):
        corner = (picture.width - 1, picture.height - 1)
        assert picture.getpixel(corner) == (255, 255, 255, 0), "white where alpha is unknown"
        found = [(count, one) for count, one in picture.getcolors(2**20) if one[3] == 255]
        greys = {one[:3] for count, one in found if len(set(one[:3])) == 1 and count > 100}
        [ink] = greys - {(255, 255, 255)}  # of numbers in dark cells
        light = ((ink[0] / 255 + 0.055) / 1.055) ** 2.4
        assert min(1.05 / (light + 0.05), (light + 0.05) / 0.05) > 4.5


def test_the_grid_alone_has_the_colours_of_the_whole_drawing():
    plan = Recipe.parse("raster-1,3,12").plan((4, 4))
    alone = set(render_grid(plan).getcolors(2**20) or ())
    whole = {colour for _, colour in render_image(plan).getcolors(2**20) or ()}
    large = {colour for count, colour in alone if count > 2000}
    assert len(large) >= 4  # three sets and the paper
    assert large <= whole


def test_scales_are_drawn_one_beside_the_other():
    scales = ((1, 1), (2, 2), (4, 4))
    drawn = render_scales(scales)
    colours = {colour for count, colour in drawn.getcolors(2**20) or () if count > 2000}
    assert len(colours) == len(scales) + 1
    assert render_scales(scales * 3).height > drawn.height
