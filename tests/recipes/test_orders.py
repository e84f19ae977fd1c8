"""Orders: the paper's matrices, permutations on any grid, registration."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setar.recipes.orders import (
    MAX_TOKENS,
    ORDERS,
    halton,
    next_scale_sizes,
    ranks,
    register_order,
    roll,
)
from setar.recipes.schedules import random as random_sizes
from setar.recipes.schedules import uniform

# Figure 5 of the paper: when each cell of an 8x8 grid is output.
FIGURE_5 = {
    "raster": """
         0  1  2  3  4  5  6  7
         8  9 10 11 12 13 14 15
        16 17 18 19 20 21 22 23
        24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39
        40 41 42 43 44 45 46 47
        48 49 50 51 52 53 54 55
        56 57 58 59 60 61 62 63""",
    "reversed-raster": """
        63 62 61 60 59 58 57 56
        55 54 53 52 51 50 49 48
        47 46 45 44 43 42 41 40
        39 38 37 36 35 34 33 32
        31 30 29 28 27 26 25 24
        23 22 21 20 19 18 17 16
        15 14 13 12 11 10  9  8
         7  6  5  4  3  2  1  0""",
    "roll": """
         0 27 26 25 24 23 22 21
         1 28 47 46 45 44 43 20
         2 29 48 59 58 57 42 19
         3 30 49 60 63 56 41 18
         4 31 50 61 62 55 40 17
         5 32 51 52 53 54 39 16
         6 33 34 35 36 37 38 15
         7  8  9 10 11 12 13 14""",
    "reversed-roll": """
        63 36 37 38 39 40 41 42
        62 35 16 17 18 19 20 43
        61 34 15  4  5  6 21 44
        60 33 14  3  0  7 22 45
        59 32 13  2  1  8 23 46
        58 31 12 11 10  9 24 47
        57 30 29 28 27 26 25 48
        56 55 54 53 52 51 50 49""",
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", FIGURE_5)
def test_orders_are_those_of_figure_5(name):
    order = ORDERS.find(name).draw((8, 8))[0]
    assert ranks(order).tolist() == [int(number) for number in FIGURE_5[name].split()]


def test_an_order_lists_the_cells_and_ranks_is_its_inverse():
    order = ORDERS.find("roll").draw((2, 3))[0]
    assert order.tolist() == [0, 3, 4, 5, 2, 1]
    assert ranks(order).tolist() == [0, 5, 4, 1, 2, 3]


@pytest.mark.parametrize(
    ("grid", "expected"),
    [((1, 3), [0, 1, 2]), ((3, 1), [0, 1, 2]), ((2, 2), [0, 2, 3, 1]), ((1, 1), [0])],
)
def test_roll_on_thin_grids(grid, expected):
    assert roll(*grid).tolist() == expected


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(ORDERS)),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(0, 2**40),
)
def test_every_order_is_a_permutation_on_every_grid(name, height, width, batch, seed):
    tokens = height * width
    sizes = random_sizes(tokens, 1 + seed % tokens, batch, seeded(seed))
    order = ORDERS.find(name).draw((height, width), batch, seeded(seed), sizes)
    assert order.dtype == torch.int64
    assert order.sort(dim=-1).values.tolist() == [list(range(tokens))] * batch


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_large_grids_are_fine(name):
    grid = (33, 34) if ORDERS.find(name).uses_sizes else (257, 130)
    tokens = grid[0] * grid[1]
    order = ORDERS.find(name).draw(grid, sizes=torch.tensor([[tokens - 7, 7]]))
    assert torch.equal(order.sort(dim=-1).values[0], torch.arange(tokens))


def test_a_shared_order_can_be_changed_in_place_without_harm():
    ORDERS.find("raster").draw((2, 2), batch=2).fill_(7)
    assert ORDERS.find("raster").draw((2, 2)).tolist() == [[0, 1, 2, 3]]


def test_fixed_random_never_changes():
    torch.manual_seed(1)
    first = ORDERS.find("fixed-random").draw((4, 4), batch=2)
    torch.manual_seed(2)
    second = ORDERS.find("fixed-random").draw((4, 4), batch=2, generator=torch.Generator())
    assert torch.equal(first, second)
    # Weights trained with this order need exactly this one.
    assert first.tolist() == [[15, 3, 12, 7, 5, 2, 8, 11, 4, 9, 14, 13, 1, 6, 0, 10]] * 2


def test_random_is_fresh_per_image_and_follows_its_generator():
    def draw(seed):
        return ORDERS.find("random").draw((8, 8), 2, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    assert not torch.equal(draw(3)[0], draw(3)[1])


def test_random_puts_every_cell_first_equally_often():
    # 9000 images of 9 cells: each cell is first Binomial(9000, 1/9) times, mean 1000, deviation 30.
    # Six deviations for any of nine cells: a false alarm once in 5e7 seeds; this one is fixed.
    order = ORDERS.find("random").draw((3, 3), 9000, torch.Generator().manual_seed(0))
    assert order[:, 0].bincount(minlength=9).tolist() == pytest.approx([1000] * 9, abs=180)


@pytest.mark.parametrize(
    ("grid", "sizes"),
    [
        ((8, 8), (1, 4, 16, 43)),
        ((16, 16), (1, 4, 16, 64, 171)),
        ((1, 1), (1,)),
        ((2, 2), (1, 3)),
        ((4, 8), (1, 2, 8, 21)),
        ((3, 7), (1, 2, 18)),
        ((1, 8), (1, 2, 4, 1)),
    ],
)
def test_next_scale_sizes(grid, sizes):
    assert next_scale_sizes(*grid) == sizes


def test_next_scale_outputs_nested_centre_aligned_grids():
    order = ORDERS.find("next-scale").draw((8, 8))[0].tolist()
    assert order[0] == 4 * 8 + 4
    assert order[1:5] == [row * 8 + column for row in (2, 6) for column in (2, 6)]
    odd = (1, 3, 5, 7)
    assert order[5:21] == [row * 8 + column for row in odd for column in odd]


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40))
def test_next_scale_sizes_hold_every_token_once(height, width):
    sizes = next_scale_sizes(height, width)
    assert min(sizes) >= 1
    assert sum(sizes) == height * width


def test_halton_on_4x4_by_hand():
    # Row and column of points 1 to 10: base 2 gives 1/2 1/4 3/4 1/8 5/8 3/8 7/8 1/16 9/16 5/16,
    # base 3 gives 1/3 2/3 1/9 4/9 7/9 2/9 5/9 8/9 1/27 10/27. Point 11 repeats 7, 13 repeats 1.
    first = [(2, 1), (1, 2), (3, 0), (0, 1), (2, 3), (1, 0), (3, 2), (0, 3), (2, 0), (1, 1)]
    rest = [(0, 0), (1, 3), (3, 1), (0, 2), (3, 3), (2, 2)]
    assert halton(4, 4).tolist() == [4 * row + column for row, column in first + rest]


def radical_inverse(index, base):
    """Return the fraction in [0, 1) whose digits after the point are those of `index`."""
    value, unit = Fraction(0), Fraction(1, base)
    while index:
        index, digit = divmod(index, base)
        value, unit = value + digit * unit, unit / base
    return value


@pytest.mark.parametrize("grid", [(1, 1), (1, 27), (17, 1), (3, 7), (9, 9), (12, 16)])
def test_halton_is_the_sequence_in_fractions(grid):
    height, width = grid
    cells, index = [], 1
    while len(cells) < height * width:
        row, column = radical_inverse(index, 2) * height, radical_inverse(index, 3) * width
        cell = int(row) * width + int(column)
        cells += [] if cell in cells else [cell]
        index += 1
    assert halton(height, width).tolist() == cells


def test_halton_is_spread_evenly_at_every_length():
    order = halton(16, 16)
    for length in (8, 36, 100):
        quarters = order[:length] // 128 * 2 + order[:length] % 16 // 8
        assert quarters.bincount(minlength=4).tolist() == pytest.approx([length / 4] * 4, abs=2)


def slow_locality(height, width, sizes, ties):
    """Choose cell by cell, with distances taken anew each time, as the docstring says."""

    def distance(one, two):
        return ((one // width - two // width) ** 2 + (one % width - two % width) ** 2) ** 0.5

    order = []
    for size in sizes:
        known, own = list(order), []
        proximity = {
            cell: round(sum(1 / distance(cell, k) for k in known if distance(cell, k) < 1.5), 6)
            for cell in range(height * width)
            if cell not in known
        }
        for _ in range(size):
            free = [cell for cell in proximity if cell not in own]
            apart = {cell: min([distance(cell, o) for o in own], default=99) for cell in free}
            wanted = [cell for cell in free if proximity[cell] >= 1 and apart[cell] > 1.5]
            chosen = wanted or free
            value = proximity if wanted else apart
            own.append(max(chosen, key=lambda cell: (value[cell], ties[cell])))
        order += own
    return order


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**40))
def test_locality_is_its_docstring(height, width, seed):
    sizes = random_sizes(height * width, 1 + seed % (height * width), 3, seeded(seed))
    drawn = ORDERS.find("locality").draw((height, width), 3, seeded(seed), sizes)
    generator = seeded(seed)
    for image in range(3):
        ties = ORDERS.find("random").draw((height, width), 1, generator)[0].tolist()
        expected = slow_locality(height, width, sizes[image].tolist(), ties)
        assert drawn[image].tolist() == expected


def spread(name, side, sizes):
    """Return (mean distance to what is known, mean over sets of the least distance within)."""
    generators = [seeded(seed) for seed in range(16)]
    order = ORDERS.find(name).draw_each((side, side), generators, torch.tensor([sizes]))
    places = torch.stack([order // side, order % side], dim=-1).double()
    to_known, within, start = [], [], 0
    for size in sizes:
        members, known = places[:, start : start + size], places[:, :start]
        if start:
            to_known.append(torch.cdist(members, known).amin(-1).flatten())
        itself = 99 * torch.eye(size, dtype=torch.float64)
        within.append((torch.cdist(members, members) + itself).amin((1, 2)))
        start += size
    return torch.cat(to_known).mean().item(), torch.cat(within).mean().item()


@pytest.mark.parametrize(("side", "sets"), [(8, 8), (8, 16), (16, 16)])
def test_locality_is_close_to_what_is_known_and_apart_within_a_set(side, sets):
    sizes = uniform(side * side, sets)
    to_known, within = spread("locality", side, sizes)
    random_to_known, random_within = spread("random", side, sizes)
    _, raster_within = spread("raster", side, sizes)
    assert to_known < random_to_known - 0.1
    assert within > random_within + 0.5
    assert within > raster_within + 0.5


def test_locality_of_single_tokens_grows_in_one_piece():
    order = ORDERS.find("locality").draw((6, 6), 4, seeded(), torch.ones(1, 36).long())
    places = torch.stack([order // 6, order % 6], dim=-1).double()
    for place in range(1, 36):
        distance = torch.cdist(places[:, place : place + 1], places[:, :place]).amin(-1)
        assert (distance == 1).all()
    assert not torch.equal(order[0], order[1])


def test_empty_sets_change_nothing_in_locality():
    locality = ORDERS.find("locality")
    plain = locality.draw((3, 4), 2, seeded(), torch.tensor([[2, 4, 6], [1, 5, 6]]))
    empty = torch.tensor([[0, 2, 0, 0, 4, 6, 0], [1, 0, 5, 0, 0, 0, 6]])
    assert torch.equal(locality.draw((3, 4), 2, seeded(), empty), plain)


def test_locality_refuses_what_it_cannot_follow():
    locality = ORDERS.find("locality")
    with pytest.raises(ValueError, match="order 'locality' must be given the `sizes`"):
        locality.draw((2, 2))
    for sizes in ([[2, 1]], [4], [[4], [4], [4]]):
        with pytest.raises(ValueError, match=r"`sizes` \(of shape .*sum to 4 tokens"):
            locality.draw((2, 2), 2, sizes=torch.tensor(sizes))
    with pytest.raises(ValueError, match=r"`grid` \(=129x128\) must not hold more than 16384"):
        locality.draw((129, 128), sizes=torch.tensor([[129 * 128]]))


@pytest.fixture
def name(monkeypatch):
    """A free order name, taken back after the test."""
    monkeypatch.setattr(ORDERS, "_entries", dict(ORDERS._entries))
    return "test-order"


def test_an_order_of_ones_own(name):
    @register_order(name)
    def columns(height, width):
        return torch.arange(height * width).view(height, width).T.flatten()

    assert ORDERS.find(name).draw((2, 3), 2).tolist() == [[0, 3, 1, 4, 2, 5]] * 2


def test_an_order_of_ones_own_per_image(name):
    @register_order(name, per_image=True)
    def turned(height, width, batch, generator):
        tokens = torch.arange(height * width)
        return torch.stack([tokens.roll(image) for image in range(batch)])

    assert ORDERS.find(name).draw((1, 3), 2).tolist() == [[0, 1, 2], [2, 0, 1]]


def test_an_order_of_ones_own_that_uses_sizes(name):
    @register_order(name, uses_sizes=True)
    def shuffled_sets(height, width, sizes, generators):
        def image(sets, generator):
            cells = torch.arange(height * width).split(sets.tolist())
            return torch.cat(
                [part[torch.randperm(len(part), generator=generator)] for part in cells]
            )

        return torch.stack([image(*pair) for pair in zip(sizes, generators, strict=True)])

    order = ORDERS.find(name).draw((2, 4), 2, seeded(), torch.tensor([[3, 0, 5], [1, 1, 6]]))
    assert order[0, :3].sort().values.tolist() == [0, 1, 2]
    assert order[1, :2].tolist() == [0, 1]
    assert order.sort(-1).values.tolist() == [list(range(8))] * 2
    alone = ORDERS.find(name).draw_each((2, 4), [seeded(5)], torch.tensor([[4, 4]]))
    generators = [seeded(4), seeded(5)]
    together = ORDERS.find(name).draw_each((2, 4), generators, torch.tensor([[4, 4]]))
    assert torch.equal(together[1], alone[0])


def test_an_order_cannot_change_the_sizes_it_is_given(name):
    @register_order(name, uses_sizes=True)
    def greedy(height, width, sizes, generators):
        sizes.fill_(0)
        return torch.arange(height * width).repeat(len(generators), 1)

    sizes = torch.tensor([[1, 3]])
    ORDERS.find(name).draw((2, 2), 1, None, sizes)
    assert sizes.tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("result", "rule"),
    [
        (torch.tensor([0, 1, 2, 2]), "exactly once"),
        (torch.tensor([0, 1, 2, 4]), "exactly once"),
        (torch.tensor([0, 1, 2, -1]), "exactly once"),
        (torch.tensor([0, 1, 2]), r"int64 \[4\], not torch.int64 \[3\]"),
        (torch.arange(4.0), "not torch.float32"),
        ([0, 1, 2, 3], "list"),
    ],
)
def test_what_is_no_permutation_is_refused(name, result, rule):
    register_order(name)(lambda height, width: result)
    with pytest.raises(ValueError, match=rule):
        ORDERS.find(name).draw((2, 2))


def test_a_taken_or_malformed_name_is_refused():
    def mine(height, width):
        return torch.arange(height * width)

    with pytest.raises(ValueError, match="already registered by setar"):
        register_order("raster")(mine)
    for bad in ("", "My-order", "8-bits", "a--b", "a-", "a b", "ä", "n" * 41, "N"):
        with pytest.raises(ValueError, match="lower-case words"):
            register_order(bad)(mine)


def test_defining_an_order_again_replaces_it(name):
    def define(shift):
        @register_order(name)
        def cell(height, width):
            return torch.arange(height * width).roll(shift)

    define(0)
    assert ORDERS.find(name).draw((1, 2)).tolist() == [[0, 1]]
    define(1)
    assert ORDERS.find(name).draw((1, 2)).tolist() == [[1, 0]]


def test_an_unknown_name_is_taught():
    with pytest.raises(ValueError, match=r"\Aunknown order 'rol'; did you mean 'roll'\?\Z"):
        ORDERS.find("rol")
    with pytest.raises(
        ValueError, match=r"\Aunknown order '123'; known: [^\n]*raster, [^\n]*locality[^\n]*\Z"
    ):
        ORDERS.find("123")


@pytest.mark.parametrize(
    "grid", [(0, 4), (4, -1), (2.0, 2), (True, 2), (4,), 4, (1, 2, 3), "ab", (MAX_TOKENS, 2), None]
)
def test_an_unusable_grid_is_refused(grid):
    with pytest.raises(ValueError, match=r"^`grid` [^\n]*$"):
        ORDERS.find("raster").draw(grid)
