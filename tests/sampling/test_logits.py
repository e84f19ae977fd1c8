"""Filters and inverse-CDF sampling against brute force."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from setar.sampling.logits import draw, is_distribution, probabilities

logits_lists = st.lists(st.integers(-6, 6).map(lambda n: n / 2), min_size=1, max_size=9)
"""Few different values, so that ties are common."""


def softmax(logits, temperature=1.0):
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    return [w / sum(weights) for w in weights]


def normalised(probs, kept):
    total = sum(p for p, keep in zip(probs, kept, strict=True) if keep)
    return [p / total if keep else 0.0 for p, keep in zip(probs, kept, strict=True)]


def found(logits, **filters):
    return probabilities(torch.tensor(logits), **filters).tolist()


@settings(max_examples=100)
@given(logits_lists, st.floats(0.1, 5))
def test_temperature(logits, temperature):
    expected = softmax(logits, temperature)
    assert found(logits, temperature=temperature) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=100)
@given(logits_lists, st.integers(0, 12))
def test_top_k_keeps_the_k_likeliest_and_ties_with_the_last(logits, k):
    lowest = sorted(logits, reverse=True)[min(k, len(logits)) - 1] if k else -math.inf
    expected = normalised(softmax(logits), [x >= lowest for x in logits])
    assert found(logits, top_k=k) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=200)
@given(logits_lists, st.floats(0.01, 1))
def test_top_p_keeps_the_smallest_likeliest_set(logits, top_p):
    probs = softmax(logits)
    ordered = sorted(probs, reverse=True)
    sums = [sum(ordered[: n + 1]) for n in range(len(ordered))]
    assume(min(abs(s - top_p) for s in sums) > 1e-5)  # where rounding may decide either way
    needed = next((n + 1 for n, s in enumerate(sums) if s >= top_p), len(sums))
    result = found(logits, top_p=top_p)
    kept = [p > 0 for p in result]
    assert sum(kept) == needed
    assert result == pytest.approx(normalised(probs, kept), abs=1e-5)
    dropped = [p for p, keep in zip(probs, kept, strict=True) if not keep]
    assert min(p for p, keep in zip(probs, kept, strict=True) if keep) >= max(dropped, default=0)


@settings(max_examples=100)
@given(logits_lists, st.floats(0, 1))
def test_min_p_is_relative_to_the_likeliest(logits, min_p):
    probs = softmax(logits)
    assume(all(abs(p - min_p * max(probs)) > 1e-6 or p == max(probs) for p in probs))
    kept = [p >= min_p * max(probs) for p in probs]
    assert found(logits, min_p=min_p) == pytest.approx(normalised(probs, kept), abs=1e-5)


@settings(max_examples=200)
@given(
    logits_lists,
    st.one_of(st.just(0.0), st.floats(0, 10), st.floats(0, 1e-30)),
    st.integers(0, 10),
    st.floats(1e-9, 1),
    st.floats(0, 1),
)
def test_something_is_always_kept_and_the_rest_sums_to_one(logits, temperature, k, top_p, min_p):
    rows = torch.tensor([logits, logits[::-1]])
    probs = probabilities(rows, temperature, k, top_p, min_p)
    assert probs.shape == rows.shape
    torch.testing.assert_close(probs.sum(-1), torch.ones(2))
    assert (probs >= 0).all()
    # The likeliest code is never lost: at least one of those that tie for it stays.
    assert (probs[0][rows[0] == max(logits)] > 0).any()


@pytest.mark.parametrize(("top_p", "kept"), [(0.2, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.76, 4)])
def test_top_p_among_equals_keeps_no_more_than_it_needs(top_p, kept):
    probs = probabilities(torch.zeros(4), top_p=top_p)
    assert (probs > 0).sum() == kept
    assert probs.max() == pytest.approx(1 / kept)


def llamagen(logits, top_p):
    """Which codes its filter keeps: one is removed if those before it have more than ``top_p``."""
    ordered, index = logits.sort(descending=True)
    removed = ordered.softmax(-1).cumsum(-1) > top_p
    removed = torch.cat([torch.tensor([False]), removed[:-1]])
    return torch.zeros_like(removed).scatter(0, index, ~removed)


def var(logits, top_p):
    """Which codes its filter keeps: one is removed if it and those after it have 1 - ``top_p``."""
    ordered, index = logits.sort(descending=False)
    removed = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
    removed[-1] = False
    return torch.zeros_like(removed).scatter(0, index, ~removed)


def test_top_p_where_the_dialects_differ():
    """Two codes of equal logits have exactly 0.5 each: LlamaGen keeps the second, VAR does not."""
    equal = torch.zeros(2)
    assert [int(kept(equal, 0.5).sum()) for kept in (llamagen, var)] == [2, 1]
    assert int((probabilities(equal, top_p=0.5) > 0).sum()) == 1
    assert int((probabilities(equal, top_p=0.501) > 0).sum()) == 2


@settings(max_examples=200)
@given(st.lists(st.integers(-48, 48), min_size=1, unique=True), st.floats(0.01, 0.999))
def test_top_p_agrees_with_both_dialects_elsewhere(logits, top_p):
    row = torch.tensor(logits) / 8  # all different: among equals their place in the list decides
    sums = row.double().softmax(-1).sort(descending=True).values.cumsum(-1)
    assume(min(abs(float(s) - top_p) for s in sums) > 1e-5)
    kept = probabilities(row, top_p=top_p) > 0
    possible = row.softmax(-1) > 0
    assert torch.equal(kept, llamagen(row, top_p) & possible)
    assert torch.equal(kept, var(row, top_p) & possible)


@pytest.mark.parametrize("count", [3, 7, 10, 1000])
def test_top_p_adds_exactly(count):
    """So many equal codes have a sum that float32 would round up or down."""
    probs = probabilities(torch.zeros(count), top_p=1 - 1e-9)
    assert int((probs > 0).sum()) == count


@pytest.mark.parametrize(
    "row", [[0.0, math.nan, 1.0], [0.0, math.inf, 1.0], [-math.inf] * 3], ids=str
)
@pytest.mark.parametrize(
    "filters", [{}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}], ids=str
)
def test_what_is_no_distribution_gives_no_code(row, filters):
    rows = torch.tensor([[0.0, 2.0, 1.0], row])
    assert not is_distribution(rows)
    assert is_distribution(rows[:1])
    probs = probabilities(rows, **filters)
    assert probs[1].isnan().all()
    assert not probs[0].isnan().any()
    assert draw(probs, torch.tensor([0.5, 0.5]))[1] == -1


def test_minus_infinity_is_a_code_that_cannot_be():
    row = torch.tensor([-math.inf, 0.0, -math.inf, 0.0])
    assert is_distribution(row)
    assert probabilities(row).tolist() == [0, 0.5, 0, 0.5]
    assert draw(probabilities(row), torch.tensor(0.5)) == 3


def test_draws_are_exact_among_many_codes():
    """Of a million equal codes each has its own share of the numbers that noise can be."""
    count = 2**20
    probs = torch.full((count,), 1 / count).expand(5, -1)
    noise = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-24])
    assert draw(probs, noise).tolist() == [0, count // 4, count // 2, 3 * count // 4, count - 1]


def test_no_float64_is_made():
    """Some devices have none."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            assert getattr(made, "dtype", None) != torch.float64
            return made

    with Watch():
        probs = probabilities(torch.randn(3, 50), 0.7, 20, 0.9, 0.01)
        draw(probs, torch.rand(3))


def test_top_p_among_equals_is_the_same_in_any_batch():
    alone = probabilities(torch.zeros(1, 4096), top_p=0.3)
    batch = probabilities(torch.zeros(40, 3, 4096), top_p=0.3)
    assert torch.equal(batch, alone.expand(40, 3, 4096))


def test_filters_apply_in_turn_to_what_is_left():
    # 0.4, 0.3, 0.2, 0.1: the two likeliest are 4/7 and 3/7, so top-p 0.5 keeps one only then.
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert (probabilities(logits, top_p=0.5) > 0).tolist() == [True, True, False, False]
    assert probabilities(logits, top_k=2, top_p=0.5).tolist() == [1, 0, 0, 0]
    assert probabilities(logits, top_k=3, min_p=0.6).tolist() == pytest.approx([4 / 7, 3 / 7, 0, 0])


@pytest.mark.parametrize("temperature", [0.0, 1e-320, 1e-45, 1e-39, 1e-30, 1e-10])
def test_cold_is_the_likeliest_code_alone(temperature):
    logits = torch.tensor([[1.0, 300.0, 299.0], [-4.0, -300.0, -5.0]])
    assert probabilities(logits, temperature).tolist() == [[0, 1, 0], [1, 0, 0]]
    # Also where two are equally likely; only at exactly 0 is it one of them.
    assert probabilities(torch.tensor([2.0, 2.0, 1.0]), 0.0).max() == 1


def test_a_row_does_not_look_at_other_rows():
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    filters = {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.05}
    together = probabilities(rows, **filters)
    for row, expected in zip(rows, together, strict=True):
        torch.testing.assert_close(probabilities(row, **filters), expected)
    assert 1 < (together > 0).sum() < 150


def test_half_precision_logits_give_float32():
    assert probabilities(torch.zeros(3).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("filters", "rule"),
    [
        ({"temperature": -1.0}, r"`temperature` \(=-1.0\)"),
        ({"temperature": math.inf}, "`temperature`"),
        ({"temperature": math.nan}, "`temperature`"),
        ({"top_k": -1}, r"`top_k` \(=-1\)"),
        ({"top_k": 1.5}, "`top_k`"),
        ({"top_p": 0.0}, r"`top_p` \(=0.0\)"),
        ({"top_p": 1.01}, "`top_p`"),
        ({"top_p": math.nan}, "`top_p`"),
        ({"min_p": -0.1}, "`min_p`"),
        ({"min_p": 1.1}, "`min_p`"),
    ],
)
def test_filters_out_of_range_are_refused(filters, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        probabilities(torch.zeros(3), **filters)
    assert "\n" not in str(caught.value)


weight_lists = st.lists(st.integers(0, 8), min_size=1, max_size=10).filter(any)
almost_one = math.nextafter(1.0, 0.0)


def brute_force(weights, uniform):
    """The first code whose cumulated weight exceeds uniform times the total, in exact numbers."""
    threshold, cumulated = Fraction(uniform) * sum(weights), 0
    for code, weight in enumerate(weights):
        cumulated += weight
        if cumulated > threshold:
            return code
    raise AssertionError


@settings(max_examples=300)
@given(weight_lists, st.integers(0, 2**24 - 1))
def test_draw_is_the_inverse_of_the_cumulated_probability(weights, noise):
    uniform = noise / 2**24
    code = draw(torch.tensor(weights) / 128, torch.tensor(uniform))  # exact; they sum to at most 1
    assert code.item() == brute_force(weights, uniform)


@settings(max_examples=200)
@given(
    weight_lists,
    st.sampled_from([0.0, 5e-324, 2**-24, 0.5, 1 - 2**-24, almost_one, 1.0]),
)
def test_impossible_codes_are_never_drawn(weights, uniform):
    probs = torch.tensor(weights).float()
    for scaled in (probs / 128, probs / probs.sum()):
        assert scaled[draw(scaled, torch.tensor(uniform, dtype=torch.float64))] > 0
    assert draw(probs * 1e-30, torch.tensor(uniform)) == -1


def test_draw_keeps_positions_apart():
    probs = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [0.5, 0, 0.5]]])
    uniform = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    assert draw(probs, uniform).tolist() == [[0, 1], [2, 2]]


def test_draws_have_the_right_frequencies():
    # Chi-square with 5 degrees of freedom exceeds 35.9 once in a million times.
    probs = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    uniform = torch.rand(50_000, generator=torch.Generator().manual_seed(0))
    counts = draw(probs.expand(50_000, 6), uniform).bincount(minlength=6)
    expected = probs * 50_000
    assert ((counts - expected) ** 2 / expected).sum() < 35.9
